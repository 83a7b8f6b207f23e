//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::bench;
use super::output::Format;
use crate::ingest;
use crate::model::Timestamp;
use crate::producer::INTERVAL_MIN;
use crate::wire;

/// A streaming MAPE-K control loop on NATS: metric samples in, verified fixes out.
#[derive(Debug, Parser)]
#[command(version, about, propagate_version = true, max_term_width = 110)]
#[command(after_help = "Exit codes: 0 done, 1 a finding, 2 wrong usage, 3 a failure outside.")]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// What every command knows.
#[derive(Clone, Debug, Args)]
pub(super) struct Global {
    /// How results are printed
    #[arg(short = 'o', long, global = true, value_enum, default_value = "table")]
    pub(super) format: Format,
    /// What is logged to standard error, in tracing's notation: info, debug, `homeostat::role=trace`
    #[arg(long, global = true, value_name = "FILTER", default_value = "warn", env = "HOMEOSTAT_LOG")]
    pub(super) log: String,
    /// How it is logged
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub(super) log_format: LogFormat,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How to reach the bus, and which cell on it.
#[derive(Clone, Debug, Args)]
pub(super) struct Bus {
    /// Server addresses, with commas between them [env: `NATS_URL`] [default: the nats context, else 127.0.0.1:4222]
    #[arg(short, long, value_name = "URL", help_heading = "Connection")]
    pub(super) server: Option<String>,
    /// A context of the `nats` tool [env: `NATS_CONTEXT`] [default: the selected one]
    #[arg(long, value_name = "NAME", help_heading = "Connection")]
    pub(super) context: Option<String>,
    /// A .creds file
    #[arg(long, value_name = "FILE", env = "NATS_CREDS", help_heading = "Connection")]
    pub(super) creds: Option<PathBuf>,
    /// A file with the seed of an nkey
    #[arg(long, value_name = "FILE", env = "NATS_NKEY", help_heading = "Connection")]
    pub(super) nkey: Option<PathBuf>,
    /// Certificates to trust, PEM
    #[arg(long, value_name = "FILE", env = "NATS_CA", help_heading = "Connection")]
    pub(super) tls_ca: Option<PathBuf>,
    /// Our certificate, PEM
    #[arg(long, value_name = "FILE", env = "NATS_CERT", requires = "tls_key", help_heading = "Connection")]
    pub(super) tls_cert: Option<PathBuf>,
    /// The key of our certificate, PEM
    #[arg(long, value_name = "FILE", env = "NATS_KEY", requires = "tls_cert", help_heading = "Connection")]
    pub(super) tls_key: Option<PathBuf>,
    /// The first token of every subject
    #[arg(long, value_name = "TOKEN", default_value = "homeostat", help_heading = "Connection")]
    pub(super) prefix: String,
    /// The cell's id, which is in all ids; where it is given, the streams must be that cell's [default: default]
    #[arg(long, value_name = "ID", help_heading = "Connection")]
    pub(super) cell: Option<String>,
}

impl Bus {
    /// The cell's id.
    pub(super) fn cell(&self) -> &str {
        self.cell.as_deref().unwrap_or("default")
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Start a private server and all roles, for trying things out
    Dev(Dev),
    /// Watch a real process fail, be diagnosed, healed and verified
    Demo(Demo),
    /// Run roles of the loop
    Run(Run),
    /// Check a folder of rules, playbooks, causes and charter, and make it the cell's configuration
    Apply(Apply),
    /// Check a folder of rules, playbooks, causes and charter
    Check(Check),
    /// Run the whole loop over recorded samples, on virtual time and without a server
    Replay(Replay),
    /// Publish samples from files or standard input
    Publish(Publish),
    /// Show what goes over the bus, decoded, one JSON object a line (or with -o yaml one document each)
    Tail(Tail),
    /// List incidents, newest first
    Incidents(Listing),
    /// List plans, newest first
    Plans(Listing),
    /// Tell the chain from violation to verdict around an action, plan, analysis, episode or incident
    Explain(Explain),
    /// What the loop remembers
    #[command(subcommand)]
    Kb(Kb),
    /// Stop admission at once: nothing new is started
    Halt(Halt),
    /// Let admission go on
    Resume(Operator),
    /// Measure
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Print a shell's completions
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the JSON Schema of a configuration file
    Schema {
        /// Which file
        kind: SchemaKind,
    },
    /// The process that the demo heals
    #[command(hide = true, disable_help_flag = true)]
    DemoWorker {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum SchemaKind {
    Rules,
    Playbook,
    Charter,
    Causes,
    Analysis,
}

#[derive(Debug, Args)]
pub(super) struct Dev {
    /// The configuration to apply [default: rules and playbooks may be applied later with `homeostat apply`]
    #[arg(long, value_name = "DIR")]
    pub(super) config: Option<PathBuf>,
    /// Where the server and the store keep their files [default: a temporary folder]
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
    /// The `nats-server` program [default: `HOMEOSTAT_NATS_SERVER`, else the one on `PATH`]
    #[arg(long, value_name = "FILE")]
    pub(super) nats_server: Option<PathBuf>,
    /// The port of the server on this machine, 0 for a free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub(super) port: u16,
    /// Where /metrics, /livez and /readyz are served
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub(super) http: String,
    #[command(flatten)]
    pub(super) collect: Collect,
}

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// The `nats-server` program [default: `HOMEOSTAT_NATS_SERVER`, else the one on `PATH`]
    #[arg(long, value_name = "FILE")]
    pub(super) nats_server: Option<PathBuf>,
    /// Where to put the server's and the store's files [default: a temporary folder, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    pub(super) bus: Bus,
    /// Which roles to run in this process
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = RoleName::ALL)]
    pub(super) roles: Vec<RoleName>,
    /// Apply this folder at the start, if it is not what is applied already; SIGHUP and POST /-/reload apply it again
    #[arg(long, value_name = "DIR")]
    pub(super) config: Option<PathBuf>,
    /// Where the knowledge role keeps its store [default: homeostat in `XDG_STATE_HOME`]
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
    /// Where /metrics, /livez and /readyz are served
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9600")]
    pub(super) http: String,
    #[command(flatten)]
    pub(super) collect: Collect,
    /// Copies of each stream: 1, 3 or 5. Streams that exist must have as many [default: as they have; 1 for new ones]
    #[arg(long, value_name = "N", value_parser = replicas)]
    pub(super) replicas: Option<usize>,
}

/// What a process collects itself, beside its roles.
#[derive(Clone, Debug, Args)]
pub(super) struct Collect {
    /// Endpoints in Prometheus' text format to scrape: a URL, or JOB=URL to give its series a job
    #[arg(long, value_name = "[JOB=]URL", value_delimiter = ',', help_heading = "Samples")]
    pub(super) scrape: Vec<String>,
    /// Publish this host's CPU, memory, disks and network
    #[arg(long, help_heading = "Samples")]
    pub(super) host_metrics: bool,
    /// Also these processes of this host: names, or top:N for the N largest and the N busiest
    #[arg(long, value_name = "NAMES", requires = "host_metrics", value_parser = processes, help_heading = "Samples")]
    pub(super) processes: Option<ingest::ProcessChoice>,
    /// How often
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = interval, help_heading = "Samples")]
    pub(super) scrape_interval: Duration,
    /// The name these samples are published under, one of its own for each process [default: collect- and the host]
    #[arg(long, value_name = "NAME", help_heading = "Samples")]
    pub(super) producer: Option<String>,
}

/// A role to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum RoleName {
    Monitor,
    Analyzer,
    Planner,
    Executor,
    Knowledge,
}

impl RoleName {
    pub(super) const ALL: [Self; 5] =
        [Self::Monitor, Self::Analyzer, Self::Planner, Self::Executor, Self::Knowledge];
}

impl std::fmt::Display for RoleName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.role().as_str())
    }
}

impl RoleName {
    pub(super) const fn role(self) -> crate::model::Role {
        use crate::model::Role;
        match self {
            Self::Monitor => Role::Monitor,
            Self::Analyzer => Role::Analyzer,
            Self::Planner => Role::Planner,
            Self::Executor => Role::Executor,
            Self::Knowledge => Role::Knowledge,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct Apply {
    #[command(flatten)]
    pub(super) bus: Bus,
    /// The folder: rules/*.yaml, playbooks/*.yaml, causes/*.yaml, charter.yaml, analysis.yaml
    pub(super) folder: PathBuf,
    /// Apply even though some of it is refused: the rest is used
    #[arg(long)]
    pub(super) partial: bool,
}

#[derive(Debug, Args)]
pub(super) struct Check {
    /// Folders of a configuration, or single files of one
    #[arg(required = true)]
    pub(super) paths: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Replay {
    /// Files of samples; several are put in order of time
    #[arg(required = true)]
    pub(super) samples: Vec<PathBuf>,
    /// A folder of rules, playbooks, causes and charter
    #[arg(long, value_name = "DIR")]
    pub(super) config: Option<PathBuf>,
    /// A rule file, beside or instead of --config
    #[arg(long, value_name = "FILE")]
    pub(super) rules: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) input: Input,
}

/// How samples are read.
#[derive(Clone, Debug, Args)]
pub(super) struct Input {
    /// What the files hold: csv, exposition, openmetrics or jsonl [default: by their names]
    #[arg(long, value_name = "FORMAT", value_parser = input_format)]
    pub(super) input_format: Option<ingest::Format>,
    /// The metric of values that come without one [default: the file's name]
    #[arg(long, value_name = "NAME")]
    pub(super) metric: Option<String>,
    /// Stop at the first row that cannot be read, with exit code 1
    #[arg(long)]
    pub(super) strict: bool,
    /// When exposition text without timestamps was scraped [default: `replay` when its file was written, `publish` now]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(super) at: Option<Timestamp>,
}

#[derive(Debug, Args)]
pub(super) struct Publish {
    #[command(flatten)]
    pub(super) bus: Bus,
    /// Files of samples, or - for standard input; several are put in order of time
    #[arg(default_value = "-")]
    pub(super) samples: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) input: Input,
    /// How fast: 1x as recorded, 60x an hour a minute, or max [default: max, with --now 1x]
    #[arg(long, value_name = "SPEED", value_parser = speed)]
    pub(super) speed: Option<Speed>,
    /// Give each sample the time at which it is published: the first one is now, and at 60x samples that were recorded
    /// an hour apart are a minute apart
    #[arg(long)]
    pub(super) now: bool,
    /// The producer's name [default: publish- and the host's name]
    #[arg(long, value_name = "NAME")]
    pub(super) producer: Option<String>,
    /// No progress bar
    #[arg(long, short)]
    pub(super) quiet: bool,
}

/// How fast samples are published.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Speed {
    /// As fast as the bus takes them.
    Max,
    /// This many times as fast as they were recorded.
    Times(f64),
}

#[derive(Debug, Args)]
pub(super) struct Tail {
    #[command(flatten)]
    pub(super) bus: Bus,
    /// Subjects below the prefix and v1: violations.>, samples.*, dlq.>; without one, everything but samples
    pub(super) subjects: Vec<String>,
    /// Begin with what is in the ledger, from this sequence on
    #[arg(long, value_name = "SEQUENCE")]
    pub(super) from: Option<u64>,
    /// Stop after this many
    #[arg(short = 'n', long, value_name = "N")]
    pub(super) count: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct Listing {
    #[command(flatten)]
    pub(super) bus: Bus,
    /// How many, at most 500
    #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=500))]
    pub(super) limit: u16,
}

#[derive(Debug, Args)]
pub(super) struct Explain {
    #[command(flatten)]
    pub(super) bus: Bus,
    /// The id of an action, attempt, plan, analysis, episode or incident
    pub(super) id: String,
}

#[derive(Debug, Subcommand)]
pub(super) enum Kb {
    /// How much is remembered
    Stats(KbBus),
    /// How often each playbook helped against each cause
    Learned(KbBus),
    /// Write everything that is remembered to a file
    Export {
        #[command(flatten)]
        bus: Bus,
        /// Where to
        file: PathBuf,
    },
    /// Replace what a store holds by an export of the same ledger that is not older; no knowledge role may run on it
    Import {
        /// What `kb export` wrote
        file: PathBuf,
        /// The store's folder, as in `run --data`
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        #[command(flatten)]
        bus: Bus,
    },
}

#[derive(Debug, Args)]
pub(super) struct KbBus {
    #[command(flatten)]
    pub(super) bus: Bus,
}

#[derive(Debug, Args)]
pub(super) struct Operator {
    #[command(flatten)]
    pub(super) bus: Bus,
    /// Who asks: the last token of the subject, which the server's permissions guard [default: USER]
    #[arg(long, value_name = "NAME")]
    pub(super) user: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Halt {
    #[command(flatten)]
    pub(super) operator: Operator,
    /// Why, for those who read it later
    #[arg(long, value_name = "TEXT", default_value = "no reason given")]
    pub(super) reason: String,
}

fn input_format(text: &str) -> Result<ingest::Format, String> {
    text.parse().map_err(|error: ingest::UnknownFormat| error.to_string())
}

fn replicas(text: &str) -> Result<usize, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        "5" => Ok(5),
        _ => Err("it is 1, 3 or 5".to_owned()),
    }
}

fn moment(text: &str) -> Result<Timestamp, String> {
    ingest::parse_moment(text).map_err(|error| error.to_string())
}

fn processes(text: &str) -> Result<ingest::ProcessChoice, String> {
    match text.strip_prefix("top:") {
        Some(count) => {
            let count = count.parse().map_err(|_| format!("`top:{count}` has no number of processes"))?;
            Ok(ingest::ProcessChoice::Top(count))
        }
        None => {
            Ok(ingest::ProcessChoice::Named(text.split(',').map(|name| name.trim().to_owned()).collect()))
        }
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = wire::files::parse_duration(text).map_err(|error| error.to_string())?;
    if interval < INTERVAL_MIN {
        return Err(format!("not more often than every {INTERVAL_MIN:?}"));
    }
    Ok(interval)
}

fn speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed::Max);
    }
    let times = text.strip_suffix('x').unwrap_or(text).parse::<f64>();
    match times {
        Ok(times) if times.is_finite() && times > 0.0 => Ok(Speed::Times(times)),
        Ok(_) | Err(_) => {
            Err("a speed is `max`, or a number above zero with an `x`: 1x, 60x, 0.5x".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn speeds_are_read() {
        assert_eq!(speed("60x"), Ok(Speed::Times(60.0)));
        assert_eq!(speed("max"), Ok(Speed::Max));
        for wrong in ["", "x", "-1x", "NaN", "0x", "fast"] {
            assert!(speed(wrong).is_err(), "{wrong}");
        }
    }
}

//! Processes of the loop: what `run`, `dev` and `demo` are told.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{Bus, Collect};
use crate::model::Role;
use crate::wire;

/// Where traces are sent to.
#[derive(Debug, Args)]
pub(in crate::cli) struct Traced {
    /// Send traces to an OTLP/HTTP collector at this address, as `http://127.0.0.1:4318`
    #[cfg(feature = "otlp")]
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    pub(in crate::cli) otlp_endpoint: Option<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Dev {
    /// The configuration to apply [default: rules and playbooks may be applied later with `homeostat apply`]
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) config: Option<PathBuf>,
    /// Where the server and the store keep their files [default: a temporary folder]
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) data: Option<PathBuf>,
    /// The nats-server program [default: `HOMEOSTAT_NATS_SERVER`, else the one on PATH]
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) nats_server: Option<PathBuf>,
    /// The port of the server on this machine, 0 for a free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub(in crate::cli) port: u16,
    /// Where /metrics, /livez and /readyz are served
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub(in crate::cli) http: String,
    #[command(flatten)]
    pub(in crate::cli) traced: Traced,
    #[command(flatten)]
    pub(in crate::cli) collect: Collect,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Demo {
    /// The nats-server program [default: `HOMEOSTAT_NATS_SERVER`, else the one on PATH]
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) nats_server: Option<PathBuf>,
    /// Where to put the server's and the store's files [default: a temporary folder, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) data: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Run {
    #[command(flatten)]
    pub(in crate::cli) bus: Bus,
    /// Which roles to run in this process
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = RoleName::ALL)]
    pub(in crate::cli) roles: Vec<RoleName>,
    /// Apply this folder at the start, if it is not what is applied already; SIGHUP and POST /-/reload apply it again
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) config: Option<PathBuf>,
    /// Where the knowledge role keeps its store [default: homeostat in `XDG_STATE_HOME`, else in ~/.local/state]
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) data: Option<PathBuf>,
    /// Where /metrics, /livez and /readyz are served
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9600")]
    pub(in crate::cli) http: String,
    #[command(flatten)]
    pub(in crate::cli) traced: Traced,
    #[command(flatten)]
    pub(in crate::cli) collect: Collect,
    /// Copies of each stream: 1, 3 or 5. Streams that exist must have as many [default: as they have; 1 for new ones]
    #[arg(long, value_name = "N", value_parser = replicas)]
    pub(in crate::cli) replicas: Option<usize>,
    /// How often what the ledger amounts to is kept: a start reads that, and what came since
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = pause)]
    pub(in crate::cli) keep_fold_every: Duration,
}

/// A role to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(in crate::cli) enum RoleName {
    Monitor,
    Analyzer,
    Planner,
    Executor,
    Knowledge,
}

impl RoleName {
    pub(in crate::cli) const ALL: [Self; 5] =
        [Self::Monitor, Self::Analyzer, Self::Planner, Self::Executor, Self::Knowledge];

    pub(in crate::cli) const fn role(self) -> Role {
        match self {
            Self::Monitor => Role::Monitor,
            Self::Analyzer => Role::Analyzer,
            Self::Planner => Role::Planner,
            Self::Executor => Role::Executor,
            Self::Knowledge => Role::Knowledge,
        }
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.role().as_str())
    }
}

fn pause(text: &str) -> Result<Duration, String> {
    match wire::files::parse_duration(text) {
        Ok(Duration::ZERO) => Err("it is not 0".to_owned()),
        parsed => parsed.map_err(|error| error.to_string()),
    }
}

fn replicas(text: &str) -> Result<usize, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        "5" => Ok(5),
        _ => Err("it is 1, 3 or 5".to_owned()),
    }
}

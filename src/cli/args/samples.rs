//! What samples are read from, and where they go.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::Bus;
use crate::ingest;
use crate::model::Timestamp;
use crate::producer::INTERVAL_MIN;
use crate::wire;

/// What a process collects itself, beside its roles.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct Collect {
    /// Endpoints in Prometheus' text format to scrape: a URL, or JOB=URL to give its series a job
    #[arg(long, value_name = "[JOB=]URL", value_delimiter = ',', help_heading = "Samples")]
    pub(in crate::cli) scrape: Vec<String>,
    /// Publish this host's CPU, memory, disks and network
    #[arg(long, help_heading = "Samples")]
    pub(in crate::cli) host_metrics: bool,
    /// Also these processes of this host: names, or top:N for the N largest and the N busiest
    #[arg(long, value_name = "NAMES", requires = "host_metrics", value_parser = processes, help_heading = "Samples")]
    pub(in crate::cli) processes: Option<ingest::ProcessChoice>,
    /// How often endpoints are scraped and the host is looked at
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = interval, help_heading = "Samples")]
    pub(in crate::cli) scrape_interval: Duration,
    /// The name these samples are published under, one of its own for each process [default: collect- and the host]
    #[arg(long, value_name = "NAME", help_heading = "Samples")]
    pub(in crate::cli) producer: Option<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Replay {
    /// Files of samples; several are put in order of time
    #[arg(required = true)]
    pub(in crate::cli) samples: Vec<PathBuf>,
    /// A folder of rules, playbooks, causes and charter
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) config: Option<PathBuf>,
    /// A rule file, beside or instead of --config
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) rules: Vec<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) input: Input,
}

/// How samples are read.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct Input {
    /// What the files hold: csv, exposition, openmetrics or jsonl [default: by their names]
    #[arg(long, value_name = "FORMAT", value_parser = input_format)]
    pub(in crate::cli) input_format: Option<ingest::Format>,
    /// The metric of values that come without one [default: the file's name]
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) metric: Option<String>,
    /// Stop at the first row that cannot be read, with exit code 1
    #[arg(long)]
    pub(in crate::cli) strict: bool,
    /// When exposition text without timestamps was scraped [default: replay: when its file was written; publish: now]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(in crate::cli) at: Option<Timestamp>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Publish {
    #[command(flatten)]
    pub(in crate::cli) bus: Bus,
    /// Files of samples, or - for standard input; several are put in order of time
    #[arg(default_value = "-")]
    pub(in crate::cli) samples: Vec<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) input: Input,
    /// How fast: 1x as recorded, 60x an hour a minute, or max [default: max, with --now 1x]
    #[arg(long, value_name = "SPEED", value_parser = speed)]
    pub(in crate::cli) speed: Option<Speed>,
    /// Give each sample the time at which it is published: the first one is now, and at 60x samples that were recorded
    /// an hour apart are a minute apart
    #[arg(long)]
    pub(in crate::cli) now: bool,
    /// The producer's name [default: publish- and the host's name]
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) producer: Option<String>,
    /// No progress bar
    #[arg(long, short)]
    pub(in crate::cli) quiet: bool,
}

/// How fast samples are published.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::cli) enum Speed {
    /// As fast as the bus takes them.
    Max,
    /// This many times as fast as they were recorded.
    Times(f64),
}

fn input_format(text: &str) -> Result<ingest::Format, String> {
    text.parse().map_err(|error: ingest::UnknownFormat| error.to_string())
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
    use super::*;

    #[test]
    fn speeds_are_read() {
        assert_eq!(speed("60x"), Ok(Speed::Times(60.0)));
        assert_eq!(speed("max"), Ok(Speed::Max));
        for wrong in ["", "x", "-1x", "NaN", "0x", "fast"] {
            assert!(speed(wrong).is_err(), "{wrong}");
        }
    }
}

//! `bench`: how fast the loop is here. A table shows each figure with its target; as JSON the shapes are fixed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::exit::{Failure, Outcome, outside, usage};
use super::output::Format;
use super::{Context, output, printed, run};
use crate::bench::{Quantiles, closed_loop, cycle, ingest};
use crate::bus::nats::SyncInterval;

#[derive(Debug, Subcommand)]
pub(super) enum Bench {
    /// Time whole cycles in one process, without a server: samples in, would-be actions out
    Cycle {
        /// Cycles of one violation; of a thousand violations a hundredth of it
        #[arg(long, value_name = "N", default_value_t = 2_000)]
        rounds: u32,
    },
    /// Time the way from a sample that breaches to the effect that answers it, on a private server
    Loop(LoopArgs),
    /// Count the samples that one monitor takes in for each second of its CPU time, from a private server
    Ingest(IngestArgs),
}

#[derive(Debug, Args)]
pub(super) struct LoopArgs {
    /// Measure the same way with empty handlers too, in the same run
    #[arg(long)]
    pub(super) floor: bool,
    /// When the server forces its files to disk: as usual every two minutes, or always before it acknowledges
    #[arg(long, value_enum, default_value = "default")]
    pub(super) sync: SyncWord,
    /// Violations that begin in each second beside, and as many that end
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) load: u32,
    /// Samples that breach, one after the other
    #[arg(long, value_name = "N", default_value_t = 600)]
    pub(super) rounds: u32,
    #[command(flatten)]
    pub(super) place: PlaceArgs,
}

#[derive(Debug, Args)]
pub(super) struct IngestArgs {
    /// How long to measure
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    pub(super) seconds: f64,
    #[command(flatten)]
    pub(super) place: PlaceArgs,
}

/// Where a measurement has its server.
#[derive(Debug, Args)]
pub(super) struct PlaceArgs {
    /// The nats-server program [default: `HOMEOSTAT_NATS_SERVER`, else the one on PATH]
    #[arg(long, value_name = "FILE")]
    pub(super) nats_server: Option<PathBuf>,
    /// Where to put the server's and the roles' files [default: a temporary folder, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
}

/// When a server forces its files to disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum SyncWord {
    Default,
    Always,
}

/// Whole cycles in one process, without a server.
pub(super) fn cycle(rounds: u32, context: &Context) -> Outcome {
    let one = micros(cycle::one_violation(rounds, &context.clock));
    let thousand = micros(cycle::thousand_violations((rounds / 100).max(5), &context.clock));
    let result = json!({ "one_violation_us": one, "thousand_violations_us": thousand, "rounds": rounds });
    let lines = [
        line("a cycle of one violation, mean", one, "µs", "≤ 100"),
        line("a cycle of 1,000 violations, mean", thousand, "µs", "≤ 5,000"),
    ];
    print(context, &result, &lines)
}

/// From a sample to its effect.
pub(super) async fn closed_loop(args: LoopArgs, context: &Context) -> Outcome {
    if args.rounds == 0 {
        return Err(usage(anyhow::anyhow!("no rounds measure nothing\nhint: --rounds 100")));
    }
    let place = Place::of(&args.place, context)?;
    let (sync, word) = match args.sync {
        SyncWord::Default => (SyncInterval::Default, "default"),
        SyncWord::Always => (SyncInterval::Always, "always"),
    };
    let options = closed_loop::LoopOptions {
        server: run::server_options(args.place.nats_server, &place.folder.join("nats"), sync, context)?,
        rounds: args.rounds,
        floor: args.floor,
        load: args.load,
    };
    let figures = closed_loop::run(&options, &context.clock).await.map_err(outside)?;
    let ours = figures.closed_loop;
    let mut result = json!({
        "loop": quantiles(ours),
        "sync": word,
        "load_per_second": args.load,
        "rounds": args.rounds,
    });
    let mut lines =
        vec![line("loop, p50", micros(ours.p50), "µs", ""), line("loop, p99", micros(ours.p99), "µs", "")];
    if let Some(floor) = figures.floor {
        let ratio = |ours: Duration, floor: Duration| ours.as_secs_f64() / floor.as_secs_f64();
        let (p50, p99) = (ratio(ours.p50, floor.p50), ratio(ours.p99, floor.p99));
        result["floor"] = quantiles(floor);
        result["ratio"] = json!({ "p50": p50, "p99": p99 });
        let targets = if args.load == 0 { ["≤ 1.5", "≤ 2"] } else { ["≤ 3", "≤ 3"] };
        lines.extend([
            line("floor, p50", micros(floor.p50), "µs", ""),
            line("floor, p99", micros(floor.p99), "µs", ""),
            line("loop / floor, p50", p50, "", targets[0]),
            line("loop / floor, p99", p99, "", targets[1]),
        ]);
    }
    print(context, &result, &lines)
}

/// Samples into one monitor.
pub(super) async fn ingest(args: IngestArgs, context: &Context) -> Outcome {
    let Ok(duration) = Duration::try_from_secs_f64(args.seconds) else {
        return Err(usage(anyhow::anyhow!("`{}` is no number of seconds", args.seconds)));
    };
    let place = Place::of(&args.place, context)?;
    let nats = place.folder.join("nats");
    let options = ingest::IngestOptions {
        server: run::server_options(args.place.nats_server, &nats, SyncInterval::Default, context)?,
        program: std::env::current_exe().map_err(outside)?,
        folder: place.folder.clone(),
        duration,
    };
    let figures = ingest::run(&options, &context.clock).await.map_err(outside)?;
    let (by_clock, by_cpu) = (figures.samples_per_second(), figures.samples_per_cpu_second());
    let result = json!({ "samples_per_second": by_clock, "samples_per_cpu_second": by_cpu });
    let lines = [
        line("by the clock, sender and server beside it", by_clock / 1e6, "million samples/s", ""),
        line("by the monitor's CPU time", by_cpu / 1e6, "million samples/s", "≥ 5"),
    ];
    print(context, &result, &lines)
}

/// A folder for the files of a measurement; a temporary one goes with it.
struct Place {
    folder: PathBuf,
    is_temporary: bool,
}

impl Place {
    fn of(args: &PlaceArgs, context: &Context) -> Result<Self, Failure> {
        match &args.data {
            Some(folder) => Ok(Self { folder: folder.clone(), is_temporary: false }),
            None => Ok(Self { folder: run::temporary_folder(context).map_err(outside)?, is_temporary: true }),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_temporary {
            let _ = std::fs::remove_dir_all(Path::new(&self.folder));
        }
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn quantiles(quantiles: Quantiles) -> Value {
    json!({ "p50_us": micros(quantiles.p50), "p99_us": micros(quantiles.p99) })
}

fn line(what: &str, figure: f64, unit: &str, target: &str) -> Value {
    json!({ "what": what, "figure": figure, "unit": unit, "target": target })
}

fn print(context: &Context, result: &Value, lines: &[Value]) -> Outcome {
    let columns = [("", "what"), ("figure", "figure"), ("unit", "unit"), ("target", "target")];
    let done = match context.format {
        Format::Table => output::list(Format::Table, lines, &columns),
        Format::Json | Format::Jsonl | Format::Yaml => output::one(context.format, result),
    };
    done.or_else(printed)
}

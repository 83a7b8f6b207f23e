//! Asks a real Prometheus and our evaluator the same random questions about the same random series, and says where
//! they differ. `scripts/diff-prometheus` runs it.
//!
//! Cases come in rounds: each has a fleet of series of its own, in a Prometheus that knows nothing else. The same
//! seed gives the same cases.

mod answer;
mod expression;
mod fleet;
mod grammar;
mod prometheus;
mod question;
mod remote_write;
mod script;
mod shrink;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use fastrand::Rng;
use homeostat::engine::promql::SeriesStore;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::select;
use tokio::signal::{self, unix::SignalKind};

use answer::Value;
use fleet::Fleet;
use grammar::{Grammar, NOT_ASKED};
use prometheus::Prometheus;
use question::Question;
use shrink::Difference;

/// Cases about one fleet: a fleet takes half a second to start a Prometheus for, a case some milliseconds.
const CASES_PER_ROUND: u64 = 200;
/// How often a question is thrown away because its answer is not defined, before the case is given up.
const HAZARDS_MAX: usize = 1_000;

/// Compares our PromQL with that of a real Prometheus: the same random series, the same random expressions.
#[derive(Parser)]
#[command(name = "diff-prometheus")]
struct Options {
    /// The program to compare with.
    #[arg(long)]
    prometheus: PathBuf,
    /// How many cases.
    #[arg(long, default_value_t = 10_000)]
    cases: u64,
    /// What chance begins with; a new one each time unless given.
    #[arg(long)]
    seed: Option<u64>,
    /// Only this case of the seed.
    #[arg(long)]
    case: Option<u64>,
    /// After how many differences to stop; each is made smaller and printed.
    #[arg(long, default_value_t = 1)]
    differences: usize,
    /// Say what is never asked, and why.
    #[arg(long)]
    not_asked: bool,
}

/// What was seen of the answers, so that a green run that asked nothing would show.
#[derive(Default)]
struct Tally {
    failed: u64,
    empty: u64,
    with_value: u64,
    undefined: u64,
    differences: usize,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let options = Options::parse();
    if options.not_asked {
        NOT_ASKED.iter().for_each(|(what, why)| println!("{what}: {why}"));
        return Ok(ExitCode::SUCCESS);
    }
    let mut terminate = signal::unix::signal(SignalKind::terminate())?;
    // Whatever ends the run, Prometheus ends with it.
    select! {
        ended = run(&options) => ended,
        _ = signal::ctrl_c() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    }
}

/// Cancel safe: what it started ends when it is dropped.
async fn run(options: &Options) -> Result<ExitCode> {
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..1_000_000_000));
    println!("seed {seed}");
    let cases = options.case.map_or(0..options.cases, |case| case..case + 1);
    let bar = ProgressBar::new(cases.end - cases.start)
        .with_style(ProgressStyle::with_template("{bar:40} {pos}/{len} cases, {eta} left; {msg}")?);
    let mut tally = Tally::default();
    let mut next = cases.start;
    while next < cases.end && tally.differences < options.differences {
        let end = cases.end.min((next / CASES_PER_ROUND + 1) * CASES_PER_ROUND);
        run_round(options, seed, next..end, &bar, &mut tally).await?;
        next = end;
    }
    bar.finish_and_clear();
    let Tally { with_value, empty, failed, undefined, differences } = tally;
    println!(
        "{} cases: {with_value} with a value, {empty} empty, {failed} refused by both; {undefined} questions without a \
         defined answer not asked; {differences} differences",
        bar.position()
    );
    Ok(if differences == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn run_round(
    options: &Options,
    seed: u64,
    cases: std::ops::Range<u64>,
    bar: &ProgressBar,
    tally: &mut Tally,
) -> Result<()> {
    let fleet = Fleet::random(&mut source(seed, u64::MAX - cases.start / CASES_PER_ROUND));
    let store = fleet.store();
    let prometheus = Prometheus::with(&options.prometheus, &fleet).await?;
    for case in cases {
        let Some(question) = defined(&mut source(seed, case), &store, tally) else { continue };
        let theirs = prometheus.ask(&question).await.with_context(|| {
            format!("seed {seed}, case {case}: {} at {:?}", question.expression, question.when)
        })?;
        let ours = question.ask_us(&store);
        tally.count(&theirs.value);
        bar.inc(1);
        let Some(what) = theirs.difference(&ours, question.order()) else { continue };
        tally.differences += 1;
        bar.set_message(format!("{} differences", tally.differences));
        let found = Difference { question, theirs, ours, what };
        let text = explain(&options.prometheus, &prometheus, &fleet, &store, found).await?;
        bar.suspend(|| println!("\n# seed {seed}, case {case}: {text}"));
        if tally.differences >= options.differences {
            break;
        }
    }
    prometheus.stop().await
}

/// A question whose answer is defined.
fn defined(rng: &mut Rng, store: &SeriesStore, tally: &mut Tally) -> Option<Question> {
    for _ in 0..HAZARDS_MAX {
        let question = Grammar::new(rng).question();
        if !question.is_hazardous(store) {
            return Some(question);
        }
        tally.undefined += 1;
    }
    None
}

/// The smallest case that still differs, to be read and to be run again.
async fn explain(
    program: &Path,
    prometheus: &Prometheus,
    fleet: &Fleet,
    store: &SeriesStore,
    found: Difference,
) -> Result<String> {
    let asked = format!("{} ({})", found.question.expression, found.what);
    let smaller = shrink::question(prometheus, store, found).await?;
    let (fleet, smallest) = shrink::fleet(program, fleet, smaller).await?;
    let script = script::write(&fleet, &smallest.question, &smallest.theirs, &smallest.ours);
    Ok(format!("{}\n# found in: {asked}\n{script}", smallest.what))
}

impl Tally {
    fn count(&mut self, value: &Value) {
        let has_value = match value {
            Value::Failed(_) => return self.failed += 1,
            Value::Scalar(_) | Value::Text(_) => true,
            Value::Vector(elements) => !elements.is_empty(),
            Value::Matrix(rows) => !rows.is_empty(),
        };
        if has_value {
            self.with_value += 1;
        } else {
            self.empty += 1;
        }
    }
}

/// Chance for one purpose of a seed.
fn source(seed: u64, purpose: u64) -> Rng {
    Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ purpose.wrapping_mul(0xd1b5_4a32_d192_ed03))
}

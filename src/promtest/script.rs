//! Runs Prometheus' PromQL test scripts.
//!
//! A case whose expression is outside the supported set, or that is about native histograms, is *listed*: why is to be
//! read in `listed.txt`, and a case that is not run for any other reason has failed. Every other one has to give
//! Prometheus' result, say what Prometheus says beside it, and give the same at one time and in a range of times.

use std::collections::BTreeMap;
use std::time::Duration;

use super::compare;
use super::notation::{Line, Point};
use super::reading::{self, Command, Eval, Expected, Said, When};
use crate::engine::promql::{
    Annotations, Answer, EvalError, Limits, NameRemoval, Outcome, ParseErrorKind, Query, SeriesStore,
    Severity, Steps,
};
use crate::model::{Labels, Timestamp};

/// What the cases of a script came to.
#[derive(Debug, Default)]
pub struct Tally {
    /// Cases that gave what they are to give.
    pub passed: usize,
    /// Cases that were not run, by reason.
    pub listed: BTreeMap<String, usize>,
    /// Cases that gave something else, and commands that cannot be read.
    pub failures: Vec<Failure>,
}

/// A case that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Where it stands in the script, from 1.
    pub line: usize,
    /// Its expression; empty where a command cannot be read.
    pub expr: String,
    /// What is wrong.
    pub reason: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}\n    {}", self.line, self.expr, self.reason)
    }
}

enum Verdict {
    Passed,
    Listed(String),
    Failed(String),
}

/// What is not run, and why: each reason in words.
pub fn listed() -> BTreeMap<&'static str, &'static str> {
    let lines = include_str!("listed.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(": ")).collect()
}

/// Runs a script. Prometheus runs its own with delayed name removal.
pub fn run(text: &str, removal: NameRemoval) -> Tally {
    let (mut tally, mut world, known) = (Tally::default(), World::new(), listed());
    for command in reading::commands(text) {
        match command {
            Err(error) => {
                tally.failures.push(Failure { line: error.line, expr: String::new(), reason: error.cause });
            }
            Ok(Command::Clear) => world = World::new(),
            Ok(Command::Load { step_millis, series }) => world.load(step_millis, &series),
            Ok(Command::Eval(eval)) => {
                let failure = match judge(&world, &eval, removal) {
                    Verdict::Passed => {
                        tally.passed += 1;
                        continue;
                    }
                    Verdict::Listed(reason) if known.contains_key(reason.as_str()) => {
                        *tally.listed.entry(reason).or_default() += 1;
                        continue;
                    }
                    Verdict::Listed(reason) => format!("not run for a reason that is not listed: {reason}"),
                    Verdict::Failed(reason) => reason,
                };
                tally.failures.push(Failure { line: eval.line, expr: eval.expr, reason: failure });
            }
        }
    }
    tally
}

struct World {
    store: SeriesStore,
    /// The series that have something the store cannot hold, and what.
    unheld: Vec<(Labels, &'static str)>,
}

impl World {
    fn new() -> Self {
        let forever = Duration::from_secs(1 << 40);
        let mut store = SeriesStore::new(Limits { lateness: forever, ..Limits::default() });
        store.retain(forever);
        Self { store, unheld: Vec::new() }
    }

    fn instant(&self, query: &Query, at: i64, removal: NameRemoval) -> Result<Answer, EvalError> {
        query.instant(&self.store, Timestamp::from_millis(at), removal)
    }

    fn range(
        &self,
        query: &Query,
        (start, end, step): (i64, i64, i64),
        removal: NameRemoval,
    ) -> Result<Answer, EvalError> {
        let (start, end) = (Timestamp::from_millis(start), Timestamp::from_millis(end));
        let step = Duration::from_millis(u64::try_from(step).unwrap_or(1));
        query.range(&self.store, Steps { start, end, step }, removal)
    }

    fn load(&mut self, step_millis: i64, series: &[Line]) {
        // A series that is given twice is what the second line says.
        let (mut floats, mut unheld) = (BTreeMap::new(), Vec::new());
        let mut all_start = false;
        for line in series {
            let Some(labels) = &line.labels else { continue };
            if line.points.contains(&Point::Start) || all_start {
                all_start |= labels.is_empty();
                unheld.push((labels.clone(), "start timestamps"));
                continue;
            }
            if line.points.contains(&Point::Histogram) {
                unheld.push((labels.clone(), "native histograms"));
            }
            floats.insert(labels, line);
        }
        self.unheld.extend(unheld);
        for (labels, line) in floats {
            // A store that is full has no room for the expected values either: the cases say so.
            let Ok(id) = self.store.series(labels) else { continue };
            let times = std::iter::successors(Some(0_i64), |at| at.checked_add(step_millis));
            for (at, point) in times.zip(&line.points) {
                if let Point::Float(value) = point {
                    self.store.append(id, Timestamp::from_millis(at), *value);
                }
            }
        }
    }
}

fn judge(world: &World, eval: &Eval, removal: NameRemoval) -> Verdict {
    let expected = &eval.expected;
    let query = match Query::parse(&eval.expr) {
        Ok(query) => query,
        Err(error) if error.kind == ParseErrorKind::Unsupported => {
            return Verdict::Listed(error.name.unwrap_or(error.message));
        }
        Err(error) if expected.fails => return failed_as(expected, &error.message),
        Err(error) => return Verdict::Failed(error.to_string()),
    };
    let reads = |labels: &Labels| query.reads().any(|read| read.selector.matches(labels));
    if let Some((_, what)) = world.unheld.iter().find(|(labels, _)| reads(labels)) {
        return Verdict::Listed((*what).into());
    }
    let answer = match eval.when {
        When::Instant(at) => world.instant(&query, at, removal),
        When::Range { start, end, step } => world.range(&query, (start, end, step), removal),
    };
    let difference = match answer {
        Ok(_) if expected.fails => Err("expected an error".into()),
        Err(error) if expected.fails => return failed_as(expected, &error.to_string()),
        Err(error) => Err(error.to_string()),
        Ok(answer) => said(&answer.annotations, expected).and_then(|()| match eval.when {
            When::Instant(at) => compare::instant(&answer.outcome, expected, at)
                .and_then(|()| same_in_range(world, &query, eval, (at, removal), answer.outcome)),
            When::Range { start, end, step } => compare::range(&answer.outcome, expected, (start, end, step)),
        }),
    };
    difference.map_or_else(Verdict::Failed, |()| Verdict::Passed)
}

fn failed_as(expected: &Expected, error: &str) -> Verdict {
    match &expected.failure {
        Some(words) if !words.accept(error) => {
            Verdict::Failed(format!("another error is expected than `{error}`"))
        }
        _ => Verdict::Passed,
    }
}

/// Whether a range query has the value among its own, where it is not about the range itself.
fn same_in_range(
    world: &World,
    query: &Query,
    eval: &Eval,
    (at, removal): (i64, NameRemoval),
    value: Outcome,
) -> Result<(), String> {
    let of_query = ["start()", "end()", "step()", "range()"];
    let is_of_range = of_query.iter().any(|function| eval.expr.contains(function));
    if is_of_range || matches!(value, Outcome::Text(_) | Outcome::Matrix(_)) {
        return Ok(());
    }
    let minute = 60_000;
    let answer = world.range(query, (at - minute, at + minute, minute), removal);
    // The times before and after may fail for themselves.
    let Ok(Answer { outcome: Outcome::Matrix(rows), .. }) = answer else { return Ok(()) };
    let at_the_time = rows.into_iter().filter_map(|row| {
        let sample = row.samples.iter().find(|(known, _)| known.as_millis() == at)?;
        Some((row.labels, sample.1.to_bits()))
    });
    let in_range: BTreeMap<Labels, u64> = at_the_time.collect();
    let alone: BTreeMap<Labels, u64> = match value {
        Outcome::Vector(elements) => {
            elements.into_iter().map(|element| (element.labels, element.value.to_bits())).collect()
        }
        Outcome::Scalar(value) => [(Labels::empty(), value.to_bits())].into(),
        Outcome::Text(_) | Outcome::Matrix(_) => return Ok(()),
    };
    if in_range == alone { Ok(()) } else { Err(format!("in a range of times it is {in_range:?}")) }
}

fn said(annotations: &Annotations, expected: &Expected) -> Result<(), String> {
    let of = |severity| {
        let all = annotations.iter().filter(move |annotation| annotation.severity == severity);
        all.map(|annotation| annotation.to_string()).collect::<Vec<_>>()
    };
    let check = |what: &str, wanted: &Said, got: Vec<String>| {
        let are_wanted = wanted.words.iter().all(|words| got.iter().any(|text| words.accept(text)));
        if (wanted.is_wanted && got.is_empty()) || (wanted.is_unwanted && !got.is_empty()) || !are_wanted {
            return Err(format!("other {what} expected than {got:?}"));
        }
        Ok(())
    };
    check("warnings", &expected.warnings, of(Severity::Warning))?;
    check("information", &expected.infos, of(Severity::Info))
}

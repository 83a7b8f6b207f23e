//! Prometheus' own PromQL test scripts as the oracle of the evaluator.
//!
//! Each script is run; a case whose expression is outside the supported set, or that is about native histograms, is
//! listed, and why is to be read in `listed.txt`; every other one has to give Prometheus' result, say what Prometheus
//! says beside it, and give the same at one time and in a range of times. The scripts are read where they are there
//! (`tests/data/README.md`); a script of our own in the same language always.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod compare;
#[path = "../support/corpus.rs"]
mod corpus;
mod script;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use homeostat::engine::promql::{
    Annotations, Answer, EvalError, Limits, NameRemoval, Outcome, ParseErrorKind, Query, SeriesStore,
    Severity, Steps,
};
use homeostat::model::{Labels, Timestamp};

use script::{Command, Eval, Expected, Line, Point, Said, When};

/// How many cases pass at least, by script: what once passed is not to fall out of the supported set unseen.
const PASSED_MIN: [(&str, usize); 12] = [
    ("aggregators.test", 126),
    ("at_modifier.test", 78),
    ("duration_expression.test", 29),
    ("extended_vectors.test", 30),
    ("fill-modifier.test", 46),
    ("functions.test", 323),
    ("literals.test", 25),
    ("native_histograms.test", 3),
    ("operators.test", 142),
    ("selectors.test", 31),
    ("staleness.test", 17),
    ("type_and_unit.test", 58),
];

/// Scripts whose results are those of delayed name removal, which Prometheus runs all of its scripts with. Every
/// other script has to give the same results with the default.
const DELAYED_ONLY: [&str; 2] = ["name_label_dropping.test", "type_and_unit.test"];

#[derive(Default)]
struct Tally {
    passed: usize,
    /// By reason.
    listed: BTreeMap<String, usize>,
    failures: Vec<String>,
}

enum Verdict {
    Passed,
    Listed(String),
    Failed(String),
}

#[test]
fn every_case_of_our_own_script_gives_its_result() {
    for file in corpus::files(&corpus::own("promqltest"), ".test") {
        let text = std::fs::read_to_string(&file).unwrap();
        let cases = text.lines().filter(|line| line.starts_with("eval")).count();
        let tally = run(&text, NameRemoval::Immediate);
        assert_eq!(tally.failures, Vec::<String>::new());
        assert_eq!((tally.passed, tally.listed.len()), (cases, 0), "{:?}", tally.listed);
    }
}

#[test]
fn every_supported_case_of_the_official_scripts_gives_prometheus_result() {
    let Some(folder) = corpus::public("promqltest") else { return };
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "no scripts in {}", folder.display());
    let (mut report, mut failures) = (String::new(), Vec::new());
    let known = listed();
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        let tally = run(&text, NameRemoval::Delayed);
        let listed: usize = tally.listed.values().sum();
        writeln!(report, "{name}: {} passed, {} failed, {listed} listed", tally.passed, tally.failures.len())
            .unwrap();
        for (reason, count) in &tally.listed {
            writeln!(report, "    {count:4} {reason}").unwrap();
            if !known.contains_key(reason.as_str()) {
                failures.push(format!(
                    "{name}: {count} cases are not run for a reason that is not listed: {reason}"
                ));
            }
        }
        if let Some((_, least)) = PASSED_MIN.iter().find(|(known, _)| *known == name)
            && tally.passed < *least
        {
            failures.push(format!("{name}: {} cases passed, {least} did before", tally.passed));
        }
        failures.extend(tally.failures.iter().map(|failure| format!("{name}:{failure}")));
        if !DELAYED_ONLY.contains(&name.as_str()) {
            let by_default = run(&text, NameRemoval::Immediate);
            failures
                .extend(by_default.failures.iter().map(|failure| format!("{name} (by default):{failure}")));
        }
    }
    println!("{report}");
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// What is not run, and why.
fn listed() -> BTreeMap<&'static str, &'static str> {
    let lines = include_str!("listed.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once(": ").expect("a name and a reason")).collect()
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
        let step = Duration::from_millis(u64::try_from(step).unwrap());
        query.range(&self.store, Steps { start, end, step }, removal)
    }

    fn load(&mut self, step_millis: i64, series: &[Line]) {
        // A series that is given twice is what the second line says.
        let (mut floats, mut unheld) = (BTreeMap::new(), Vec::new());
        for line in series {
            let Some(labels) = &line.labels else { continue };
            if line.points.contains(&Point::Start) {
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
            for (at, point) in (0..).step_by(usize::try_from(step_millis).unwrap()).zip(&line.points) {
                if let Point::Float(value) = point {
                    let id = self.store.series(labels).unwrap();
                    self.store.append(id, Timestamp::from_millis(at), *value);
                }
            }
        }
    }
}

fn run(text: &str, removal: NameRemoval) -> Tally {
    let mut tally = Tally::default();
    let commands = match script::commands(text) {
        Ok(commands) => commands,
        Err(error) => {
            tally.failures.push(error);
            return tally;
        }
    };
    let mut world = World::new();
    for command in commands {
        match command {
            Command::Clear => world = World::new(),
            Command::Load { step_millis, series } => world.load(step_millis, &series),
            Command::Eval(eval) => match judge(&world, &eval, removal) {
                Verdict::Passed => tally.passed += 1,
                Verdict::Listed(reason) => *tally.listed.entry(reason).or_default() += 1,
                Verdict::Failed(reason) => {
                    tally.failures.push(format!("{}: {}\n    {reason}", eval.line, eval.expr));
                }
            },
        }
    }
    tally
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

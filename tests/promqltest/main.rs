//! Prometheus' own PromQL test scripts as the oracle of the evaluator.
//!
//! Each script is run; a case whose expression is outside the supported set, or that is about native histograms, is
//! listed, every other one has to give Prometheus' result. They are read where they are there (`tests/data/README.md`); a
//! script of our own in the same language always.

#![expect(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    clippy::maybe_infinite_iter,
    reason = "a test that cannot go on has failed; the iteration ends with the script"
)]

#[path = "../support/corpus.rs"]
mod corpus;
mod script;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use homeostat::engine::promql::{
    Element, EvalError, Expr, Limits, NameRemoval, ParseErrorKind, Scope, SeriesStore, Value,
};
use homeostat::model::{Labels, Timestamp};

use script::{Command, Eval, Expected, Line, Point, When};

/// How many cases pass at least, by script: what once passed is not to fall out of the supported set unseen.
const PASSED_MIN: [(&str, usize); 9] = [
    ("aggregators.test", 81),
    ("at_modifier.test", 24),
    ("extended_vectors.test", 30),
    ("functions.test", 124),
    ("literals.test", 25),
    ("operators.test", 138),
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
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        let tally = run(&text, NameRemoval::Delayed);
        let listed: usize = tally.listed.values().sum();
        writeln!(report, "{name}: {} passed, {} failed, {listed} listed", tally.passed, tally.failures.len())
            .unwrap();
        for (reason, count) in &tally.listed {
            writeln!(report, "    {count:4} {reason}").unwrap();
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

    fn eval(&self, expr: &Expr, at: i64, removal: NameRemoval) -> Result<Value, EvalError> {
        expr.eval_removing(&self.store, Timestamp::from_millis(at), Scope::All, removal)
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
    if let Some(word) = &expected.unknown {
        return Verdict::Listed(format!("expect {word}"));
    }
    let expr = match Expr::parse(&eval.expr) {
        Ok(expr) => expr,
        Err(error) if error.kind == ParseErrorKind::Unsupported => {
            return Verdict::Listed(error.name.unwrap_or(error.message));
        }
        Err(_) if expected.fails => return Verdict::Passed,
        Err(error) => return Verdict::Failed(error.to_string()),
    };
    if let Some((_, what)) = world.unheld.iter().find(|(labels, _)| expr.matches(labels)) {
        return Verdict::Listed((*what).into());
    }
    let outcome = match eval.when {
        When::Instant(at) => world.eval(&expr, at, removal).map(|value| instant(&value, expected)),
        When::Range { .. } if eval.expr.contains("start()") || eval.expr.contains("end()") => {
            return Verdict::Listed("the borders of a range query".into());
        }
        When::Range { start, end, step } => {
            steps(|at| world.eval(&expr, at, removal), (start, end, step), expected)
        }
    };
    match outcome {
        Ok(_) if expected.fails => Verdict::Failed("expected an error".into()),
        Ok(Ok(())) => Verdict::Passed,
        Ok(Err(difference)) => Verdict::Failed(difference),
        Err(error) if expected.fails => match &expected.message {
            Some(message) if *message != error.to_string() => {
                Verdict::Failed(format!("expected the error `{message}`, got `{error}`"))
            }
            _ => Verdict::Passed,
        },
        Err(error) => Verdict::Failed(error.to_string()),
    }
}

fn instant(value: &Value, expected: &Expected) -> Result<(), String> {
    match value {
        Value::Text(text) => match &expected.text {
            Some(known) if **known == **text => Ok(()),
            known => Err(format!("expected {known:?}, got `{text}`")),
        },
        Value::Scalar(got) => match expected.lines.as_slice() {
            [Line { labels: None, points }] if matches!(points.as_slice(), [Point::Float(known)] if is_near(*known, *got)) => {
                Ok(())
            }
            _ => Err(format!("got the number {got}")),
        },
        Value::Vector(elements) => {
            let got =
                elements.iter().map(|element| (element.labels.clone(), vec![Some(element.value)])).collect();
            compare(got, expected, 1)
        }
    }
}

fn steps(
    eval: impl Fn(i64) -> Result<Value, EvalError>,
    (start, end, step): (i64, i64, i64),
    expected: &Expected,
) -> Result<Result<(), String>, EvalError> {
    let mut got: BTreeMap<Labels, Vec<Option<f64>>> = BTreeMap::new();
    let times: Vec<i64> = (0..).map(|n| start + n * step).take_while(|&at| at <= end).collect();
    for (index, &at) in times.iter().enumerate() {
        let elements = match eval(at)? {
            Value::Vector(elements) => elements,
            Value::Scalar(value) => vec![Element { labels: Labels::empty(), value }],
            Value::Text(text) => return Ok(Err(format!("got the text `{text}`"))),
        };
        for element in elements {
            got.entry(element.labels).or_insert_with(|| vec![None; times.len()])[index] = Some(element.value);
        }
    }
    Ok(compare(got, expected, times.len()))
}

fn compare(got: BTreeMap<Labels, Vec<Option<f64>>>, expected: &Expected, steps: usize) -> Result<(), String> {
    let mut missing = got.clone();
    for line in &expected.lines {
        let labels = line.labels.clone().unwrap_or_default();
        let mut known: Vec<Option<f64>> = line
            .points
            .iter()
            .map(|point| match point {
                Point::Float(value) => Some(*value),
                Point::Missing | Point::Histogram | Point::Start => None,
            })
            .collect();
        known.resize(steps, None);
        let Some(values) = missing.remove(&labels) else {
            return Err(format!("{labels} is missing in {got:?}"));
        };
        let is_same = known.iter().zip(&values).all(|pair| match pair {
            (Some(known), Some(value)) => is_near(*known, *value),
            (None, None) => true,
            _ => false,
        });
        if !is_same {
            return Err(format!("{labels}: expected {known:?}, got {values:?}"));
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(format!("unexpected {missing:?}")) }
}

/// The tolerance of Prometheus' own runner.
#[expect(clippy::float_cmp, reason = "infinities and equal numbers need no tolerance")]
fn is_near(known: f64, got: f64) -> bool {
    const EPSILON: f64 = 1e-6;
    if known == got || (known.is_nan() && got.is_nan()) {
        return true;
    }
    let (difference, size) = ((known - got).abs(), known.abs() + got.abs());
    if known == 0.0 || got == 0.0 || size < f64::MIN_POSITIVE {
        return difference < EPSILON * f64::MIN_POSITIVE;
    }
    difference / size.min(f64::MAX) < EPSILON
}

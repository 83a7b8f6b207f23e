//! Samples for rules: series that the rules' selectors mean, with values around the numbers that they compare with.

use std::collections::BTreeSet;
use std::time::Duration;

use fastrand::Rng;
use homeostat::engine::promql::{Expr, Selector};
use homeostat::model::{Labels, METRIC_NAME, Timestamp};
use homeostat::wire::files::{GroupText, RuleKind};

use crate::INTERVAL;

/// All series are there for so long before anything changes: what nobody has watched for a window says nothing of
/// what is missing.
const LEAD_IN: Duration = Duration::from_mins(12);
/// What comes after it.
const STORY: Duration = Duration::from_mins(40);
/// Windows and durations beyond this would see nothing but the lead-in.
const LONGEST: Duration = Duration::from_mins(10);
/// The grid's first point.
const START: Timestamp = Timestamp::from_millis(1_700_000_100_000);
const INSTANCES: [&str; 3] = ["a:9100", "b:9100", "c:9100"];

/// What is fed.
pub(crate) struct Made {
    pub(crate) series: Vec<Labels>,
    /// Each of a time, in the order of time: series and value.
    pub(crate) scrapes: Vec<(Timestamp, Vec<(u16, f64)>)>,
    /// Episodes that began before are not compared.
    pub(crate) begin: Timestamp,
    /// The last point of the grid that all samples are in for.
    pub(crate) end: Timestamp,
}

/// The rules of a group for which samples can be made, and the samples. `spreads` puts them between the points of the
/// grid, too.
pub(crate) fn of(group: &GroupText, spreads: bool, rng: &mut Rng) -> Option<(GroupText, Made)> {
    let mut group = group.clone();
    let mut series = BTreeSet::new();
    let recorded: Vec<_> = group.rules.iter().filter_map(|rule| recorded(&rule.kind)).collect();
    let mut numbers = vec![0.0, 1.0];
    group.rules.retain(|rule| {
        let Ok(expr) = Expr::parse(&rule.expr.text) else { return false };
        let is_short = rule.hold <= LONGEST && rule.keep_firing <= LONGEST;
        let windows = expr.reads().all(|read| read.window <= LONGEST);
        // What depends on the time of day is for the tests of PromQL.
        let is_timeless = !rule.expr.text.contains("time()") && !rule.expr.text.contains("hour()");
        let made: Option<Vec<Labels>> = expr
            .reads()
            .filter(|read| {
                !read.selector.metric_name().is_some_and(|name| recorded.iter().any(|known| known == name))
            })
            .flat_map(|read| INSTANCES.map(|instance| labels_for(read.selector, instance)))
            .collect();
        let Some(made) = made.filter(|made| is_short && windows && is_timeless && made.len() < 60) else {
            return false;
        };
        series.extend(made);
        numbers.extend(numbers_in(&rule.expr.text));
        true
    });
    if group.rules.is_empty() || series.is_empty() {
        return None;
    }
    let series: Vec<Labels> = series.into_iter().collect();
    let (scrapes, end) = scrapes(&series, &numbers, spreads, rng);
    Some((group, Made { series, scrapes, begin: START + LEAD_IN, end }))
}

fn recorded(kind: &RuleKind) -> Option<String> {
    match kind {
        RuleKind::Record(name) => Some(name.to_string()),
        RuleKind::Alert(_) => None,
    }
}

/// Labels that a selector takes, the same for all selectors but for what they ask.
fn labels_for(selector: &Selector, instance: &str) -> Option<Labels> {
    let name = selector.metric_name()?;
    let mut pairs = vec![(METRIC_NAME.to_owned(), name.to_owned()), ("job".to_owned(), "api".to_owned())];
    pairs.push(("instance".to_owned(), instance.to_owned()));
    if name.ends_with("_bucket") {
        let bound = ["0.1", "1", "+Inf"][instance.len() % 3];
        pairs.push(("le".to_owned(), bound.to_owned()));
    }
    for matcher in selector.matchers().iter().filter(|matcher| matcher.label() != METRIC_NAME) {
        let label = matcher.label();
        let known = pairs.iter().position(|(known, _)| known == label);
        if known.is_some_and(|known| matcher.accepts(&pairs[known].1)) {
            continue;
        }
        let value = candidates(&format!("{matcher:?}")).into_iter().find(|value| matcher.accepts(value))?;
        pairs.retain(|(known, _)| known != label);
        pairs.push((label.to_owned(), value));
    }
    let labels = Labels::new(pairs).ok()?;
    selector.matches(&labels).then_some(labels)
}

/// Values to try for a matcher: the words that it is written with.
fn candidates(told: &str) -> Vec<String> {
    let words = told.split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '/' | '.' | '+')));
    let mut values: Vec<String> = words.map(str::to_owned).collect();
    values.extend([String::new(), "x".to_owned(), "1".to_owned(), "500".to_owned(), "/".to_owned()]);
    values
}

fn numbers_in(text: &str) -> Vec<f64> {
    let words = text.split(|c: char| !(c.is_ascii_digit() || c == '.'));
    words.filter_map(|word| word.parse::<f64>().ok()).filter(|number| *number < 1e12).collect()
}

type Scrapes = Vec<(Timestamp, Vec<(u16, f64)>)>;

fn scrapes(series: &[Labels], numbers: &[f64], spreads: bool, rng: &mut Rng) -> (Scrapes, Timestamp) {
    let mut values: Vec<f64> = series.iter().map(|_| 0.0).collect();
    let mut gone_until: Vec<u32> = vec![0; series.len()];
    let points = |length: Duration| u32::try_from(length.as_secs() / INTERVAL.as_secs()).unwrap();
    let (lead_in, all) = (points(LEAD_IN), points(LEAD_IN) + points(STORY));
    let mut scrapes = Vec::new();
    for point in 0..all {
        let at = START + INTERVAL * point;
        let mut rows = Vec::new();
        for (place, labels) in series.iter().enumerate() {
            let name = labels.metric_name().unwrap_or("");
            let is_counter = ["_total", "_count", "_sum", "_bucket"].iter().any(|end| name.ends_with(end));
            if point >= lead_in && rng.u8(..) < 2 {
                gone_until[place] = point + rng.u32(1..40);
            }
            let value = &mut values[place];
            let moves = rng.u8(..) < 24;
            if is_counter {
                *value += if point % 40 < 20 { 0.0 } else { pick(numbers, rng).abs() };
                if rng.u8(..) < 2 {
                    *value = 0.0;
                }
            } else if moves {
                *value = pick(numbers, rng);
            }
            if point < lead_in || point >= gone_until[place] {
                rows.push((u16::try_from(place).unwrap(), *value));
            }
        }
        let shift = if spreads { Duration::from_millis(rng.u64(0..15) * 1_000) } else { Duration::ZERO };
        scrapes.push((at + shift, rows));
    }
    (scrapes, START + INTERVAL * (all - 1))
}

fn pick(numbers: &[f64], rng: &mut Rng) -> f64 {
    let number = numbers[rng.usize(..numbers.len())];
    [number, number * 1.5 + 1.0, number * 0.5, number - 1.0][rng.usize(..4)]
}

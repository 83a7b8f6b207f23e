//! Whether a value is the one that a script expects.

use std::collections::BTreeMap;

use super::notation::{Line, Point};
use super::reading::Expected;
use crate::engine::promql::{Outcome, Row};
use crate::model::Labels;

/// The value at one time.
pub(crate) fn instant(outcome: &Outcome, expected: &Expected, at: i64) -> Result<(), String> {
    match outcome {
        Outcome::Text(text) => match &expected.text {
            Some(known) if **known == **text => Ok(()),
            known => Err(format!("expected {known:?}, got `{text}`")),
        },
        Outcome::Scalar(got) => match expected.lines.as_slice() {
            [Line { labels: None, points }] if matches!(points.as_slice(), [Point::Float(known)] if is_near(*known, *got)) => {
                Ok(())
            }
            _ => Err(format!("got the number {got}")),
        },
        Outcome::Vector(elements) => {
            if expected.is_ordered {
                let known = expected.lines.iter().map(|line| line.labels.clone().unwrap_or_default());
                let got: Vec<&Labels> = elements.iter().map(|element| &element.labels).collect();
                if !known.eq(got.iter().copied().cloned()) {
                    return Err(format!("in another order: {got:?}"));
                }
            }
            let got = elements.iter().map(|element| (element.labels.clone(), vec![(at, element.value)]));
            compare(got.collect(), expected, (at, 1))
        }
        Outcome::Matrix(rows) => match expected.samples {
            Some(times) => compare(by_labels(rows), expected, times),
            None => Err(format!("got a range vector {rows:?}")),
        },
    }
}

/// The values in a range of times.
pub(crate) fn range(
    outcome: &Outcome,
    expected: &Expected,
    (start, _, step): (i64, i64, i64),
) -> Result<(), String> {
    match outcome {
        Outcome::Matrix(rows) => compare(by_labels(rows), expected, (start, step)),
        Outcome::Text(_) | Outcome::Scalar(_) | Outcome::Vector(_) => Err(format!("got {outcome:?}")),
    }
}

type Series = BTreeMap<Labels, Vec<(i64, f64)>>;

fn by_labels(rows: &[Row]) -> Series {
    let samples = |row: &Row| row.samples.iter().map(|(at, value)| (at.as_millis(), *value)).collect();
    rows.iter().map(|row| (row.labels.clone(), samples(row))).collect()
}

/// The points of an expected line stand a step apart, from a first time on.
fn compare(mut got: Series, expected: &Expected, (first, step): (i64, i64)) -> Result<(), String> {
    for line in &expected.lines {
        let labels = line.labels.clone().unwrap_or_default();
        let times = (0..).map(|index| first + index * step);
        let known: Vec<(i64, f64)> = times
            .zip(&line.points)
            .filter_map(|(at, point)| match point {
                Point::Float(value) => Some((at, *value)),
                Point::Missing | Point::Histogram | Point::Start => None,
            })
            .collect();
        let Some(values) = got.remove(&labels).or_else(|| known.is_empty().then(Vec::new)) else {
            return Err(format!("{labels} is missing in {got:?}"));
        };
        let is_same = known.len() == values.len()
            && known.iter().zip(&values).all(|(known, got)| known.0 == got.0 && is_near(known.1, got.1));
        if !is_same {
            return Err(format!("{labels}: expected {known:?}, got {values:?}"));
        }
    }
    if got.is_empty() { Ok(()) } else { Err(format!("unexpected {got:?}")) }
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

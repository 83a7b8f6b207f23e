//! The line that samples follow, and smoothing along it.

use crate::engine::promql::sum::Sum;
use crate::model::Timestamp;

type Samples<'a> = &'a [(Timestamp, f64)];

/// The least-squares line through the samples: its slope per second and its height at `origin_millis`. Constant
/// samples have no slope, infinite ones no line.
pub(in crate::engine::promql) fn line(samples: Samples<'_>, origin_millis: i64) -> Option<(f64, f64)> {
    let [(_, first), _, ..] = *samples else { return None };
    if is_constant(samples, first) {
        let (slope, height) = if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
        return Some((slope, height));
    }
    let [mut x, mut y, mut xy, mut xx] = [Sum::default(); 4];
    for &(at, value) in samples {
        let seconds = at.as_millis().saturating_sub(origin_millis) as f64 / 1_000.0;
        x.add(seconds);
        y.add(value);
        xy.add(seconds * value);
        xx.add(seconds * seconds);
    }
    let count = samples.len() as f64;
    let [x, y, xy, xx] = [x, y, xy, xx].map(Sum::total);
    let slope = (xy - x * y / count) / (xx - x * x / count);
    Some((slope, y / count - slope * x / count))
}

/// Holt's double exponential smoothing: level and trend, each a weighted mean of the new and the known.
pub(in crate::engine::promql) fn smoothed(
    samples: Samples<'_>,
    level_weight: f64,
    trend_weight: f64,
) -> Option<f64> {
    let [(_, first), (_, second), ..] = *samples else { return None };
    let (mut before, mut level, mut trend) = (0.0, first, second - first);
    for (index, &(_, value)) in samples.iter().enumerate().skip(1) {
        if index > 1 {
            trend = trend_weight * (level - before) + (1.0 - trend_weight) * trend;
        }
        let next = level_weight * value + (1.0 - level_weight) * (level + trend);
        (before, level) = (level, next);
    }
    Some(level)
}

#[expect(clippy::float_cmp, reason = "any difference makes a slope")]
fn is_constant(samples: Samples<'_>, first: f64) -> bool {
    samples.iter().all(|&(_, value)| value == first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Vec<(Timestamp, f64)> {
        (0..).step_by(1_000).map(Timestamp::from_millis).zip(values.iter().copied()).collect()
    }

    #[test]
    fn a_line_is_found_again() {
        assert_eq!(line(&samples(&[1.0, 3.0, 5.0]), 1_000), Some((2.0, 3.0)));
        assert_eq!(line(&samples(&[7.0, 7.0]), 0), Some((0.0, 7.0)));
        assert_eq!(line(&samples(&[7.0]), 0), None);
        assert!(line(&samples(&[f64::INFINITY; 2]), 0).is_some_and(|(slope, _)| slope.is_nan()));
    }

    #[test]
    fn a_straight_line_stays_itself_when_smoothed() {
        assert_eq!(smoothed(&samples(&[1.0, 2.0, 3.0, 4.0]), 0.25, 0.5), Some(4.0));
        assert_eq!(smoothed(&samples(&[1.0]), 0.5, 0.5), None);
    }
}

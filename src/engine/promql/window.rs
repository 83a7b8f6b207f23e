//! Functions of the samples in a window.

use crate::model::Timestamp;

use super::ast::WindowFunction;
use super::sum::{Mean, Sum};

type Samples<'a> = &'a [(Timestamp, f64)];

/// The function's value for the samples of one series in the window after `after` up to `until`, in milliseconds;
/// `None` where there are too few. The samples are without stale markers.
pub(super) fn apply(function: WindowFunction, samples: Samples<'_>, after: i64, until: i64) -> Option<f64> {
    let &(_, first) = samples.first()?;
    let &(_, last) = samples.last()?;
    let values = samples.iter().map(|&(_, value)| value);
    let pairs = samples.windows(2).map(|pair| (pair[0].1, pair[1].1));
    Some(match function {
        WindowFunction::Rate => {
            let seconds = (until - after) as f64 / 1_000.0;
            let (change, factor) = extrapolated(samples, after, until, true)?;
            change * (factor / seconds)
        }
        WindowFunction::Increase => {
            let (change, factor) = extrapolated(samples, after, until, true)?;
            change * factor
        }
        WindowFunction::Delta => {
            let (change, factor) = extrapolated(samples, after, until, false)?;
            change * factor
        }
        WindowFunction::InstantRate => instant_rate(samples)?,
        WindowFunction::InstantDelta => {
            let [.., (_, before), _] = samples else { return None };
            last - before
        }
        WindowFunction::Average => {
            let mut mean = Mean::default();
            values.for_each(|value| mean.add(value));
            mean.mean()
        }
        WindowFunction::Sum => {
            let mut sum = Sum::default();
            values.for_each(|value| sum.add(value));
            sum.total()
        }
        WindowFunction::Minimum => values.fold(first, smaller),
        WindowFunction::Maximum => values.fold(first, larger),
        WindowFunction::Count => samples.len() as f64,
        WindowFunction::Last => last,
        WindowFunction::Changes => count(pairs, is_change),
        WindowFunction::Resets => count(pairs, |before, after| after < before),
    })
}

/// The smaller of two numbers; NaN only where both are.
pub(super) fn smaller(one: f64, other: f64) -> f64 {
    if other < one || one.is_nan() { other } else { one }
}

/// The larger of two numbers; NaN only where both are.
pub(super) fn larger(one: f64, other: f64) -> f64 {
    if other > one || one.is_nan() { other } else { one }
}

#[expect(clippy::float_cmp, reason = "any difference is a change")]
fn is_change(before: f64, after: f64) -> bool {
    before != after && !(before.is_nan() && after.is_nan())
}

fn count(pairs: impl Iterator<Item = (f64, f64)>, is_counted: impl Fn(f64, f64) -> bool) -> f64 {
    pairs.filter(|&(before, after)| is_counted(before, after)).count() as f64
}

/// How much a counter went up, or a gauge went, between the samples, and the factor that extends it to the window's
/// borders as Prometheus' `extrapolatedRate` does: all the way where a sample is nearer to the border than 1.1 times the usual
/// distance between samples, half that distance otherwise, and a counter never back to below zero.
fn extrapolated(samples: Samples<'_>, after: i64, until: i64, is_counter: bool) -> Option<(f64, f64)> {
    let (&[(first_at, first), ..], &[.., (last_at, last)]) = (samples, samples) else { return None };
    if samples.len() < 2 {
        return None;
    }
    let mut change = last - first;
    if is_counter {
        for pair in samples.windows(2) {
            // A counter that went down started anew from zero.
            if pair[1].1 < pair[0].1 {
                change += pair[0].1;
            }
        }
    }
    let (first_at, last_at) = (first_at.as_millis(), last_at.as_millis());
    let sampled = (last_at - first_at) as f64 / 1_000.0;
    let between = sampled / (samples.len() - 1) as f64;
    let threshold = between * 1.1;
    let border = |distance: f64| if distance >= threshold { between / 2.0 } else { distance };
    let mut to_start = border((first_at - after) as f64 / 1_000.0);
    let to_end = border((until - last_at) as f64 / 1_000.0);
    if is_counter && change > 0.0 && first >= 0.0 {
        to_start = to_start.min(sampled * (first / change));
    }
    Some((change, (sampled + to_start + to_end) / sampled))
}

fn instant_rate(samples: Samples<'_>) -> Option<f64> {
    let &[.., (before_at, before), (last_at, last)] = samples else { return None };
    let change = if last < before { last } else { last - before };
    let millis = last_at.as_millis() - before_at.as_millis();
    Some(change / (millis as f64 / 1_000.0))
}

//! Functions of the samples in a window.

use crate::engine::promql::error::EvalError;
use crate::engine::promql::series::is_stale;
use crate::engine::promql::sum::{Mean, Spread, Sum};
use crate::model::Timestamp;

use super::{quantile, trend};

type Samples<'a> = &'a [(Timestamp, f64)];

/// A function of a window, with the numbers it takes beside: expressions as written, numbers once evaluated.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine::promql) enum WindowFunction<N> {
    /// Takes nothing but the window.
    Of(Statistic),
    Quantile(N),
    /// Where the line through the samples is so many seconds after the evaluation.
    PredictLinear(N),
    /// `double_exponential_smoothing`, an experiment of Prometheus.
    Smoothed {
        level_weight: N,
        trend_weight: N,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine::promql) enum Statistic {
    Rate,
    Increase,
    Delta,
    InstantRate,
    InstantDelta,
    Derivative,
    Average,
    Minimum,
    Maximum,
    Sum,
    Count,
    First,
    Last,
    Present,
    Deviation,
    Variance,
    /// `mad_over_time`, an experiment of Prometheus.
    MedianDeviation,
    Changes,
    Resets,
    /// `ts_of_…_over_time`, experiments of Prometheus.
    TimeOfFirst,
    TimeOfLast,
    TimeOfMinimum,
    TimeOfMaximum,
}

impl Statistic {
    pub(in crate::engine::promql) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "rate" => Self::Rate,
            "increase" => Self::Increase,
            "delta" => Self::Delta,
            "irate" => Self::InstantRate,
            "idelta" => Self::InstantDelta,
            "deriv" => Self::Derivative,
            "avg_over_time" => Self::Average,
            "min_over_time" => Self::Minimum,
            "max_over_time" => Self::Maximum,
            "sum_over_time" => Self::Sum,
            "count_over_time" => Self::Count,
            "first_over_time" => Self::First,
            "last_over_time" => Self::Last,
            "present_over_time" => Self::Present,
            "stddev_over_time" => Self::Deviation,
            "stdvar_over_time" => Self::Variance,
            "mad_over_time" => Self::MedianDeviation,
            "changes" => Self::Changes,
            "resets" => Self::Resets,
            "ts_of_first_over_time" => Self::TimeOfFirst,
            "ts_of_last_over_time" => Self::TimeOfLast,
            "ts_of_min_over_time" => Self::TimeOfMinimum,
            "ts_of_max_over_time" => Self::TimeOfMaximum,
            _ => return None,
        })
    }
}

impl<N> WindowFunction<N> {
    /// Whether the result is a sample of the series, so that the metric's name still fits.
    pub(in crate::engine::promql) fn keeps_name(&self) -> bool {
        matches!(self, Self::Of(Statistic::First | Statistic::Last))
    }

    /// Whether it never fails, and there is nothing to say about it to somebody who wants to know.
    pub(in crate::engine::promql) fn is_quiet(&self, is_noting: bool) -> bool {
        match self {
            Self::Of(_) => !(is_noting && self.wants_counter()),
            Self::Quantile(_) => !is_noting,
            Self::PredictLinear(_) => true,
            Self::Smoothed { .. } => false,
        }
    }

    /// Whether it is meant for counters.
    pub(in crate::engine::promql) fn wants_counter(&self) -> bool {
        matches!(self, Self::Of(Statistic::Rate | Statistic::Increase))
    }

    /// The same with the numbers evaluated.
    pub(in crate::engine::promql) fn resolve<E>(
        &self,
        mut number: impl FnMut(&N) -> Result<f64, E>,
    ) -> Result<WindowFunction<f64>, E> {
        Ok(match self {
            Self::Of(statistic) => WindowFunction::Of(*statistic),
            Self::Quantile(quantile) => WindowFunction::Quantile(number(quantile)?),
            Self::PredictLinear(seconds) => WindowFunction::PredictLinear(number(seconds)?),
            Self::Smoothed { level_weight, trend_weight } => WindowFunction::Smoothed {
                level_weight: number(level_weight)?,
                trend_weight: number(trend_weight)?,
            },
        })
    }

    /// The numbers it takes, as they stand in the text.
    pub(in crate::engine::promql) fn numbers(&self) -> impl Iterator<Item = &N> {
        let (first, second) = match self {
            Self::Of(_) => (None, None),
            Self::Quantile(number) | Self::PredictLinear(number) => (Some(number), None),
            Self::Smoothed { level_weight, trend_weight } => (Some(level_weight), Some(trend_weight)),
        };
        first.into_iter().chain(second)
    }
}

impl WindowFunction<f64> {
    /// An error where a number is outside of what the function takes, in the words of Prometheus.
    fn check(self) -> Result<(), EvalError> {
        let Self::Smoothed { level_weight, trend_weight } = self else { return Ok(()) };
        for (factor, short, weight) in [("smoothing", "sf", level_weight), ("trend", "tf", trend_weight)] {
            // NaN is neither below nor above, and goes on.
            if !weight.is_nan() && !(0.0..=1.0).contains(&weight) {
                let message =
                    format!("invalid {factor} factor. Expected: 0 <= {short} <= 1, got: {weight:.6}");
                return Err(EvalError::Parameter(message));
            }
        }
        Ok(())
    }
}

/// The times a function of a window may need, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine::promql) struct Frame {
    /// The window is open here.
    pub after: i64,
    /// And closed here.
    pub until: i64,
    /// The time of the evaluation, which an offset moves away from the window's end.
    pub at: i64,
}

/// The samples without stale markers; `kept` is where they are put if there are any.
pub(in crate::engine::promql) fn without_stale<'a>(
    samples: Samples<'a>,
    has_stale: bool,
    kept: &'a mut Vec<(Timestamp, f64)>,
) -> Samples<'a> {
    if !has_stale {
        return samples;
    }
    kept.clear();
    kept.extend(samples.iter().filter(|(_, value)| !is_stale(*value)));
    kept
}

/// The function's value for the samples of one series in a window; `None` where there are too few. The samples are
/// without stale markers. The numbers that the function takes matter as soon as there is a sample.
pub(in crate::engine::promql) fn checked(
    function: WindowFunction<f64>,
    samples: Samples<'_>,
    frame: Frame,
) -> Result<Option<f64>, EvalError> {
    if !samples.is_empty() {
        function.check()?;
    }
    Ok(apply(function, samples, frame))
}

fn apply(function: WindowFunction<f64>, samples: Samples<'_>, frame: Frame) -> Option<f64> {
    let values = || samples.iter().map(|&(_, value)| value);
    match function {
        WindowFunction::Of(statistic) => of(statistic, samples, frame),
        WindowFunction::Quantile(_) if samples.is_empty() => None,
        WindowFunction::Quantile(q) => Some(quantile::quantile(q, &mut values().collect::<Vec<_>>())),
        WindowFunction::PredictLinear(seconds) => {
            trend::line(samples, frame.at).map(|(slope, height)| slope * seconds + height)
        }
        WindowFunction::Smoothed { level_weight, trend_weight } => {
            trend::smoothed(samples, level_weight, trend_weight)
        }
    }
}

fn of(statistic: Statistic, samples: Samples<'_>, Frame { after, until, .. }: Frame) -> Option<f64> {
    let &(first_at, first) = samples.first()?;
    let &(last_at, last) = samples.last()?;
    let values = samples.iter().map(|&(_, value)| value);
    let pairs = samples.windows(2).map(|pair| (pair[0].1, pair[1].1));
    Some(match statistic {
        Statistic::Rate => {
            let seconds = (until - after) as f64 / 1_000.0;
            let (change, factor) = extrapolated(samples, after, until, true)?;
            change * (factor / seconds)
        }
        Statistic::Increase => {
            let (change, factor) = extrapolated(samples, after, until, true)?;
            change * factor
        }
        Statistic::Delta => {
            let (change, factor) = extrapolated(samples, after, until, false)?;
            change * factor
        }
        Statistic::InstantRate => instant_rate(samples)?,
        Statistic::InstantDelta => {
            let [.., (_, before), _] = samples else { return None };
            last - before
        }
        Statistic::Derivative => trend::line(samples, first_at.as_millis())?.0,
        Statistic::Average => {
            let mut mean = Mean::default();
            values.for_each(|value| mean.add(value));
            mean.mean()
        }
        Statistic::Sum => {
            let mut sum = Sum::default();
            values.for_each(|value| sum.add(value));
            sum.total()
        }
        Statistic::Minimum => values.fold(first, smaller),
        Statistic::Maximum => values.fold(first, larger),
        Statistic::Count => samples.len() as f64,
        Statistic::First => first,
        Statistic::Last => last,
        Statistic::Present => 1.0,
        Statistic::Deviation => spread(values).variance().sqrt(),
        Statistic::Variance => spread(values).variance(),
        Statistic::MedianDeviation => quantile::median_deviation(&mut values.collect::<Vec<_>>()),
        Statistic::Changes => count(pairs, is_change),
        Statistic::Resets => count(pairs, |before, after| after < before),
        Statistic::TimeOfFirst => seconds(first_at),
        Statistic::TimeOfLast => seconds(last_at),
        Statistic::TimeOfMinimum => time_of_best(samples, |value, known| value <= known)?,
        Statistic::TimeOfMaximum => time_of_best(samples, |value, known| value >= known)?,
    })
}

fn seconds(at: Timestamp) -> f64 {
    at.as_millis() as f64 / 1_000.0
}

fn spread(values: impl Iterator<Item = f64>) -> Spread {
    let mut spread = Spread::default();
    values.for_each(|value| spread.add(value));
    spread
}

/// When the newest of the best samples was read; any number is better than NaN.
fn time_of_best(samples: Samples<'_>, is_better: impl Fn(f64, f64) -> bool) -> Option<f64> {
    let best = samples.iter().copied().reduce(|(known_at, known), (at, value)| {
        if is_better(value, known) || known.is_nan() { (at, value) } else { (known_at, known) }
    });
    best.map(|(at, _)| seconds(at))
}

/// The smaller of two numbers; NaN only where both are.
pub(in crate::engine::promql) fn smaller(one: f64, other: f64) -> f64 {
    if other < one || one.is_nan() { other } else { one }
}

/// The larger of two numbers; NaN only where both are.
pub(in crate::engine::promql) fn larger(one: f64, other: f64) -> f64 {
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

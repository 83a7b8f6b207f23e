//! Quantiles of numbers.

use std::cmp::Ordering;

/// The quantile of the values, which are put in order, NaN before everything else; between two values in proportion.
/// NaN where there are none or the quantile is NaN, infinite beyond 0 and 1.
pub(in crate::engine::promql) fn quantile(quantile: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || quantile.is_nan() {
        return f64::NAN;
    }
    if let Some(beyond) = beyond(quantile) {
        return beyond;
    }
    values.sort_unstable_by(|one, other| ascending(*one, *other));
    let last = values.len() - 1;
    let rank = quantile * last as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and the last index"
    )]
    let lower = (rank.floor() as usize).min(last);
    let upper = (lower + 1).min(last);
    let weight = rank - rank.floor();
    values[lower] * (1.0 - weight) + values[upper] * weight
}

/// The value of a quantile that is below 0 or above 1.
pub(in crate::engine::promql) fn beyond(quantile: f64) -> Option<f64> {
    match quantile {
        _ if quantile < 0.0 => Some(f64::NEG_INFINITY),
        _ if quantile > 1.0 => Some(f64::INFINITY),
        _ => None,
    }
}

/// Whether Prometheus warns of it.
pub(in crate::engine::promql) fn is_valid(quantile: f64) -> bool {
    (0.0..=1.0).contains(&quantile)
}

/// Median absolute deviation: the median of the distances from the median. NaN where one of the values is.
pub(in crate::engine::promql) fn median_deviation(values: &mut [f64]) -> f64 {
    if values.iter().any(|value| value.is_nan()) {
        return f64::NAN;
    }
    let median = quantile(0.5, values);
    for value in values.iter_mut() {
        *value = (*value - median).abs();
    }
    quantile(0.5, values)
}

/// NaN before every number; both zeros are one.
fn ascending(one: f64, other: f64) -> Ordering {
    one.partial_cmp(&other).unwrap_or_else(|| other.is_nan().cmp(&one.is_nan()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "these are exact")]
    fn a_quantile_lies_between_its_neighbours() {
        let mut values = [4.0, 0.0, 1.0];
        let found = [0.0, 0.5, 0.75, 1.0, -0.1, 1.1].map(|q| quantile(q, &mut values));
        assert_eq!(found, [0.0, 1.0, 2.5, 4.0, f64::NEG_INFINITY, f64::INFINITY]);
        assert!(quantile(f64::NAN, &mut values).is_nan() && quantile(0.5, &mut []).is_nan());
        let mut with_nan = [0.0, f64::NAN, 1.0];
        assert!(quantile(0.2, &mut with_nan).is_nan());
        assert_eq!(quantile(0.5, &mut with_nan), 0.0);
    }

    #[test]
    #[expect(clippy::float_cmp, reason = "these are exact")]
    fn the_median_deviation_ignores_the_outlier() {
        assert_eq!(median_deviation(&mut [4.0, 6.0, 2.0, 1.0, 999.0, 1.0, 2.0]), 1.0);
        assert!(median_deviation(&mut [1.0, 2.0, f64::NAN, 4.0]).is_nan());
    }
}

//! Laws that tie one function to another, on random stores and random expressions.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use crate::model::{Labels, Timestamp};

use super::functions::quantile::quantile;
use super::histogram::{self, Bucket};
use super::properties::{any_expr, bits, data, filled, separable};
use super::{EvalError, NameRemoval, Outcome, Query, SeriesStore, Steps};

type Samples = BTreeMap<Labels, Vec<(i64, u64)>>;

/// By labels, equal to the bit.
fn samples(outcome: Outcome) -> Samples {
    match outcome {
        Outcome::Matrix(rows) => rows
            .into_iter()
            .map(|row| {
                let samples = row.samples.iter().map(|(at, value)| (at.as_millis(), value.to_bits()));
                (row.labels, samples.collect())
            })
            .collect(),
        Outcome::Vector(_) | Outcome::Scalar(_) | Outcome::Text(_) => BTreeMap::new(),
    }
}

fn at_one_time(store: &SeriesStore, text: &str, seconds: i64) -> Result<Outcome, EvalError> {
    let at = Timestamp::from_millis(seconds * 1_000);
    Query::parse(text).unwrap().instant(store, at, NameRemoval::Immediate).map(|answer| answer.outcome)
}

fn in_steps(
    store: &SeriesStore,
    text: &str,
    (start, end, step): (i64, i64, u64),
) -> Result<Samples, EvalError> {
    let steps = Steps {
        start: Timestamp::from_millis(start * 1_000),
        end: Timestamp::from_millis(end * 1_000),
        step: Duration::from_secs(step),
    };
    let answer = Query::parse(text).unwrap().range(store, steps, NameRemoval::Immediate)?;
    Ok(samples(answer.outcome))
}

/// Expressions that know nothing of the query they are part of.
fn timeless(text: &str) -> bool {
    !text.contains("end()") && !text.contains("sort")
}

fn finite() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec((-1_000_i32..1_000).prop_map(|value| f64::from(value) / 8.0), 1..20)
}

/// Cumulative counts under growing bounds.
fn buckets() -> impl Strategy<Value = Vec<Bucket>> {
    let bucket = (1_u32..50, 1_u32..50);
    (prop::collection::vec(bucket, 1..10), -40_i32..40, 0_u32..10).prop_map(|(steps, first, above)| {
        let (mut bound, mut count) = (f64::from(first), 0.0);
        let mut buckets: Vec<Bucket> = Vec::new();
        for (width, new) in steps {
            bound += f64::from(width);
            count += f64::from(new);
            buckets.push(Bucket { bound, count });
        }
        buckets.push(Bucket { bound: f64::INFINITY, count: count + f64::from(above) });
        buckets
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn a_subquery_is_the_expression_at_the_multiples_of_its_step(
        data in data(), text in any_expr(), seconds in 0_i64..900, length in 1_i64..300, step in 1_u64..90,
    ) {
        prop_assume!(timeless(&text));
        let (store, _) = filled(&data);
        let stride = i64::try_from(step).unwrap();
        let first = ((seconds - length).div_euclid(stride) + 1) * stride;
        let expected = if first > seconds { Ok(Samples::new()) } else { in_steps(&store, &text, (first, seconds, step)) };
        let got = at_one_time(&store, &format!("({text})[{length}s:{step}s]"), seconds).map(samples);
        prop_assert_eq!(got, expected, "{}", text);
    }

    #[test]
    fn a_subquery_read_series_by_series_is_the_one_read_step_by_step(
        data in data(), text in separable(), seconds in 0_i64..900,
    ) {
        let (store, _) = filled(&data);
        // A sort changes nothing but the way.
        let by_series = at_one_time(&store, &format!("({text})[4m:15s]"), seconds).map(samples);
        let by_step = at_one_time(&store, &format!("(sort({text}))[4m:15s]"), seconds).map(samples);
        prop_assert_eq!(by_series, by_step, "{}", text);
    }

    #[test]
    fn a_range_query_is_its_instants(data in data(), text in any_expr(), start in 0_i64..600, step in 1_u64..60) {
        prop_assume!(timeless(&text));
        let (store, _) = filled(&data);
        let stride = i64::try_from(step).unwrap();
        let mut expected: BTreeMap<Labels, Vec<(i64, u64)>> = BTreeMap::new();
        let mut error = None;
        for at in (0..5).map(|index| start + index * stride) {
            match at_one_time(&store, &text, at) {
                Ok(Outcome::Vector(elements)) => for (labels, value) in bits(&elements) {
                    expected.entry(labels).or_default().push((at * 1_000, value));
                },
                Ok(other) => prop_assert!(false, "{:?}", other),
                Err(first) => error = error.or(Some(first)),
            }
        }
        let got = in_steps(&store, &text, (start, start + 4 * stride, step));
        prop_assert_eq!(got, error.map_or(Ok(expected), Err), "{}", text);
    }

    #[test]
    fn the_largest_and_the_smallest_are_all(values in finite(), largest in 0_usize..25) {
        let mut values = values;
        values.sort_by(f64::total_cmp);
        values.dedup();
        let series = values.iter().enumerate().map(|(index, &value)| ((0, 1, index), vec![(1, value)])).collect();
        let (store, _) = filled(&series);
        let smallest = values.len().saturating_sub(largest);
        let of = |text: String| match at_one_time(&store, &text, 1) {
            Ok(Outcome::Vector(elements)) => elements.into_iter().map(|element| element.value).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        let (top, bottom) = (of(format!("topk({largest}, a)")), of(format!("bottomk({smallest}, a)")));
        let all: Vec<f64> = bottom.into_iter().chain(top.into_iter().rev()).collect();
        prop_assert_eq!(all, values);
    }

    #[test]
    fn a_quantile_is_a_place_in_the_sorted_values(values in finite(), place in 0_usize..20, q in 0.0_f64..=1.0) {
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len() - 1;
        let place = place.min(last);
        let exact = if last == 0 { 0.0 } else { place as f64 / last as f64 };
        let mut values = values;
        prop_assert!((quantile(exact, &mut values) - sorted[place]).abs() < 1e-9);
        let (lower, upper) = (quantile(q * 0.9, &mut values), quantile(q, &mut values));
        prop_assert!(sorted[0] <= lower && lower <= upper + 1e-9 && upper <= sorted[last] + 1e-9);
    }

    #[test]
    fn a_histogram_quantile_grows_and_its_fraction_leads_back(buckets in buckets(), q in 0.0_f64..=1.0) {
        let (lower, upper) = (histogram::quantile(q * 0.9, &buckets), histogram::quantile(q, &buckets));
        prop_assert!(lower <= upper + 1e-9, "{} {}", lower, upper);
        let finite = &buckets[..buckets.len() - 1];
        let (first, last) = (finite[0], finite[finite.len() - 1]);
        prop_assert!(upper <= last.bound);
        // Within the highest and a lowest one below zero there is nothing to go by.
        let rank = q * buckets[buckets.len() - 1].count;
        if rank <= last.count && (first.bound > 0.0 || rank > first.count) {
            let fraction = histogram::fraction(f64::NEG_INFINITY, upper, &buckets);
            prop_assert!((fraction - q).abs() < 1e-9, "{} {}", fraction, q);
        }
    }
}

//! The order in which an instant query shows its elements.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::engine::promql::signature::{Item, Tag};

/// What a sort goes by.
#[derive(Clone, Debug)]
pub(in crate::engine::promql) enum Order {
    /// `sort`, `sort_desc`: NaN comes last either way.
    Value { descending: bool },
    /// `sort_by_label`, `sort_by_label_desc`: numbers in the labels count as numbers; then by all labels.
    Labels { names: Box<[Arc<str>]>, descending: bool },
}

pub(in crate::engine::promql) fn sort(order: &Order, items: &mut [Item<'_>]) {
    match order {
        Order::Value { descending } => {
            items.sort_by(|one, other| by_value(one.value, other.value, *descending));
        }
        Order::Labels { names, descending } => items.sort_by(|one, other| {
            let ordering = by_labels(&one.tag, &other.tag, names);
            if *descending { ordering.reverse() } else { ordering }
        }),
    }
}

/// NaN behind every number, whatever the direction.
pub(in crate::engine::promql) fn by_value(one: f64, other: f64, descending: bool) -> Ordering {
    match one.partial_cmp(&other) {
        Some(ordering) if descending => ordering.reverse(),
        Some(ordering) => ordering,
        None => one.is_nan().cmp(&other.is_nan()),
    }
}

fn by_labels(one: &Tag<'_>, other: &Tag<'_>, names: &[Arc<str>]) -> Ordering {
    names
        .iter()
        .map(|name| natural(one.get(name).unwrap_or(""), other.get(name).unwrap_or("")))
        .find(|ordering| ordering.is_ne())
        .unwrap_or_else(|| one.iter().cmp(other.iter()))
}

/// Runs of digits by their number, everything else by its text.
fn natural(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (one, other);
    while !one.is_empty() && !other.is_empty() {
        let (chunk, rest) = first_chunk(one);
        let (other_chunk, other_rest) = first_chunk(other);
        let ordering = match (is_digit(chunk), is_digit(other_chunk)) {
            (true, true) => numeric(chunk, other_chunk),
            _ => chunk.cmp(other_chunk),
        };
        if ordering.is_ne() {
            return ordering;
        }
        (one, other) = (rest, other_rest);
    }
    one.len().cmp(&other.len())
}

fn is_digit(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
}

/// The longest start that is digits alone, or has none.
fn first_chunk(text: &str) -> (&str, &str) {
    let digits = is_digit(text);
    let end = text.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(text.len());
    text.split_at(end)
}

/// Whole numbers of any length; where they are equal, the one with fewer leading zeros first.
fn numeric(one: &str, other: &str) -> Ordering {
    let [plain, other_plain] = [one, other].map(|digits| digits.trim_start_matches('0'));
    let by_number = plain.len().cmp(&other_plain.len()).then_with(|| plain.cmp(other_plain));
    by_number.then_with(|| one.len().cmp(&other.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_a_label_count_as_numbers() {
        let sorted =
            ["", "1", "1.2.3", "1.11.3", "1.111.3", "2", "10", "4m5", "4m600", "a", "a1", "a01", "a2"];
        let mut shuffled = sorted;
        shuffled.reverse();
        shuffled.sort_by(|one, other| natural(one, other));
        let mut expected = sorted;
        expected.sort_by_key(|text| sorted.iter().position(|known| known == text));
        // Whole numbers first, then by what stands behind them.
        assert_eq!(
            shuffled,
            ["", "1", "1.2.3", "1.11.3", "1.111.3", "2", "4m5", "4m600", "10", "a", "a1", "a01", "a2"]
        );
    }

    #[test]
    fn nan_is_last_in_both_directions() {
        for descending in [false, true] {
            assert_eq!(by_value(f64::NAN, 1.0, descending), Ordering::Greater);
            assert_eq!(by_value(f64::NEG_INFINITY, f64::NAN, descending), Ordering::Less);
        }
        assert_eq!(by_value(1.0, 2.0, true), Ordering::Greater);
    }
}

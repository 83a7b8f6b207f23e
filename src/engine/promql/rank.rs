//! Aggregations that choose among the elements of a group instead of making one of them.

use std::hash::{Hash, Hasher};

use rustc_hash::FxHasher;

use super::annotations;
use super::ast::Grouping;
use super::error::EvalError;
use super::functions::order::by_value;
use super::signature::{Distinction, Groups, Item, Tag};

/// What is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ranking {
    /// `topk`
    Largest,
    /// `bottomk`
    Smallest,
    /// `limitk`, an experiment of Prometheus: the first in the order of labels.
    First,
    /// `limit_ratio`, an experiment of Prometheus: a share of all, always the same ones.
    Share,
}

impl Ranking {
    pub(super) fn named(name: &str) -> Option<Self> {
        let all = [
            ("topk", Self::Largest),
            ("bottomk", Self::Smallest),
            ("limitk", Self::First),
            ("limit_ratio", Self::Share),
        ];
        all.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, ranking)| ranking)
    }

    /// Whether the chosen come in an order of their own.
    pub(super) fn is_ordered(self) -> bool {
        matches!(self, Self::Largest | Self::Smallest)
    }

    /// What the number means, or why it means nothing.
    pub(super) fn choice(self, number: f64) -> Result<Choice, EvalError> {
        match self {
            Self::Share if number.is_nan() => Err(EvalError::Parameter("Ratio value is NaN".into())),
            Self::Share => Ok(Choice::Share(number.clamp(-1.0, 1.0))),
            Self::Largest | Self::Smallest | Self::First => count(number).map(|count| match self {
                Self::Largest => Choice::Best { count, descending: true },
                Self::Smallest => Choice::Best { count, descending: false },
                Self::First | Self::Share => Choice::First(count),
            }),
        }
    }
}

/// A ranking with its number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Choice {
    Best {
        count: usize,
        descending: bool,
    },
    First(usize),
    /// From -1 to 1: a negative share are the ones that the share of one more leaves out.
    Share(f64),
}

/// The number of elements that is meant: whole, and none where it is below one.
fn count(number: f64) -> Result<usize, EvalError> {
    if number.is_nan() {
        return Err(EvalError::Parameter("Parameter value is NaN".into()));
    }
    // Both powers of two have no exact neighbour in between.
    let beyond = match number {
        ..=-9_223_372_036_854_775_808.0 => Some("underflows"),
        9_223_372_036_854_775_808.0.. => Some("overflows"),
        _ => None,
    };
    if let Some(beyond) = beyond {
        let number = annotations::short(number);
        return Err(EvalError::Parameter(format!("Scalar value {number} {beyond} int64")));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range, and not negative")]
    Ok(number.max(0.0) as usize)
}

/// The chosen elements, group by group in the order in which groups come.
pub(super) fn rank<'s>(choice: Choice, grouping: &Grouping, items: Vec<Item<'s>>) -> Vec<Item<'s>> {
    let mut groups = Groups::new(Distinction::Grouping(grouping), 0);
    let mut members: Vec<Vec<usize>> = Vec::new();
    for index in 0..items.len() {
        let (group, is_first) = groups.insert(&items, index);
        if is_first {
            members.push(Vec::new());
        }
        members[group].push(index);
    }
    let mut chosen = Vec::new();
    for mut group in members {
        match choice {
            Choice::Best { count, descending } => {
                // Stable: of equals the first stays.
                group.sort_by(|&one, &other| by_value(items[one].value, items[other].value, descending));
                group.truncate(count);
            }
            Choice::First(count) => group.truncate(count),
            Choice::Share(share) => group.retain(|&index| is_in(&items[index].tag, share)),
        }
        chosen.extend(group);
    }
    let mut items: Vec<Option<Item<'s>>> = items.into_iter().map(Some).collect();
    chosen.into_iter().filter_map(|index| items[index].take()).collect()
}

/// Whether labels belong to a share, decided by their hash: every label set has its place between 0 and 1.
fn is_in(tag: &Tag<'_>, share: f64) -> bool {
    let mut hasher = FxHasher::default();
    tag.iter().for_each(|pair| pair.hash(&mut hasher));
    // The hash is quick and its bits are not all good: the finalizer of MurmurHash3 mixes them.
    let mut hash = hasher.finish();
    for multiplier in [0xff51_afd7_ed55_8ccd_u64, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(multiplier);
    }
    let place = (hash ^ (hash >> 33)) as f64 / u64::MAX as f64;
    if share >= 0.0 { place < share } else { place >= 1.0 + share }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Labels;

    fn items(values: &[f64]) -> Vec<Item<'static>> {
        let labels = |index: usize| Labels::new([("l", &*format!("{index:02}"))]).unwrap();
        values
            .iter()
            .enumerate()
            .map(|(index, &value)| Item { tag: Tag::made(labels(index)), value })
            .collect()
    }

    fn chosen(choice: Choice, values: &[f64]) -> Vec<f64> {
        rank(choice, &Grouping::By([].into()), items(values)).into_iter().map(|item| item.value).collect()
    }

    #[test]
    fn the_best_come_first_and_nan_last() {
        let values = [1.0, f64::NAN, 3.0, 2.0];
        assert_eq!(chosen(Choice::Best { count: 2, descending: true }, &values), [3.0, 2.0]);
        assert_eq!(chosen(Choice::Best { count: 3, descending: false }, &values), [1.0, 2.0, 3.0]);
        assert_eq!(chosen(Choice::First(1), &values), [1.0]);
        assert_eq!(chosen(Choice::Best { count: usize::MAX, descending: true }, &values).len(), 4);
    }

    #[test]
    fn a_share_and_the_negative_rest_are_all() {
        let values: Vec<f64> = (0..100).map(f64::from).collect();
        for share in [0.0, 0.2, 0.5, 1.0] {
            let (taken, left) =
                (chosen(Choice::Share(share), &values), chosen(Choice::Share(share - 1.0), &values));
            assert_eq!(taken.len() + left.len(), values.len(), "{share}");
            assert!((taken.len() as f64 - share * 100.0).abs() < 20.0, "{share}: {}", taken.len());
        }
    }

    #[test]
    fn a_number_that_is_no_count_is_refused() {
        let error = |number| count(number).unwrap_err().to_string();
        assert_eq!(error(f64::NAN), "Parameter value is NaN");
        assert_eq!(error(f64::INFINITY), "Scalar value +Inf overflows int64");
        assert_eq!((count(-5.0), count(2.9)), (Ok(0), Ok(2)));
    }
}

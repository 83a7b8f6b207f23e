//! Operations between two vectors: elements meet by their labels.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use crate::model::Labels;

use super::ast::{Cardinality, Grouping, Join, Operator, Set, SetOperator};
use super::error::EvalError;
use super::signature::{Distinction, Groups, Item, NameRemoval, Tag};

/// `and`, `or`, `unless`.
pub(super) fn set<'s>(set: &Set, mut left: Vec<Item<'s>>, right: Vec<Item<'s>>) -> Vec<Item<'s>> {
    let distinction = Distinction::Grouping(&set.grouping);
    match set.operator {
        SetOperator::And | SetOperator::Unless => {
            let wanted = set.operator == SetOperator::And;
            let present = grouped(distinction, &right);
            left.retain(|item| present.find(&item.tag, &right).is_some() == wanted);
            left
        }
        SetOperator::Or => {
            let present = grouped(distinction, &left);
            let missing: Vec<Item<'s>> =
                right.into_iter().filter(|item| present.find(&item.tag, &left).is_none()).collect();
            left.extend(missing);
            left
        }
    }
}

/// Arithmetic and comparison, element by matching element.
pub(super) fn join<'s>(
    join: &Join,
    left: Vec<Item<'s>>,
    right: Vec<Item<'s>>,
    removal: NameRemoval,
) -> Result<Vec<Item<'s>>, EvalError> {
    if left.is_empty() || right.is_empty() {
        return Ok(Vec::new());
    }
    // Below, `one` is the side whose elements must be unique, whichever side of the operator that is.
    let is_swapped = matches!(join.cardinality, Cardinality::OneToMany(_));
    let (many, one) = if is_swapped { (right, left) } else { (left, right) };
    let ones = unique(join, &one, is_swapped)?;
    let mut results = Vec::new();
    let mut used = Used::new(join, ones.len());
    for item in many {
        let Some(group) = ones.find(&item.tag, &one) else { continue };
        let other = &one[ones.first(group)];
        let (left, right) = if is_swapped { (other.value, item.value) } else { (item.value, other.value) };
        let (value, is_kept) = match join.operator {
            Operator::Arithmetic(arithmetic) => (arithmetic.apply(left, right), true),
            Operator::Comparison { comparison, to_bool: true } => {
                (f64::from(comparison.holds(left, right)), true)
            }
            Operator::Comparison { comparison, to_bool: false } => (left, comparison.holds(left, right)),
        };
        let tag = result_tag(join, item.tag, &other.tag, removal)?;
        // Checked for what the comparison filters away, too: that the matching is ambiguous does not depend on the
        // values.
        used.mark(group, &tag)?;
        if is_kept {
            results.push(Item { tag, value });
        }
    }
    Ok(results)
}

fn grouped<'e>(distinction: Distinction<'e>, items: &[Item<'_>]) -> Groups<'e> {
    let mut groups = Groups::new(distinction, items.len());
    for index in 0..items.len() {
        groups.insert(items, index);
    }
    groups
}

/// The groups of the side that has to be unique.
fn unique<'e>(join: &'e Join, one: &[Item<'_>], is_left: bool) -> Result<Groups<'e>, EvalError> {
    let mut groups = Groups::new(Distinction::Grouping(&join.grouping), one.len());
    for index in 0..one.len() {
        let (group, is_first) = groups.insert(one, index);
        if !is_first {
            let mut pair = [groups.first(group), index].map(|index| one[index].tag.labels());
            pair.sort();
            return Err(EvalError::ManyToMany {
                group: written(&one[index].tag.grouped(&join.grouping)),
                side: if is_left { "left" } else { "right" },
                pair: pair.map(|labels| written(&labels)),
            });
        }
    }
    Ok(groups)
}

/// Labels as Prometheus' messages write them.
fn written(labels: &Labels) -> String {
    let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{{{}}}", pairs.join(", "))
}

/// The labels of a result, of which `many` are the element's and `one` those of the element it met.
fn result_tag<'s>(
    join: &Join,
    many: Tag<'s>,
    one: &Tag<'_>,
    removal: NameRemoval,
) -> Result<Tag<'s>, EvalError> {
    let tag = match join.operator {
        Operator::Comparison { .. } => many,
        Operator::Arithmetic(_) => many.nameless(NameRemoval::Immediate),
    };
    let is_in = |names: &[Arc<str>], name: &str| names.iter().any(|known| known.as_ref() == name);
    let tag = match (&join.cardinality, &join.grouping) {
        (Cardinality::OneToOne, Grouping::Without(names)) if names.is_empty() => tag,
        (Cardinality::OneToOne, Grouping::Without(names)) => {
            tag.relabelled(tag.labels().filter(|name| !is_in(names, name)))
        }
        (Cardinality::OneToOne, Grouping::By(names)) => {
            tag.relabelled(tag.labels().filter(|name| is_in(names, name)))
        }
        (Cardinality::ManyToOne(include) | Cardinality::OneToMany(include), _) if include.is_empty() => tag,
        (Cardinality::ManyToOne(include) | Cardinality::OneToMany(include), _) => {
            let mut labels = tag.labels();
            for name in include {
                labels = labels.with(name, one.get(name).unwrap_or(""))?;
            }
            tag.relabelled(labels)
        }
    };
    match join.operator {
        Operator::Comparison { to_bool: true, .. } => Ok(tag.nameless(removal)),
        Operator::Comparison { to_bool: false, .. } | Operator::Arithmetic(_) => Ok(tag),
    }
}

/// Which elements of the unique side have met one already.
enum Used {
    OneToOne(Vec<bool>),
    /// With the labels of the result.
    ManyToOne(FxHashSet<(usize, Labels)>),
}

impl Used {
    fn new(join: &Join, groups: usize) -> Self {
        match join.cardinality {
            Cardinality::OneToOne => Self::OneToOne(vec![false; groups]),
            Cardinality::ManyToOne(_) | Cardinality::OneToMany(_) => Self::ManyToOne(FxHashSet::default()),
        }
    }

    fn mark(&mut self, group: usize, tag: &Tag<'_>) -> Result<(), EvalError> {
        let (is_new, error) = match self {
            Self::OneToOne(used) => (!std::mem::replace(&mut used[group], true), EvalError::ManyToOne),
            Self::ManyToOne(used) => (used.insert((group, tag.labels())), EvalError::GroupingNotUnique),
        };
        if is_new { Ok(()) } else { Err(error) }
    }
}

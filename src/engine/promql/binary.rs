//! Operations between two vectors: elements meet by their labels.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use crate::model::Labels;

use super::ast::{Cardinality, Fill, Grouping, Join, Set};
use super::error::EvalError;
use super::operator::{Operator, SetOperator};
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
    if (left.is_empty() || right.is_empty()) && join.fill == Fill::default() {
        return Ok(Vec::new());
    }
    // Below, `one` is the side whose elements must be unique, whichever side of the operator that is.
    let is_swapped = matches!(join.cardinality, Cardinality::OneToMany(_));
    let (many, mut one) = if is_swapped { (right, left) } else { (left, right) };
    // With `group_right` Prometheus swaps the sides before it looks at the values that fill them, and not these.
    let Fill { left: fill_many, right: fill_one } = join.fill;
    let mut ones = unique(join, &one, is_swapped)?;
    let mut used = Used::new(join);
    let mut joiner = Joiner { join, is_swapped, removal, results: Vec::new() };
    for item in many {
        let group = match (ones.find(&item.tag, &one), fill_one) {
            (Some(group), _) => group,
            (None, None) => continue,
            // Stands in for all elements that would meet it, so that ambiguous ones are found here, too.
            (None, Some(value)) => {
                one.push(Item { tag: Tag::made(item.tag.grouped(&join.grouping)), value });
                ones.insert(&one, one.len() - 1).0
            }
        };
        joiner.meet(item, &one[ones.first(group)], Some((&mut used, group)))?;
    }
    if let Some(value) = fill_many {
        for group in (0..ones.len()).filter(|&group| !used.has(group)) {
            let other = &one[ones.first(group)];
            let item = Item { tag: Tag::made(other.tag.grouped(&join.grouping)), value };
            joiner.meet(item, other, None)?;
        }
    }
    Ok(joiner.results)
}

/// Makes results of elements that meet.
struct Joiner<'j, 's> {
    join: &'j Join,
    is_swapped: bool,
    removal: NameRemoval,
    results: Vec<Item<'s>>,
}

impl<'s> Joiner<'_, 's> {
    /// Makes a result, unless a comparison filters it away.
    fn meet(
        &mut self,
        item: Item<'s>,
        other: &Item<'_>,
        used: Option<(&mut Used, usize)>,
    ) -> Result<(), EvalError> {
        let (left, right) =
            if self.is_swapped { (other.value, item.value) } else { (item.value, other.value) };
        let (value, is_kept) = match self.join.operator {
            Operator::Comparison { comparison, to_bool: false } => (left, comparison.holds(left, right)),
            operator @ (Operator::Arithmetic(_) | Operator::Comparison { to_bool: true, .. }) => {
                (operator.apply(left, right), true)
            }
        };
        let tag = result_tag(self.join, item.tag, &other.tag, self.removal)?;
        // Checked for what the comparison filters away, too: that the matching is ambiguous does not depend on the
        // values.
        if let Some((used, group)) = used {
            used.mark(group, &tag)?;
        }
        if is_kept {
            self.results.push(Item { tag, value });
        }
        Ok(())
    }
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
    /// With the labels of the result, by group.
    ManyToOne(Vec<FxHashSet<Labels>>),
}

impl Used {
    fn new(join: &Join) -> Self {
        match join.cardinality {
            Cardinality::OneToOne => Self::OneToOne(Vec::new()),
            Cardinality::ManyToOne(_) | Cardinality::OneToMany(_) => Self::ManyToOne(Vec::new()),
        }
    }

    fn has(&self, group: usize) -> bool {
        match self {
            Self::OneToOne(used) => used.get(group).is_some_and(|used| *used),
            Self::ManyToOne(used) => used.get(group).is_some_and(|used| !used.is_empty()),
        }
    }

    fn mark(&mut self, group: usize, tag: &Tag<'_>) -> Result<(), EvalError> {
        let (is_new, error) = match self {
            Self::OneToOne(used) => {
                used.resize(used.len().max(group + 1), false);
                (!std::mem::replace(&mut used[group], true), EvalError::ManyToOne)
            }
            Self::ManyToOne(used) => {
                used.resize_with(used.len().max(group + 1), FxHashSet::default);
                (used[group].insert(tag.labels()), EvalError::GroupingNotUnique)
            }
        };
        if is_new { Ok(()) } else { Err(error) }
    }
}

//! Elements in the making: labels that are mostly borrowed from the store, and the groups they fall into.

use std::borrow::Cow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHasher};

use crate::model::{Labels, METRIC_NAME};

use super::ast::Grouping;
use super::error::EvalError;
use super::value::is_metadata;

/// When a value stops carrying the name of the metric it was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRemoval {
    /// With the operation that makes it another value: Prometheus' default.
    Immediate,
    /// When the whole expression has been evaluated: Prometheus' feature `promql-delayed-name-removal`, with which
    /// its own test scripts are run.
    Delayed,
}

/// Whether the metric's name, and the labels that go with it, are part of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Kept,
    /// To be removed with the last operation.
    Leaving,
    Gone,
}

/// The labels of an element, mostly borrowed from the store. Dropping the metric's name is the commonest operation
/// of all: it is only marked here, and done when the result is handed out, which most elements do not live to see.
#[derive(Clone, Debug)]
pub(super) struct Tag<'s> {
    labels: Cow<'s, Labels>,
    name: Name,
}

/// An element in the making.
#[derive(Clone, Debug)]
pub(super) struct Item<'s> {
    pub tag: Tag<'s>,
    pub value: f64,
}

impl<'s> Tag<'s> {
    /// The labels of a series.
    pub(super) fn series(labels: &'s Labels) -> Self {
        Self { labels: Cow::Borrowed(labels), name: Name::Kept }
    }

    /// Labels of their own.
    pub(super) fn made(labels: Labels) -> Self {
        Self { labels: Cow::Owned(labels), name: Name::Kept }
    }

    pub(super) fn get(&self, label: &str) -> Option<&str> {
        self.labels.get(label).filter(|_| !self.hides(label))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.labels.iter().filter(|(name, _)| !self.hides(name))
    }

    /// The same without the metric's name.
    pub(super) fn nameless(self, removal: NameRemoval) -> Self {
        let name = match removal {
            NameRemoval::Immediate => Name::Gone,
            NameRemoval::Delayed => Name::Leaving,
        };
        Self { name, ..self }
    }

    /// The labels as they are now.
    pub(super) fn labels(&self) -> Labels {
        match self.name {
            Name::Kept | Name::Leaving => self.labels.as_ref().clone(),
            Name::Gone => self.labels.filter(|name| !is_metadata(name)),
        }
    }

    /// The labels that the result of an evaluation has.
    pub(super) fn into_labels(self) -> Labels {
        match self.name {
            Name::Kept => self.labels.into_owned(),
            Name::Leaving | Name::Gone => self.labels.filter(|name| !is_metadata(name)),
        }
    }

    /// The same with other labels, of which a leaving name still leaves.
    pub(super) fn relabelled<'t>(&self, labels: Labels) -> Tag<'t> {
        let name = match self.name {
            Name::Leaving => Name::Leaving,
            Name::Kept | Name::Gone => Name::Kept,
        };
        Tag { labels: Cow::Owned(labels), name }
    }

    /// The same with one label put in or replaced; an empty value removes it. A name that is given does not leave.
    pub(super) fn with(self, label: &str, value: &str) -> Result<Self, EvalError> {
        let labels = self.labels().with(label, value)?;
        if label == METRIC_NAME { Ok(Self::made(labels)) } else { Ok(self.relabelled(labels)) }
    }

    /// The same without a label.
    pub(super) fn without(&self, label: &str) -> Self {
        self.relabelled(self.labels().filter(|name| name != label))
    }

    /// The labels that `grouping` puts elements together by. The metric's name is never part of a `without`.
    pub(super) fn grouped(&self, grouping: &Grouping) -> Labels {
        self.labels.filter(|name| is_in(grouping, name) && !self.hides(name))
    }

    /// The name of the metric the element was made from, as long as it is known.
    pub(super) fn metric_name(&self) -> &str {
        self.get(METRIC_NAME).unwrap_or("")
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.name == Name::Leaving
    }

    fn hides(&self, label: &str) -> bool {
        self.name == Name::Gone && is_metadata(label)
    }
}

fn is_in(grouping: &Grouping, label: &str) -> bool {
    match grouping {
        Grouping::By(names) => contains(names, label),
        Grouping::Without(names) => label != METRIC_NAME && !contains(names, label),
    }
}

/// How elements are told apart.
#[derive(Clone, Copy, Debug)]
pub(super) enum Distinction<'e> {
    /// By all labels they have.
    All,
    /// By all labels but one.
    AllBut(&'static str),
    /// By the labels of a grouping.
    Grouping(&'e Grouping),
}

impl Distinction<'_> {
    fn hash(self, tag: &Tag<'_>) -> u64 {
        let mut hasher = FxHasher::default();
        match self {
            Self::Grouping(Grouping::By(names)) => {
                for name in names {
                    tag.get(name).unwrap_or("").hash(&mut hasher);
                }
            }
            Self::Grouping(grouping @ Grouping::Without(_)) => {
                tag.iter().filter(|(name, _)| is_in(grouping, name)).for_each(|pair| pair.hash(&mut hasher));
            }
            Self::AllBut(label) => {
                tag.iter().filter(|(name, _)| *name != label).for_each(|pair| pair.hash(&mut hasher));
            }
            Self::All => tag.iter().for_each(|pair| pair.hash(&mut hasher)),
        }
        hasher.finish()
    }

    fn is_same(self, one: &Tag<'_>, other: &Tag<'_>) -> bool {
        match self {
            Self::Grouping(Grouping::By(names)) => names.iter().all(|name| one.get(name) == other.get(name)),
            Self::Grouping(grouping @ Grouping::Without(_)) => {
                let is_in = |(name, _): &(&str, &str)| is_in(grouping, name);
                one.iter().filter(is_in).eq(other.iter().filter(is_in))
            }
            Self::AllBut(label) => {
                let is_in = |(name, _): &(&str, &str)| *name != label;
                one.iter().filter(is_in).eq(other.iter().filter(is_in))
            }
            Self::All => one.iter().eq(other.iter()),
        }
    }
}

fn contains(names: &[Arc<str>], name: &str) -> bool {
    names.binary_search_by(|known| known.as_ref().cmp(name)).is_ok()
}

/// Numbers the groups that elements fall into, from 0, in the order in which they are first seen.
///
/// Compares what it finds by hash, so that two groups are never taken for one. The hash is fast and can be made to
/// collide on purpose; the number of elements is what bounds the harm.
#[derive(Debug)]
pub(super) struct Groups<'e> {
    distinction: Distinction<'e>,
    by_hash: FxHashMap<u64, usize>,
    /// Of each group, the index of its first element and the next group with the same hash.
    groups: Vec<(usize, Option<usize>)>,
}

impl<'e> Groups<'e> {
    pub(super) fn new(distinction: Distinction<'e>, capacity: usize) -> Self {
        let by_hash = FxHashMap::with_capacity_and_hasher(capacity, rustc_hash::FxBuildHasher);
        Self { distinction, by_hash, groups: Vec::new() }
    }

    /// The group of `items[index]`, and whether this is the first element of it.
    pub(super) fn insert(&mut self, items: &[Item<'_>], index: usize) -> (usize, bool) {
        let tag = &items[index].tag;
        let hash = self.distinction.hash(tag);
        if let Some(group) = self.chained(hash, tag, items) {
            return (group, false);
        }
        let group = self.groups.len();
        let next = self.by_hash.insert(hash, group);
        self.groups.push((index, next));
        (group, true)
    }

    /// The group that `tag` falls into, where `items` are those that were inserted.
    pub(super) fn find(&self, tag: &Tag<'_>, items: &[Item<'_>]) -> Option<usize> {
        self.chained(self.distinction.hash(tag), tag, items)
    }

    /// The first element of a group.
    pub(super) fn first(&self, group: usize) -> usize {
        self.groups[group].0
    }

    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }

    fn chained(&self, hash: u64, tag: &Tag<'_>, items: &[Item<'_>]) -> Option<usize> {
        let mut candidate = self.by_hash.get(&hash).copied();
        while let Some(group) = candidate {
            let (first, next) = self.groups[group];
            if self.distinction.is_same(&items[first].tag, tag) {
                return Some(group);
            }
            candidate = next;
        }
        None
    }
}

/// An error where two elements have the same labels.
pub(super) fn check_distinct(items: &[Item<'_>]) -> Result<(), EvalError> {
    let mut groups = Groups::new(Distinction::All, items.len());
    let is_distinct = items.len() < 2 || (0..items.len()).all(|index| groups.insert(items, index).1);
    if is_distinct { Ok(()) } else { Err(EvalError::SameLabels) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::new(pairs.iter().copied()).unwrap()
    }

    #[test]
    fn elements_that_differ_in_the_name_alone_are_the_same_without_it() {
        let [one, two] = ["a", "b"].map(|name| labels(&[(METRIC_NAME, name), ("job", "x")]));
        let named = [&one, &two].map(|labels| Item { tag: Tag::series(labels), value: 0.0 });
        assert_eq!(check_distinct(&named), Ok(()));
        let nameless = named.map(|item| Item { tag: item.tag.nameless(NameRemoval::Immediate), ..item });
        assert_eq!(check_distinct(&nameless), Err(EvalError::SameLabels));
    }

    #[test]
    fn a_missing_label_groups_with_no_other_value() {
        let sets = [labels(&[("a", "1")]), labels(&[("b", "1")]), labels(&[("a", "1"), ("c", "2")])];
        let items: Vec<Item<'_>> =
            sets.iter().map(|set| Item { tag: Tag::series(set), value: 0.0 }).collect();
        let by = Grouping::By(["a".into()].into());
        let mut groups = Groups::new(Distinction::Grouping(&by), 3);
        let found: Vec<_> = (0..3).map(|index| groups.insert(&items, index)).collect();
        assert_eq!(found, [(0, true), (1, true), (0, false)]);
        assert_eq!(items[2].tag.grouped(&by), labels(&[("a", "1")]));
        assert_eq!(items[1].tag.grouped(&by), Labels::empty());
    }
}

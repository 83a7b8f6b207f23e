//! Finds series by their labels.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::model::{Labels, METRIC_NAME};

use super::matcher::{Matcher, Selector};

/// The place of a series in the store's tables.
pub(super) type Slot = u32;

/// Series by metric name, by label value, and by the selectors that somebody evaluates again and again. What it
/// returns is in the order of the labels, so that sums come out the same to the bit whatever order series came in.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Sorted by labels; under the empty name what has none.
    by_metric: BTreeMap<Arc<str>, Vec<Slot>>,
    /// Every other label: name, value, series as they came in. The maps by name are never walked.
    by_label: FxHashMap<Arc<str>, BTreeMap<Arc<str>, Vec<Slot>>>,
    watched: Vec<Watched>,
    /// By the selector's key.
    watched_by_key: FxHashMap<Arc<str>, usize>,
}

/// A selector whose series are kept ready, sorted by labels.
#[derive(Debug)]
struct Watched {
    selector: Selector,
    slots: Vec<Slot>,
}

impl Index {
    /// `names` are the labels of all series by slot, the new one's included.
    pub(super) fn insert(&mut self, slot: Slot, names: &[Option<Labels>]) {
        let Some(labels) = labels_of(names, slot) else { return };
        let metric = labels.metric_name().unwrap_or("");
        match self.by_metric.get_mut(metric) {
            Some(slots) => insert_sorted(slots, slot, labels, names),
            None => drop(self.by_metric.insert(metric.into(), vec![slot])),
        }
        for (name, value) in labels.iter().filter(|(name, _)| *name != METRIC_NAME) {
            if !self.by_label.contains_key(name) {
                self.by_label.insert(name.into(), BTreeMap::new());
            }
            let Some(values) = self.by_label.get_mut(name) else { continue };
            match values.get_mut(value) {
                Some(slots) => slots.push(slot),
                None => drop(values.insert(value.into(), vec![slot])),
            }
        }
        for watched in &mut self.watched {
            if watched.selector.matches(labels) {
                insert_sorted(&mut watched.slots, slot, labels, names);
            }
        }
    }

    /// Takes out all series for which `is_gone` holds.
    pub(super) fn remove(&mut self, is_gone: impl Fn(Slot) -> bool) {
        let thin = |_: &Arc<str>, slots: &mut Vec<Slot>| {
            slots.retain(|&slot| !is_gone(slot));
            !slots.is_empty()
        };
        self.by_metric.retain(thin);
        self.by_label.retain(|_, values| {
            values.retain(thin);
            !values.is_empty()
        });
        for watched in &mut self.watched {
            watched.slots.retain(|&slot| !is_gone(slot));
        }
    }

    /// Keeps the series of a selector ready from now on.
    pub(super) fn watch(&mut self, selector: &Selector, names: &[Option<Labels>]) {
        // The series of a bare metric name are ready as they are.
        if selector.is_bare() || self.watched_by_key.contains_key(selector.key()) {
            return;
        }
        let slots = self.select(selector, names).into_owned();
        self.watched_by_key.insert(selector.key().into(), self.watched.len());
        self.watched.push(Watched { selector: selector.clone(), slots });
    }

    pub(super) fn unwatch_all(&mut self) {
        self.watched.clear();
        self.watched_by_key.clear();
    }

    /// Whether a series has this label.
    pub(super) fn has_label(&self, name: &str) -> bool {
        self.by_label.contains_key(name)
    }

    /// The series of all metrics, by metric and labels.
    pub(super) fn all(&self) -> impl Iterator<Item = Slot> {
        self.by_metric.values().flatten().copied()
    }

    /// The series of one metric, in the order of their labels.
    pub(super) fn of_metric(&self, metric: &str) -> &[Slot] {
        self.by_metric.get(metric).map_or(&[], Vec::as_slice)
    }

    /// The series a selector means, in the order of their labels.
    pub(super) fn select(&self, selector: &Selector, names: &[Option<Labels>]) -> Cow<'_, [Slot]> {
        if selector.is_bare() {
            return Cow::Borrowed(self.of_metric(selector.metric_name().unwrap_or("")));
        }
        if let Some(&index) = self.watched_by_key.get(selector.key()) {
            return Cow::Borrowed(&self.watched[index].slots);
        }
        let mut found: Vec<Slot> = self.candidates(selector);
        found.retain(|&slot| labels_of(names, slot).is_some_and(|labels| selector.matches(labels)));
        found.sort_unstable_by(|&one, &other| labels_of(names, one).cmp(&labels_of(names, other)));
        found.dedup();
        Cow::Owned(found)
    }

    /// A superset of the selector's series: those of its narrowest condition.
    fn candidates(&self, selector: &Selector) -> Vec<Slot> {
        let narrowest = selector
            .matchers()
            .iter()
            .filter(|matcher| !matcher.accepts(""))
            .map(|matcher| self.postings(matcher))
            .min_by_key(|lists| lists.iter().map(|list| list.len()).sum::<usize>());
        match narrowest {
            Some(lists) => lists.concat(),
            None => self.all().collect(),
        }
    }

    /// The series that a condition accepts, which is not one that accepts a missing label.
    fn postings(&self, matcher: &Matcher) -> Vec<&[Slot]> {
        let by_value = if matcher.label() == METRIC_NAME {
            Some(&self.by_metric)
        } else {
            self.by_label.get(matcher.label())
        };
        let Some(by_value) = by_value else { return Vec::new() };
        match matcher.values() {
            Some(values) => {
                values.iter().filter_map(|value| by_value.get(value)).map(Vec::as_slice).collect()
            }
            None => by_value
                .iter()
                .filter(|(value, _)| matcher.accepts(value))
                .map(|(_, list)| list.as_slice())
                .collect(),
        }
    }
}

fn labels_of(names: &[Option<Labels>], slot: Slot) -> Option<&Labels> {
    names.get(slot as usize).and_then(Option::as_ref)
}

fn insert_sorted(slots: &mut Vec<Slot>, slot: Slot, labels: &Labels, names: &[Option<Labels>]) {
    let place = slots.partition_point(|&known| labels_of(names, known).is_some_and(|known| known < labels));
    slots.insert(place, slot);
}

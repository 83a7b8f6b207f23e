//! Which rules read which series: found out once, when a series is new, so that a sample finds its rules without a
//! search.

use rustc_hash::FxHashMap;

use super::producers::ProducerId;
use super::rules::{Rule, place_of};
use crate::engine::promql::{Metrics, SeriesId, SeriesStore};
use crate::model::Labels;

/// No violation.
pub(super) const NONE: u32 = u32::MAX;

/// That a rule reads a series.
#[derive(Clone, Copy, Debug)]
pub(super) struct Binding {
    pub(super) rule: u32,
    /// For a rule that is evaluated for single series: the violation that is pending or firing, or [`NONE`].
    pub(super) violation: u32,
}

/// A series at its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) id: SeriesId,
    /// Its bindings.
    pub(super) from: u32,
    pub(super) until: u32,
    /// Who sent its newest sample.
    pub(super) producer: ProducerId,
}

/// All series and their rules.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) entries: Vec<Entry>,
    pub(super) bindings: Vec<Binding>,
    /// Looked up only, never walked.
    places: FxHashMap<SeriesId, u32>,
    free: Vec<u32>,
    /// Rules by the metrics they name, in the order of their places. Looked up only.
    by_metric: FxHashMap<Box<str>, Vec<u32>>,
    /// Rules with a selector that names no metric.
    any_metric: Vec<u32>,
}

impl Index {
    /// The place of a series, new where it had none.
    pub(super) fn place(&mut self, id: SeriesId, labels: &Labels, rules: &[Rule]) -> u32 {
        if let Some(place) = self.places.get(&id) {
            return *place;
        }
        let (from, until) = self.bind(labels, rules);
        let entry = Entry { id, from, until, producer: ProducerId::NOBODY };
        let place = if let Some(place) = self.free.pop() {
            self.entries[place as usize] = entry;
            place
        } else {
            self.entries.push(entry);
            place_of(self.entries.len() - 1)
        };
        self.places.insert(id, place);
        place
    }

    /// The place of a series that has one.
    pub(super) fn find(&self, id: SeriesId) -> Option<u32> {
        self.places.get(&id).copied()
    }

    /// Whether a place belongs to a series that the store knows.
    pub(super) fn is_used(&self, place: u32) -> bool {
        self.entries.get(place as usize).is_some_and(|entry| self.places.get(&entry.id) == Some(&place))
    }

    /// Where the binding of a series to a rule is.
    pub(super) fn binding(&self, place: u32, rule: u32) -> Option<usize> {
        let entry = self.entries.get(place as usize)?;
        (entry.from..entry.until)
            .map(|index| index as usize)
            .find(|index| self.bindings.get(*index).is_some_and(|binding| binding.rule == rule))
    }

    /// Forgets series that the store has forgotten, and finds the rules of all others anew. Which violation belongs to
    /// which binding is lost: the caller puts them back.
    pub(super) fn rebuild(&mut self, store: &SeriesStore, rules: &[Rule]) {
        self.by_metric.clear();
        self.any_metric.clear();
        self.bindings.clear();
        for (rule, place) in rules.iter().zip(0_u32..) {
            match rule.expr.metric_names() {
                Metrics::Named(names) => {
                    for name in names {
                        self.by_metric.entry(name.as_ref().into()).or_default().push(place);
                    }
                }
                Metrics::Any => self.any_metric.push(place),
            }
        }
        for place in 0..self.entries.len() {
            let id = self.entries[place].id;
            let (mut from, mut until) = (0, 0);
            if let Some(labels) = store.labels(id) {
                (from, until) = self.bind(labels, rules);
            } else if self.places.remove(&id).is_some() {
                // A place that was free already had no id of its own any more.
                self.free.push(place_of(place));
            }
            let entry = &mut self.entries[place];
            (entry.from, entry.until) = (from, until);
        }
    }

    fn bind(&mut self, labels: &Labels, rules: &[Rule]) -> (u32, u32) {
        let from = place_of(self.bindings.len());
        let named = labels.metric_name().and_then(|metric| self.by_metric.get(metric));
        let mut candidates: Vec<u32> = named.into_iter().flatten().chain(&self.any_metric).copied().collect();
        candidates.sort_unstable();
        for rule in candidates {
            if rules[rule as usize].expr.matches(labels) {
                self.bindings.push(Binding { rule, violation: NONE });
            }
        }
        (from, place_of(self.bindings.len()))
    }
}

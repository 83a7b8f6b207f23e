//! Recording rules: what an evaluation gives is recorded as samples, and read by other rules like those that came in.

use std::collections::BTreeSet;
use std::time::Duration;

use super::evaluation::{Arrived, Evaluation};
use super::index::NONE;
use super::joins::Reader;
use super::producers::Producers;
use super::rules::Path;
use crate::engine::promql::{Appended, Element, STALE};
use crate::model::{Labels, LabelsError, Timestamp};

/// The evaluation by which a series was recorded last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Recorded {
    round: u64,
}

impl Recorded {
    /// By one before a restart.
    pub(super) const RESTORED: Self = Self { round: 0 };
}

impl Evaluation {
    /// Records the elements of a rule's expression. Series that it does not give any more end, as in Prometheus.
    pub(super) fn record(&mut self, producers: &Producers, rule: u32, elements: Vec<Element>, at: Timestamp) {
        let round = self.round;
        let texts = &self.rules[rule as usize].texts;
        let given = elements.into_iter().map(|element| Ok((texts.recorded(&element.labels)?, element.value)));
        let given = match given.collect::<Result<Vec<(Labels, f64)>, LabelsError>>() {
            Ok(given) => given,
            Err(error) => return self.skip(rule, at, &error.to_string()),
        };
        let distinct: BTreeSet<&Labels> = given.iter().map(|(labels, _)| labels).collect();
        if distinct.len() < given.len() {
            return self.skip(rule, at, "two elements are recorded under the same labels");
        }
        for (labels, value) in given {
            self.give(producers, rule, &labels, (at, value));
            self.rules[rule as usize].state.recorded.insert(labels, Recorded { round });
        }
        let recorded = &mut self.rules[rule as usize].state.recorded;
        let gone: Vec<Labels> =
            recorded.extract_if(.., |_, by| by.round != round).map(|(labels, _)| labels).collect();
        for labels in gone {
            self.give(producers, rule, &labels, (at, STALE));
        }
    }

    /// All that a rule has recorded ends: it is gone.
    pub(super) fn end_recorded(&mut self, producers: &Producers, rule: u32) {
        let state = &mut self.rules[rule as usize].state;
        let at = state.evaluated_at + Duration::from_millis(1);
        for labels in std::mem::take(&mut state.recorded).into_keys() {
            self.give(producers, rule, &labels, (at, STALE));
        }
    }

    /// A sample that a rule has made comes in. Rules that read several series are evaluated in the next instant, unless
    /// their turn in this one is still to come.
    fn give(&mut self, producers: &Producers, rule: u32, labels: &Labels, (at, value): (Timestamp, f64)) {
        let place = self.intern_one(labels);
        let from = self.rules[rule as usize].state.producer;
        let Some(entry) = self.index.entries.get_mut(place as usize) else { return };
        entry.producer = from;
        if self.store.append(entry.id, at, value) != Appended::Stored {
            return;
        }
        let entry = *entry;
        let arrived = Arrived { producers, from, bucket: 0, now: self.now, scrape: None };
        for binding_at in entry.from as usize..entry.until as usize {
            let binding = self.index.bindings[binding_at];
            match self.paths[binding.rule as usize] {
                Path::Threshold { comparison, bound } => {
                    let held = Path::compare(comparison, bound, value);
                    if held.is_some() || binding.violation != NONE {
                        self.observe(arrived, (binding_at, place), (at, at), held);
                    }
                }
                Path::Separable => self.evaluate_one(arrived, (binding_at, place), at),
                Path::Joined => {
                    let state = &mut self.rules[binding.rule as usize].state;
                    if state.read_at < at {
                        (state.read_at, state.producer) = (at, from);
                    }
                    self.joins.restore_wait(Reader::Rule(binding.rule), at, self.now);
                }
                Path::Grid { group } => self.grids[group as usize].touch_recorded(at),
            }
        }
    }
}

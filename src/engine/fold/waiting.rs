//! Episodes that no incident has yet, together by the scope they have in common: what the analyzer decides on.
//!
//! Kept up with each record. Of a storm the ledger takes a part at a time, and each part costs what is in it, not what is
//! left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::Episode;
use crate::model::{EpisodeId, Labels, Timestamp};

/// See [`Episode::order`].
pub type Order = (Timestamp, Timestamp, EpisodeId);

/// The label of a scope where a violation has none of the configured ones: its alert is its scope.
const ALERT_NAME: &str = "alertname";

/// See the module.
#[derive(Clone, Debug)]
pub struct Waiting {
    scope_labels: Vec<Arc<str>>,
    /// By their first episode: the label set's order would let a storm starve the same scope every time.
    groups: BTreeMap<Order, Group>,
    /// The first episode of each group. Looked up, never iterated.
    first_in: FxHashMap<Labels, Order>,
}

/// Episodes of one scope, but for the first.
#[derive(Clone, Debug)]
struct Group {
    scope: Labels,
    rest: BTreeSet<Order>,
}

impl Waiting {
    pub(super) fn new(scope_labels: &[Arc<str>]) -> Self {
        Self { scope_labels: scope_labels.to_vec(), groups: BTreeMap::new(), first_in: FxHashMap::default() }
    }

    /// The labels that make a scope, most telling first.
    pub(super) fn scope_labels(&self) -> &[Arc<str>] {
        &self.scope_labels
    }

    /// How many scopes there are.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Each scope with its episodes in [their order](Episode::order), the scope of the first episode first.
    pub fn groups(&self) -> impl Iterator<Item = (&Labels, impl Iterator<Item = EpisodeId>)> {
        self.groups.iter().map(|(first, group)| {
            let episodes = std::iter::once(first).chain(&group.rest).map(|(_, _, id)| *id);
            (&group.scope, episodes)
        })
    }

    pub(super) fn insert(&mut self, episode: &Episode) {
        let order = episode.order();
        let scope = self.scope_of(episode);
        let Some(first) = self.first_in.get_mut(&scope) else {
            self.first_in.insert(scope.clone(), order);
            self.groups.insert(order, Group { scope, rest: BTreeSet::new() });
            return;
        };
        if *first < order {
            if let Some(group) = self.groups.get_mut(first) {
                group.rest.insert(order);
            }
        } else if let Some(mut group) = self.groups.remove(first) {
            group.rest.insert(*first);
            *first = order;
            self.groups.insert(order, group);
        }
    }

    pub(super) fn remove(&mut self, episode: &Episode) {
        let order = episode.order();
        if let Some(mut group) = self.groups.remove(&order) {
            if let Some(next) = group.rest.pop_first() {
                self.first_in.insert(group.scope.clone(), next);
                self.groups.insert(next, group);
            } else {
                self.first_in.remove(&group.scope);
            }
        } else if let Some(first) = self.first_in.get(&self.scope_of(episode))
            && let Some(group) = self.groups.get_mut(first)
        {
            group.rest.remove(&order);
        }
    }

    /// The first scope label that the violation has, as a label set; without one, its alert.
    fn scope_of(&self, episode: &Episode) -> Labels {
        let labels = &episode.violation.labels;
        let found = self.scope_labels.iter().find(|name| labels.get(name).is_some());
        let found = found.map_or(ALERT_NAME, AsRef::as_ref);
        labels.filter(|name| name == found)
    }
}

//! Violations' episodes, and which of them no incident has yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::{EpisodeId, IncidentId, Phase, Timestamp, Violation};

/// An episode as far as the ledger tells it.
#[derive(Clone, Debug)]
pub struct Episode {
    /// Its newest revision.
    pub violation: Arc<Violation>,
    /// When its first revision came about, in event time.
    pub first_at: Timestamp,
    /// When its first revision was recorded.
    pub first_stored_at: Timestamp,
    /// The incident it belongs to.
    pub incident: Option<IncidentId>,
}

impl Episode {
    /// Whether its newest revision fires.
    pub fn is_firing(&self) -> bool {
        self.violation.phase == Phase::Firing
    }

    /// The order in which episodes are looked at: first recorded first. Among those that were recorded at one instant it
    /// is not their place in the ledger that decides, because that depends on how the samples were cut into frames.
    pub fn order(&self) -> (Timestamp, Timestamp, EpisodeId) {
        (self.first_stored_at, self.first_at, self.violation.episode)
    }
}

/// All episodes that are not forgotten.
#[derive(Clone, Debug, Default)]
pub struct Episodes {
    known: BTreeMap<EpisodeId, Episode>,
    /// See [`Episode::order`].
    unassigned: BTreeSet<(Timestamp, Timestamp, EpisodeId)>,
    firing: usize,
}

impl Episodes {
    /// An episode.
    pub fn get(&self, id: EpisodeId) -> Option<&Episode> {
        self.known.get(&id)
    }

    /// Every episode, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (EpisodeId, &Episode)> {
        self.known.iter().map(|(id, episode)| (*id, episode))
    }

    /// The episodes that no incident has yet, in [their order](Episode::order).
    pub fn unassigned(&self) -> impl Iterator<Item = &Episode> {
        self.unassigned.iter().filter_map(|(_, _, id)| self.known.get(id))
    }

    /// How many fire.
    pub fn firing(&self) -> usize {
        self.firing
    }

    /// Takes in a revision; whether the episode has just ceased to fire.
    pub(super) fn apply(&mut self, stored_at: Timestamp, violation: &Arc<Violation>) -> bool {
        let id = violation.episode;
        let Some(known) = self.known.get_mut(&id) else {
            let episode = Episode {
                violation: Arc::clone(violation),
                first_at: violation.at,
                first_stored_at: stored_at,
                incident: None,
            };
            self.firing += usize::from(episode.is_firing());
            self.unassigned.insert(episode.order());
            self.known.insert(id, episode);
            return false;
        };
        if violation.rev <= known.violation.rev {
            return false;
        }
        let was_firing = known.is_firing();
        known.violation = Arc::clone(violation);
        let is_firing = known.is_firing();
        self.firing = self.firing + usize::from(is_firing) - usize::from(was_firing);
        was_firing && !is_firing
    }

    /// Says which incident an episode belongs to; returns whether it fires.
    pub(super) fn assign(&mut self, id: EpisodeId, incident: IncidentId) -> bool {
        let Some(episode) = self.known.get_mut(&id) else { return false };
        self.unassigned.remove(&episode.order());
        episode.incident.get_or_insert(incident);
        episode.is_firing()
    }

    pub(super) fn forget(&mut self, id: EpisodeId) {
        if let Some(episode) = self.known.remove(&id) {
            self.firing -= usize::from(episode.is_firing());
            self.unassigned.remove(&episode.order());
        }
    }
    pub(super) fn restore(episodes: Vec<Episode>) -> Self {
        let mut restored = Self::default();
        for episode in episodes {
            restored.firing += usize::from(episode.is_firing());
            if episode.incident.is_none() {
                restored.unassigned.insert(episode.order());
            }
            restored.known.insert(episode.violation.episode, episode);
        }
        restored
    }
}

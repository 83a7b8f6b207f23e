//! Violations' episodes.

use std::sync::{Arc, OnceLock};

use super::background::Background;
use super::waiting::{Order, Waiting};
use crate::engine::ById;
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
    pub fn order(&self) -> Order {
        (self.first_stored_at, self.first_at, self.violation.episode)
    }
}

/// All episodes that are not forgotten.
#[derive(Clone, Debug, Default)]
pub struct Episodes {
    known: ById<EpisodeId, Episode>,
    firing: usize,
    /// Those that no incident has yet, where somebody decides on them.
    waiting: Option<Waiting>,
    /// Counted when it is first asked for, kept up from then on until nothing fires.
    background: OnceLock<Background>,
}

impl Episodes {
    /// An episode.
    pub fn get(&self, id: EpisodeId) -> Option<&Episode> {
        self.known.get(id)
    }

    /// Every episode, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (EpisodeId, &Episode)> {
        self.known.sorted()
    }

    /// How many fire.
    pub fn firing(&self) -> usize {
        self.firing
    }

    /// Keeps the episodes that no incident has yet together by scope from now on: the first of these labels that one has.
    pub fn group_by(&mut self, scope_labels: &[Arc<str>]) {
        if self.waiting(scope_labels).is_none() {
            self.waiting = Some(self.grouped_by(scope_labels));
        }
    }

    /// The episodes that no incident has yet, where they are kept together by these labels.
    pub fn waiting(&self, scope_labels: &[Arc<str>]) -> Option<&Waiting> {
        self.waiting.as_ref().filter(|waiting| waiting.scope_labels() == scope_labels)
    }

    /// The episodes that no incident has yet, together by scope.
    pub fn grouped_by(&self, scope_labels: &[Arc<str>]) -> Waiting {
        let mut waiting = Waiting::new(scope_labels);
        for episode in self.known.unsorted().filter(|episode| episode.incident.is_none()) {
            waiting.insert(episode);
        }
        waiting
    }

    /// How often each label value stands on an episode that fires.
    pub fn background(&self) -> &Background {
        self.background.get_or_init(|| {
            let mut background = Background::default();
            let firing = self.known.unsorted().filter(|episode| episode.is_firing());
            firing.for_each(|episode| background.add(&episode.violation));
            background
        })
    }

    /// Takes in a revision; whether the episode has just ceased to fire.
    pub(super) fn apply(&mut self, stored_at: Timestamp, violation: &Arc<Violation>) -> bool {
        let id = violation.episode;
        let mut is_new = false;
        let known = self.known.get_or_insert_with(id, || {
            is_new = true;
            Episode {
                violation: Arc::clone(violation),
                first_at: violation.at,
                first_stored_at: stored_at,
                incident: None,
            }
        });
        if is_new {
            if let Some(waiting) = &mut self.waiting {
                waiting.insert(known);
            }
            if known.is_firing() {
                self.fires(violation);
            }
            return false;
        }
        if violation.rev <= known.violation.rev {
            return false;
        }
        let was_firing = known.is_firing();
        let waiting = self.waiting.as_mut().filter(|_| known.incident.is_none());
        let before = if let Some(waiting) = waiting {
            waiting.remove(known);
            let before = std::mem::replace(&mut known.violation, Arc::clone(violation));
            waiting.insert(known);
            before
        } else {
            std::mem::replace(&mut known.violation, Arc::clone(violation))
        };
        let is_firing = known.is_firing();
        if was_firing {
            self.ceases(&before);
        }
        if is_firing {
            self.fires(violation);
        }
        was_firing && !is_firing
    }

    /// Says which incident an episode belongs to, and returns it.
    pub(super) fn assign(&mut self, id: EpisodeId, incident: IncidentId) -> Option<&Episode> {
        let episode = self.known.get_mut(id)?;
        if episode.incident.is_none() {
            if let Some(waiting) = &mut self.waiting {
                waiting.remove(episode);
            }
            episode.incident = Some(incident);
        }
        Some(episode)
    }

    pub(super) fn forget(&mut self, id: EpisodeId) {
        let Some(episode) = self.known.remove(id) else { return };
        if episode.is_firing() {
            self.ceases(&episode.violation);
        }
        if let Some(waiting) = self.waiting.as_mut().filter(|_| episode.incident.is_none()) {
            waiting.remove(&episode);
        }
    }

    fn fires(&mut self, violation: &Violation) {
        self.firing += 1;
        if let Some(background) = self.background.get_mut() {
            background.add(violation);
        }
    }

    fn ceases(&mut self, violation: &Violation) {
        self.firing -= 1;
        if self.firing == 0 {
            self.background.take();
        } else if let Some(background) = self.background.get_mut() {
            background.remove(violation);
        }
    }
    pub(super) fn restore(episodes: Vec<Episode>) -> Self {
        let mut restored = Self::default();
        for episode in episodes {
            restored.firing += usize::from(episode.is_firing());
            restored.known.insert(episode.violation.episode, episode);
        }
        restored
    }
}

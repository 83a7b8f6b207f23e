//! Incidents, their analyses and the places of the analyses in the ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{Episode, Episodes, FORGET_AFTER};
use crate::engine::{ById, Few};
use crate::model::{
    Analysis, EpisodeId, Incident, IncidentId, IncidentPhase, Labels, Reason, Reasons, Record, Shard,
    Timestamp,
};

/// Episodes that have ended and that an open incident keeps: one alert that flaps beside one that never ends makes
/// thousands a day. Those that ended a short time ago are kept beyond it, or a repeated message would begin them anew.
const RESOLVED_KEPT_MAX: usize = 1_000;

/// An incident as far as the ledger tells it.
#[derive(Clone, Debug)]
pub struct IncidentState {
    /// Its newest revision.
    pub incident: Arc<Incident>,
    /// What is thought of it, newest.
    pub analysis: Option<Arc<Analysis>>,
    /// When its first violation was recorded.
    pub first_stored_at: Timestamp,
    /// When its newest revision was recorded: it has been stable since.
    pub stable_since: Timestamp,
    /// Those of its episodes that fire.
    pub firing: Few<EpisodeId>,
    /// Those that have ended, and when that was recorded. Among those of one instant their place in the ledger makes no
    /// difference (see [`Episode::order`](super::Episode::order)).
    pub resolved: Few<(Timestamp, EpisodeId)>,
    /// How many that have ended are forgotten.
    pub forgotten: u64,
    /// Why nothing was done about the newest revision.
    pub reported: Reasons,
}

impl IncidentState {
    /// Whether it is closed.
    pub fn is_closed(&self) -> bool {
        self.incident.phase == IncidentPhase::Closed
    }

    /// The episodes that are known, those that have ended first.
    pub fn episodes(&self) -> impl Iterator<Item = EpisodeId> {
        self.resolved.iter().map(|(_, id)| *id).chain(self.firing.iter().copied())
    }

    /// Takes out the oldest ones that have ended, where they are too many.
    fn forget_resolved(&mut self, now: Timestamp, episodes: &mut Episodes) {
        while self.resolved.len() > RESOLVED_KEPT_MAX {
            let Some((ended_at, id)) = self.resolved.first().copied() else { return };
            if now.saturating_since(ended_at) <= FORGET_AFTER {
                return;
            }
            self.resolved.pop_first();
            self.forgotten += 1;
            episodes.forget(id);
        }
    }
}

/// All incidents that are not forgotten.
#[derive(Clone, Debug)]
pub struct Incidents {
    known: ById<IncidentId, IncidentState>,
    /// Looked up, never iterated. `None` where nobody asks: by its labels each incident is looked up at a price.
    open_by_scope: Option<FxHashMap<Labels, IncidentId>>,
    /// Open, but none of their episodes fires.
    quiet: BTreeSet<IncidentId>,
    last_analysis: BTreeMap<Shard, u64>,
}

impl Default for Incidents {
    fn default() -> Self {
        Self {
            known: ById::default(),
            open_by_scope: Some(FxHashMap::default()),
            quiet: BTreeSet::new(),
            last_analysis: BTreeMap::new(),
        }
    }
}

impl Incidents {
    /// Does not know which incident is the open one of a scope, from now on.
    pub(super) fn forget_scopes(&mut self) {
        self.open_by_scope = None;
    }

    /// Whether it knows which incident is the open one of a scope.
    pub(super) fn knows_scopes(&self) -> bool {
        self.open_by_scope.is_some()
    }

    /// An incident.
    pub fn get(&self, id: IncidentId) -> Option<&IncidentState> {
        self.known.get(id)
    }

    /// Every incident, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (IncidentId, &IncidentState)> {
        self.known.sorted()
    }

    /// The open incident of a scope.
    pub fn open_in(&self, scope: &Labels) -> Option<&IncidentState> {
        self.open_by_scope.as_ref()?.get(scope).and_then(|id| self.known.get(*id))
    }

    /// Open incidents of which no episode fires any more.
    pub fn quiet(&self) -> impl Iterator<Item = &IncidentState> {
        self.quiet.iter().filter_map(|id| self.known.get(*id))
    }

    /// Where the newest analysis of a shard stands in the ledger, 0 where there is none.
    pub fn last_analysis(&self, shard: Shard) -> u64 {
        self.last_analysis.get(&shard).copied().unwrap_or(0)
    }

    pub(super) fn analysed(&mut self, shard: Shard, sequence: u64) {
        self.last_analysis.insert(shard, sequence);
    }

    /// Takes in a revision; returns whether it was newer.
    pub(super) fn apply(
        &mut self,
        record: &Record,
        incident: &Arc<Incident>,
        episodes: &mut Episodes,
    ) -> bool {
        let id = incident.id;
        let mut is_new = false;
        let state = self.known.get_or_insert_with(id, || {
            is_new = true;
            IncidentState {
                incident: Arc::clone(incident),
                analysis: None,
                first_stored_at: record.stored_at,
                stable_since: record.stored_at,
                firing: Few::default(),
                resolved: Few::default(),
                forgotten: 0,
                reported: Reasons::default(),
            }
        });
        if !is_new {
            if incident.rev <= state.incident.rev {
                return false;
            }
            state.incident = Arc::clone(incident);
        }
        let was_quiet = !is_new && state.firing.is_empty();
        state.stable_since = record.stored_at;
        state.reported = Reasons::default();
        let mut first_stored_at = None;
        for id_of_joined in &incident.joined {
            let joined = episodes.assign(*id_of_joined, id);
            if joined.is_some_and(Episode::is_firing) {
                state.firing.insert(*id_of_joined);
            } else {
                state.resolved.insert((record.stored_at, *id_of_joined));
            }
            let stored_at = joined.map(|joined| joined.first_stored_at);
            first_stored_at = first_stored_at.into_iter().chain(stored_at).min();
        }
        if is_new {
            state.first_stored_at = first_stored_at.unwrap_or(record.stored_at);
        }
        state.forget_resolved(record.stored_at, episodes);
        match incident.phase {
            IncidentPhase::Open => {
                if let Some(open) = &mut self.open_by_scope {
                    open.insert(incident.scope.clone(), id);
                }
                if state.firing.is_empty() {
                    self.quiet.insert(id);
                } else if was_quiet {
                    self.quiet.remove(&id);
                }
            }
            IncidentPhase::Closed => {
                if was_quiet {
                    self.quiet.remove(&id);
                }
                if let Some(open) = &mut self.open_by_scope
                    && open.get(&incident.scope) == Some(&id)
                {
                    open.remove(&incident.scope);
                }
            }
        }
        true
    }

    pub(super) fn think(&mut self, _record: &Record, analysis: &Arc<Analysis>) {
        if let Some(state) = self.known.get_mut(analysis.incident)
            && state.analysis.as_ref().is_none_or(|known| known.incident_rev < analysis.incident_rev)
        {
            state.analysis = Some(Arc::clone(analysis));
        }
    }

    /// An episode has ceased to fire.
    pub(super) fn resolved(&mut self, now: Timestamp, episode: EpisodeId, episodes: &mut Episodes) {
        let Some(id) = episodes.get(episode).and_then(|known| known.incident) else { return };
        if let Some(state) = self.known.get_mut(id) {
            if state.firing.remove(episode) {
                state.resolved.insert((now, episode));
            }
            if state.firing.is_empty() && !state.is_closed() {
                self.quiet.insert(id);
            }
            state.forget_resolved(now, episodes);
        }
    }

    pub(super) fn reported(&mut self, incident: IncidentId, reason: Reason) {
        if let Some(state) = self.known.get_mut(incident) {
            state.reported.insert(reason);
        }
    }

    pub(super) fn forget(&mut self, id: IncidentId) -> Option<IncidentState> {
        self.known.remove(id)
    }

    /// The incidents that are the open ones of their scopes.
    pub(super) fn open(&self) -> BTreeSet<IncidentId> {
        debug_assert!(self.knows_scopes(), "a fold that does not know the scopes is no beginning for others");
        self.open_by_scope.iter().flat_map(FxHashMap::values).copied().collect()
    }

    /// Where the newest analyses stand.
    pub(super) fn last_analyses(&self) -> impl Iterator<Item = (Shard, u64)> {
        self.last_analysis.iter().map(|(shard, sequence)| (*shard, *sequence))
    }

    pub(super) fn restore(
        states: Vec<IncidentState>,
        open: &BTreeSet<IncidentId>,
        last_analyses: &[(Shard, u64)],
    ) -> Self {
        let mut restored = Self { last_analysis: last_analyses.iter().copied().collect(), ..Self::default() };
        let mut open_by_scope = FxHashMap::default();
        for state in states {
            let id = state.incident.id;
            if open.contains(&id) {
                open_by_scope.insert(state.incident.scope.clone(), id);
            }
            if state.firing.is_empty() && !state.is_closed() {
                restored.quiet.insert(id);
            }
            restored.known.insert(id, state);
        }
        restored.open_by_scope = Some(open_by_scope);
        restored
    }
}

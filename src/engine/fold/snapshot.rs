//! The fold as plain values: what a role begins with instead of the whole ledger, and what is left of the ledger where that
//! has forgotten its beginning. A fold that is restored from it and given the records that came since is the fold that
//! was given all of them.

use std::sync::Arc;

use super::{
    Attempt, Effectiveness, Episode, Episodes, Fold, Gate, IncidentState, Incidents, Learned, PlanState,
    Plans,
};
use crate::model::{
    Analysis, EpisodeId, Generation, Incident, IncidentId, Labels, Plan, PlanEnd, PlanId, Reason, Shard,
    Timestamp, Verdict, Violation,
};

/// A fold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FoldSnapshot {
    /// The last record in it.
    pub applied: u64,
    /// The ledger's time of that.
    pub stored_at: Timestamp,
    /// The newest bundle that was announced.
    pub announced: Option<(Generation, Arc<str>)>,
    /// Episodes, in the order of their ids.
    pub episodes: Vec<EpisodeSnapshot>,
    /// Incidents, in the order of their ids.
    pub incidents: Vec<IncidentSnapshot>,
    /// The open incident of each scope that has one.
    pub open: Vec<IncidentId>,
    /// Where the newest analysis of each shard stands.
    pub last_analyses: Vec<(Shard, u64)>,
    /// Plans, in the order of their ids.
    pub plans: Vec<PlanSnapshot>,
    /// What admission depends on.
    pub gate: GateSnapshot,
    /// What was learned.
    pub learned: Vec<LearnedSnapshot>,
    /// Entries that came under a known id with another body.
    pub conflicts: u64,
    /// Incidents that are over and not forgotten, oldest first, and since when they are.
    pub over: Vec<(Timestamp, IncidentId)>,
}

/// An episode.
#[derive(Clone, Debug, PartialEq)]
pub struct EpisodeSnapshot {
    /// Its newest revision.
    pub violation: Arc<Violation>,
    /// When its first revision came about.
    pub first_at: Timestamp,
    /// When its first revision was recorded.
    pub first_stored_at: Timestamp,
    /// The incident it belongs to.
    pub incident: Option<IncidentId>,
}

/// An incident.
#[derive(Clone, Debug, PartialEq)]
pub struct IncidentSnapshot {
    /// Its newest revision.
    pub incident: Arc<Incident>,
    /// What is thought of it.
    pub analysis: Option<Arc<Analysis>>,
    /// When its first violation was recorded.
    pub first_stored_at: Timestamp,
    /// When its newest revision was recorded.
    pub stable_since: Timestamp,
    /// Those of its episodes that fire.
    pub firing: Vec<EpisodeId>,
    /// Those that have ended, and when that was recorded.
    pub resolved: Vec<(Timestamp, EpisodeId)>,
    /// How many that have ended are forgotten.
    pub forgotten: u64,
    /// Why nothing was done about the newest revision.
    pub reported: Vec<Reason>,
}

/// A plan.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanSnapshot {
    /// The plan.
    pub plan: Arc<Plan>,
    /// Where it stands in the ledger.
    pub sequence: u64,
    /// When it was recorded.
    pub stored_at: Timestamp,
    /// The tries at its actions: of each action the first one first.
    pub attempts: Vec<Attempt>,
    /// Whether it helped.
    pub verdict: Option<Arc<Verdict>>,
    /// How it ended, and when that was recorded.
    pub release: Option<(PlanEnd, Timestamp)>,
    /// Why something was not done about it.
    pub reported: Vec<Reason>,
}

/// What admission depends on; see [`Gate`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GateSnapshot {
    /// Where the last entry on the subject stands.
    pub last_sequence: u64,
    /// Who halted automation and why.
    pub halted: Option<(Arc<str>, Arc<str>)>,
    /// The place in the intake of the last request that was obeyed.
    pub last_request: u64,
    /// When the standing halt was last said.
    pub halt_said_at: Timestamp,
    /// The generation whose charter holds.
    pub charter: Generation,
    /// When that was last said.
    pub charter_said_at: Timestamp,
    /// Plans that hold a part of the budget.
    pub in_flight: Vec<PlanId>,
    /// The plan in flight of each incident that has one.
    pub acting_for: Vec<(IncidentId, PlanId)>,
    /// When attempts were admitted, oldest first.
    pub started: Vec<Timestamp>,
    /// When a playbook last began to act on a scope.
    pub acted: Vec<(Arc<str>, Labels, Timestamp)>,
}

/// How often a playbook helped against a cause, in one scope or everywhere.
#[derive(Clone, Debug, PartialEq)]
pub struct LearnedSnapshot {
    /// The playbook.
    pub playbook: Arc<str>,
    /// The cause.
    pub cause: Arc<str>,
    /// The scope; `None` for all of them.
    pub scope: Option<Labels>,
    /// How often.
    pub known: Effectiveness,
}

impl Fold {
    /// The fold as plain values.
    pub fn snapshot(&self) -> FoldSnapshot {
        FoldSnapshot {
            applied: self.applied,
            stored_at: self.stored_at,
            announced: self.announced.clone(),
            episodes: self.episodes.iter().map(|(_, episode)| episode_snapshot(episode)).collect(),
            incidents: self.incidents.iter().map(|(_, state)| incident_snapshot(state)).collect(),
            open: self.incidents.open().into_iter().collect(),
            last_analyses: self.incidents.last_analyses().collect(),
            plans: self.plans.iter().map(plan_snapshot).collect(),
            gate: self.gate.snapshot(),
            learned: self.learned.snapshot(),
            conflicts: self.conflicts,
            over: self.over.iter().copied().collect(),
        }
    }

    /// Becomes the one that knows more, of what it is asked for.
    pub(in crate::engine) fn take_over(&mut self, known: &Self) {
        if known.applied > self.applied {
            let knows_scopes = self.incidents.knows_scopes();
            *self = known.clone();
            if !knows_scopes {
                self.incidents.forget_scopes();
            }
        }
    }

    /// The fold that a snapshot was made of.
    pub fn restore(snapshot: FoldSnapshot) -> Self {
        let episodes = snapshot.episodes.into_iter().map(episode).collect();
        let incidents = snapshot.incidents.into_iter().map(incident).collect();
        let plans = snapshot.plans.into_iter().map(plan).collect();
        Self {
            applied: snapshot.applied,
            stored_at: snapshot.stored_at,
            announced: snapshot.announced,
            episodes: Episodes::restore(episodes),
            incidents: Incidents::restore(
                incidents,
                &snapshot.open.into_iter().collect(),
                &snapshot.last_analyses,
            ),
            plans: Plans::restore(plans),
            gate: Gate::restore(snapshot.gate),
            learned: Learned::restore(snapshot.learned),
            conflicts: snapshot.conflicts,
            over: snapshot.over.into(),
        }
    }
}

fn episode_snapshot(episode: &Episode) -> EpisodeSnapshot {
    let Episode { violation, first_at, first_stored_at, incident } = episode;
    EpisodeSnapshot {
        violation: Arc::clone(violation),
        first_at: *first_at,
        first_stored_at: *first_stored_at,
        incident: *incident,
    }
}

fn episode(snapshot: EpisodeSnapshot) -> Episode {
    let EpisodeSnapshot { violation, first_at, first_stored_at, incident } = snapshot;
    Episode { violation, first_at, first_stored_at, incident }
}

fn incident_snapshot(state: &IncidentState) -> IncidentSnapshot {
    IncidentSnapshot {
        incident: Arc::clone(&state.incident),
        analysis: state.analysis.clone(),
        first_stored_at: state.first_stored_at,
        stable_since: state.stable_since,
        firing: state.firing.iter().copied().collect(),
        resolved: state.resolved.iter().copied().collect(),
        forgotten: state.forgotten,
        reported: state.reported.iter().collect(),
    }
}

fn incident(snapshot: IncidentSnapshot) -> IncidentState {
    IncidentState {
        incident: snapshot.incident,
        analysis: snapshot.analysis,
        first_stored_at: snapshot.first_stored_at,
        stable_since: snapshot.stable_since,
        firing: snapshot.firing.into_iter().collect(),
        resolved: snapshot.resolved.into_iter().collect(),
        forgotten: snapshot.forgotten,
        reported: snapshot.reported.into_iter().collect(),
    }
}

fn plan_snapshot(state: &PlanState) -> PlanSnapshot {
    PlanSnapshot {
        plan: Arc::clone(&state.plan),
        sequence: state.sequence,
        stored_at: state.stored_at,
        attempts: state.attempts.values().flatten().cloned().collect(),
        verdict: state.verdict.clone(),
        release: state.release,
        reported: state.reported.iter().collect(),
    }
}

fn plan(snapshot: PlanSnapshot) -> PlanState {
    let mut state = PlanState {
        plan: snapshot.plan,
        sequence: snapshot.sequence,
        stored_at: snapshot.stored_at,
        attempts: std::collections::BTreeMap::new(),
        verdict: snapshot.verdict,
        release: snapshot.release,
        reported: snapshot.reported.into_iter().collect(),
    };
    for attempt in snapshot.attempts {
        state.attempts.entry(attempt.intent.action).or_default().push(attempt);
    }
    state
}

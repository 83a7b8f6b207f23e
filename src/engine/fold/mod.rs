//! The fold: the pure function from the ledger to the state that decisions read.
//!
//! Every deciding role keeps one, rebuilt at start. Applying a record twice, or an entry that is known under its id,
//! changes nothing: first in the ledger wins. What is over is forgotten after a while of *ledger* time, so that two
//! folds of the same records are equal whenever they were made.

mod background;
mod episodes;
mod gate;
mod incidents;
mod learned;
mod plans;
mod snapshot;
mod waiting;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

pub use background::{Background, telling_labels};
pub use episodes::{Episode, Episodes};
pub use gate::{Gate, Refusal};
pub use incidents::{IncidentState, Incidents};
pub use learned::{Effectiveness, Learned};
pub use plans::{Attempt, PlanState, Plans};
pub use snapshot::{
    EpisodeSnapshot, FoldSnapshot, GateSnapshot, IncidentSnapshot, LearnedSnapshot, PlanSnapshot,
};
pub use waiting::{Order, Waiting};

use crate::model::{Admission, Basis, Entry, Generation, IncidentId, Record, Timestamp, Topic};

/// How long what is over stays known. Longer than the server's duplicate window of ten minutes: past that window it is
/// the fold that drops a repeated message.
const FORGET_AFTER: Duration = Duration::from_mins(15);

/// The state that the ledger amounts to, as far as it is still open.
#[derive(Clone, Debug, Default)]
pub struct Fold {
    applied: u64,
    stored_at: Timestamp,
    /// The newest bundle that was announced.
    announced: Option<(Generation, Arc<str>)>,
    /// Violations.
    pub episodes: Episodes,
    /// Incidents and what is thought of them.
    pub incidents: Incidents,
    /// Plans and how far they have come.
    pub plans: Plans,
    /// What admission depends on.
    pub gate: Gate,
    /// What was learned from verdicts.
    pub learned: Learned,
    /// Entries that came under a known id with another body: counted, the first one counts.
    conflicts: u64,
    over: VecDeque<(Timestamp, IncidentId)>,
}

impl Fold {
    /// Empty, for a role that joins nothing to incidents: it does not know which one is the open one of a scope, and no
    /// snapshot is made of it.
    pub fn without_scopes() -> Self {
        let mut fold = Self::default();
        fold.incidents.forget_scopes();
        fold
    }

    /// Takes in a record; older ones than the last are ignored.
    ///
    /// A gap is the caller's mistake and leaves a fold that knows less than the ledger: whoever feeds it checks.
    pub fn apply(&mut self, record: &Record) {
        if record.sequence <= self.applied {
            return;
        }
        self.applied = record.sequence;
        // The ledger's clock may be set back; time in a fold does not run backwards.
        self.stored_at = self.stored_at.max(record.stored_at);
        match record.topic {
            Topic::Analyses(shard) => self.incidents.analysed(shard, record.sequence),
            Topic::Admission => self.gate.written(record.sequence),
            // Copies for subscribers: what they say is in the analyses already.
            Topic::Incidents(_) => return,
            Topic::Violations(_)
            | Topic::Plans
            | Topic::Outcomes(_)
            | Topic::Verdicts(_)
            | Topic::Reports(_)
            | Topic::Changes
            | Topic::Control => {}
        }
        for entry in &record.batch.entries {
            self.apply_entry(record, entry);
        }
        self.forget_what_is_over();
        // By the ledger's own clock, also where that was set back: what it stamps now is not old.
        self.gate.forget_before(record.stored_at);
    }

    /// The last record that was taken in.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// The ledger's time of the last record.
    pub fn stored_at(&self) -> Timestamp {
        self.stored_at
    }

    /// The newest bundle that was announced: number and content hash.
    pub fn announced(&self) -> Option<&(Generation, Arc<str>)> {
        self.announced.as_ref()
    }

    /// Entries that came under a known id with another body.
    pub fn conflicts(&self) -> u64 {
        self.conflicts
    }

    /// What a decision made now would be made from.
    pub fn basis(&self, generation: Generation) -> Basis {
        Basis { ledger: self.applied, generation }
    }

    fn apply_entry(&mut self, record: &Record, entry: &Entry) {
        match entry {
            Entry::Violation(violation) => {
                if self.episodes.apply(record.stored_at, violation) {
                    self.incidents.resolved(self.stored_at, violation.episode, &mut self.episodes);
                }
            }
            Entry::Incident(incident) => {
                if self.incidents.apply(record, incident, &mut self.episodes) {
                    self.note_if_over(incident.id);
                }
            }
            Entry::Analysis(analysis) => self.incidents.think(record, analysis),
            Entry::Plan(plan) => {
                let added = self.plans.apply(record, plan);
                self.conflicts += u64::from(added.is_err());
            }
            Entry::Admission(admission) => self.apply_admission(record, admission),
            Entry::Outcome(outcome) => {
                self.conflicts += u64::from(self.plans.ended(record.stored_at, outcome).is_err());
            }
            Entry::Verdict(verdict) => match self.plans.judged(verdict) {
                Ok(true) => self.learned.learn(record.stored_at, verdict),
                Ok(false) => {}
                Err(_) => self.conflicts += 1,
            },
            Entry::Report(report) => {
                if let Some(plan) = report.plan {
                    self.plans.reported(plan, report.reason);
                }
                if let Some(incident) = report.incident {
                    self.incidents.reported(incident, report.reason);
                }
            }
            // The rings of changes come with root-cause analysis; until then only people read them.
            Entry::Change(_) => {}
            Entry::Applied { generation, hash } => {
                if self.announced.as_ref().is_none_or(|(known, _)| known < generation) {
                    self.announced = Some((*generation, Arc::clone(hash)));
                }
            }
        }
    }

    fn apply_admission(&mut self, record: &Record, admission: &Admission) {
        match admission {
            Admission::Intent(intent) => match self.plans.admitted(record, intent) {
                Ok(true) => self.gate.admit(record.stored_at, intent),
                Ok(false) => {}
                Err(_) => self.conflicts += 1,
            },
            Admission::Release(release) => {
                if self.plans.released(record.stored_at, release) {
                    self.gate.released(release.plan);
                    self.note_if_over(release.incident);
                }
            }
            Admission::Halt { request, by, reason } => {
                self.gate.halt(record.stored_at, *request, by, reason);
            }
            Admission::Resume { request, .. } => self.gate.resume(*request),
            Admission::Charter { generation } => self.gate.charter(record.stored_at, *generation),
        }
    }

    fn note_if_over(&mut self, incident: IncidentId) {
        let closed = self.incidents.get(incident).is_some_and(IncidentState::is_closed);
        if closed && self.plans.are_over(incident) {
            self.over.push_back((self.stored_at, incident));
        }
    }

    fn forget_what_is_over(&mut self) {
        while let Some((over_at, incident)) = self.over.front().copied() {
            if self.stored_at.saturating_since(over_at) < FORGET_AFTER {
                break;
            }
            self.over.pop_front();
            // A plan may have been made after the incident was noted: it is noted again when that plan is over.
            if !self.plans.forget(incident) {
                continue;
            }
            if let Some(forgotten) = self.incidents.forget(incident) {
                forgotten.episodes().for_each(|episode| self.episodes.forget(episode));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::{incident, intent_of, plan, violation};
    use crate::model::{
        Batch, Idempotency, Incident, IncidentPhase, Labels, MessageId, Phase, PlanEnd, Release, Role,
        Severity, Shard, Violation,
    };

    fn record(sequence: u64, stored_at: Timestamp, topic: Topic, entry: Entry) -> Record {
        let batch = Batch {
            id: MessageId::of(&[&sequence]),
            role: Role::Monitor,
            instance: "one".into(),
            at: stored_at,
            basis: Basis::default(),
            trace: 0,
            entries: vec![entry],
        };
        Record { sequence, stored_at, topic, batch: batch.into() }
    }

    /// One alert that never ends, and one that flaps every ten seconds, so many times.
    fn flapping(flaps: u32) -> Vec<Record> {
        let mut records = Vec::new();
        let mut add = |at: Timestamp, topic: Topic, entry: Entry| {
            records.push(record(records.len() as u64 + 1, at, topic, entry));
        };
        let scope = Labels::new([("service", "a")]).unwrap();
        for number in 0..=flaps {
            let at = Timestamp::from_millis(10_000 * i64::from(number));
            let found = violation("a", u64::from(number), at);
            let revision = Incident {
                id: incident("a"),
                rev: number + 1,
                phase: IncidentPhase::Open,
                scope: scope.clone(),
                severity: Severity::Warning,
                joined: vec![found.episode],
                violations: number + 1,
                opened_at: at,
                changed_at: at,
            };
            let topic = Topic::Violations(Severity::Warning);
            add(at, topic, Entry::Violation(Arc::new(found.clone())));
            add(at, Topic::Analyses(Shard::default()), Entry::Incident(Arc::new(revision)));
            if number > 0 {
                let ended = Violation { rev: 2, phase: Phase::Resolved, ..found };
                add(at + Duration::from_secs(5), topic, Entry::Violation(Arc::new(ended)));
            }
        }
        records
    }

    #[test]
    fn a_long_incident_keeps_a_bounded_number_of_episodes_that_have_ended() {
        let records = flapping(3_000);
        let mut fold = Fold::default();
        records.iter().for_each(|record| fold.apply(record));
        let state = fold.incidents.get(incident("a")).unwrap();
        assert_eq!((state.firing.len(), state.resolved.len(), state.forgotten), (1, 1_000, 2_000));
        assert_eq!(fold.episodes.iter().count(), 1_001);
        assert_eq!((state.incident.violations, state.is_closed()), (3_001, false));
        // The same whether a record comes once or twice.
        let mut again = Fold::default();
        records.iter().for_each(|record| (0..2).for_each(|_| again.apply(record)));
        assert_eq!(format!("{fold:?}"), format!("{again:?}"));
    }

    #[test]
    fn an_episode_that_ended_a_short_time_ago_is_known_however_many_there_are() {
        let mut records = flapping(2_000);
        for record in &mut records {
            record.stored_at = Timestamp::from_millis(record.stored_at.as_millis() / 100);
        }
        let mut fold = Fold::default();
        records.iter().for_each(|record| fold.apply(record));
        assert_eq!(fold.incidents.get(incident("a")).unwrap().resolved.len(), 2_000);
    }

    #[test]
    fn a_plan_that_has_begun_cannot_be_given_up_as_if_it_had_not() {
        let at = Timestamp::from_millis(0);
        let plan = plan("a", 1, Idempotency::Key, at);
        let intent = Admission::Intent(intent_of(&plan).into());
        let release = |end| Admission::Release(Release { plan: plan.id, incident: plan.incident, end });
        let mut fold = Fold::default();
        fold.apply(&record(1, at, Topic::Plans, Entry::Plan(Arc::new(plan.clone()))));
        fold.apply(&record(2, at, Topic::Admission, Entry::Admission(intent)));
        fold.apply(&record(3, at, Topic::Admission, Entry::Admission(release(PlanEnd::Cancelled))));
        assert!(fold.gate.in_flight().contains(&plan.id));
        fold.apply(&record(4, at, Topic::Admission, Entry::Admission(release(PlanEnd::Failed))));
        assert!(fold.gate.in_flight().is_empty());
    }
}

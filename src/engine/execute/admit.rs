//! Admission: from "this attempt comes next" to "this attempt is ours to carry out".
//!
//! One conditional write is under way at a time; it carries every attempt that the charter allows together, so that a
//! thousand plans do not wait for a thousand round trips, and before them what gives back: a plan is released on
//! condition that nothing more was admitted for it.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::saga;
use crate::engine::condition::{Condition, Folded};
use crate::engine::core::Unanswered;
use crate::engine::fold::{Fold, Gate, PlanState, Refusal};
use crate::engine::outbox::{Answer, Decision, Outbox};
use crate::engine::{Act, Ask, Configuration, Lease, Published, Step, Ticket, size};
use crate::model::{
    Action, Admission, AttemptId, Entry, Intent, MessageId, Outcome, OutcomeResult, Plan, PlanEnd, PlanId,
    Reason, Record, Release, Timestamp, Topic,
};

/// Conflicts with other executors over the same attempt before it is reported and left alone for a while.
const CONFLICTS_MAX: u32 = 5;
/// How long it is left alone.
const CONTENDED_PAUSE: Duration = Duration::from_secs(1);
/// How long an intent is left alone that the ledger would not have, alone in its message.
const REFUSED_PAUSE: Duration = Duration::from_mins(1);
/// Entries in one conditional write.
const ENTRIES_PER_WRITE_MAX: usize = 64;

/// An attempt that comes next for a plan.
#[derive(Debug)]
pub(super) struct Wanted {
    plan: Arc<Plan>,
    action: Action,
    number: u32,
    undo: bool,
    lease: Lease,
}

/// See [`Wanted`].
pub(super) fn wanted(plan: &PlanState, action: &Action, number: u32, undo: bool, lease: Lease) -> Wanted {
    Wanted { plan: Arc::clone(&plan.plan), action: action.clone(), number, undo, lease }
}

/// What admission is decided on.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub(super) now: Timestamp,
    /// The ledger's time is not before this.
    pub(super) ledger_now: Timestamp,
    pub(super) fold: &'a Fold,
    pub(super) configuration: &'a Configuration,
    /// Until when the lease on each owned shard lasts.
    pub(super) leases: &'a BTreeMap<u16, Timestamp>,
}

/// What the executor has asked for and does not have yet.
#[derive(Debug)]
pub(super) struct Admitting {
    seed: u128,
    drawn: u64,
    condition: Condition,
    /// The attempts in the write under way.
    attempts: Vec<AttemptId>,
    /// Entries of one write: fewer after one that the ledger would not have.
    entries_max: usize,
    /// Intents of this process that have no outcome in the ledger yet. One that is asked for again keeps its nonce: the
    /// first copy may still arrive.
    mine: BTreeMap<AttemptId, Mine>,
    in_the_way: BTreeMap<AttemptId, Obstacle>,
}

/// An intent of this process.
#[derive(Debug)]
struct Mine {
    intent: Arc<Intent>,
    action: Action,
    /// Its effect was started: never twice, whatever is read.
    started: bool,
}

/// What keeps an intent from the ledger.
#[derive(Clone, Copy, Debug)]
enum Obstacle {
    /// So many writes of others were faster, the last one then.
    Others(u32, Timestamp),
    /// The ledger would not have it, then.
    Refused(Timestamp),
}

/// The entries of a write that is being put together.
struct Draft {
    entries: Vec<Entry>,
    attempts: Vec<AttemptId>,
    entries_max: usize,
    bytes: usize,
}

impl Draft {
    /// Adds an entry; whether there was room.
    fn add(&mut self, admission: Admission) -> bool {
        let entry = Entry::Admission(admission);
        let bytes = self.bytes + size::estimate(&entry);
        let has_room = self.entries.is_empty()
            || self.entries.len() < self.entries_max && bytes <= size::BATCH_BYTES_MAX;
        if has_room {
            self.bytes = bytes;
            self.entries.push(entry);
        }
        has_room
    }
}

impl Admitting {
    pub(super) fn new(seed: u128) -> Self {
        Self {
            seed,
            drawn: 0,
            condition: Condition::new(Topic::Admission),
            attempts: Vec::new(),
            entries_max: ENTRIES_PER_WRITE_MAX,
            mine: BTreeMap::new(),
            in_the_way: BTreeMap::new(),
        }
    }

    pub(super) fn is_waiting_for(&self, ticket: Ticket) -> bool {
        self.condition.is_writing(ticket)
    }

    /// Writes `first`, which takes away or says again, and what may be written of `wanted`; returns what the charter does
    /// not allow now.
    pub(super) fn advance(
        &mut self,
        view: View<'_>,
        step: &mut Step,
        outbox: &mut Outbox,
        first: Vec<Admission>,
        wanted: Vec<Wanted>,
    ) -> Vec<(PlanId, Refusal)> {
        let View { now, fold, configuration, .. } = view;
        self.look_into_the_fold(view, step);
        let folded = folded(fold);
        self.condition.tick(now, step, outbox, folded);
        let Some(expected_last) = self.condition.expected(now, folded) else { return Vec::new() };
        if first.is_empty() && wanted.is_empty() {
            return Vec::new();
        }
        let entries_max = self.entries_max;
        let mut draft = Draft { entries: Vec::new(), attempts: Vec::new(), entries_max, bytes: 0 };
        let mut gate = fold.gate.clone();
        for admission in first {
            let released = match &admission {
                Admission::Release(Release { plan, .. }) => Some(*plan),
                Admission::Intent(_)
                | Admission::Halt { .. }
                | Admission::Resume { .. }
                | Admission::Charter { .. } => None,
            };
            if !draft.add(admission) {
                break;
            }
            released.into_iter().for_each(|plan| gate.released(plan));
        }
        // The charter that decisions are made by has to be on the subject before them; an executor with an older one
        // waits until it has loaded the newer.
        let refused = match configuration.generation.cmp(&fold.gate.charter_generation()) {
            Ordering::Equal => self.admit(view, outbox.instance(), &mut gate, wanted, &mut draft),
            Ordering::Greater if !wanted.is_empty() => {
                draft.add(Admission::Charter { generation: configuration.generation });
                Vec::new()
            }
            Ordering::Greater | Ordering::Less => Vec::new(),
        };
        let decision = Decision {
            now,
            topic: Topic::Admission,
            entries: draft.entries,
            basis: fold.basis(configuration.generation),
            expected_last: Some(expected_last),
            holds: &[],
        };
        for ticket in outbox.publish(step, decision) {
            self.condition.wrote(ticket);
        }
        self.attempts = draft.attempts;
        refused
    }

    fn admit(
        &mut self,
        view: View<'_>,
        executor: &Arc<str>,
        gate: &mut Gate,
        wanted: Vec<Wanted>,
        draft: &mut Draft,
    ) -> Vec<(PlanId, Refusal)> {
        let View { now, ledger_now, fold, configuration, .. } = view;
        let mut refused = Vec::new();
        for wanted in wanted {
            let attempt = saga::attempt_id(&wanted.action, wanted.number);
            if self.mine.get(&attempt).is_some_and(|mine| mine.started) {
                continue;
            }
            let (plan, incident) = (wanted.plan.id, wanted.plan.incident);
            let checked = storm(fold, configuration, wanted.undo)
                .and_then(|()| gate.check(&configuration.charter, &wanted.plan, wanted.undo, ledger_now))
                .map_err(|refusal| in_own_time(refusal, view))
                .and_then(|()| self.way_is_free(attempt, now));
            if let Err(refusal) = checked {
                let is_final = refusal.is_final();
                refused.push((plan, refusal));
                let end = PlanEnd::Cancelled;
                if is_final && !draft.add(Admission::Release(Release { plan, incident, end })) {
                    break;
                }
                continue;
            }
            let intent = self.intent(attempt, wanted, executor);
            if !draft.add(Admission::Intent(Arc::clone(&intent))) {
                break;
            }
            draft.attempts.push(attempt);
            gate.admit(ledger_now, &intent);
        }
        refused
    }

    /// The answer to the conditional write.
    pub(super) fn published(
        &mut self,
        view: View<'_>,
        step: &mut Step,
        outbox: &mut Outbox,
        (ticket, result): (Ticket, Published),
    ) {
        let View { now, fold, leases, .. } = view;
        match outbox.published(now, step, ticket, result) {
            Answer::Stored { sequence, .. } => {
                self.condition.stored(now, sequence);
                self.entries_max = (self.entries_max * 2).min(ENTRIES_PER_WRITE_MAX);
                for attempt in std::mem::take(&mut self.attempts) {
                    self.start(step, attempt, sequence, leases);
                }
            }
            Answer::Stale { stored, .. } => {
                for attempt in &self.attempts {
                    let obstacle = self.in_the_way.entry(*attempt).or_insert(Obstacle::Others(0, now));
                    if let Obstacle::Others(conflicts, _) = *obstacle {
                        *obstacle = Obstacle::Others(conflicts + 1, now);
                    }
                }
                self.condition.read(step, outbox, stored, folded(fold));
            }
            Answer::Refused { batch, .. } => {
                if batch.entries.len() == 1 {
                    let alone = self.attempts.iter().map(|attempt| (*attempt, Obstacle::Refused(now)));
                    self.in_the_way.extend(alone);
                }
                self.entries_max = (batch.entries.len() / 2).max(1);
                self.condition.refused(now);
            }
            Answer::Unknown => {
                // Not simply sent again: whether the first copy got in has to be known before anything else is decided.
                outbox.forget(ticket);
                self.condition.read(step, outbox, None, folded(fold));
            }
            Answer::Nothing => {}
        }
    }

    /// The answer to a read.
    pub(super) fn read_back(
        &mut self,
        view: View<'_>,
        step: &mut Step,
        (ticket, found): (Ticket, Result<Option<Arc<Record>>, Unanswered>),
    ) {
        // Ours may stand before the record that was read: the fold shows it when it has come that far, and nothing is
        // decided before.
        let Some(record) = self.condition.read_back(view.now, ticket, found) else { return };
        for intent in intents_of(&record) {
            let ours = self.mine.get(&intent.attempt).is_some_and(|mine| mine.intent.nonce == intent.nonce);
            if ours {
                self.start(step, intent.attempt, record.sequence, view.leases);
            }
        }
    }

    /// Intents that the ledger has and that are ours are started, whatever became of the answer to their write.
    fn look_into_the_fold(&mut self, view: View<'_>, step: &mut Step) {
        let View { fold, leases, .. } = view;
        let mut found = Vec::new();
        self.mine.retain(|attempt, mine| match fold.plans.attempt(*attempt) {
            Some(stored) if stored.outcome.is_some() => false,
            Some(stored) => {
                if !mine.started && stored.intent.nonce == mine.intent.nonce {
                    found.push((*attempt, stored.sequence));
                }
                true
            }
            None => mine.started || fold.plans.get(mine.intent.plan).is_some_and(|plan| !plan.is_over()),
        });
        for (attempt, sequence) in found {
            self.start(step, attempt, sequence, leases);
        }
        let mine = &self.mine;
        self.in_the_way.retain(|attempt, _| mine.contains_key(attempt));
    }

    /// Starts the effect of an intent that is in the ledger and ours.
    fn start(&mut self, step: &mut Step, attempt: AttemptId, fence: u64, leases: &BTreeMap<u16, Timestamp>) {
        let Some(mine) = self.mine.get_mut(&attempt).filter(|mine| !mine.started) else { return };
        mine.started = true;
        let intent = &mine.intent;
        // Without the lease it is not started: `act` says so, and the attempt has an outcome all the same.
        let until = leases.get(&super::shard_of(intent.incident)).copied();
        let outcome = Outcome {
            attempt,
            action: intent.action,
            plan: intent.plan,
            incident: intent.incident,
            result: OutcomeResult::NotStarted,
            started_at: Timestamp::default(),
            ended_at: Timestamp::default(),
            output: "".into(),
        };
        let action = mine.action.clone();
        let not_after = until.unwrap_or_default();
        step.ask.push(Ask::Act(Box::new(Act { attempt, action, fence, not_after, outcome })));
    }

    fn intent(&mut self, attempt: AttemptId, wanted: Wanted, executor: &Arc<str>) -> Arc<Intent> {
        if let Some(mine) = self.mine.get(&attempt) {
            return Arc::clone(&mine.intent);
        }
        self.drawn += 1;
        let seed = self.seed.to_string();
        let intent = Arc::new(Intent {
            attempt,
            action: wanted.action.id,
            number: wanted.number,
            plan: wanted.plan.id,
            incident: wanted.plan.incident,
            playbook: Arc::clone(&wanted.plan.playbook),
            scope: wanted.plan.scope.clone(),
            undo: wanted.undo,
            executor: Arc::clone(executor),
            nonce: MessageId::of(&[&seed.as_str(), &self.drawn]).as_u128(),
            lease: wanted.lease.revision,
            timeout: wanted.action.timeout,
        });
        self.mine
            .insert(attempt, Mine { intent: Arc::clone(&intent), action: wanted.action, started: false });
        intent
    }

    fn way_is_free(&mut self, attempt: AttemptId, now: Timestamp) -> Result<(), Refusal> {
        let (reason, text, until) = match self.in_the_way.get(&attempt) {
            Some(Obstacle::Others(conflicts, since)) if *conflicts >= CONFLICTS_MAX => {
                let text = format!("{conflicts} other writes on the subject were faster");
                (Reason::Contended, text, *since + CONTENDED_PAUSE)
            }
            Some(Obstacle::Refused(since)) => {
                let text =
                    "the ledger refuses its intent: it is too large, or must not be written".to_owned();
                (Reason::Refused, text, *since + REFUSED_PAUSE)
            }
            Some(Obstacle::Others(..)) | None => return Ok(()),
        };
        if now < until {
            return Err(Refusal { reason, text, until: Some(until) });
        }
        self.in_the_way.remove(&attempt);
        Ok(())
    }
}

fn folded(fold: &Fold) -> Folded {
    Folded { applied: fold.applied(), last: fold.gate.last_sequence() }
}

/// A time of the ledger, for who has to wait for it.
fn in_own_time(refusal: Refusal, view: View<'_>) -> Refusal {
    let until = refusal.until.map(|until| view.now + until.saturating_since(view.ledger_now));
    Refusal { until, ..refusal }
}

fn intents_of(record: &Record) -> Vec<&Arc<Intent>> {
    let intents = record.batch.entries.iter().filter_map(|entry| match entry {
        Entry::Admission(Admission::Intent(intent)) => Some(intent),
        Entry::Admission(
            Admission::Release(_)
            | Admission::Halt { .. }
            | Admission::Resume { .. }
            | Admission::Charter { .. },
        )
        | Entry::Violation(_)
        | Entry::Incident(_)
        | Entry::Analysis(_)
        | Entry::Plan(_)
        | Entry::Outcome(_)
        | Entry::Verdict(_)
        | Entry::Report(_)
        | Entry::Change(_)
        | Entry::Applied { .. } => None,
    });
    intents.collect()
}

/// A storm is not healed one by one: while it lasts, nothing new is admitted.
fn storm(fold: &Fold, configuration: &Configuration, undo: bool) -> Result<(), Refusal> {
    let (firing, limit) = (fold.episodes.firing(), configuration.charter.storm_violations as usize);
    if undo || firing <= limit {
        return Ok(());
    }
    let text = format!("{firing} violations fire, above {limit} nothing new is started");
    Err(Refusal { reason: Reason::Storm, text, until: None })
}

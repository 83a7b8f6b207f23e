//! Admission: from "this attempt comes next" to "this attempt is ours to carry out".
//!
//! One conditional write is under way at a time; it carries every attempt that the charter allows together, so that a
//! thousand plans do not wait for a thousand round trips.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::saga;
use crate::engine::core::Unanswered;
use crate::engine::fold::{Fold, PlanState, Refusal};
use crate::engine::outbox::{Answer, Decision, Outbox};
use crate::engine::{Act, Ask, Configuration, Lease, Published, Step, Ticket};
use crate::model::{
    Action, Admission, AttemptId, Entry, Intent, MessageId, Outcome, OutcomeResult, Plan, PlanId, Reason,
    Record, Timestamp, Topic,
};

/// Conflicts with other executors over the same attempt before it is reported and left alone for a while.
const CONFLICTS_MAX: u32 = 5;
/// How long it is left alone.
const CONTENDED_PAUSE: Duration = Duration::from_secs(1);
/// Attempts in one conditional write.
const INTENTS_PER_WRITE_MAX: usize = 64;
/// Pause before an unanswered read is asked again.
const READ_AGAIN_AFTER: Duration = Duration::from_millis(200);

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
    under_way: Option<UnderWay>,
    /// Entries on the subject up to here exist: nothing is decided before the fold has them.
    known_last: u64,
    /// Intents of this process that have no outcome in the ledger yet. One that is asked for again keeps its nonce: the
    /// first copy may still arrive.
    mine: BTreeMap<AttemptId, Mine>,
    conflicts: BTreeMap<AttemptId, (u32, Timestamp)>,
}

/// An intent of this process.
#[derive(Debug)]
struct Mine {
    intent: Intent,
    action: Action,
    /// Its effect was started: never twice, whatever is read.
    started: bool,
}

/// The one conditional write.
#[derive(Debug)]
struct UnderWay {
    ticket: Ticket,
    state: State,
    attempts: Vec<AttemptId>,
}

#[derive(Debug)]
enum State {
    /// Sent.
    Writing { decided_on: u64 },
    /// Its fate is being asked of the ledger.
    Reading { sequence: Option<u64>, ask_again_at: Option<Timestamp> },
}

impl Admitting {
    pub(super) fn new(seed: u128) -> Self {
        Self {
            seed,
            drawn: 0,
            under_way: None,
            known_last: 0,
            mine: BTreeMap::new(),
            conflicts: BTreeMap::new(),
        }
    }

    pub(super) fn is_waiting_for(&self, ticket: Ticket) -> bool {
        self.under_way.as_ref().is_some_and(|under_way| under_way.ticket == ticket)
    }

    /// Writes what may be written; returns what the charter does not allow now.
    pub(super) fn advance(
        &mut self,
        view: View<'_>,
        step: &mut Step,
        outbox: &mut Outbox,
        wanted: Vec<Wanted>,
    ) -> Vec<(PlanId, Refusal)> {
        let View { now, fold, configuration, .. } = view;
        self.look_into_the_fold(view, step, outbox);
        if self.under_way.is_some() || fold.gate.last_sequence() < self.known_last || wanted.is_empty() {
            return Vec::new();
        }
        if configuration.generation != fold.gate.charter_generation() {
            self.charter_first(view, step, outbox);
            return Vec::new();
        }
        let mut gate = fold.gate.clone();
        let (mut intents, mut refused) = (Vec::new(), Vec::new());
        for wanted in wanted {
            let attempt = saga::attempt_id(&wanted.action, wanted.number);
            let started = self.mine.get(&attempt).is_some_and(|mine| mine.started);
            if started || intents.len() == INTENTS_PER_WRITE_MAX {
                continue;
            }
            if let Some(refusal) = self.contended(attempt, now) {
                refused.push((wanted.plan.id, refusal));
                continue;
            }
            let checked = storm(fold, configuration, wanted.undo)
                .and_then(|()| gate.check(&configuration.charter, &wanted.plan, wanted.undo, now));
            if let Err(refusal) = checked {
                refused.push((wanted.plan.id, refusal));
            } else {
                let intent = self.intent(attempt, wanted, outbox.instance());
                gate.admit(now, &intent);
                intents.push(intent);
            }
        }
        self.write(view, step, outbox, intents);
        refused
    }

    /// The charter that decisions are made by has to be on the subject before them; an executor with an older one waits
    /// until it has loaded the newer.
    fn charter_first(&mut self, view: View<'_>, step: &mut Step, outbox: &mut Outbox) {
        let generation = view.configuration.generation;
        if generation > view.fold.gate.charter_generation() {
            let entry = Entry::Admission(Admission::Charter { generation });
            self.send(view, step, outbox, vec![entry], Vec::new());
        }
    }

    fn write(&mut self, view: View<'_>, step: &mut Step, outbox: &mut Outbox, intents: Vec<Intent>) {
        let attempts = intents.iter().map(|intent| intent.attempt).collect();
        let entries = intents.into_iter().map(|intent| Entry::Admission(Admission::Intent(intent))).collect();
        self.send(view, step, outbox, entries, attempts);
    }

    fn send(
        &mut self,
        view: View<'_>,
        step: &mut Step,
        outbox: &mut Outbox,
        entries: Vec<Entry>,
        attempts: Vec<AttemptId>,
    ) {
        let decided_on = view.fold.gate.last_sequence();
        let decision = Decision {
            now: view.now,
            topic: Topic::Admission,
            entries,
            basis: view.fold.basis(view.configuration.generation),
            expected_last: Some(decided_on),
            holds: &[],
        };
        let ticket = outbox.publish(step, decision).into_iter().next();
        self.under_way =
            ticket.map(|ticket| UnderWay { ticket, state: State::Writing { decided_on }, attempts });
    }

    /// The answer to the conditional write.
    pub(super) fn published(
        &mut self,
        now: Timestamp,
        step: &mut Step,
        outbox: &mut Outbox,
        (ticket, result): (Ticket, Published),
        leases: &BTreeMap<u16, Timestamp>,
    ) {
        let answer = outbox.published(now, step, ticket, result);
        let Some(under_way) = self.under_way.take() else { return };
        match answer {
            Answer::Stored { sequence, .. } => {
                self.known_last = self.known_last.max(sequence);
                for attempt in under_way.attempts {
                    self.start(step, attempt, sequence, leases);
                }
            }
            Answer::Stale { stored, .. } => {
                if let State::Writing { decided_on } = under_way.state {
                    self.known_last = self.known_last.max(stored.unwrap_or(decided_on + 1));
                }
                for attempt in &under_way.attempts {
                    let conflicts = self.conflicts.entry(*attempt).or_insert((0, now));
                    *conflicts = (conflicts.0 + 1, now);
                }
                self.read(step, outbox, under_way.attempts, stored);
            }
            Answer::Unknown { .. } => {
                // Not simply sent again: whether the first copy got in has to be known before anything else is decided.
                outbox.forget(ticket);
                if result != Published::Refused {
                    self.read(step, outbox, under_way.attempts, None);
                }
            }
            Answer::Nothing => self.under_way = Some(under_way),
        }
    }

    /// The answer to a read.
    pub(super) fn read_back(
        &mut self,
        now: Timestamp,
        step: &mut Step,
        (ticket, found): (Ticket, Result<Option<Arc<Record>>, Unanswered>),
        leases: &BTreeMap<u16, Timestamp>,
    ) {
        let Some(mut under_way) = self.under_way.take_if(|under_way| under_way.ticket == ticket) else {
            return;
        };
        let State::Reading { sequence, .. } = under_way.state else {
            self.under_way = Some(under_way);
            return;
        };
        match found {
            Err(Unanswered) => {
                let at = now + READ_AGAIN_AFTER;
                step.wake_no_later_than(at);
                under_way.state = State::Reading { sequence, ask_again_at: Some(at) };
                self.under_way = Some(under_way);
            }
            // The subject is empty: nothing of ours is on it.
            Ok(None) => {}
            Ok(Some(record)) => {
                self.known_last = self.known_last.max(record.sequence);
                for intent in intents_of(&record) {
                    let ours =
                        self.mine.get(&intent.attempt).is_some_and(|mine| mine.intent.nonce == intent.nonce);
                    if ours {
                        self.start(step, intent.attempt, record.sequence, leases);
                    }
                }
                // Ours may stand before the record that was read: the fold shows it when it has come that far, and
                // nothing is decided before.
            }
        }
    }

    /// Intents that the ledger has and that are ours are started, whatever became of the answer to their write; and reads
    /// that are due are asked again.
    fn look_into_the_fold(&mut self, view: View<'_>, step: &mut Step, outbox: &mut Outbox) {
        let View { now, fold, leases, .. } = view;
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
        self.conflicts.retain(|attempt, _| mine.contains_key(attempt));
        if let Some(UnderWay { state: State::Reading { sequence, ask_again_at: Some(at) }, .. }) =
            self.under_way
        {
            if at > now {
                step.wake_no_later_than(at);
            } else if let Some(under_way) = self.under_way.take() {
                self.read(step, outbox, under_way.attempts, sequence);
            }
        }
    }

    fn read(
        &mut self,
        step: &mut Step,
        outbox: &mut Outbox,
        attempts: Vec<AttemptId>,
        sequence: Option<u64>,
    ) {
        let ticket = outbox.ticket();
        step.ask.push(Ask::ReadBack { ticket, topic: Topic::Admission, sequence });
        let state = State::Reading { sequence, ask_again_at: None };
        self.under_way = Some(UnderWay { ticket, state, attempts });
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

    fn intent(&mut self, attempt: AttemptId, wanted: Wanted, executor: &Arc<str>) -> Intent {
        if let Some(mine) = self.mine.get(&attempt) {
            return mine.intent.clone();
        }
        self.drawn += 1;
        let seed = self.seed.to_string();
        let intent = Intent {
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
        };
        self.mine.insert(attempt, Mine { intent: intent.clone(), action: wanted.action, started: false });
        intent
    }

    fn contended(&mut self, attempt: AttemptId, now: Timestamp) -> Option<Refusal> {
        let (conflicts, since) = self.conflicts.get(&attempt).copied()?;
        if conflicts < CONFLICTS_MAX {
            return None;
        }
        let until = since + CONTENDED_PAUSE;
        if now >= until {
            self.conflicts.remove(&attempt);
            return None;
        }
        let text = format!("{conflicts} other writes on the subject were faster");
        Some(Refusal { reason: Reason::Contended, text, until: Some(until) })
    }
}

fn intents_of(record: &Record) -> Vec<&Intent> {
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

//! The analyzer: takes all that is pending and says what belongs together and what probably caused it.
//!
//! Its decisions are conditional on the last analysis it has folded. A second analyzer that decided on the same news is
//! refused, refreshes and decides again, so an incident is never split by two of them.

mod causes;
mod decide;
mod patterns;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use decide::{Decided, decide};

use super::outbox::{Answer, Decision, Outbox};
use super::{Configuration, Core, Delivery, Done, Input, Published, Step, Ticket, Token, Work};
use crate::engine::fold::Fold;
use crate::model::{Entry, Incident, IncidentId, IncidentPhase, Record, Role, Shard, Timestamp, Topic};

/// Copies of incidents in one message: of 8 KiB at most each, so that a message stays below half of what the server takes.
const COPIES_PER_MESSAGE_MAX: usize = 64;

/// A delivery that is to be decided on.
#[derive(Clone, Debug)]
struct Waiting {
    record: Arc<Record>,
    /// Somebody may have decided on it already, and not lived to tell the subscribers.
    again: bool,
}

/// The deciding core of the analyzer role.
#[derive(Debug)]
pub struct Analyzer {
    fold: Fold,
    configuration: Arc<Configuration>,
    outbox: Outbox,
    shard: Shard,
    /// Deliveries that are to be decided on, by their place in the ledger.
    waiting: BTreeMap<(u64, Token), Waiting>,
    /// What is held by publishes under way.
    held: BTreeMap<Token, Arc<Record>>,
    /// The one conditional decision that is under way, and the last analysis it was made on.
    under_way: Option<(Ticket, u64)>,
    /// Analyses up to here are in the ledger: no decision before the fold has them.
    known_last: u64,
}

impl Analyzer {
    /// A core that knows nothing yet.
    pub fn new(instance: Arc<str>, configuration: Arc<Configuration>) -> Self {
        Self {
            fold: Fold::default(),
            configuration,
            outbox: Outbox::new(Role::Analyzer, instance),
            shard: Shard::default(),
            waiting: BTreeMap::new(),
            held: BTreeMap::new(),
            under_way: None,
            known_last: 0,
        }
    }

    /// What it knows of the ledger.
    pub fn fold(&self) -> &Fold {
        &self.fold
    }

    fn take(&mut self, step: &mut Step, deliveries: Vec<Delivery>) {
        for Delivery { token, delivered, work } in deliveries {
            match work {
                Work::Record(record) => {
                    // The shared queue is often faster than the ordered feed: the next record is taken from either.
                    if record.sequence == self.fold.applied() + 1 {
                        self.fold.apply(&record);
                    }
                    self.waiting.insert((record.sequence, token), Waiting { record, again: delivered > 1 });
                }
                Work::Intake { .. } => step.done.push((token, Done::Dead("not for the analyzer".into()))),
            }
        }
    }

    fn advance(&mut self, now: Timestamp, step: &mut Step) {
        let last = self.fold.incidents.last_analysis(self.shard);
        if self.under_way.is_some() || last < self.known_last {
            return;
        }
        if self.waiting.first_key_value().is_none_or(|((sequence, _), _)| *sequence > self.fold.applied()) {
            return;
        }
        let Decided { entries, complete } = decide(&self.fold, &self.configuration);
        if entries.is_empty() {
            self.finish_ready(now, step);
            return;
        }
        // A decision that had to be cut holds nothing: the rest of it will, when all is decided.
        let holds = if complete { self.hold_ready() } else { Vec::new() };
        let basis = self.fold.basis(self.configuration.generation);
        let topic = Topic::Analyses(self.shard);
        let expected_last = Some(last);
        let decision = Decision { now, topic, entries, basis, expected_last, holds: &holds };
        self.under_way = self.outbox.publish(step, decision).first().map(|ticket| (*ticket, last));
    }

    fn take_ready(&mut self) -> BTreeMap<(u64, Token), Waiting> {
        let later = self.waiting.split_off(&(self.fold.applied() + 1, Token(0)));
        std::mem::replace(&mut self.waiting, later)
    }

    fn hold_ready(&mut self) -> Vec<Token> {
        let ready = self.take_ready();
        self.held.extend(ready.iter().map(|((_, token), waiting)| (*token, Arc::clone(&waiting.record))));
        ready.into_keys().map(|(_, token)| token).collect()
    }

    /// Settles what is decided already, and tells the subscribers where it may not have been told.
    fn finish_ready(&mut self, now: Timestamp, step: &mut Step) {
        for ((_, token), waiting) in self.take_ready() {
            if waiting.again {
                let incidents = self.incidents_of(&waiting.record);
                self.tell_subscribers(now, step, incidents, &[token]);
            }
            self.outbox.ack(step, [token]);
        }
    }

    fn incidents_of(&self, record: &Record) -> Vec<Arc<Incident>> {
        let episodes = record.batch.entries.iter().filter_map(Entry::as_violation);
        let episodes = episodes.filter_map(|violation| self.fold.episodes.get(violation.episode)?.incident);
        let ids: BTreeSet<IncidentId> = episodes.collect();
        ids.into_iter().filter_map(|id| Some(Arc::clone(&self.fold.incidents.get(id)?.incident))).collect()
    }

    fn published(&mut self, now: Timestamp, step: &mut Step, ticket: Ticket, result: Published) {
        let conditional = self.under_way.filter(|(under_way, _)| *under_way == ticket);
        match self.outbox.published(now, step, ticket, result) {
            Answer::Stored { batch, sequence, released } => {
                for token in &released {
                    self.held.remove(token);
                }
                if conditional.is_some() {
                    self.under_way = None;
                    self.known_last = self.known_last.max(sequence);
                    let incidents = batch.entries.iter().filter_map(|entry| entry.as_incident().cloned());
                    self.tell_subscribers(now, step, incidents.collect(), &released);
                }
                self.outbox.ack(step, released);
            }
            Answer::Stale { stored, released, .. } => {
                if let Some((_, decided_on)) = conditional {
                    self.under_way = None;
                    self.known_last = self.known_last.max(stored.unwrap_or(decided_on + 1));
                }
                for token in released {
                    if let Some(record) = self.held.remove(&token) {
                        self.waiting.insert((record.sequence, token), Waiting { record, again: true });
                    }
                }
            }
            Answer::Unknown { .. } if result == Published::Refused && conditional.is_some() => {
                self.under_way = None;
            }
            Answer::Unknown { .. } | Answer::Nothing => {}
        }
    }

    /// Copies of incidents on their own subjects. The deliveries that led to them wait for the copies too: if this
    /// process dies before, they come again, and whoever gets them tells the subscribers.
    fn tell_subscribers(
        &mut self,
        now: Timestamp,
        step: &mut Step,
        incidents: Vec<Arc<Incident>>,
        holds: &[Token],
    ) {
        let basis = self.fold.basis(self.configuration.generation);
        let mut by_phase: BTreeMap<IncidentPhase, Vec<Entry>> = BTreeMap::new();
        for incident in incidents {
            by_phase.entry(incident.phase).or_default().push(Entry::Incident(incident));
        }
        for (phase, mut entries) in by_phase {
            let topic = Topic::Incidents(phase);
            while !entries.is_empty() {
                let rest = entries.split_off(entries.len().min(COPIES_PER_MESSAGE_MAX));
                let decision = Decision { now, topic, entries, basis, expected_last: None, holds };
                self.outbox.publish(step, decision);
                entries = rest;
            }
        }
    }
}

impl Core for Analyzer {
    fn handle(&mut self, now: Timestamp, input: Input) -> Step {
        let mut step = Step::default();
        match input {
            Input::Ledger(records) => records.iter().for_each(|record| self.fold.apply(record)),
            Input::Work(deliveries) => self.take(&mut step, deliveries),
            Input::Published { ticket, result } => self.published(now, &mut step, ticket, result),
            Input::Configuration(configuration) => self.configuration = configuration,
            Input::Frame(_)
            | Input::Table(_)
            | Input::ReadBack { .. }
            | Input::Acted(_)
            | Input::Leases(_) => {}
        }
        self.advance(now, &mut step);
        self.outbox.tick(now, &mut step);
        step
    }

    fn tick(&mut self, now: Timestamp) -> Step {
        let mut step = Step::default();
        self.advance(now, &mut step);
        self.outbox.tick(now, &mut step);
        step
    }
}

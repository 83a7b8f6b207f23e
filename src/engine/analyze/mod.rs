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

use super::condition::{Condition, Folded};
use super::outbox::{Answer, Decision, Outbox};
use super::{Configuration, Core, Delivery, Done, Input, Published, Step, Ticket, Token, Work};
use crate::engine::fold::Fold;
use crate::model::{
    Batch, ENTRIES_PER_BATCH_MAX, Entry, Incident, IncidentId, IncidentPhase, Reason, Record, Report,
    ReportId, Role, Shard, Timestamp, Topic,
};

/// The least that a decision can be cut to: an incident and its analysis.
const ENTRIES_LEAST: usize = 2;
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
    /// What the next decision is conditional on: the last analysis.
    condition: Condition,
    /// Entries of one decision: fewer after one that the ledger would not have.
    entries_max: usize,
}

impl Analyzer {
    /// A core that knows nothing yet.
    pub fn new(instance: Arc<str>, configuration: Arc<Configuration>) -> Self {
        let mut fold = Fold::default();
        fold.episodes.group_by(&configuration.scope_labels);
        Self {
            fold,
            configuration,
            outbox: Outbox::new(Role::Analyzer, instance),
            condition: Condition::new(Topic::Analyses(Shard::default())),
            entries_max: ENTRIES_PER_BATCH_MAX,
            shard: Shard::default(),
            waiting: BTreeMap::new(),
            held: BTreeMap::new(),
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
        let folded = self.folded();
        self.condition.tick(now, step, &mut self.outbox, folded);
        let Some(expected_last) = self.condition.expected(now, folded) else { return };
        if self.waiting.first_key_value().is_none_or(|((sequence, _), _)| *sequence > self.fold.applied()) {
            return;
        }
        let Decided { entries, complete } = decide(&self.fold, &self.configuration, self.entries_max);
        if entries.is_empty() {
            self.finish_ready(now, step);
            return;
        }
        // A decision that had to be cut holds nothing: the rest of it will, when all is decided.
        let holds = if complete { self.hold_ready() } else { Vec::new() };
        let basis = self.fold.basis(self.configuration.generation);
        let topic = Topic::Analyses(self.shard);
        let expected_last = Some(expected_last);
        let decision = Decision { now, topic, entries, basis, expected_last, holds: &holds };
        for ticket in self.outbox.publish(step, decision) {
            self.condition.wrote(ticket);
        }
    }

    fn folded(&self) -> Folded {
        Folded { applied: self.fold.applied(), last: self.fold.incidents.last_analysis(self.shard) }
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
        let is_conditional = self.condition.is_writing(ticket);
        match self.outbox.published(now, step, ticket, result) {
            Answer::Stored { batch, sequence, released } => {
                for token in &released {
                    self.held.remove(token);
                }
                if is_conditional {
                    self.condition.stored(now, sequence);
                    self.entries_max = (self.entries_max * 2).min(ENTRIES_PER_BATCH_MAX);
                    let incidents = batch.entries.iter().filter_map(|entry| entry.as_incident().cloned());
                    self.tell_subscribers(now, step, incidents.collect(), &released);
                }
                self.outbox.ack(step, released);
            }
            Answer::Stale { stored, released, .. } => {
                self.decide_again_on(released);
                if is_conditional {
                    let folded = self.folded();
                    self.condition.read(step, &mut self.outbox, stored, folded);
                }
            }
            Answer::Refused { batch, released } if is_conditional => {
                self.decide_again_on(released);
                self.condition.refused(now);
                if self.entries_max == ENTRIES_LEAST {
                    self.tell_refused(now, step, &batch);
                }
                self.entries_max = (batch.entries.len() / 2).max(ENTRIES_LEAST);
            }
            Answer::Refused { .. } | Answer::Unknown | Answer::Nothing => {}
        }
    }

    fn decide_again_on(&mut self, released: Vec<Token>) {
        for token in released {
            if let Some(record) = self.held.remove(&token) {
                self.waiting.insert((record.sequence, token), Waiting { record, again: true });
            }
        }
    }

    /// It cannot be cut further, so it is tried again, with pauses.
    fn tell_refused(&mut self, now: Timestamp, step: &mut Step, batch: &Batch) {
        let Some(incident) = batch.entries.iter().find_map(Entry::as_incident) else { return };
        let reason = Reason::Refused;
        let report = Report {
            id: ReportId::of(&[&incident.id, &u64::from(incident.rev), &"analysis", &reason.as_str()]),
            reason,
            text: "the ledger refuses its analysis: it is too large, or must not be written".into(),
            incident: Some(incident.id),
            plan: None,
            at: now,
        };
        let basis = self.fold.basis(self.configuration.generation);
        let (topic, entries) = (Topic::Reports(Role::Analyzer), vec![Entry::Report(Arc::new(report))]);
        self.outbox.publish(step, Decision { now, topic, entries, basis, expected_last: None, holds: &[] });
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
        for (phase, entries) in by_phase {
            let topic = Topic::Incidents(phase);
            let mut rest = entries.into_iter();
            while !rest.as_slice().is_empty() {
                let entries = rest.by_ref().take(COPIES_PER_MESSAGE_MAX).collect();
                let decision = Decision { now, topic, entries, basis, expected_last: None, holds };
                self.outbox.publish(step, decision);
            }
        }
    }
}

impl Core for Analyzer {
    fn handle(&mut self, now: Timestamp, input: Input) -> Step {
        let mut step = Step::default();
        match input {
            Input::Known(fold) => {
                self.fold.take_over(&fold);
                self.fold.episodes.group_by(&self.configuration.scope_labels);
            }
            Input::Ledger(records) => records.iter().for_each(|record| self.fold.apply(record)),
            Input::Work(deliveries) => self.take(&mut step, deliveries),
            Input::Published { ticket, result } => self.published(now, &mut step, ticket, result),
            Input::ReadBack { ticket, found } => {
                self.condition.read_back(now, ticket, found);
            }
            Input::Configuration(configuration) => {
                self.fold.episodes.group_by(&configuration.scope_labels);
                self.configuration = configuration;
            }
            Input::Frame(_) | Input::Table(_) | Input::Acted(_) | Input::Leases(_) => {}
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::testing::{Bench, configuration, violation};
    use crate::model::Severity;

    fn bench() -> Bench<Analyzer> {
        Bench::new(Analyzer::new("one".into(), Arc::new(configuration())))
    }

    fn deliver(bench: &mut Bench<Analyzer>, service: &str, number: u64) {
        let found = Entry::Violation(Arc::new(violation(service, number, bench.now)));
        let record = bench.record(Topic::Violations(Severity::Warning), found);
        let delivery = Delivery { token: Token(record.sequence), delivered: 1, work: Work::Record(record) };
        bench.give(Input::Work(vec![delivery]));
    }

    fn incidents(bench: &Bench<Analyzer>) -> usize {
        let entries = bench.entries(Topic::Analyses(Shard::default()));
        entries.iter().filter(|entry| entry.as_incident().is_some()).count()
    }

    #[test]
    fn when_the_last_analysis_has_aged_out_the_next_one_is_made() {
        let mut bench = bench();
        deliver(&mut bench, "a", 0);
        assert_eq!((incidents(&bench), bench.done.len()), (1, 1));
        bench.kept_from = bench.ledger.len() as u64 + 1;
        deliver(&mut bench, "b", 0);
        bench.pass(Duration::from_secs(1));
        assert_eq!(incidents(&bench), 2);
        deliver(&mut bench, "c", 0);
        assert_eq!(incidents(&bench), 3);
        assert!(bench.done.iter().all(|(_, done)| *done == Done::Ack) && bench.done.len() == 3);
    }

    #[test]
    fn a_decision_that_is_refused_for_nothing_is_made_again_after_a_pause() {
        let mut bench = bench();
        bench.refuse_in_vain = 5;
        deliver(&mut bench, "a", 0);
        assert_eq!((incidents(&bench), bench.published.len()), (0, 1));
        bench.pass(Duration::from_secs(2));
        assert_eq!((incidents(&bench), bench.done.as_slice()), (1, &[(Token(1), Done::Ack)][..]));
    }

    #[test]
    fn what_another_analyzer_has_decided_is_folded_before_the_next_decision() {
        let mut bench = bench();
        bench.feeds = false;
        deliver(&mut bench, "a", 0);
        bench.refuse_in_vain = 0;
        assert_eq!(incidents(&bench), 1);
        deliver(&mut bench, "b", 0);
        assert_eq!(incidents(&bench), 1, "the first decision is not in the fold");
        bench.feeds = true;
        bench.feed();
        assert_eq!(incidents(&bench), 2);
    }

    #[test]
    fn a_decision_that_is_too_large_for_the_ledger_is_cut() {
        let mut bench = bench();
        bench.refuses = |batch| batch.entries.len() > 5;
        bench.feeds = false;
        let records: Vec<_> = (0..9_u64)
            .map(|number| {
                let found = Entry::Violation(Arc::new(violation(&format!("s{number}"), 0, bench.now)));
                bench.record(Topic::Violations(Severity::Warning), found)
            })
            .collect();
        bench.feeds = true;
        let delivery = |record: &Arc<Record>| Delivery {
            token: Token(record.sequence),
            delivered: 1,
            work: Work::Record(Arc::clone(record)),
        };
        bench.give(Input::Work(records.iter().map(delivery).collect()));
        bench.feed();
        bench.pass(Duration::from_secs(10));
        assert_eq!((incidents(&bench), bench.done.len()), (9, 9));
        assert!(bench.done.iter().all(|(_, done)| *done == Done::Ack), "{:?}", bench.done);
        let writes = bench.published.iter().filter(|emit| matches!(emit.topic, Topic::Analyses(_))).count();
        assert!(writes < 30, "{writes} writes");
    }
}

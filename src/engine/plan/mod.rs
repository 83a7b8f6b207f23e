//! The planner: makes a plan for an incident from the playbooks, or says why not.

mod candidates;
mod decide;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use decide::{Decided, decide};

use super::outbox::{Answer, Decision, Outbox};
use super::{Configuration, Core, Delivery, Done, Input, Published, Step, Ticket, Token, Work};
use crate::engine::fold::Fold;
use crate::model::{Admission, Entry, IncidentId, Record, Role, Timestamp, Topic};

/// A wait shorter than this is sat out with the delivery in hand; a longer one gives it back to the queue, so that
/// another planner has it if this one dies.
const WAIT_IN_HAND_MAX: Duration = Duration::from_millis(500);

/// The deciding core of the planner role.
#[derive(Debug)]
pub struct Planner {
    fold: Fold,
    configuration: Arc<Configuration>,
    outbox: Outbox,
    /// Deliveries that are to be decided on, by their place in the ledger.
    waiting: BTreeMap<(u64, Token), Waiting>,
    /// Plans that were published and that the fold does not have yet, with the incident's generation.
    under_way: BTreeMap<IncidentId, (Ticket, u32)>,
}

/// A delivery that is to be decided on.
#[derive(Debug)]
struct Waiting {
    incidents: Vec<IncidentId>,
    /// Not before.
    until: Timestamp,
}

impl Planner {
    /// A core that knows nothing yet.
    pub fn new(instance: Arc<str>, configuration: Arc<Configuration>) -> Self {
        Self {
            fold: Fold::default(),
            configuration,
            outbox: Outbox::new(Role::Planner, instance),
            waiting: BTreeMap::new(),
            under_way: BTreeMap::new(),
        }
    }

    /// What it knows of the ledger.
    pub fn fold(&self) -> &Fold {
        &self.fold
    }

    fn take(&mut self, step: &mut Step, deliveries: Vec<Delivery>) {
        for Delivery { token, work, .. } in deliveries {
            match work {
                Work::Record(record) => {
                    // The shared queue is often faster than the ordered feed: the next record is taken from either.
                    if record.sequence == self.fold.applied() + 1 {
                        self.fold.apply(&record);
                    }
                    let incidents = incidents_of(&record);
                    self.waiting
                        .insert((record.sequence, token), Waiting { incidents, until: Timestamp::MIN });
                }
                Work::Intake { .. } => step.done.push((token, Done::Dead("not for the planner".into()))),
            }
        }
    }

    fn advance(&mut self, now: Timestamp, step: &mut Step) {
        let fold = &self.fold;
        self.under_way.retain(|incident, (_, generation)| {
            fold.plans.of(*incident).next_back().is_none_or(|newest| newest.plan.generation < *generation)
        });
        let later = self.waiting.split_off(&(self.fold.applied() + 1, Token(0)));
        let ready = std::mem::replace(&mut self.waiting, later);
        for ((sequence, token), waiting) in ready {
            if waiting.until > now {
                step.wake_no_later_than(waiting.until);
                self.waiting.insert((sequence, token), waiting);
                continue;
            }
            match self.decide_all(now, step, token, &waiting.incidents) {
                None => self.outbox.ack(step, [token]),
                // With a publish under way it stays in hand: given back now, it would be settled twice.
                Some(until)
                    if until.saturating_since(now) > WAIT_IN_HAND_MAX && !self.outbox.holds(token) =>
                {
                    step.done.push((token, Done::Nak(until.saturating_since(now))));
                }
                Some(until) => {
                    if until > now {
                        step.wake_no_later_than(until);
                    }
                    self.waiting.insert((sequence, token), Waiting { until, ..waiting });
                }
            }
        }
    }

    /// Decides on each incident; returns when to decide again, where one of them is too young.
    fn decide_all(
        &mut self,
        now: Timestamp,
        step: &mut Step,
        token: Token,
        incidents: &[IncidentId],
    ) -> Option<Timestamp> {
        let mut again: Option<Timestamp> = None;
        let mut wait = |until: Timestamp| again = Some(again.map_or(until, |known| known.min(until)));
        for incident in incidents {
            if self.under_way.contains_key(incident) {
                // The fold will have the plan in a moment, and every step comes by here.
                wait(Timestamp::MIN);
                continue;
            }
            let decided = decide(&self.fold, &self.configuration, *incident, now);
            let basis = self.fold.basis(self.configuration.generation);
            let holds = &[token];
            match decided {
                Decided::Nothing => {}
                Decided::Wait(until) => wait(until),
                Decided::Plan(plan) => {
                    let (topic, generation) = (Topic::Plans, plan.generation);
                    let entries = vec![Entry::Plan(Arc::new(*plan))];
                    let decision = Decision { now, topic, entries, basis, expected_last: None, holds };
                    if let Some(ticket) = self.outbox.publish(step, decision).first() {
                        self.under_way.insert(*incident, (*ticket, generation));
                    }
                }
                Decided::Report(report) => {
                    let topic = Topic::Reports(Role::Planner);
                    let entries = vec![Entry::Report(Arc::new(*report))];
                    self.outbox
                        .publish(step, Decision { now, topic, entries, basis, expected_last: None, holds });
                }
            }
        }
        again
    }

    fn published(&mut self, now: Timestamp, step: &mut Step, ticket: Ticket, result: Published) {
        if let Answer::Stored { released, .. } = self.outbox.published(now, step, ticket, result) {
            // A delivery that also waits for its time is settled when that has come.
            let still_waiting = |token: &Token| self.waiting.keys().any(|(_, waiting)| waiting == token);
            let finished: Vec<Token> = released.into_iter().filter(|token| !still_waiting(token)).collect();
            self.outbox.ack(step, finished);
        }
        if result == Published::Refused {
            self.under_way.retain(|_, (under_way, _)| *under_way != ticket);
        }
    }
}

impl Core for Planner {
    fn handle(&mut self, now: Timestamp, input: Input) -> Step {
        let mut step = Step::default();
        match input {
            Input::Ledger(records) => records.iter().for_each(|record| self.fold.apply(record)),
            Input::Work(deliveries) => self.take(&mut step, deliveries),
            Input::Published { ticket, result } => {
                self.published(now, &mut step, ticket, result);
                // A plan that is stored is waited for in the fold; only one that was refused is decided on again.
                if result != Published::Refused {
                    self.outbox.tick(now, &mut step);
                    return step;
                }
            }
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

/// The incidents that a record gives reason to plan for: newly analysed ones, and those whose plan is over.
fn incidents_of(record: &Record) -> Vec<IncidentId> {
    let mut incidents = Vec::new();
    for entry in &record.batch.entries {
        let incident = match entry {
            Entry::Analysis(analysis) => analysis.incident,
            Entry::Admission(Admission::Release(release)) => release.incident,
            Entry::Admission(
                Admission::Intent(_)
                | Admission::Halt { .. }
                | Admission::Resume { .. }
                | Admission::Charter { .. },
            )
            | Entry::Violation(_)
            | Entry::Incident(_)
            | Entry::Plan(_)
            | Entry::Outcome(_)
            | Entry::Verdict(_)
            | Entry::Report(_)
            | Entry::Change(_)
            | Entry::Applied { .. } => continue,
        };
        incidents.push(incident);
    }
    incidents.sort_unstable();
    incidents.dedup();
    incidents
}

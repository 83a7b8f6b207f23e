//! The planner: makes a plan for an incident from the playbooks, or says why not.

mod candidates;
mod decide;
mod looks;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashSet;

pub use decide::{Decided, decide};

use super::outbox::{Answer, Decision, Outbox};
use super::{ById, Configuration, Core, Delivery, Done, Input, Published, Step, Ticket, Token, Work};
use crate::engine::fold::Fold;
use crate::model::{
    ActionSpec, Admission, Entry, IncidentId, Plan, Record, Report, ReportId, Role, Timestamp, Topic,
};
use looks::{Again, Looks};

/// A wait shorter than this is sat out with the delivery in hand; a longer one gives it back to the queue, so that
/// another planner has it if this one dies.
const WAIT_IN_HAND_MAX: Duration = Duration::from_millis(500);

/// How long work is left to others while we decide by an older charter than the one that holds.
const OUTDATED_PAUSE: Duration = Duration::from_secs(1);

/// Plans in one message: a storm's worth of them in few messages, and little lost where one is refused.
const PLANS_PER_MESSAGE_MAX: usize = 64;
/// Texts of the actions of plans in one message, in bytes: with all the rest half of what the server takes. A plan with
/// more has a message of its own.
const PLAN_TEXT_PER_MESSAGE_MAX: usize = 256 * 1024;

/// The deciding core of the planner role.
#[derive(Debug)]
pub struct Planner {
    fold: Fold,
    configuration: Arc<Configuration>,
    outbox: Outbox,
    /// Deliveries that are to be decided on, by their place in the ledger.
    waiting: BTreeMap<(u64, Token), Waiting>,
    /// Plans that were published and that the fold does not have yet, with the incident's generation.
    under_way: ById<IncidentId, u32>,
    /// When each incident was looked at last: a record that comes again is no news.
    looks: Looks,
}

/// What was decided in one step, with the deliveries that wait for it.
#[derive(Debug, Default)]
struct Made {
    plans: Vec<(Token, Arc<Plan>)>,
    reports: BTreeMap<ReportId, (Arc<Report>, Vec<Token>)>,
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
            fold: Fold::without_scopes(),
            configuration,
            outbox: Outbox::new(Role::Planner, instance),
            waiting: BTreeMap::new(),
            under_way: ById::default(),
            looks: Looks::default(),
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
                        self.apply(&record);
                    }
                    let incidents = incidents_of(&record);
                    self.waiting
                        .insert((record.sequence, token), Waiting { incidents, until: Timestamp::MIN });
                }
                Work::Intake { .. } => step.done.push((token, Done::Dead("not for the planner".into()))),
            }
        }
    }

    /// Takes in a record, and with it the plans that were waited for.
    fn apply(&mut self, record: &Record) {
        self.fold.apply(record);
        if self.under_way.is_empty() {
            return;
        }
        for entry in &record.batch.entries {
            if let Entry::Plan(plan) = entry
                && let Some(awaited) = self.under_way.get(plan.incident)
                && let Some(newest) = self.fold.plans.newest(plan.incident)
                && newest.plan.generation >= *awaited
            {
                self.under_way.remove(plan.incident);
            }
        }
    }

    fn advance(&mut self, now: Timestamp, step: &mut Step) {
        let later = self.waiting.split_off(&(self.fold.applied() + 1, Token(0)));
        let ready = std::mem::replace(&mut self.waiting, later);
        let mut made = Made::default();
        let mut decided = Vec::with_capacity(ready.len());
        for (place, waiting) in ready {
            let until = if waiting.until > now {
                Some(waiting.until)
            } else {
                self.decide_all(now, &mut made, place, &waiting.incidents)
            };
            decided.push((place, waiting, until));
        }
        self.publish(now, step, made);
        for ((sequence, token), waiting, until) in decided {
            match until {
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

    /// Decides on each incident that there is news of or whose time has come; returns when to decide again, where one of
    /// them is too young.
    fn decide_all(
        &mut self,
        now: Timestamp,
        made: &mut Made,
        (sequence, token): (u64, Token),
        incidents: &[IncidentId],
    ) -> Option<Timestamp> {
        let mut again: Option<Timestamp> = None;
        let mut wait = |until: Timestamp| again = Some(again.map_or(until, |known| known.min(until)));
        // A plan by it would be refused at the gate, and the next one, and the next.
        if self.configuration.generation < self.fold.gate.charter_generation() {
            return Some(now + OUTDATED_PAUSE);
        }
        for incident in incidents {
            if self.under_way.contains(*incident) {
                // The fold will have the plan in a moment, and every step comes by here.
                wait(Timestamp::MIN);
                continue;
            }
            match self.looks.stands(*incident, sequence, now) {
                Some(Again::At(due)) => {
                    wait(due);
                    continue;
                }
                Some(Again::WithNews) => continue,
                None => {}
            }
            let decided = decide(&self.fold, &self.configuration, *incident, now);
            self.looks.note(&self.fold, *incident, &decided);
            match decided {
                Decided::Nothing => {}
                Decided::Wait(until) => wait(until),
                Decided::Plan(plan) => {
                    self.under_way.insert(*incident, plan.generation);
                    made.plans.push((token, plan));
                }
                Decided::Report(report) => {
                    made.reports
                        .entry(report.id)
                        .or_insert_with(|| (Arc::new(*report), Vec::new()))
                        .1
                        .push(token);
                }
            }
        }
        again
    }

    /// Publishes what was decided together in as few messages as it fits into.
    fn publish(&mut self, now: Timestamp, step: &mut Step, made: Made) {
        let basis = self.fold.basis(self.configuration.generation);
        let mut plans = made.plans.into_iter().peekable();
        while plans.peek().is_some() {
            let mut entries = Vec::with_capacity(plans.len().min(PLANS_PER_MESSAGE_MAX));
            let (mut holds, mut text) = (Vec::new(), 0);
            while let Some((token, plan)) = plans.next_if(|(_, plan)| {
                text += text_of(plan);
                entries.is_empty()
                    || (entries.len() < PLANS_PER_MESSAGE_MAX && text <= PLAN_TEXT_PER_MESSAGE_MAX)
            }) {
                holds.push(token);
                entries.push(Entry::Plan(plan));
            }
            holds.dedup();
            let (topic, holds) = (Topic::Plans, holds.as_slice());
            let decision = Decision { now, topic, entries, basis, expected_last: None, holds };
            self.outbox.publish(step, decision);
        }
        let (mut entries, mut holds) = (Vec::new(), Vec::new());
        for (report, tokens) in made.reports.into_values() {
            entries.push(Entry::Report(report));
            holds.extend(tokens);
        }
        holds.sort_unstable();
        holds.dedup();
        let topic = Topic::Reports(Role::Planner);
        self.outbox
            .publish(step, Decision { now, topic, entries, basis, expected_last: None, holds: &holds });
    }

    fn published(&mut self, now: Timestamp, step: &mut Step, ticket: Ticket, result: Published) {
        match self.outbox.published(now, step, ticket, result) {
            Answer::Stored { released, .. } => {
                // A delivery that also waits for its time is settled when that has come.
                let waiting: FxHashSet<Token> = self.waiting.keys().map(|(_, token)| *token).collect();
                self.outbox.ack(step, released.into_iter().filter(|token| !waiting.contains(token)));
            }
            Answer::Refused { batch, .. } => {
                for entry in &batch.entries {
                    if let Entry::Plan(plan) = entry {
                        self.under_way.remove(plan.incident);
                        self.looks.forget(plan.incident);
                    }
                }
                // What is put aside waits for nothing any more.
                let settled: FxHashSet<Token> = step.done.iter().map(|(token, _)| *token).collect();
                self.waiting.retain(|(_, token), _| !settled.contains(token));
            }
            Answer::Stale { .. } | Answer::Unknown | Answer::Nothing => {}
        }
    }
}

impl Core for Planner {
    fn handle(&mut self, now: Timestamp, input: Input) -> Step {
        let mut step = Step::default();
        match input {
            Input::Known(fold) => self.fold.take_over(&fold),
            Input::Ledger(records) => records.iter().for_each(|record| self.apply(record)),
            Input::Work(deliveries) => self.take(&mut step, deliveries),
            Input::Published { ticket, result } => {
                self.published(now, &mut step, ticket, result);
                // A plan that is stored is waited for in the fold; only one that was refused is decided on again.
                if result != Published::Refused {
                    self.outbox.tick(now, &mut step);
                    return step;
                }
            }
            Input::Configuration(configuration) => {
                self.configuration = configuration;
                self.looks = Looks::default();
            }
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

/// The bytes of a plan that a playbook's author is free to make many.
fn text_of(plan: &Plan) -> usize {
    let texts = plan.steps.iter().chain(&plan.undo).map(|action| match &action.spec {
        ActionSpec::NatsPublish { subject, body } | ActionSpec::NatsRequest { subject, body } => {
            subject.len() + body.len()
        }
        ActionSpec::Webhook { url, body, .. } => url.len() + body.len(),
        ActionSpec::Command { program, arguments } => {
            program.len() + arguments.iter().map(|argument| argument.len()).sum::<usize>()
        }
    });
    texts.sum()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::analyze;
    use crate::model::{
        Answer as Answers, Batch, Confidence, ENTRIES_PER_BATCH_MAX, EpisodeId, Labels, MessageId, Phase,
        Playbook, RuleName, Severity, Template, Verification, Violation,
    };

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000) + Duration::from_secs(seconds)
    }

    fn violation(alert: &str, phase: Phase, seconds: u64, interval: u64) -> Entry {
        Entry::Violation(Arc::new(Violation {
            episode: EpisodeId::of(&[&alert]),
            rev: if phase == Phase::Firing { 1 } else { 2 },
            rule: RuleName { group: "g".into(), alert: alert.into() },
            severity: Severity::Warning,
            phase,
            labels: Labels::new([("service", "a")]).unwrap(),
            annotations: Vec::new(),
            since: at(0),
            at: at(seconds),
            value: 1.0,
            sample_interval: Duration::from_secs(interval),
        }))
    }

    fn record(sequence: u64, seconds: u64, topic: Topic, entries: Vec<Entry>) -> Arc<Record> {
        let batch = Batch {
            id: MessageId::of(&[&sequence]),
            role: Role::Analyzer,
            instance: "test".into(),
            at: at(seconds),
            basis: crate::model::Basis::default(),
            trace: 0,
            entries,
        };
        Arc::new(Record { sequence, stored_at: at(seconds), topic, batch: batch.into() })
    }

    /// One playbook that waits as long as the samples of what fires are apart.
    fn configuration() -> Arc<Configuration> {
        let playbook = Playbook {
            name: "restart".into(),
            answers: vec![Answers {
                cause: "symptom:Slow".into(),
                scope: Labels::empty(),
                min_confidence: Confidence::NONE,
            }],
            settle: None,
            order: 1,
            steps: Vec::new(),
            verify: Verification {
                expr: Template::verbatim("load < 5"),
                harm: None,
                settle: Duration::ZERO,
                within: Duration::from_secs(20),
                evaluations: 1,
            },
            undo: Vec::new(),
        };
        let scope_labels = vec!["service".into()];
        Arc::new(Configuration { playbooks: vec![playbook], scope_labels, ..Configuration::default() })
    }

    /// A planner, and the analysis of an incident of which one violation is sampled every 16 s and one every second.
    fn begun() -> (Planner, Arc<Record>) {
        let configuration = configuration();
        let firing = vec![violation("Slow", Phase::Firing, 0, 16), violation("Quick", Phase::Firing, 0, 1)];
        let firing = record(1, 0, Topic::Violations(Severity::Warning), firing);
        let mut fold = Fold::default();
        fold.apply(&firing);
        let decided = analyze::decide(&fold, &configuration, ENTRIES_PER_BATCH_MAX).entries;
        let analysed = record(2, 0, Topic::Analyses(crate::model::Shard::default()), decided);
        let mut planner = Planner::new("test".into(), configuration);
        planner.handle(at(0), Input::Ledger(vec![firing, Arc::clone(&analysed)]));
        (planner, analysed)
    }

    fn deliver(planner: &mut Planner, seconds: u64, token: u64, record: &Arc<Record>) -> Step {
        let work = Work::Record(Arc::clone(record));
        let delivery = Delivery { token: Token(token), delivered: token, work };
        planner.handle(at(seconds), Input::Work(vec![delivery]))
    }

    #[test]
    fn a_delivery_that_comes_again_does_not_make_the_plan_come_sooner() {
        let (mut planner, analysed) = begun();
        let step = deliver(&mut planner, 0, 1, &analysed);
        assert_eq!(step.done, [(Token(1), Done::Nak(Duration::from_secs(16)))]);

        // What fires now is sampled every second: a look would find that the incident is stable.
        let over = vec![violation("Slow", Phase::Resolved, 1, 16)];
        let over = record(3, 1, Topic::Violations(Severity::Warning), over);
        planner.handle(at(1), Input::Ledger(vec![over]));
        let step = deliver(&mut planner, 5, 2, &analysed);
        assert!(step.emit.is_empty());
        assert_eq!(step.done, [(Token(2), Done::Nak(Duration::from_secs(11)))]);

        let step = deliver(&mut planner, 16, 3, &analysed);
        assert_eq!(step.emit.len(), 1);
        assert!(step.done.is_empty());
    }

    #[test]
    fn a_planner_that_did_not_look_decides_on_a_delivery_that_comes_again() {
        let (mut planner, analysed) = begun();
        let step = deliver(&mut planner, 20, 2, &analysed);
        assert_eq!(step.emit.len(), 1);
    }

    #[test]
    fn a_plan_that_was_refused_is_decided_on_again() {
        let (mut planner, analysed) = begun();
        let ticket = deliver(&mut planner, 16, 1, &analysed).emit[0].ticket;
        planner.handle(at(16), Input::Published { ticket, result: Published::Refused });
        let step = deliver(&mut planner, 17, 2, &analysed);
        assert_eq!(step.emit.len(), 1);
    }
}

#[cfg(test)]
mod stories;

//! A bench for one core: a ledger that forgets, refuses and leaves unread as it is told to, and time that is moved.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::{Act, Ask, Configuration, Core, Done, Emit, Input, Published, Step, Token};
use crate::model::{
    Action, ActionId, ActionSpec, AttemptId, Basis, Batch, Charter, Confidence, Entry, EpisodeId, Generation,
    Idempotency, IncidentId, Intent, Labels, MessageId, Mode, Phase, Plan, PlanId, Record, Role, RuleName,
    Severity, Timestamp, Topic, Verification, Violation,
};

/// Answers of the ledger to one core before a test is stuck.
const ANSWERS_MAX: usize = 10_000;
/// As the server's.
const DUPLICATE_WINDOW: Duration = Duration::from_mins(10);

pub(super) struct Bench<C> {
    pub(super) core: C,
    /// The core's own clock.
    pub(super) now: Timestamp,
    /// How far the core's clock is ahead of the ledger's.
    pub(super) fast: Duration,
    pub(super) ledger: Vec<Arc<Record>>,
    /// Records before it are too old and gone.
    pub(super) kept_from: u64,
    /// Whether the core's feed goes on.
    pub(super) feeds: bool,
    /// Batches that the ledger will not have.
    pub(super) refuses: fn(&Batch) -> bool,
    /// Conditional writes that are refused for nothing.
    pub(super) refuse_in_vain: usize,
    pub(super) published: Vec<Emit>,
    pub(super) acts: Vec<Act>,
    pub(super) done: Vec<(Token, Done)>,
    fed: usize,
    wake_at: Option<Timestamp>,
}

impl<C: Core> Bench<C> {
    pub(super) fn new(core: C) -> Self {
        Self {
            core,
            now: Timestamp::from_millis(1_000_000_000_000),
            fast: Duration::ZERO,
            ledger: Vec::new(),
            kept_from: 0,
            feeds: true,
            refuses: |_| false,
            refuse_in_vain: 0,
            published: Vec::new(),
            acts: Vec::new(),
            done: Vec::new(),
            fed: 0,
            wake_at: None,
        }
    }

    /// Hands the core something, and lets the ledger answer until all is quiet.
    pub(super) fn give(&mut self, input: Input) {
        let step = self.core.handle(self.now, input);
        self.carry_out(step);
    }

    /// Appends what somebody else has decided.
    pub(super) fn record(&mut self, topic: Topic, entry: Entry) -> Arc<Record> {
        let id = MessageId::of(&[&"other", &(self.ledger.len() as u64)]);
        let batch = Batch {
            id,
            role: Role::Knowledge,
            instance: "other".into(),
            at: self.now,
            basis: Basis::default(),
            trace: 0,
            entries: vec![entry],
        };
        self.append(topic, batch);
        self.feed();
        self.ledger[self.ledger.len() - 1].clone()
    }

    /// Lets the core read what is new in the ledger.
    pub(super) fn feed(&mut self) {
        if self.feeds && self.fed < self.ledger.len() {
            let records = self.ledger[self.fed..].to_vec();
            self.fed = self.ledger.len();
            self.give(Input::Ledger(records));
        }
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.wake_at.filter(|at| *at <= until) {
            assert!(at > self.now, "wakes at {at}, now is {}", self.now);
            self.now = at;
            self.wake_at = None;
            let step = self.core.tick(at);
            self.carry_out(step);
        }
        self.now = until;
    }

    /// Everything in the ledger on a topic.
    pub(super) fn entries(&self, wanted: Topic) -> Vec<&Entry> {
        let records = self.ledger.iter().filter(|record| record.topic == wanted);
        records.flat_map(|record| &record.batch.entries).collect()
    }

    fn append(&mut self, topic: Topic, batch: Batch) -> u64 {
        let sequence = self.ledger.len() as u64 + 1;
        self.ledger.push(Arc::new(Record {
            sequence,
            stored_at: self.now - self.fast,
            topic,
            batch: batch.into(),
        }));
        sequence
    }

    fn last_on(&self, topic: Topic) -> Option<&Arc<Record>> {
        let kept = self.ledger.iter().filter(|record| record.sequence >= self.kept_from);
        kept.filter(|record| record.topic == topic).last()
    }

    fn carry_out(&mut self, step: Step) {
        let mut inputs = VecDeque::new();
        self.take(step, &mut inputs);
        for _ in 0..ANSWERS_MAX {
            let Some(input) = inputs.pop_front() else {
                self.feed();
                return;
            };
            let step = self.core.handle(self.now, input);
            self.take(step, &mut inputs);
        }
        panic!("{ANSWERS_MAX} answers, and the core still wants more");
    }

    fn take(&mut self, step: Step, inputs: &mut VecDeque<Input>) {
        self.done.extend(step.done);
        self.wake_at = self.wake_at.into_iter().chain(step.wake_at).min();
        for emit in step.emit {
            let result = self.publish(&emit);
            inputs.push_back(Input::Published { ticket: emit.ticket, result });
            self.published.push(emit);
        }
        for ask in step.ask {
            match ask {
                Ask::ReadBack { ticket, topic, sequence } => {
                    let found = match sequence {
                        Some(place) => self.ledger.iter().find(|record| record.sequence == place),
                        None => self.last_on(topic),
                    };
                    inputs.push_back(Input::ReadBack { ticket, found: Ok(found.cloned()) });
                }
                Ask::Act(act) => self.acts.push(*act),
                Ask::Table { .. } => {}
            }
        }
    }

    fn publish(&mut self, emit: &Emit) -> Published {
        if (self.refuses)(&emit.batch) {
            return Published::Refused;
        }
        let is_remembered = |record: &Record| self.now - self.fast < record.stored_at + DUPLICATE_WINDOW;
        let same = |record: &&Arc<Record>| record.batch.id == emit.batch.id && is_remembered(record);
        if let Some(known) = self.ledger.iter().find(same) {
            return Published::Stored { sequence: known.sequence, duplicate: true };
        }
        if let Some(expected) = emit.expected_last {
            let in_vain = self.refuse_in_vain > 0;
            self.refuse_in_vain = self.refuse_in_vain.saturating_sub(1);
            let last = self.last_on(emit.topic).map_or(0, |record| record.sequence);
            if in_vain || last != expected {
                return Published::WrongLastSequence;
            }
        }
        let sequence = self.append(emit.topic, Batch::clone(&emit.batch));
        Published::Stored { sequence, duplicate: false }
    }
}

/// A charter that lets the playbook `mend` act.
pub(super) fn configuration() -> Configuration {
    Configuration {
        generation: Generation(1),
        scope_labels: vec!["service".into()],
        charter: Charter {
            mode: Mode::Auto,
            armed: ["mend".into()].into(),
            concurrent_plans_max: 10,
            actions_per_hour_max: 10,
            ..Charter::default()
        },
        ..Configuration::default()
    }
}

/// A violation that fires on a service.
pub(super) fn violation(service: &str, number: u64, at: Timestamp) -> Violation {
    let labels = Labels::new([("alertname", "Ill"), ("service", service), ("n", &number.to_string())]);
    Violation {
        episode: EpisodeId::of(&[&service, &number]),
        rev: 1,
        rule: RuleName { group: "g".into(), alert: "Ill".into() },
        severity: Severity::Warning,
        phase: Phase::Firing,
        labels: labels.unwrap(),
        annotations: Vec::new(),
        since: at,
        at,
        value: 1.0,
        sample_interval: Duration::ZERO,
    }
}

/// A plan of one step for the incident of a service.
pub(super) fn plan(service: &str, generation: u32, idempotency: Idempotency, at: Timestamp) -> Plan {
    let incident = incident(service);
    let id = PlanId::of(&[&incident, &u64::from(generation)]);
    let action = |phase: &str| Action {
        id: ActionId::of(&[&id, &phase, &0_u64]),
        name: phase.into(),
        spec: ActionSpec::NatsPublish { subject: "x".into(), body: service.into() },
        timeout: Duration::from_secs(1),
        idempotency,
    };
    Plan {
        id,
        incident,
        generation,
        parent: None,
        playbook: "mend".into(),
        cause: "symptom:Ill".into(),
        confidence: Confidence::new(0.8).unwrap(),
        scope: Labels::new([("service", service)]).unwrap(),
        mode: Mode::Auto,
        steps: vec![action("step")],
        verify: Verification {
            expr: "up".into(),
            harm: None,
            settle: Duration::ZERO,
            within: Duration::from_secs(1),
            evaluations: 1,
        },
        undo: vec![action("undo")],
        at,
    }
}

/// The incident of a service.
pub(super) fn incident(service: &str) -> IncidentId {
    IncidentId::of_episode(EpisodeId::of(&[&service, &0_u64]))
}

/// What another executor was admitted for: the first attempt at a plan.
pub(super) fn intent_of(plan: &Plan) -> Intent {
    let action = &plan.steps[0];
    Intent {
        attempt: AttemptId::of(&[&action.id, &1_u64]),
        action: action.id,
        number: 1,
        plan: plan.id,
        incident: plan.incident,
        playbook: Arc::clone(&plan.playbook),
        scope: plan.scope.clone(),
        undo: false,
        executor: "two".into(),
        nonce: 99,
        lease: 1,
        timeout: action.timeout,
    }
}

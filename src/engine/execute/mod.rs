//! The executor: carries plans out, one saga per plan, by the owner of the plan's shard.
//!
//! Admission is the only gate to an effect. An intent is written on the subject `admission` on condition that the last
//! entry there is the one that was folded, so that no two executors can spend the same budget. What a `duplicate`, a
//! `wrong last sequence` or a silence means is found out by reading back; an effect is started for an intent in the ledger
//! that bears this process's own nonce, and for no other.

mod admit;
mod saga;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::outbox::{Decision, Outbox};
use super::{Acted, Configuration, Core, Delivery, Done, Input, Intake, Lease, Step, Token, Work};
use crate::engine::fold::{Attempt, Fold, PlanState};
use crate::model::{
    Admission, Entry, IncidentId, OperatorRequest, Outcome, OutcomeResult, PlanEnd, PlanId, Reason, Release,
    Report, ReportId, Role, Timestamp, Topic, Verdict, VerdictKind,
};
use admit::{Admitting, View};
use saga::{Next, Viewer};

/// Shards of plans: a few times the executors that one would run, so that they can share evenly.
pub const SHARDS: u16 = 8;

/// The shard of an incident's plans.
pub fn shard_of(incident: IncidentId) -> u16 {
    // The low bits of an id are as good as random.
    u16::try_from(incident.as_u128() % u128::from(SHARDS)).unwrap_or(0)
}

/// The deciding core of the executor role.
#[derive(Debug)]
pub struct Executor {
    fold: Fold,
    configuration: Arc<Configuration>,
    outbox: Outbox,
    leases: BTreeMap<u16, Owned>,
    admitting: Admitting,
    /// What was published and the fold does not show yet: not to be said again meanwhile.
    said: BTreeSet<Said>,
}

/// A lease, and since when it is held without a break.
#[derive(Clone, Copy, Debug)]
struct Owned {
    lease: Lease,
    since: Timestamp,
}

/// Something that is said once about a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Said {
    Report(PlanId, Reason),
    Release(PlanId),
    Verdict(PlanId),
    Outcome(crate::model::AttemptId),
}

impl Executor {
    /// A core that knows nothing yet. `instance` has to be fresh with each start of the process; `seed` is a random
    /// number that nonces are drawn from.
    pub fn new(instance: Arc<str>, configuration: Arc<Configuration>, seed: u128) -> Self {
        Self {
            fold: Fold::default(),
            configuration,
            outbox: Outbox::new(Role::Executor, instance),
            leases: BTreeMap::new(),
            admitting: Admitting::new(seed),
            said: BTreeSet::new(),
        }
    }

    /// What it knows of the ledger.
    pub fn fold(&self) -> &Fold {
        &self.fold
    }

    fn advance(&mut self, now: Timestamp, step: &mut Step) {
        let mut wanted = Vec::new();
        let mut said = Vec::new();
        for plan in self.fold.plans.live() {
            let Some(owned) = self.leases.get(&shard_of(plan.plan.incident)) else { continue };
            if now >= owned.lease.until {
                continue;
            }
            let viewer = Viewer { executor: self.outbox.instance(), owner_since: owned.since };
            match saga::next(&self.fold, plan, viewer, now) {
                Next::Wait(until) => until.into_iter().for_each(|until| step.wake_no_later_than(until)),
                Next::Attempt { action, number, undo } => {
                    wanted.push(admit::wanted(plan, action, number, undo, owned.lease));
                }
                Next::TellShadow if self.said.contains(&Said::Report(plan.plan.id, Reason::Shadow)) => {}
                Next::TellShadow => said.push(tell_shadow(plan, now)),
                Next::InDoubt(attempt) => said.extend(in_doubt(plan, attempt, now)),
                Next::Unverified { effect_ended } => said.push(unverified(plan, effect_ended, now)),
                Next::Release(end, reason) => said.extend(release(plan, end, reason, now)),
            }
        }
        self.say(now, step, said);
        let leases = self.leases_until();
        let view = View { now, fold: &self.fold, configuration: &self.configuration, leases: &leases };
        let refused = self.admitting.advance(view, step, &mut self.outbox, wanted);
        let mut said = Vec::new();
        for (plan, refusal) in refused {
            if let Some(until) = refusal.until.filter(|until| *until > now) {
                step.wake_no_later_than(until);
            }
            if let Some(plan) = self.fold.plans.get(plan)
                && !plan.reported.contains(&refusal.reason)
            {
                said.push(report(plan, refusal.reason, refusal.text, now));
            }
        }
        self.say(now, step, said);
    }

    /// Says each thing once; whether it was heard is seen in the fold. What is said on one topic goes together.
    fn say(&mut self, now: Timestamp, step: &mut Step, said: impl IntoIterator<Item = Saying>) {
        let mut by_topic: Vec<(Topic, Vec<Entry>)> = Vec::new();
        for (key, topic, entry) in said {
            if !self.said.insert(key) {
                continue;
            }
            match by_topic.iter_mut().find(|(known, _)| *known == topic) {
                Some((_, entries)) => entries.push(entry),
                None => by_topic.push((topic, vec![entry])),
            }
        }
        let basis = self.fold.basis(self.configuration.generation);
        for (topic, entries) in by_topic {
            let decision = Decision { now, topic, entries, basis, expected_last: None, holds: &[] };
            self.outbox.publish(step, decision);
        }
    }

    fn forget_what_was_heard(&mut self) {
        let fold = &self.fold;
        self.said.retain(|said| match said {
            Said::Report(plan, reason) => {
                fold.plans.get(*plan).is_some_and(|plan| !plan.reported.contains(reason))
            }
            Said::Release(plan) => fold.plans.get(*plan).is_some_and(|plan| !plan.is_over()),
            Said::Verdict(plan) => fold.plans.get(*plan).is_some_and(|plan| plan.verdict.is_none()),
            Said::Outcome(attempt) => {
                fold.plans.attempt(*attempt).is_some_and(|attempt| attempt.outcome.is_none())
            }
        });
    }

    fn take(&mut self, now: Timestamp, step: &mut Step, deliveries: Vec<Delivery>) {
        for Delivery { token, work, .. } in deliveries {
            match work {
                Work::Intake { sequence, intake: Intake::Operator { by, request }, .. } => {
                    self.obey(now, step, token, sequence, by, request);
                }
                Work::Intake { intake: Intake::Violation(_) | Intake::Change(_), .. } | Work::Record(_) => {
                    step.done.push((token, Done::Dead("not for the executor".into())));
                }
            }
        }
    }

    /// Not conditional: whatever is decided at the same time is refused, because the subject has moved.
    fn obey(
        &mut self,
        now: Timestamp,
        step: &mut Step,
        token: Token,
        sequence: u64,
        by: Arc<str>,
        request: OperatorRequest,
    ) {
        if sequence <= self.fold.gate.last_request() {
            self.outbox.ack(step, [token]);
            return;
        }
        let admission = match request {
            OperatorRequest::Halt { reason } => Admission::Halt { request: sequence, by, reason },
            OperatorRequest::Resume => Admission::Resume { request: sequence, by },
        };
        let basis = self.fold.basis(self.configuration.generation);
        let entries = vec![Entry::Admission(admission)];
        let holds = &[token];
        let decision = Decision { now, topic: Topic::Admission, entries, basis, expected_last: None, holds };
        self.outbox.publish(step, decision);
    }

    fn acted(&mut self, now: Timestamp, step: &mut Step, acted: Acted) {
        let topic = Topic::Outcomes(acted.outcome.result);
        let entry = Entry::Outcome(Arc::new(acted.outcome));
        self.say(now, step, [(Said::Outcome(acted.attempt), topic, entry)]);
    }

    fn take_leases(&mut self, now: Timestamp, leases: &[Lease]) {
        let mut owned = BTreeMap::new();
        for lease in leases {
            let before = self.leases.get(&lease.shard).filter(|before| now < before.lease.until);
            let since = before.map_or(now, |before| before.since);
            owned.insert(lease.shard, Owned { lease: *lease, since });
        }
        self.leases = owned;
    }
}

impl Core for Executor {
    fn handle(&mut self, now: Timestamp, input: Input) -> Step {
        let mut step = Step::default();
        match input {
            Input::Ledger(records) => {
                records.iter().for_each(|record| self.fold.apply(record));
                self.forget_what_was_heard();
            }
            Input::Work(deliveries) => self.take(now, &mut step, deliveries),
            Input::Published { ticket, result } => {
                if self.admitting.is_waiting_for(ticket) {
                    let leases = self.leases_until();
                    self.admitting.published(now, &mut step, &mut self.outbox, (ticket, result), &leases);
                } else {
                    // What was only said changes no plan before the fold shows it.
                    self.outbox.published_and_acked(now, &mut step, ticket, result);
                    self.outbox.tick(now, &mut step);
                    return step;
                }
            }
            Input::ReadBack { ticket, found } => {
                let leases = self.leases_until();
                self.admitting.read_back(now, &mut step, (ticket, found), &leases);
            }
            Input::Acted(acted) => self.acted(now, &mut step, acted),
            Input::Leases(leases) => self.take_leases(now, &leases),
            Input::Configuration(configuration) => self.configuration = configuration,
            Input::Frame(_) | Input::Table(_) => {}
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

impl Executor {
    fn leases_until(&self) -> BTreeMap<u16, Timestamp> {
        self.leases.iter().map(|(shard, owned)| (*shard, owned.lease.until)).collect()
    }
}

type Saying = (Said, Topic, Entry);

fn report(plan: &PlanState, reason: Reason, text: String, now: Timestamp) -> Saying {
    let id = plan.plan.id;
    let report = Report {
        id: ReportId::of(&[&id, &reason.as_str()]),
        reason,
        text: text.into(),
        incident: Some(plan.plan.incident),
        plan: Some(id),
        at: now,
    };
    (Said::Report(id, reason), Topic::Reports(Role::Executor), Entry::Report(Arc::new(report)))
}

fn tell_shadow(plan: &PlanState, now: Timestamp) -> Saying {
    let steps: Vec<&str> = plan.plan.steps.iter().map(|step| step.name.as_ref()).collect();
    let text =
        format!("shadow: {} would {} on {}", plan.plan.playbook, steps.join(", then "), plan.plan.scope);
    report(plan, Reason::Shadow, text, now)
}

fn in_doubt(plan: &PlanState, attempt: &Attempt, now: Timestamp) -> Vec<Saying> {
    let outcome = Outcome {
        attempt: attempt.intent.attempt,
        action: attempt.intent.action,
        plan: plan.plan.id,
        incident: plan.plan.incident,
        result: OutcomeResult::InDoubt,
        started_at: attempt.stored_at,
        ended_at: now,
        output: format!("{} was admitted and never said how it ended", attempt.intent.executor).into(),
    };
    let text =
        format!("attempt {} of {} may or may not have happened", attempt.intent.number, plan.plan.playbook);
    vec![
        (
            Said::Outcome(attempt.intent.attempt),
            Topic::Outcomes(OutcomeResult::InDoubt),
            Entry::Outcome(Arc::new(outcome)),
        ),
        report(plan, Reason::InDoubt, text, now),
    ]
}

fn unverified(plan: &PlanState, effect_ended: Timestamp, now: Timestamp) -> Saying {
    let silence: Duration = now.saturating_since(effect_ended);
    let verdict = Verdict {
        plan: plan.plan.id,
        incident: plan.plan.incident,
        playbook: Arc::clone(&plan.plan.playbook),
        cause: Arc::clone(&plan.plan.cause),
        scope: plan.plan.scope.clone(),
        kind: VerdictKind::Inconclusive,
        reason: format!("no monitor gave a verdict within {} s of the effect", silence.as_secs()).into(),
        before: None,
        after: None,
        evaluations: 0,
        at: now,
    };
    let topic = Topic::Verdicts(VerdictKind::Inconclusive);
    (Said::Verdict(plan.plan.id), topic, Entry::Verdict(Arc::new(verdict)))
}

fn release(plan: &PlanState, end: PlanEnd, reason: Option<Reason>, now: Timestamp) -> Vec<Saying> {
    let release = Release { plan: plan.plan.id, incident: plan.plan.incident, end };
    let told = reason.filter(|reason| !plan.reported.contains(reason)).map(|reason| {
        let text = format!("{} ends as {}", plan.plan.playbook, end.as_str());
        report(plan, reason, text, now)
    });
    let released =
        (Said::Release(plan.plan.id), Topic::Admission, Entry::Admission(Admission::Release(release)));
    told.into_iter().chain([released]).collect()
}

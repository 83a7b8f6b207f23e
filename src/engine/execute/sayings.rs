//! What the executor says of plans: reports, verdicts nobody else gave, outcomes nobody else knows.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::fold::{Attempt, Fold, PlanState};
use crate::model::{
    AttemptId, Entry, Outcome, OutcomeResult, PlanEnd, PlanId, Reason, Report, ReportId, Role, Timestamp,
    Topic, Verdict, VerdictKind,
};

/// Room for what most shadow plans would do: made once.
const SHADOW_TEXT_BYTES: usize = 128;

/// Something that is said once about a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Said {
    Report(PlanId, Reason),
    Verdict(PlanId),
    Outcome(AttemptId),
}

/// Whether the fold shows what was said, or what it was about is forgotten.
pub(super) fn is_heard(fold: &Fold, said: Said) -> bool {
    match said {
        Said::Report(plan, reason) => fold.plans.get(plan).is_none_or(|plan| plan.reported.contains(reason)),
        Said::Verdict(plan) => fold.plans.get(plan).is_none_or(|plan| plan.verdict.is_some()),
        Said::Outcome(attempt) => fold.plans.attempt(attempt).is_none_or(|attempt| attempt.outcome.is_some()),
    }
}

pub(super) type Saying = (Said, Topic, Entry);

pub(super) fn report(plan: &PlanState, reason: Reason, text: String, now: Timestamp) -> Saying {
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

pub(super) fn tell_shadow(plan: &PlanState, now: Timestamp) -> Saying {
    let mut text = String::with_capacity(SHADOW_TEXT_BYTES);
    text.push_str(&plan.plan.playbook);
    text.push_str(" would ");
    for (number, step) in plan.plan.steps.iter().enumerate() {
        text.push_str(if number > 0 { ", then " } else { "" });
        text.push_str(&step.name);
    }
    let _ = write!(text, " on {}", plan.plan.scope);
    report(plan, Reason::Shadow, text, now)
}

pub(super) fn in_doubt(plan: &PlanState, attempt: &Attempt, now: Timestamp) -> [Saying; 2] {
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
    [
        (
            Said::Outcome(attempt.intent.attempt),
            Topic::Outcomes(OutcomeResult::InDoubt),
            Entry::Outcome(Arc::new(outcome)),
        ),
        report(plan, Reason::InDoubt, text, now),
    ]
}

pub(super) fn unverified(plan: &PlanState, effect_ended: Timestamp, now: Timestamp) -> Saying {
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

pub(super) fn tell_end(plan: &PlanState, end: PlanEnd, reason: Reason, now: Timestamp) -> Saying {
    let text = format!("{} ends as {}", plan.plan.playbook, end.as_str());
    report(plan, reason, text, now)
}

//! Where a plan stands and what comes next: a pure function of its state.

use std::time::Duration;

use crate::engine::fold::{Attempt, Fold, IncidentState, PlanState};
use crate::model::{Action, AttemptId, Idempotency, OutcomeResult, PlanEnd, Reason, Timestamp, VerdictKind};

/// Tries at one action; the third time is not the charm.
const ATTEMPTS_MAX: u32 = 3;
/// Pauses before an attempt that was not started is made again: a target that nobody answers for is being started, in
/// seconds where it is a process, in tens of them where it is a container; beyond that it is not there.
const RETRY_PAUSES: [Duration; ATTEMPTS_MAX as usize - 1] = [Duration::from_secs(2), Duration::from_secs(20)];
/// Clocks of two processes and the ledger differ by less than this in a cell that we let act (see `skew`).
const CLOCK_GRACE: Duration = Duration::from_secs(2);
/// How much longer than the verification's own time a verdict may take, before it is given up: a monitor that was killed
/// is back by then.
const VERDICT_GRACE: Duration = Duration::from_mins(1);

/// What comes next for a plan.
#[derive(Debug)]
pub(super) enum Next<'a> {
    /// Nothing, until something happens or this time has come.
    Wait(Option<Timestamp>),
    /// Ask for admission of this attempt.
    Attempt { action: &'a Action, number: u32, undo: bool },
    /// Nobody can say how this attempt ended.
    InDoubt(&'a Attempt),
    /// Nobody has said whether it helped.
    Unverified { effect_ended: Timestamp },
    /// It is over.
    Release(PlanEnd, Option<Reason>),
}

/// Who looks at the plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Viewer<'a> {
    /// This process's name, fresh with each start.
    pub(super) executor: &'a str,
    /// For how long it has held the lease on the plan's shard.
    pub(super) owned_for: Duration,
}

/// What comes next for a `plan` that is to be carried out, seen by the owner of its shard; the ledger's time is not before `now`.
pub(super) fn next<'a>(fold: &Fold, plan: &'a PlanState, viewer: Viewer<'_>, now: Timestamp) -> Next<'a> {
    if plan.is_over() {
        return Next::Wait(None);
    }
    if !plan.is_admitted() && is_superseded(fold, plan) {
        return Next::Release(PlanEnd::Cancelled, Some(Reason::Superseded));
    }
    match walk(plan, &plan.plan.steps, false, viewer, now) {
        Walk::At(next) => next,
        Walk::Done => judge(plan, viewer, now),
        Walk::Broken(Broken::InDoubt) => Next::Release(PlanEnd::InDoubt, Some(Reason::InDoubt)),
        Walk::Broken(Broken::Failed) => undo(plan, PlanEnd::Failed, viewer, now),
    }
}

/// An older generation is refused, and so is a plan for an incident that is over, and one that was made when another plan
/// of the incident had not begun and then did: it knows nothing of what that one did.
fn is_superseded(fold: &Fold, plan: &PlanState) -> bool {
    let mut others = fold.plans.of(plan.plan.incident).filter(|other| other.plan.id != plan.plan.id);
    if others.any(|other| other.attempts.values().flatten().any(|attempt| attempt.sequence > plan.sequence)) {
        return true;
    }
    let newest = fold.plans.newest(plan.plan.incident);
    let newer = newest.is_some_and(|newest| newest.plan.generation > plan.plan.generation);
    newer || fold.incidents.get(plan.plan.incident).is_none_or(IncidentState::is_closed)
}

fn judge<'a>(plan: &'a PlanState, viewer: Viewer<'_>, now: Timestamp) -> Next<'a> {
    match (&plan.verdict, plan.effect_ended()) {
        (Some(verdict), _) => match verdict.kind {
            VerdictKind::Verified => Next::Release(PlanEnd::Verified, None),
            VerdictKind::Ineffective | VerdictKind::Harmful | VerdictKind::Inconclusive => {
                undo(plan, PlanEnd::Undone, viewer, now)
            }
        },
        (None, Some(effect_ended)) => {
            let verify = &plan.plan.verify;
            let deadline = effect_ended + verify.settle + verify.within + VERDICT_GRACE;
            if now < deadline { Next::Wait(Some(deadline)) } else { Next::Unverified { effect_ended } }
        }
        // Every step has succeeded when the walk is done.
        (None, None) => Next::Wait(None),
    }
}

fn undo<'a>(plan: &'a PlanState, end: PlanEnd, viewer: Viewer<'_>, now: Timestamp) -> Next<'a> {
    let something_happened = plan
        .plan
        .steps
        .iter()
        .filter_map(|step| plan.last_attempt(step.id)?.outcome.as_ref())
        .any(|outcome| outcome.result == OutcomeResult::Succeeded);
    if !something_happened {
        return Next::Release(end, None);
    }
    match walk(plan, &plan.plan.undo, true, viewer, now) {
        Walk::At(next) => next,
        Walk::Done => Next::Release(end, None),
        Walk::Broken(Broken::InDoubt) => Next::Release(PlanEnd::InDoubt, Some(Reason::InDoubt)),
        Walk::Broken(Broken::Failed) => Next::Release(PlanEnd::Failed, None),
    }
}

enum Walk<'a> {
    At(Next<'a>),
    Done,
    Broken(Broken),
}

enum Broken {
    Failed,
    InDoubt,
}

fn walk<'a>(
    plan: &'a PlanState,
    actions: &'a [Action],
    undo: bool,
    viewer: Viewer<'_>,
    now: Timestamp,
) -> Walk<'a> {
    for action in actions {
        let Some(attempt) = plan.last_attempt(action.id) else {
            return Walk::At(Next::Attempt { action, number: 1, undo });
        };
        let number = attempt.intent.number;
        let Some(outcome) = &attempt.outcome else {
            return Walk::At(unfinished(attempt, viewer, now));
        };
        let again = number < ATTEMPTS_MAX;
        match outcome.result {
            OutcomeResult::Succeeded => {}
            OutcomeResult::NotStarted if again => {
                let until = pause_ends(attempt, viewer).filter(|until| now < *until);
                return Walk::At(match until {
                    Some(until) => Next::Wait(Some(until)),
                    None => Next::Attempt { action, number: number + 1, undo },
                });
            }
            // Each attempt has its own fence, newer than the one before: a target that looks at nothing else would do
            // it again. With the fence of the first it would refuse both what it has done and what somebody overtook.
            OutcomeResult::TimedOut | OutcomeResult::InDoubt => match action.idempotency {
                Idempotency::Key if again => {
                    return Walk::At(Next::Attempt { action, number: number + 1, undo });
                }
                Idempotency::None | Idempotency::Key | Idempotency::Fence => {
                    return Walk::Broken(Broken::InDoubt);
                }
            },
            OutcomeResult::NotStarted | OutcomeResult::Failed => return Walk::Broken(Broken::Failed),
        }
    }
    Walk::Done
}

/// Until when an attempt that was not started is left alone. One of another executor is not: that one ended, or lost its
/// lease.
fn pause_ends(attempt: &Attempt, viewer: Viewer<'_>) -> Option<Timestamp> {
    if attempt.intent.executor.as_ref() != viewer.executor {
        return None;
    }
    let pause = RETRY_PAUSES.get((attempt.intent.number as usize).checked_sub(1)?)?;
    Some(attempt.ended_at? + *pause)
}

/// An attempt without an outcome: ours is at work; somebody else's is waited for until it cannot be at work any more. Its
/// owner may have begun as late as the end of its lease, which was before ours began.
fn unfinished<'a>(attempt: &'a Attempt, viewer: Viewer<'_>, now: Timestamp) -> Next<'a> {
    if attempt.intent.executor.as_ref() == viewer.executor {
        return Next::Wait(None);
    }
    let longest = attempt.intent.timeout + CLOCK_GRACE;
    let left =
        (attempt.stored_at + longest).saturating_since(now).max(longest.saturating_sub(viewer.owned_for));
    if left.is_zero() { Next::InDoubt(attempt) } else { Next::Wait(Some(now + left)) }
}

/// The id of a try at an action.
pub(super) fn attempt_id(action: &Action, number: u32) -> AttemptId {
    AttemptId::of(&[&action.id, &u64::from(number)])
}

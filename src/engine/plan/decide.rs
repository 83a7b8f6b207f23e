//! What to do about one incident: a pure function of the fold, the configuration and the time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::candidates::{self, Candidate, Lack};
use crate::engine::Configuration;
use crate::engine::fold::{Fold, IncidentState, PlanState};
use crate::model::{
    Action, ActionId, ActionSpec, IncidentId, Mode, Plan, PlanEnd, PlanId, Playbook, Reason, Report,
    ReportId, StepTemplate, Timestamp,
};

/// Longest wait for an incident to become stable where the playbook does not say.
const SETTLE_DEFAULT_MAX: Duration = Duration::from_secs(30);
/// Plans that are made for one incident, one after the other; then a person has to look.
const GENERATIONS_MAX: u32 = 20;

/// What is decided about an incident.
#[derive(Debug)]
pub enum Decided {
    /// There is nothing to do: it is closed, or a plan is at work.
    Nothing,
    /// Too early.
    Wait(Timestamp),
    /// This.
    Plan(Arc<Plan>),
    /// Nothing, and here is why.
    Report(Box<Report>),
}

/// Decides what to do about an incident.
pub fn decide(fold: &Fold, configuration: &Configuration, incident: IncidentId, now: Timestamp) -> Decided {
    let Some(state) = fold.incidents.get(incident).filter(|state| !state.is_closed()) else {
        return Decided::Nothing;
    };
    let Some(analysis) = &state.analysis else { return Decided::Nothing };
    let plans: Vec<&PlanState> = fold.plans.of(incident).collect();
    // Not only the newest: one that was given up for an older one that had begun is newer.
    if plans.iter().any(|plan| is_at_work(plan)) {
        return Decided::Nothing;
    }
    let newest = plans.last().copied();
    let treated_until = plans.iter().filter_map(|plan| treatment_ends(plan, configuration)).max();
    if let Some(until) = treated_until.filter(|until| now < *until) {
        return Decided::Wait(until);
    }
    let tried: BTreeSet<&Arc<str>> =
        plans.iter().filter(|plan| was_tried(plan)).map(|plan| &plan.plan.playbook).collect();
    let generation = newest.map_or(1, |newest| newest.plan.generation + 1);
    let best = match candidates::best(configuration, &fold.learned, analysis, &tried, now) {
        Ok(best) if generation <= GENERATIONS_MAX => best,
        Ok(_) => {
            return report(state, Reason::Limit, format!("{GENERATIONS_MAX} plans were made for it"), now);
        }
        Err(lack) => return report_lack(state, lack, now),
    };
    let same = |newest: &PlanState| {
        newest.plan.playbook == best.playbook.name
            && newest.plan.cause == best.cause.name
            && newest.plan.scope == best.cause.scope
    };
    if newest.is_some_and(|newest| !newest.is_over() && same(newest)) {
        return Decided::Nothing;
    }
    let stable_at = state.stable_since + settle(fold, state, best.playbook);
    if now < stable_at {
        return Decided::Wait(stable_at);
    }
    Decided::Plan(Arc::new(make(configuration, state, newest, best, generation, now)))
}

/// A plan that has begun and not ended: nothing else is planned meanwhile. One that has not begun can be replaced.
fn is_at_work(plan: &PlanState) -> bool {
    plan.plan.mode == Mode::Auto && plan.is_admitted() && !plan.is_over()
}

/// A verified plan has time for its effect to reach the rules (a rate over five minutes falls for five minutes).
fn treatment_ends(plan: &PlanState, configuration: &Configuration) -> Option<Timestamp> {
    match plan.release? {
        (PlanEnd::Verified, released_at) => Some(released_at + configuration.charter.cooldown),
        (PlanEnd::Undone | PlanEnd::Failed | PlanEnd::InDoubt | PlanEnd::Cancelled, _) => None,
    }
}

fn was_tried(plan: &PlanState) -> bool {
    match plan.release {
        // A plan in doubt may have had its effect: the next playbook on top of it would hide what happened, but the same
        // one again is what must not be.
        Some((PlanEnd::Verified | PlanEnd::Undone | PlanEnd::Failed | PlanEnd::InDoubt, _)) => true,
        Some((PlanEnd::Cancelled, _)) | None => false,
    }
}

fn settle(fold: &Fold, state: &IncidentState, playbook: &Playbook) -> Duration {
    playbook.settle.unwrap_or_else(|| {
        let intervals = state.firing.iter().filter_map(|id| fold.episodes.get(*id));
        let longest = intervals.map(|episode| episode.violation.sample_interval).max().unwrap_or_default();
        longest.min(SETTLE_DEFAULT_MAX)
    })
}

fn make(
    configuration: &Configuration,
    state: &IncidentState,
    parent: Option<&PlanState>,
    best: Candidate<'_>,
    generation: u32,
    now: Timestamp,
) -> Plan {
    let Candidate { playbook, cause, filled, .. } = best;
    let incident = state.incident.id;
    let id = PlanId::of(&[&incident, &u64::from(generation)]);
    let actions = |steps: &[StepTemplate], specs: Vec<ActionSpec>, phase: &str| -> Vec<Action> {
        let filled = steps.iter().zip(specs).enumerate().map(|(index, (step, spec))| Action {
            id: ActionId::of(&[&id, &phase, &(index as u64)]),
            name: Arc::clone(&step.name),
            spec,
            timeout: step.timeout,
            idempotency: step.idempotency,
        });
        filled.collect()
    };
    let sure = cause.confidence >= configuration.charter.min_confidence;
    let mode = if sure { configuration.charter.mode_of(&playbook.name) } else { Mode::Shadow };
    Plan {
        id,
        incident,
        generation,
        parent: parent.map(|parent| parent.plan.id),
        playbook: Arc::clone(&playbook.name),
        cause: Arc::clone(&cause.name),
        confidence: cause.confidence,
        scope: cause.scope.clone(),
        mode,
        steps: actions(&playbook.steps, filled.steps, "step"),
        verify: filled.verify,
        undo: actions(&playbook.undo, filled.undo, "undo"),
        at: now,
    }
}

fn report_lack(state: &IncidentState, lack: Lack, now: Timestamp) -> Decided {
    let (reason, text) = match lack {
        Lack::NoPlaybook => (Reason::NoPlaybook, "no playbook answers any of its causes".to_owned()),
        Lack::Exhausted => (Reason::Exhausted, "every playbook that answers was tried".to_owned()),
        Lack::Unsure(text) => (Reason::Unsure, text),
        Lack::MissingLabel(text) => (Reason::Refused, text),
    };
    report(state, reason, text, now)
}

/// Said once for each revision of the incident.
fn report(state: &IncidentState, reason: Reason, text: String, now: Timestamp) -> Decided {
    if state.reported.contains(reason) {
        return Decided::Nothing;
    }
    let incident = state.incident.id;
    let id = ReportId::of(&[&incident, &u64::from(state.incident.rev), &reason.as_str()]);
    Decided::Report(Box::new(Report {
        id,
        reason,
        text: text.into(),
        incident: Some(incident),
        plan: None,
        at: now,
    }))
}

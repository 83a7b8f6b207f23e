//! Plans and how far they have come: attempts, outcomes, verdict, end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::engine::{ById, Few};
use crate::model::{
    ActionId, AttemptId, IncidentId, Intent, Mode, Outcome, OutcomeResult, Plan, PlanEnd, PlanId, Reason,
    Reasons, Record, Release, Timestamp, Verdict,
};

/// A clock that is further off the ledger's is not believed.
const CLOCK_GRACE: Duration = Duration::from_secs(2);

/// One try at an action.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// The right to it; the first in the ledger under its id.
    pub intent: Arc<Intent>,
    /// Where the intent stands in the ledger: the fencing token.
    pub sequence: u64,
    /// When the intent was recorded.
    pub stored_at: Timestamp,
    /// How it ended.
    pub outcome: Option<Arc<Outcome>>,
    /// When it ended in the ledger's time, if it did.
    pub ended_at: Option<Timestamp>,
}

/// A plan as far as the ledger tells it.
#[derive(Clone, Debug)]
pub struct PlanState {
    /// The plan.
    pub plan: Arc<Plan>,
    /// Where it stands in the ledger.
    pub sequence: u64,
    /// When it was recorded.
    pub stored_at: Timestamp,
    /// The tries at each action, in order.
    pub attempts: BTreeMap<ActionId, Vec<Attempt>>,
    /// Whether it helped.
    pub verdict: Option<Arc<Verdict>>,
    /// How it ended, and when that was recorded.
    pub release: Option<(PlanEnd, Timestamp)>,
    /// Why something was not done about it.
    pub reported: Reasons,
}

impl PlanState {
    /// Whether it gave back its part of the budget.
    pub fn is_over(&self) -> bool {
        self.release.is_some()
    }

    /// Whether any of its actions was admitted.
    pub fn is_admitted(&self) -> bool {
        !self.attempts.is_empty()
    }

    /// Whether it is a shadow plan that nobody has spoken of.
    pub fn is_untold(&self) -> bool {
        self.plan.mode == Mode::Shadow && !self.is_over() && !self.reported.contains(Reason::Shadow)
    }

    /// The last try at an action.
    pub fn last_attempt(&self, action: ActionId) -> Option<&Attempt> {
        self.attempts.get(&action).and_then(|attempts| attempts.last())
    }

    /// When the last step's effect ended, where all steps succeeded.
    pub fn effect_ended(&self) -> Option<Timestamp> {
        let mut ended = Timestamp::MIN;
        for step in &self.plan.steps {
            let attempt = self.last_attempt(step.id)?;
            if attempt.outcome.as_ref()?.result != OutcomeResult::Succeeded {
                return None;
            }
            ended = ended.max(attempt.ended_at?);
        }
        Some(ended)
    }

    /// When the effect ended, where it is to be verified: all steps succeeded, and nothing was said about it yet.
    pub fn awaits_verdict(&self) -> Option<Timestamp> {
        if self.verdict.is_some() || self.is_over() { None } else { self.effect_ended() }
    }
}

/// Something under a known id that is not what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Conflict;

/// All plans that are not forgotten.
#[derive(Clone, Debug, Default)]
pub struct Plans {
    known: ById<PlanId, PlanState>,
    /// With their generations.
    by_incident: ById<IncidentId, Few<(u32, PlanId)>>,
    plan_of_attempt: ById<AttemptId, (PlanId, ActionId)>,
    /// Plans that are to be carried out and not over, in the order of the ledger.
    live: BTreeSet<(u64, PlanId)>,
}

impl Plans {
    /// A plan.
    pub fn get(&self, id: PlanId) -> Option<&PlanState> {
        self.known.get(id)
    }

    /// Every plan, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &PlanState> {
        self.known.sorted().map(|(_, state)| state)
    }

    /// The plans of an incident, oldest generation first.
    pub fn of(&self, incident: IncidentId) -> impl DoubleEndedIterator<Item = &PlanState> {
        let plans = self.by_incident.get(incident).into_iter().flat_map(Few::iter);
        plans.filter_map(|(_, id)| self.known.get(*id))
    }

    /// The newest plan of an incident.
    pub fn newest(&self, incident: IncidentId) -> Option<&PlanState> {
        self.by_incident.get(incident)?.last().and_then(|(_, id)| self.known.get(*id))
    }

    /// Plans that are to be carried out and not over, in the order of the ledger.
    pub fn live(&self) -> impl Iterator<Item = &PlanState> {
        self.live.iter().filter_map(|(_, id)| self.known.get(*id))
    }

    /// Whether none of an incident's plans is to be carried out any more.
    pub fn are_over(&self, incident: IncidentId) -> bool {
        let mut plans = self.by_incident.get(incident).into_iter().flat_map(Few::iter);
        self.live.is_empty() || !plans.any(|(_, plan)| self.is_live(*plan))
    }

    /// Without a look at the plan itself: of a storm, most plans are far from the processor when they are over.
    fn is_live(&self, plan: PlanId) -> bool {
        !self.live.is_empty()
            && self.known.get(plan).is_some_and(|state| self.live.contains(&(state.sequence, plan)))
    }

    /// An attempt.
    pub fn attempt(&self, id: AttemptId) -> Option<&Attempt> {
        let (plan, action) = self.plan_of_attempt.get(id)?;
        self.known.get(*plan)?.attempts.get(action)?.iter().find(|attempt| attempt.intent.attempt == id)
    }

    /// Takes in a plan; `Ok(false)` where it was known.
    pub(super) fn apply(&mut self, record: &Record, plan: &Arc<Plan>) -> Result<bool, Conflict> {
        let mut is_new = false;
        let known = self.known.get_or_insert_with(plan.id, || {
            is_new = true;
            PlanState {
                plan: Arc::clone(plan),
                sequence: record.sequence,
                stored_at: record.stored_at,
                attempts: BTreeMap::new(),
                verdict: None,
                release: None,
                reported: Reasons::default(),
            }
        });
        if !is_new {
            // When it was made is not what it says.
            let same = known.plan.playbook == plan.playbook && known.plan.steps == plan.steps;
            return if same { Ok(false) } else { Err(Conflict) };
        }
        let plans = self.by_incident.get_or_insert_with(plan.incident, Few::default);
        plans.insert((plan.generation, plan.id));
        if plan.mode == Mode::Auto {
            self.live.insert((record.sequence, plan.id));
        }
        Ok(true)
    }

    /// Takes in an intent; `Ok(false)` where its plan is not known.
    pub(super) fn admitted(&mut self, record: &Record, intent: &Arc<Intent>) -> Result<bool, Conflict> {
        let Some(state) = self.known.get_mut(intent.plan) else { return Ok(false) };
        let attempts = state.attempts.entry(intent.action).or_default();
        if let Some(known) = attempts.iter().find(|known| known.intent.attempt == intent.attempt) {
            return if known.intent == *intent { Ok(false) } else { Err(Conflict) };
        }
        attempts.push(Attempt {
            intent: Arc::clone(intent),
            sequence: record.sequence,
            stored_at: record.stored_at,
            outcome: None,
            ended_at: None,
        });
        self.plan_of_attempt.insert(intent.attempt, (intent.plan, intent.action));
        Ok(true)
    }

    /// Takes in how an attempt ended.
    pub(super) fn ended(&mut self, stored_at: Timestamp, outcome: &Arc<Outcome>) -> Result<bool, Conflict> {
        let found = self
            .known
            .get_mut(outcome.plan)
            .and_then(|state| state.attempts.get_mut(&outcome.action))
            .and_then(|attempts| attempts.iter_mut().find(|known| known.intent.attempt == outcome.attempt));
        let Some(attempt) = found else { return Ok(false) };
        match &attempt.outcome {
            None => {
                // What the executor's clock says, where it can be true: it began after the intent was recorded, and was
                // over when that was. Otherwise the later of the two, or samples from before it would verify it.
                let believed = attempt.stored_at - CLOCK_GRACE..=stored_at + CLOCK_GRACE;
                let is_believed = believed.contains(&outcome.ended_at);
                attempt.ended_at = Some(if is_believed { outcome.ended_at } else { stored_at });
                attempt.outcome = Some(Arc::clone(outcome));
                Ok(true)
            }
            Some(known) if known.result == outcome.result => Ok(false),
            Some(_) => Err(Conflict),
        }
    }

    /// Takes in a verdict; `Ok(true)` where it is the plan's first.
    pub(super) fn judged(&mut self, verdict: &Arc<Verdict>) -> Result<bool, Conflict> {
        let Some(state) = self.known.get_mut(verdict.plan) else { return Ok(false) };
        match &state.verdict {
            None => {
                state.verdict = Some(Arc::clone(verdict));
                Ok(true)
            }
            Some(known) if known.kind == verdict.kind => Ok(false),
            Some(_) => Err(Conflict),
        }
    }

    /// Takes in the end of a plan; whether it was its first. Giving up a plan before its first effect comes too late
    /// behind an intent: what was admitted is seen to its end.
    pub(super) fn released(&mut self, stored_at: Timestamp, release: &Release) -> bool {
        match self.known.get_mut(release.plan) {
            Some(state) if release.end == PlanEnd::Cancelled && state.is_admitted() => false,
            Some(state) if state.release.is_none() => {
                state.release = Some((release.end, stored_at));
                self.live.remove(&(state.sequence, release.plan));
                true
            }
            Some(_) | None => false,
        }
    }

    pub(super) fn reported(&mut self, plan: PlanId, reason: Reason) {
        if let Some(state) = self.known.get_mut(plan) {
            state.reported.insert(reason);
        }
    }

    /// Forgets the plans of an incident, unless one of them is at work; whether they are forgotten.
    pub(super) fn forget(&mut self, incident: IncidentId) -> bool {
        let Some(plans) = self.by_incident.remove(incident) else { return true };
        if plans.iter().any(|(_, plan)| self.is_live(*plan)) {
            self.by_incident.insert(incident, plans);
            return false;
        }
        for (_, plan) in plans.iter() {
            if let Some(state) = self.known.remove(*plan) {
                self.live.remove(&(state.sequence, *plan));
                for attempt in state.attempts.values().flatten() {
                    self.plan_of_attempt.remove(attempt.intent.attempt);
                }
            }
        }
        true
    }
    pub(super) fn restore(states: Vec<PlanState>) -> Self {
        let mut restored = Self::default();
        for state in states {
            let plan = &state.plan;
            let generations = restored.by_incident.get_or_insert_with(plan.incident, Few::default);
            generations.insert((plan.generation, plan.id));
            if plan.mode == Mode::Auto && !state.is_over() {
                restored.live.insert((state.sequence, plan.id));
            }
            for attempt in state.attempts.values().flatten() {
                restored.plan_of_attempt.insert(attempt.intent.attempt, (plan.id, attempt.intent.action));
            }
            restored.known.insert(plan.id, state);
        }
        restored
    }
}

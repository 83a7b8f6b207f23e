//! What admission depends on: all of it, and only it, is on the subject `admission`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::GateSnapshot;
use crate::model::{
    Admission, Charter, Generation, IncidentId, Intent, Labels, Mode, Plan, PlanId, Reason, Timestamp,
};

/// The rate budget counts in this window of ledger time.
const RATE_WINDOW: Duration = Duration::from_hours(1);
/// The longest cooldown that is remembered; longer ones in a charter are cut to it.
const COOLDOWN_LONGEST: Duration = Duration::from_hours(24);
/// How long it is remembered when a playbook acted: no clock within the grace asks for longer.
const COOLDOWN_KEPT: Duration = Duration::from_hours(25);

/// Budgets count in the ledger's time. Whoever checks them knows it from below (see `execute::ledger_time`), whatever its
/// own clock says; this is for clocks of the ledger's servers, which take turns in leading it.
const CLOCK_GRACE: Duration = Duration::from_secs(2);

/// A quarter of the ledger's age limit: what stands for longer is said again, or a new fold would not know of it.
const SAID_AGAIN_AFTER: Duration = Duration::from_hours(7 * 24);

/// Why an attempt is not admitted now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which rule of the charter.
    pub reason: Reason,
    /// With the figures that decided it.
    pub text: String,
    /// When it may be different, if time alone can change it.
    pub until: Option<Timestamp>,
}

impl Refusal {
    /// Whether the charter lets the plan act no more: there is nothing to wait for.
    pub fn is_final(&self) -> bool {
        self.reason == Reason::Shadow || self.reason == Reason::Unsure
    }
}

/// The state of admission.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    last_sequence: u64,
    halted: Option<(Arc<str>, Arc<str>)>,
    last_request: u64,
    /// When the standing halt was last said.
    halt_said_at: Timestamp,
    charter: Generation,
    /// When it was last said that this charter holds.
    charter_said_at: Timestamp,
    in_flight: BTreeSet<PlanId>,
    /// The plan in flight of each incident that has one.
    acting_for: BTreeMap<IncidentId, PlanId>,
    /// When the first actions of each attempt were admitted, oldest first.
    started: VecDeque<Timestamp>,
    /// When a playbook last began to act on a scope.
    acted: BTreeMap<(Arc<str>, Labels), Timestamp>,
    /// None of these is older: not every record is reason to look through them.
    acted_from: Timestamp,
}

impl Gate {
    /// Where the last entry on the subject stands: what the next one is conditional on.
    pub fn last_sequence(&self) -> u64 {
        self.last_sequence
    }

    /// Who halted automation and why.
    pub fn halted(&self) -> Option<&(Arc<str>, Arc<str>)> {
        self.halted.as_ref()
    }

    /// The place in the intake of the last request that was obeyed.
    pub fn last_request(&self) -> u64 {
        self.last_request
    }

    /// The generation whose charter holds.
    pub fn charter_generation(&self) -> Generation {
        self.charter
    }

    /// Plans that hold a part of the budget.
    pub fn in_flight(&self) -> &BTreeSet<PlanId> {
        &self.in_flight
    }

    /// What stands and was said so long ago that the ledger may forget it: to be said again.
    pub fn to_say_again(&self, now: Timestamp) -> Vec<Admission> {
        let is_old = |said_at: Timestamp| now.saturating_since(said_at) > SAID_AGAIN_AFTER;
        let halt = self.halted.as_ref().filter(|_| is_old(self.halt_said_at)).map(|(by, reason)| {
            let (by, reason) = (Arc::clone(by), Arc::clone(reason));
            Admission::Halt { request: self.last_request, by, reason }
        });
        let charter = (self.charter.0 > 0 && is_old(self.charter_said_at))
            .then_some(Admission::Charter { generation: self.charter });
        halt.into_iter().chain(charter).collect()
    }

    /// Whether the charter allows an attempt of this plan, where the ledger's time is `now`: what the charter says today,
    /// not what it said when the plan was made; a plan that has begun is brought to its end. `undo` is held back by a halt only: leaving a remedy
    /// that did not help in place is the greater risk.
    pub fn check(&self, charter: &Charter, plan: &Plan, undo: bool, now: Timestamp) -> Result<(), Refusal> {
        if let Some((by, why)) = &self.halted {
            let text = format!("halted by {by}: {why}");
            return Err(Refusal { reason: Reason::Halted, text, until: None });
        }
        if undo {
            return Ok(());
        }
        let starts = !self.in_flight.contains(&plan.id);
        if starts {
            may_act(charter, plan)?;
            if let Some(other) = self.acting_for.get(&plan.incident) {
                let text = format!("plan {other} of the same incident is in flight");
                return Err(Refusal { reason: Reason::Concurrency, text, until: None });
            }
        }
        let concurrent = self.in_flight.len();
        if starts && concurrent >= charter.concurrent_plans_max as usize {
            let text = format!("{concurrent} of {} plans are in flight", charter.concurrent_plans_max);
            return Err(Refusal { reason: Reason::Concurrency, text, until: None });
        }
        let window_start = now - RATE_WINDOW - CLOCK_GRACE;
        let in_window = self.started.iter().filter(|started| **started > window_start).count();
        if in_window >= charter.actions_per_hour_max as usize {
            let text = format!(
                "{in_window} of {} actions were started in the last hour",
                charter.actions_per_hour_max
            );
            let until = self
                .started
                .iter()
                .find(|started| **started > window_start)
                .map(|first| *first + RATE_WINDOW + CLOCK_GRACE);
            return Err(Refusal { reason: Reason::Rate, text, until });
        }
        let acted =
            starts.then(|| self.acted.get(&(Arc::clone(&plan.playbook), plan.scope.clone()))).flatten();
        if let Some(acted) = acted {
            let until = *acted + charter.cooldown.min(COOLDOWN_LONGEST) + CLOCK_GRACE;
            if now < until {
                let text = format!(
                    "{} acted on {} at {acted}, it cools down until {until}",
                    plan.playbook, plan.scope
                );
                return Err(Refusal { reason: Reason::Cooldown, text, until: Some(until) });
            }
        }
        Ok(())
    }

    pub(super) fn written(&mut self, sequence: u64) {
        self.last_sequence = sequence;
    }

    /// Counts an intent: from the ledger, or on a copy of the gate for one that is about to be written.
    pub(in crate::engine) fn admit(&mut self, stored_at: Timestamp, intent: &Intent) {
        self.started.push_back(stored_at);
        if self.in_flight.insert(intent.plan) {
            self.acting_for.insert(intent.incident, intent.plan);
            self.acted_from = if self.acted.is_empty() { stored_at } else { self.acted_from.min(stored_at) };
            self.acted.insert((Arc::clone(&intent.playbook), intent.scope.clone()), stored_at);
        }
    }

    pub(in crate::engine) fn released(&mut self, plan: PlanId) {
        if self.in_flight.remove(&plan) {
            self.acting_for.retain(|_, acting| *acting != plan);
        }
    }

    pub(super) fn halt(&mut self, said_at: Timestamp, request: u64, by: &Arc<str>, reason: &Arc<str>) {
        if request > self.last_request {
            self.last_request = request;
            self.halted = Some((Arc::clone(by), Arc::clone(reason)));
        }
        if request == self.last_request {
            self.halt_said_at = self.halt_said_at.max(said_at);
        }
    }

    pub(super) fn resume(&mut self, request: u64) {
        if request > self.last_request {
            self.last_request = request;
            self.halted = None;
        }
    }

    pub(super) fn charter(&mut self, said_at: Timestamp, generation: Generation) {
        if generation >= self.charter {
            (self.charter, self.charter_said_at) = (generation, said_at);
        }
    }

    pub(super) fn snapshot(&self) -> GateSnapshot {
        GateSnapshot {
            last_sequence: self.last_sequence,
            halted: self.halted.clone(),
            last_request: self.last_request,
            halt_said_at: self.halt_said_at,
            charter: self.charter,
            charter_said_at: self.charter_said_at,
            in_flight: self.in_flight.iter().copied().collect(),
            acting_for: self.acting_for.iter().map(|(incident, plan)| (*incident, *plan)).collect(),
            started: self.started.iter().copied().collect(),
            acted: self
                .acted
                .iter()
                .map(|((playbook, scope), at)| (Arc::clone(playbook), scope.clone(), *at))
                .collect(),
        }
    }

    pub(super) fn restore(snapshot: GateSnapshot) -> Self {
        Self {
            last_sequence: snapshot.last_sequence,
            halted: snapshot.halted,
            last_request: snapshot.last_request,
            halt_said_at: snapshot.halt_said_at,
            charter: snapshot.charter,
            charter_said_at: snapshot.charter_said_at,
            in_flight: snapshot.in_flight.into_iter().collect(),
            acting_for: snapshot.acting_for.into_iter().collect(),
            started: snapshot.started.into(),
            acted_from: snapshot.acted.iter().map(|(_, _, at)| *at).min().unwrap_or_default(),
            acted: snapshot.acted.into_iter().map(|(playbook, scope, at)| ((playbook, scope), at)).collect(),
        }
    }

    pub(super) fn forget_before(&mut self, now: Timestamp) {
        while self
            .started
            .front()
            .is_some_and(|started| now.saturating_since(*started) > RATE_WINDOW + CLOCK_GRACE + CLOCK_GRACE)
        {
            self.started.pop_front();
        }
        if !self.acted.is_empty() && now.saturating_since(self.acted_from) > COOLDOWN_KEPT {
            self.acted.retain(|_, acted| now.saturating_since(*acted) <= COOLDOWN_KEPT);
            self.acted_from = self.acted.values().copied().min().unwrap_or_default();
        }
    }
}

/// Whether the charter lets such a plan begin.
fn may_act(charter: &Charter, plan: &Plan) -> Result<(), Refusal> {
    let refused = |reason, text| Err(Refusal { reason, text, until: None });
    if charter.mode_of(&plan.playbook) == Mode::Shadow {
        return refused(Reason::Shadow, format!("the charter does not let {} act any more", plan.playbook));
    }
    let (is, least) = (plan.confidence, charter.min_confidence);
    if is < least {
        let text = format!(
            "{} was planned with a confidence of {:.2}, the charter now asks for {:.2}",
            plan.playbook,
            is.as_f64(),
            least.as_f64()
        );
        return refused(Reason::Unsure, text);
    }
    Ok(())
}

//! What admission depends on: all of it, and only it, is on the subject `admission`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Charter, Generation, Intent, Labels, Plan, PlanId, Reason, Timestamp};

/// The rate budget counts in this window of ledger time.
const RATE_WINDOW: Duration = Duration::from_hours(1);
/// The longest cooldown that is remembered; longer ones in a charter are cut to it.
const COOLDOWN_LONGEST: Duration = Duration::from_hours(24);
/// How long it is remembered when a playbook acted: no clock within the grace asks for longer.
const COOLDOWN_KEPT: Duration = Duration::from_hours(25);

/// Budgets count in the ledger's time, and whoever checks them has only its own clock: it leaves this much room for the
/// difference. A clock that is further off is a violation of our own.
const CLOCK_GRACE: Duration = Duration::from_secs(2);

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

/// The state of admission.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    last_sequence: u64,
    halted: Option<(Arc<str>, Arc<str>)>,
    last_request: u64,
    charter: Generation,
    in_flight: BTreeSet<PlanId>,
    /// When the first actions of each attempt were admitted, oldest first.
    started: VecDeque<Timestamp>,
    /// When a playbook last began to act on a scope.
    acted: BTreeMap<(Arc<str>, Labels), Timestamp>,
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

    /// Whether the charter allows an attempt of this plan now. `undo` is held back by a halt only: leaving a remedy
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
            self.acted.insert((Arc::clone(&intent.playbook), intent.scope.clone()), stored_at);
        }
    }

    pub(super) fn released(&mut self, plan: PlanId) {
        self.in_flight.remove(&plan);
    }

    pub(super) fn halt(&mut self, request: u64, by: &Arc<str>, reason: &Arc<str>) {
        if request > self.last_request {
            self.last_request = request;
            self.halted = Some((Arc::clone(by), Arc::clone(reason)));
        }
    }

    pub(super) fn resume(&mut self, request: u64) {
        if request > self.last_request {
            self.last_request = request;
            self.halted = None;
        }
    }

    pub(super) fn charter(&mut self, generation: Generation) {
        self.charter = self.charter.max(generation);
    }

    pub(super) fn forget_before(&mut self, now: Timestamp) {
        while self
            .started
            .front()
            .is_some_and(|started| now.saturating_since(*started) > RATE_WINDOW + CLOCK_GRACE + CLOCK_GRACE)
        {
            self.started.pop_front();
        }
        if self.acted.values().any(|acted| now.saturating_since(*acted) > COOLDOWN_KEPT) {
            self.acted.retain(|_, acted| now.saturating_since(*acted) <= COOLDOWN_KEPT);
        }
    }
}

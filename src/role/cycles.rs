//! How long the loop takes: from a violation to the stored intent of the effect that answers it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::engine::fold::Fold;
use crate::model::PlanId;
use crate::telemetry;

/// Plans that were told, the newest of them: those before are over and come no more.
const TOLD_MAX: usize = 4_096;

/// Tells each plan's cycle once.
#[derive(Debug, Default)]
pub(super) struct Cycles {
    told: VecDeque<PlanId>,
}

impl Cycles {
    /// Looks for plans whose first intent is new.
    pub(super) fn observe(&mut self, fold: &Fold) {
        for plan in fold.plans.live() {
            let Some(first) = plan.attempts.values().flatten().map(|attempt| attempt.stored_at).min() else {
                continue;
            };
            if self.told.contains(&plan.plan.id) {
                continue;
            }
            // What the planner waited for the incident to settle is its playbook's wish, not the loop's pace.
            let Some(incident) = fold.incidents.get(plan.plan.incident) else { continue };
            let to_analysis = incident.stable_since.saturating_since(incident.first_stored_at);
            let to_intent = first.saturating_since(plan.plan.at.max(incident.stable_since));
            telemetry::cycle_duration(to_analysis.min(Duration::from_mins(1)) + to_intent);
            if self.told.len() == TOLD_MAX {
                self.told.pop_front();
            }
            self.told.push_back(plan.plan.id);
        }
    }
}

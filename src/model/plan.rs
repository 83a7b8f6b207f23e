//! Plans: the remediation policy generated for one incident from a playbook. Immutable.

use std::sync::Arc;

use super::{Action, Confidence, IncidentId, Labels, Mode, PlanId, Timestamp, Verification};

/// What is to be done about an incident.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Incident and generation.
    pub id: PlanId,
    /// The incident.
    pub incident: IncidentId,
    /// Counts the plans for the incident from 1: an older one is not carried out any more.
    pub generation: u32,
    /// The plan that this one replaces.
    pub parent: Option<PlanId>,
    /// The playbook it was made from.
    pub playbook: Arc<str>,
    /// The cause it answers.
    pub cause: Arc<str>,
    /// How sure the analysis was of the cause.
    pub confidence: Confidence,
    /// What it acts on.
    pub scope: Labels,
    /// Whether it is carried out, or only shown.
    pub mode: Mode,
    /// What is done, in this order.
    pub steps: Vec<Action>,
    /// How its effect is checked.
    pub verify: Verification,
    /// What is done if it did not help, in this order.
    pub undo: Vec<Action>,
    /// When it was made.
    pub at: Timestamp,
}

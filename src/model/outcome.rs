//! Outcomes: how an attempt ended.

use std::sync::Arc;

use super::violation::UnknownWord;
use super::{ActionId, AttemptId, IncidentId, PlanId, Timestamp};

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OutcomeResult {
    /// The target said so.
    Succeeded,
    /// The target refused, or could not be reached before anything was sent.
    Failed,
    /// It was never begun (the lease had ended, or nobody is there to answer the request): it has not happened, and may be
    /// tried again.
    NotStarted,
    /// No answer in time: it may have happened.
    TimedOut,
    /// The executor was gone before it could say: it may have happened.
    InDoubt,
}

impl OutcomeResult {
    /// The subject token.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::NotStarted => "not_started",
            Self::TimedOut => "timed_out",
            Self::InDoubt => "in_doubt",
        }
    }
}

impl std::str::FromStr for OutcomeResult {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        [Self::Succeeded, Self::Failed, Self::NotStarted, Self::TimedOut, Self::InDoubt]
            .into_iter()
            .find(|result| result.as_str() == text)
            .ok_or_else(|| UnknownWord::new(text, "succeeded, failed, not_started, timed_out, in_doubt"))
    }
}

/// How one attempt at an action ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The attempt; the first outcome of an attempt in the ledger counts.
    pub attempt: AttemptId,
    /// The action it was an attempt at.
    pub action: ActionId,
    /// The plan of the action.
    pub plan: PlanId,
    /// The incident of the plan.
    pub incident: IncidentId,
    /// How it ended.
    pub result: OutcomeResult,
    /// When the effect was started.
    pub started_at: Timestamp,
    /// When the effect ended, or was given up.
    pub ended_at: Timestamp,
    /// What the target said, bounded.
    pub output: Arc<str>,
}

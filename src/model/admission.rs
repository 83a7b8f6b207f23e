//! Admission: the only gate to an effect. All it depends on is on one subject, written by compare-and-set.

use std::sync::Arc;
use std::time::Duration;

use super::violation::UnknownWord;
use super::{ActionId, AttemptId, Generation, IncidentId, Labels, PlanId};

/// How a plan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PlanEnd {
    /// Its verdict says that it helped.
    Verified,
    /// It was carried out and did not help, or nobody could tell; what could be undone was.
    Undone,
    /// A step failed; what could be undone was.
    Failed,
    /// An attempt is in doubt and must not be repeated: a person has to look.
    InDoubt,
    /// It was given up before its first effect.
    Cancelled,
}

impl PlanEnd {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Undone => "undone",
            Self::Failed => "failed",
            Self::InDoubt => "in_doubt",
            Self::Cancelled => "cancelled",
        }
    }
}

impl std::str::FromStr for PlanEnd {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        [Self::Verified, Self::Undone, Self::Failed, Self::InDoubt, Self::Cancelled]
            .into_iter()
            .find(|end| end.as_str() == text)
            .ok_or_else(|| UnknownWord::new(text, "verified, undone, failed, in_doubt, cancelled"))
    }
}

/// The right to carry out one attempt. It is not a pure function of its cause: the nonce says whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Action and number.
    pub attempt: AttemptId,
    /// The action.
    pub action: ActionId,
    /// Counts the attempts at the action from 1.
    pub number: u32,
    /// The plan of the action.
    pub plan: PlanId,
    /// The incident of the plan.
    pub incident: IncidentId,
    /// The playbook the plan was made from: cooldowns count by playbook and scope.
    pub playbook: Arc<str>,
    /// The scope of the plan.
    pub scope: Labels,
    /// Whether the action undoes something; undoing is not held back by cooldowns.
    pub undo: bool,
    /// Who asked.
    pub executor: Arc<str>,
    /// Drawn afresh for each request: only its holder may act on the intent.
    pub nonce: u128,
    /// The revision of the executor's lease on the plan's shard.
    pub lease: u64,
    /// How long the attempt may take: after it, an attempt without an outcome is in doubt.
    pub timeout: Duration,
}

/// A plan gives back what it held of the budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The plan.
    pub plan: PlanId,
    /// Its incident.
    pub incident: IncidentId,
    /// How it ended.
    pub end: PlanEnd,
}

/// An entry on the subject `admission`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// An attempt may be carried out.
    Intent(Arc<Intent>),
    /// A plan is over.
    Release(Release),
    /// Nothing is admitted from here on.
    Halt {
        /// The place of the request in the intake, which grows even where its stream is created anew: an older request
        /// than the last one obeyed is ignored.
        request: u64,
        /// Who said so.
        by: Arc<str>,
        /// Why.
        reason: Arc<str>,
    },
    /// Admission goes on.
    Resume {
        /// The place of the request in the intake.
        request: u64,
        /// Who said so.
        by: Arc<str>,
    },
    /// The charter of this generation holds from here on.
    Charter {
        /// The bundle it is in.
        generation: Generation,
    },
}

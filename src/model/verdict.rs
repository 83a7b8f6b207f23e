//! Verdicts: whether a plan helped, decided on samples taken after its effect.

use std::sync::Arc;

use super::violation::UnknownWord;
use super::{IncidentId, Labels, PlanId, Timestamp};

/// Whether a plan helped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VerdictKind {
    /// Fresh samples say that it did.
    Verified,
    /// Fresh samples say that it did not.
    Ineffective,
    /// Fresh samples say that it made things worse.
    Harmful,
    /// There is not enough to say either.
    Inconclusive,
}

impl VerdictKind {
    /// The subject token.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Ineffective => "ineffective",
            Self::Harmful => "harmful",
            Self::Inconclusive => "inconclusive",
        }
    }
}

impl std::str::FromStr for VerdictKind {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        [Self::Verified, Self::Ineffective, Self::Harmful, Self::Inconclusive]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| UnknownWord::new(text, "verified, ineffective, harmful, inconclusive"))
    }
}

/// Whether a plan helped, and how that was found out. One per plan: the first in the ledger counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The plan.
    pub plan: PlanId,
    /// Its incident.
    pub incident: IncidentId,
    /// The playbook it was made from.
    pub playbook: Arc<str>,
    /// The cause it answered.
    pub cause: Arc<str>,
    /// Its scope.
    pub scope: Labels,
    /// Whether it helped.
    pub kind: VerdictKind,
    /// Why we think so, in words.
    pub reason: Arc<str>,
    /// The last value of the `verify` expression's left side before the effect, where there was one.
    pub before: Option<f64>,
    /// The last value after it.
    pub after: Option<f64>,
    /// How many evaluations on fresh samples it rests on.
    pub evaluations: u32,
    /// When it was reached, in event time.
    pub at: Timestamp,
}

//! Reports: why something was not done. A first-class output of every decision, not an error.

use std::fmt;
use std::sync::Arc;

use super::violation::UnknownWord;
use super::{IncidentId, PlanId, ReportId, Timestamp};

/// Why something was not done: a closed set, for people to count and filter by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The charter or the playbook is in shadow mode.
    Shadow,
    /// No playbook answers the causes.
    NoPlaybook,
    /// All playbooks that answer were tried.
    Exhausted,
    /// The confidence is below what the playbook or the charter asks for.
    Unsure,
    /// The same playbook acted on the same scope a short time ago.
    Cooldown,
    /// As many plans as the charter allows are in flight.
    Concurrency,
    /// As many actions as the charter allows an hour were started.
    Rate,
    /// Somebody has halted automation.
    Halted,
    /// Other executors were faster too many times.
    Contended,
    /// An attempt may or may not have happened and must not be repeated.
    InDoubt,
    /// The telemetry that the decision needs is old, has gaps or a wrong clock.
    Stale,
    /// The incident was closed, or newer evidence made another plan.
    Superseded,
    /// It is not what we can take: the report says where and why.
    Refused,
    /// A limit was reached.
    Limit,
    /// A storm of violations: one by one would be wrong.
    Storm,
}

impl Reason {
    /// Every reason, for lists and parsers.
    pub const ALL: [Self; 15] = [
        Self::Shadow,
        Self::NoPlaybook,
        Self::Exhausted,
        Self::Unsure,
        Self::Cooldown,
        Self::Concurrency,
        Self::Rate,
        Self::Halted,
        Self::Contended,
        Self::InDoubt,
        Self::Stale,
        Self::Superseded,
        Self::Refused,
        Self::Limit,
        Self::Storm,
    ];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shadow => "shadow",
            Self::NoPlaybook => "no_playbook",
            Self::Exhausted => "exhausted",
            Self::Unsure => "unsure",
            Self::Cooldown => "cooldown",
            Self::Concurrency => "concurrency",
            Self::Rate => "rate",
            Self::Halted => "halted",
            Self::Contended => "contended",
            Self::InDoubt => "in_doubt",
            Self::Stale => "stale",
            Self::Superseded => "superseded",
            Self::Refused => "refused",
            Self::Limit => "limit",
            Self::Storm => "storm",
        }
    }
}

impl std::str::FromStr for Reason {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL
            .into_iter()
            .find(|reason| reason.as_str() == text)
            .ok_or_else(|| UnknownWord::new(text, "the reasons of a report"))
    }
}

/// Some of the reasons.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Reasons(u16);

impl Reasons {
    /// Whether it is one of them.
    pub const fn contains(self, reason: Reason) -> bool {
        self.0 & Self::bit(reason) != 0
    }

    /// Adds one.
    pub const fn insert(&mut self, reason: Reason) {
        self.0 |= Self::bit(reason);
    }

    /// In the order of [`Reason::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Reason> {
        Reason::ALL.into_iter().filter(move |reason| self.contains(*reason))
    }

    const fn bit(reason: Reason) -> u16 {
        1 << reason as u16
    }
}

impl FromIterator<Reason> for Reasons {
    fn from_iter<I: IntoIterator<Item = Reason>>(reasons: I) -> Self {
        let mut some = Self::default();
        reasons.into_iter().for_each(|reason| some.insert(reason));
        some
    }
}

impl fmt::Debug for Reasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What it is about and why: saying it again is saying the same.
    pub id: ReportId,
    /// Why.
    pub reason: Reason,
    /// In words, with the figures that decided it.
    pub text: Arc<str>,
    /// The incident it is about, if any.
    pub incident: Option<IncidentId>,
    /// The plan it is about, if any.
    pub plan: Option<PlanId>,
    /// When it was decided.
    pub at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_place_of_its_own_among_reasons() {
        for reason in Reason::ALL {
            let mut reasons = Reasons::default();
            reasons.insert(reason);
            assert_eq!(reasons.iter().collect::<Vec<_>>(), [reason]);
        }
    }
}

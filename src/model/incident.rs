//! Incidents: violations with one supposed cause.

use super::violation::UnknownWord;
use super::{EpisodeId, IncidentId, Labels, Severity, Timestamp};

/// Where an incident stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IncidentPhase {
    /// At least one of its violations fires.
    Open,
    /// All of them are resolved.
    Closed,
}

impl IncidentPhase {
    /// The subject token.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
        }
    }
}

impl std::str::FromStr for IncidentPhase {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        [Self::Open, Self::Closed]
            .into_iter()
            .find(|phase| phase.as_str() == text)
            .ok_or_else(|| UnknownWord::new(text, "open, closed"))
    }
}

/// One revision of an incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// A function of its first episode.
    pub id: IncidentId,
    /// Grows with each revision.
    pub rev: u32,
    /// Where it stands with this revision.
    pub phase: IncidentPhase,
    /// The labels its violations have in common among the configured scope labels.
    pub scope: Labels,
    /// The worst of its violations so far.
    pub severity: Severity,
    /// The episodes that joined with this revision, first first; a fold adds them up. Bounded, so that a storm of
    /// violations makes more revisions and not larger messages.
    pub joined: Vec<EpisodeId>,
    /// How many episodes have joined so far.
    pub violations: u32,
    /// When its first violation fired, in event time.
    pub opened_at: Timestamp,
    /// When it last changed, in event time.
    pub changed_at: Timestamp,
}

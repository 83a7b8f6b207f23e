//! Changes: what somebody did to the system, from outside or by our own actions.

use std::sync::Arc;

use super::violation::UnknownWord;
use super::{ChangeId, Labels, Timestamp};

/// What kind of change it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeKind {
    /// A new version of something.
    Deploy,
    /// A new setting.
    Config,
    /// More or fewer of something.
    Scaling,
    /// A scheduled job.
    Cron,
}

impl ChangeKind {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Config => "config",
            Self::Scaling => "scaling",
            Self::Cron => "cron",
        }
    }
}

impl std::str::FromStr for ChangeKind {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        [Self::Deploy, Self::Config, Self::Scaling, Self::Cron]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| UnknownWord::new(text, "deploy, config, scaling, cron"))
    }
}

/// A change to the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Scope, kind and time.
    pub id: ChangeId,
    /// What was done.
    pub kind: ChangeKind,
    /// To what.
    pub scope: Labels,
    /// When.
    pub at: Timestamp,
    /// In words.
    pub summary: Arc<str>,
}

impl Change {
    /// Derives the id.
    pub fn new(kind: ChangeKind, scope: Labels, at: Timestamp, summary: impl Into<Arc<str>>) -> Self {
        let summary = summary.into();
        let id = ChangeId::of(&[&kind.as_str(), &scope, &at, &summary.as_ref()]);
        Self { id, kind, scope, at, summary }
    }
}

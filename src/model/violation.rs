//! Violations: a rule that holds for one label set, told as an episode with phases.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::{EpisodeId, Labels, RuleName, Timestamp};

/// How much a violation matters. A closed set, because it is a subject token on the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// No severity was given, or one we do not know.
    None,
    /// Worth knowing.
    Info,
    /// Worth acting on soon.
    Warning,
    /// Worth acting on now.
    Critical,
}

impl Severity {
    /// From the value of a `severity` label: `page` and `error` are what many rule files say for critical.
    pub fn from_label(value: Option<&str>) -> Self {
        match value.unwrap_or("") {
            "critical" | "page" | "error" => Self::Critical,
            "warning" | "warn" => Self::Warning,
            "info" => Self::Info,
            _ => Self::None,
        }
    }

    /// The subject token.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// Where an episode stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The expression holds, `for` has not passed yet. Not in the ledger.
    Pending,
    /// The rule holds.
    Firing,
    /// It holds no longer; the episode is over.
    Resolved,
}

impl Phase {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// One revision of an episode.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation {
    /// The episode: all its revisions share it.
    pub episode: EpisodeId,
    /// Grows with each revision; a fold ignores what is not newer than what it knows.
    pub rev: u32,
    /// The rule that holds.
    pub rule: RuleName,
    /// From the `severity` label.
    pub severity: Severity,
    /// Where the episode stands with this revision.
    pub phase: Phase,
    /// The result's labels with the rule's own, `alertname` included.
    pub labels: Labels,
    /// Rendered annotations, in the order of their names.
    pub annotations: Vec<(Arc<str>, Arc<str>)>,
    /// When the expression began to hold.
    pub since: Timestamp,
    /// When this revision came about, in event time.
    pub at: Timestamp,
    /// The expression's value then.
    pub value: f64,
    /// The longest interval between samples among the series it was read from; zero where it is not known.
    pub sample_interval: Duration,
}

/// A text that is not a word of a closed set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not one of {expected}")]
pub struct UnknownWord {
    text: String,
    expected: &'static str,
}

impl UnknownWord {
    pub(super) fn new(text: &str, expected: &'static str) -> Self {
        Self { text: text.chars().take(64).collect(), expected }
    }
}

impl FromStr for Severity {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        [Self::None, Self::Info, Self::Warning, Self::Critical]
            .into_iter()
            .find(|severity| severity.as_str() == text)
            .ok_or_else(|| UnknownWord::new(text, "none, info, warning, critical"))
    }
}

impl FromStr for Phase {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        [Self::Pending, Self::Firing, Self::Resolved]
            .into_iter()
            .find(|phase| phase.as_str() == text)
            .ok_or_else(|| UnknownWord::new(text, "pending, firing, resolved"))
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

//! Rules: what holds when something is wrong, in Prometheus' rule-file terms.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::labels::compare_texts;

/// A rule's name: its group, and the alert it raises or the series it records.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RuleName {
    /// The group it stands in.
    pub group: Arc<str>,
    /// The alert it raises, or the series it records.
    pub alert: Arc<str>,
}

impl Ord for RuleName {
    fn cmp(&self, other: &Self) -> Ordering {
        compare_texts(&self.group, &other.group).then_with(|| compare_texts(&self.alert, &other.alert))
    }
}

impl PartialOrd for RuleName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.group, self.alert)
    }
}

/// What a rule makes of the elements of its expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gives {
    /// Violations: an alerting rule.
    Violations,
    /// Samples of a series of its name: a recording rule.
    Samples,
}

/// A rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Group and alert.
    pub name: RuleName,
    /// What it makes of each element of its expression's result.
    pub gives: Gives,
    /// The PromQL expression.
    pub expr: Arc<str>,
    /// How long the expression has to hold before the violation fires.
    pub hold: Duration,
    /// How long a violation goes on firing after the expression has ceased to hold.
    pub keep_firing: Duration,
    /// Labels put on the result's own: of an alerting rule in the notation of templates.
    pub labels: Vec<(Arc<str>, Arc<str>)>,
    /// Text for people, in the same notation; a recording rule has none.
    pub annotations: Vec<(Arc<str>, Arc<str>)>,
}

/// Rules that are evaluated together, in their order, by one monitor.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleGroup {
    /// The group's name, unique in a bundle.
    pub name: Arc<str>,
    /// The file it came from, for messages.
    pub file: Arc<str>,
    /// Prometheus' evaluation interval; `None` evaluates on every sample.
    pub interval: Option<Duration>,
    /// Where it is evaluated on every sample: how often it is evaluated although none came, because windows move on.
    pub pulse: Duration,
    /// The rules that could be loaded.
    pub rules: Vec<Rule>,
}

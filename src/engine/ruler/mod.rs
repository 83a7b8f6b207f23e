//! What Prometheus does with a group of rules at one time: the reference of rule evaluation.
//!
//! A [`Group`] evaluates its rules in their order, as `rules/group.go` of Prometheus does: each rule reads what the
//! earlier ones have recorded for the same time, a rule that fails leaves the others going, and a series that a rule
//! does not give any more is marked as stale. It reads from and records into one [`SeriesStore`].
//!
//! Recording rules give series of their name; alerting rules give `ALERTS` and `ALERTS_FOR_STATE`, and alerts that are
//! pending, firing or resolved.

mod alerting;
mod error;
mod expanding;
mod recorded;
mod recording;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

pub use alerting::{Alert, AlertingRule, Phase, RESOLVED_KEPT};
pub use error::RuleError;
pub use expanding::External;
pub use recording::RecordingRule;

use super::promql::{Element, EvalError, Expr, NameRemoval, Scope, SeriesStore, Value};
use crate::model::{Labels, Timestamp};
use recorded::Recorded;

/// What a rule makes of its expression's value.
#[derive(Clone, Debug)]
pub enum Rule {
    /// Alerts.
    Alerting(AlertingRule),
    /// Series.
    Recording(RecordingRule),
}

impl Rule {
    /// The alert or the series it makes.
    pub fn name(&self) -> &Arc<str> {
        match self {
            Self::Alerting(rule) => &rule.name,
            Self::Recording(rule) => &rule.name,
        }
    }

    /// What it evaluates.
    pub fn expr(&self) -> &Expr {
        match self {
            Self::Alerting(rule) => &rule.expr,
            Self::Recording(rule) => &rule.expr,
        }
    }
}

/// What a group says about all of its rules.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// The group's name.
    pub name: Arc<str>,
    /// By how much the time that is evaluated lies before the time of the evaluation.
    pub query_offset: Duration,
    /// The most alerts or series that one rule may give; 0 is no limit.
    pub limit: u64,
    /// What templates are told of the outside.
    pub external: External,
}

/// A group of rules, with what its last evaluation has left.
#[derive(Clone, Debug)]
pub struct Group {
    terms: Terms,
    rules: Vec<Kept>,
}

/// A rule with the series it gave last.
#[derive(Clone, Debug)]
struct Kept {
    rule: Rule,
    recorded: Recorded,
}

/// A rule that failed at an evaluation.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which rule of the group, from 0.
    pub index: usize,
    /// The alert or the series it makes.
    pub name: Arc<str>,
    /// Why.
    pub error: RuleError,
}

/// One sample that a rule gives.
type Given = (Labels, f64);

impl Group {
    /// A group that has not been evaluated yet.
    pub fn new(terms: Terms, rules: Vec<Rule>) -> Self {
        let rules = rules.into_iter().map(|rule| Kept { rule, recorded: Recorded::default() });
        Self { terms, rules: rules.collect() }
    }

    /// Evaluates all rules at a time, in their order, and returns those that failed.
    pub fn evaluate(&mut self, store: &mut SeriesStore, at: Timestamp) -> Vec<Failure> {
        let mut failures = Vec::new();
        for (index, kept) in self.rules.iter_mut().enumerate() {
            if let Err(error) = kept.evaluate(&self.terms, store, at) {
                failures.push(Failure { index, name: Arc::clone(kept.rule.name()), error });
            }
        }
        failures
    }

    /// What the group says about its rules.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Its rules, in their order.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().map(|kept| &kept.rule)
    }
}

impl Kept {
    /// As in Prometheus, the series of a rule that cannot be evaluated are neither continued nor marked as stale: that
    /// is done when it can be evaluated again.
    fn evaluate(&mut self, terms: &Terms, store: &mut SeriesStore, at: Timestamp) -> Result<(), RuleError> {
        let of = at - terms.query_offset;
        let elements = elements(self.rule.expr(), store, of)?;
        let given = match &mut self.rule {
            Rule::Recording(rule) => rule.give(elements, terms.limit)?,
            Rule::Alerting(rule) => rule.give(&elements, terms, store, at)?,
        };
        self.recorded.write(store, of, given)
    }
}

/// The elements of an expression's value; a number is one without labels.
fn elements(expr: &Expr, store: &SeriesStore, at: Timestamp) -> Result<Vec<Element>, RuleError> {
    match expr.eval_removing(store, at, Scope::All, NameRemoval::Immediate)? {
        Value::Vector(elements) => Ok(elements),
        Value::Scalar(value) => Ok(vec![Element { labels: Labels::empty(), value }]),
        Value::Text(_) => Err(RuleError::NotAVector),
    }
}

impl From<EvalError> for RuleError {
    fn from(error: EvalError) -> Self {
        Self::Evaluation(error)
    }
}

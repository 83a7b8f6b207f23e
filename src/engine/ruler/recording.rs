//! Recording rules: the value of an expression as series of a name.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Given, RuleError};
use crate::engine::promql::{Element, Expr};
use crate::model::METRIC_NAME;

/// Gives the elements of an expression as series.
#[derive(Clone, Debug)]
pub struct RecordingRule {
    /// The name of the series.
    pub name: Arc<str>,
    /// What it records.
    pub expr: Expr,
    /// Labels put on the elements' own, the group's included; an empty value takes one away.
    pub labels: Vec<(Arc<str>, Arc<str>)>,
}

impl RecordingRule {
    pub(super) fn give(&self, elements: Vec<Element>, limit: u64) -> Result<Vec<Given>, RuleError> {
        let mut given = Vec::with_capacity(elements.len());
        for Element { labels, value } in elements {
            let labels = labels.overlaid(self.labels.iter().cloned())?.with(METRIC_NAME, &self.name)?;
            given.push((labels, value));
        }
        let distinct: BTreeSet<_> = given.iter().map(|(labels, _)| labels).collect();
        if distinct.len() < given.len() {
            return Err(RuleError::SameLabels("rule"));
        }
        if limit > 0 && given.len() as u64 > limit {
            return Err(RuleError::Limit { limit, count: given.len(), what: "series" });
        }
        Ok(given)
    }
}

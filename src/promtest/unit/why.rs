//! Why an alert fires or does not: the value at each evaluation, and what is left of its timer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::told;
use crate::engine::promql::{Expr, Scope, SeriesStore, Value};
use crate::engine::ruler::{AlertingRule, Phase};
use crate::model::{Labels, Timestamp};

/// How many evaluations are looked back at: four hours at the usual minute.
const EVALUATIONS_SHOWN: u32 = 240;
/// How many series are shown of one expression.
const SERIES_SHOWN: usize = 5;
/// How many times of one value, the last ones, are shown of a series.
const RUNS_SHOWN: usize = 8;

/// What is looked at.
pub(super) struct Why<'a> {
    pub(super) store: &'a SeriesStore,
    pub(super) start: Timestamp,
    pub(super) interval: Duration,
    /// From the start to the evaluation that is explained.
    pub(super) passed: Duration,
}

/// Evaluations in a row that gave one value.
struct Run {
    from: Duration,
    to: Duration,
    value: f64,
}

impl Why<'_> {
    /// How each rule that raises an alert came to what it says; `raised` are all alerts there are.
    pub(super) fn of<'r>(
        &self,
        alert: &str,
        rules: impl Iterator<Item = (&'r Arc<str>, &'r AlertingRule)>,
        raised: impl Iterator<Item = &'r Arc<str>>,
    ) -> Vec<String> {
        let mut lines = Vec::new();
        for (file, rule) in rules {
            self.rule(file, rule, &mut lines);
        }
        if lines.is_empty() {
            let mut raised: Vec<&str> = raised.map(AsRef::as_ref).collect();
            raised.sort_unstable();
            raised.dedup();
            lines.push(format!("no rule raises `{alert}`; there are: {}", raised.join(", ")));
        }
        lines
    }

    fn rule(&self, file: &str, rule: &AlertingRule, lines: &mut Vec<String>) {
        let expr = rule.expr.text().split_whitespace().collect::<Vec<_>>().join(" ");
        let hold = told::duration(rule.hold);
        lines.push(format!("`{expr}` for {hold} ({file})"));
        let now = self.start + self.passed;
        for alert in rule.alerts() {
            let since = |at: Timestamp| told::duration(at.saturating_since(self.start));
            let held = format!("holds since {}", since(alert.active_at));
            let state = match alert.phase {
                Phase::Pending => {
                    let left = rule.hold.saturating_sub(now.saturating_since(alert.active_at));
                    format!("pending: {held}, fires when it has held {} more", told::duration(left))
                }
                Phase::Firing { kept_since: None } => format!("firing: {held}"),
                Phase::Firing { kept_since: Some(at) } => {
                    let left = rule.keep_firing.saturating_sub(now.saturating_since(at));
                    let (at, left) = (since(at), told::duration(left));
                    format!("firing: holds no longer since {at}, is kept firing for {left} more")
                }
                Phase::Resolved { at } => format!("resolved at {}", since(at)),
            };
            lines.push(format!("{} is {state}", alert.labels));
        }
        // What the comparison looks at says more than what is left of it.
        let left = rule.expr.left_of_comparison();
        self.values(left.as_ref().unwrap_or(&rule.expr), lines);
    }

    fn values(&self, expr: &Expr, lines: &mut Vec<String>) {
        let runs = self.runs(expr);
        let text = expr.text().split_whitespace().collect::<Vec<_>>().join(" ");
        if runs.is_empty() {
            lines.push(format!("`{text}` has no value at any evaluation"));
        }
        for (labels, runs) in runs.iter().take(SERIES_SHOWN) {
            let shown = runs.iter().skip(runs.len().saturating_sub(RUNS_SHOWN)).map(|run| {
                let (from, to) = (told::duration(run.from), told::duration(run.to));
                let when = if run.from == run.to { from } else { format!("{from}–{to}") };
                format!("{} at {when}", told::number(run.value))
            });
            let shown: Vec<String> = shown.collect();
            let earlier = if runs.len() > RUNS_SHOWN { "…, " } else { "" };
            lines.push(format!("`{text}` {labels} is {earlier}{}", shown.join(", ")));
        }
        if runs.len() > SERIES_SHOWN {
            lines.push(format!("and {} more", runs.len() - SERIES_SHOWN));
        }
    }

    /// The expression's values at the evaluations up to the one that is explained.
    fn runs(&self, expr: &Expr) -> BTreeMap<Labels, Vec<Run>> {
        let mut runs: BTreeMap<Labels, Vec<Run>> = BTreeMap::new();
        let back = (self.passed.as_millis() / self.interval.as_millis().max(1)).min(EVALUATIONS_SHOWN.into());
        let first = self.passed.saturating_sub(self.interval * u32::try_from(back).unwrap_or(0));
        let times = std::iter::successors(Some(first), |at| Some(*at + self.interval));
        for passed in times.take_while(|at| *at <= self.passed) {
            let elements = match expr.eval(self.store, self.start + passed, Scope::All) {
                Ok(Value::Vector(elements)) => {
                    elements.into_iter().map(|one| (one.labels, one.value)).collect()
                }
                Ok(Value::Scalar(value)) => vec![(Labels::empty(), value)],
                Ok(Value::Text(_)) | Err(_) => Vec::new(),
            };
            for (labels, value) in elements {
                let runs = runs.entry(labels).or_default();
                match runs.last_mut() {
                    Some(run)
                        if run.value.to_bits() == value.to_bits() && run.to + self.interval == passed =>
                    {
                        run.to = passed;
                    }
                    Some(_) | None => runs.push(Run { from: passed, to: passed, value }),
                }
            }
        }
        runs
    }
}

//! Alerting rules: each element of an expression's value is an alert, which is pending, fires and is resolved as
//! `rules/alerting.go` of Prometheus has it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::expanding::{Scene, expand};
use super::{Given, RuleError, Terms};
use crate::engine::promql::{Element, Expr, SeriesStore};
use crate::engine::template::Template;
use crate::model::{Labels, METRIC_NAME, Timestamp};

/// How long an alert that is resolved is still known: Prometheus repeats it to the Alertmanager meanwhile.
pub const RESOLVED_KEPT: Duration = Duration::from_mins(15);

const ALERT_NAME: &str = "alertname";

/// Raises an alert for each element of an expression's value.
#[derive(Clone, Debug)]
pub struct AlertingRule {
    /// The alert's name.
    pub name: Arc<str>,
    /// What holds when something is wrong.
    pub expr: Expr,
    /// How long it has to hold before the alert fires.
    pub hold: Duration,
    /// How long the alert goes on firing when it has ceased to hold.
    pub keep_firing: Duration,
    /// Labels put on the elements' own, the group's included; one that expands to nothing takes a label away.
    pub labels: Vec<(Arc<str>, Template)>,
    /// Text for people.
    pub annotations: Vec<(Arc<str>, Template)>,
    alerts: BTreeMap<Labels, Alert>,
}

/// An alert.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// The element's labels without the metric's name, the rule's, and `alertname`.
    pub labels: Labels,
    /// Text for people, as it was at the last evaluation that gave the element. An empty one counts.
    pub annotations: BTreeMap<Arc<str>, Arc<str>>,
    /// The element's value at that evaluation.
    pub value: f64,
    /// When the expression began to hold.
    pub active_at: Timestamp,
    /// Where it stands.
    pub phase: Phase,
}

/// Where an alert stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The expression holds, `for` has not passed.
    Pending,
    /// It fires.
    Firing {
        /// When the expression ceased to hold, while `keep_firing_for` keeps the alert firing.
        kept_since: Option<Timestamp>,
    },
    /// It fired, and does no longer.
    Resolved {
        /// Since when.
        at: Timestamp,
    },
}

/// The rule's durations.
#[derive(Clone, Copy)]
struct Timing {
    hold: Duration,
    keep_firing: Duration,
}

impl AlertingRule {
    /// A rule without alerts, labels and annotations, which fires at once.
    pub fn new(name: impl Into<Arc<str>>, expr: Expr) -> Self {
        Self {
            name: name.into(),
            expr,
            hold: Duration::ZERO,
            keep_firing: Duration::ZERO,
            labels: Vec::new(),
            annotations: Vec::new(),
            alerts: BTreeMap::new(),
        }
    }

    /// The alerts that are known, in the order of their labels; those that were resolved a while ago among them.
    pub fn alerts(&self) -> impl Iterator<Item = &Alert> {
        self.alerts.values()
    }

    /// The alerts that fire.
    pub fn firing(&self) -> impl Iterator<Item = &Alert> {
        self.alerts().filter(|alert| matches!(alert.phase, Phase::Firing { .. }))
    }

    pub(super) fn give(
        &mut self,
        elements: &[Element],
        terms: &Terms,
        store: &SeriesStore,
        at: Timestamp,
    ) -> Result<Vec<Given>, RuleError> {
        let seen = self.seen(elements, terms, store, at)?;
        let timing = Timing { hold: self.hold, keep_firing: self.keep_firing };
        for alert in self.alerts.values_mut().filter(|alert| !seen.contains_key(&alert.labels)) {
            alert.miss(at, timing);
        }
        self.alerts.retain(|labels, alert| seen.contains_key(labels) || alert.is_kept(at));
        for (labels, new) in seen {
            let alert = match self.alerts.remove(&labels) {
                Some(known) if known.is_active() => {
                    Alert { value: new.value, annotations: new.annotations, ..known }
                }
                Some(_) | None => new,
            };
            self.alerts.insert(labels, alert.meet(at, timing));
        }
        let active = self.alerts.values().filter(|alert| alert.is_active()).count();
        if terms.limit > 0 && active as u64 > terms.limit {
            self.alerts.clear();
            return Err(RuleError::Limit { limit: terms.limit, count: active, what: "alerts" });
        }
        self.series()
    }

    /// What the elements would be as new alerts.
    fn seen(
        &self,
        elements: &[Element],
        terms: &Terms,
        store: &SeriesStore,
        at: Timestamp,
    ) -> Result<BTreeMap<Labels, Alert>, RuleError> {
        let mut seen = BTreeMap::new();
        for element in elements {
            let scene = Scene { alert: &self.name, element, store, at, external: &terms.external };
            let expanded =
                |(name, template): &(Arc<str>, Template)| (Arc::clone(name), expand(template, &scene));
            let name = (ALERT_NAME.into(), Arc::clone(&self.name));
            let labels = element.labels.overlaid(self.labels.iter().map(expanded).chain([name]))?;
            let alert = Alert {
                labels: labels.clone(),
                annotations: self.annotations.iter().map(expanded).collect(),
                value: element.value,
                active_at: at,
                phase: Phase::Pending,
            };
            if seen.insert(labels, alert).is_some() {
                return Err(RuleError::SameLabels("alert"));
            }
        }
        Ok(seen)
    }

    /// `ALERTS` and `ALERTS_FOR_STATE` of the alerts that are active.
    fn series(&self) -> Result<Vec<Given>, RuleError> {
        // Prometheus begins with the rule's labels as they are written, so that one that expands to nothing is there
        // with its template.
        let written =
            self.labels.iter().map(|(name, template)| (Arc::clone(name), Arc::clone(template.source())));
        let written = Labels::empty().overlaid(written)?;
        let mut series = Vec::with_capacity(2 * self.alerts.len());
        for alert in self.alerts.values() {
            let state = match alert.phase {
                Phase::Pending => "pending",
                Phase::Firing { .. } => "firing",
                Phase::Resolved { .. } => continue,
            };
            let own = alert.labels.iter().map(|(name, value)| (Arc::from(name), Arc::from(value)));
            let labels = written.overlaid(own)?.with(ALERT_NAME, &self.name)?;
            let since = alert.active_at.as_millis().div_euclid(1_000);
            series.push((labels.with("alertstate", state)?.with(METRIC_NAME, "ALERTS")?, 1.0));
            series.push((labels.with(METRIC_NAME, "ALERTS_FOR_STATE")?, since as f64));
        }
        Ok(series)
    }
}

impl Alert {
    fn is_active(&self) -> bool {
        match self.phase {
            Phase::Pending | Phase::Firing { .. } => true,
            Phase::Resolved { .. } => false,
        }
    }

    /// The expression holds.
    fn meet(self, at: Timestamp, timing: Timing) -> Self {
        let phase = match self.phase {
            Phase::Pending if at.saturating_since(self.active_at) < timing.hold => Phase::Pending,
            Phase::Pending | Phase::Firing { .. } | Phase::Resolved { .. } => {
                Phase::Firing { kept_since: None }
            }
        };
        Self { phase, ..self }
    }

    /// The expression does not hold.
    fn miss(&mut self, at: Timestamp, timing: Timing) {
        if let Phase::Firing { kept_since } = self.phase {
            let since = kept_since.unwrap_or(at);
            self.phase = if at.saturating_since(since) < timing.keep_firing {
                Phase::Firing { kept_since: Some(since) }
            } else {
                Phase::Resolved { at }
            };
        }
    }

    /// Whether it is still known, after the expression did not hold.
    fn is_kept(&self, now: Timestamp) -> bool {
        match self.phase {
            Phase::Pending => false,
            Phase::Firing { .. } => true,
            Phase::Resolved { at } => now.saturating_since(at) <= RESOLVED_KEPT,
        }
    }
}

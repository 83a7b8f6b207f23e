//! Rules, compiled: how each is evaluated, and what it has found so far.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::intake::{ALERT_NAME, EXTERNAL_GROUP, SEVERITY};
use super::phases::Timing;
use super::producers::ProducerId;
use crate::engine::Configuration;
use crate::engine::promql::{Comparison, Expr, is_stale};
use crate::model::{self, Labels, LabelsError, RuleName, Severity, Template, Timestamp};

/// One annotation, filled in.
const ANNOTATION_BYTES_MAX: usize = 4_096;

/// What makes a rule the same rule in another configuration: it keeps its state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleKey {
    /// Group and alert.
    pub name: RuleName,
    /// The expression.
    pub expr: Arc<str>,
    /// `for`.
    pub hold: Duration,
    /// The rule's labels, in the notation of templates.
    pub labels: Vec<(Arc<str>, Arc<str>)>,
    /// The group's interval.
    pub interval: Option<Duration>,
    /// Counts rules that are equal in all that.
    pub number: u32,
}

/// How a rule is evaluated. Small, because every sample of a series that a rule reads looks at it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Path {
    /// At each sample, by comparing it.
    Threshold { comparison: Comparison, bound: f64 },
    /// At each sample, for its series alone.
    Separable,
    /// When the samples of a moment are in, for all series.
    Joined,
    /// On the grid of its group's interval, for all series.
    Grid { group: u32 },
}

impl Path {
    /// For a threshold: whether the sample is a violation.
    #[inline]
    pub(super) fn compare(comparison: Comparison, bound: f64, value: f64) -> Option<f64> {
        (comparison.holds(value, bound) && !is_stale(value)).then_some(value)
    }
}

/// A rule and what it has found.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) key: RuleKey,
    pub(super) spec: Arc<model::Rule>,
    /// The name of the label that names the alert: one text for all violations.
    alert_name: Arc<str>,
    pub(super) expr: Expr,
    pub(super) path: Path,
    pub(super) timing: Timing,
    /// How long after a sample the expression may still read it.
    pub(super) window: Duration,
    /// Whether it can hold where there are no samples: then it has to be known that there are none.
    pub(super) needs_observation: bool,
    pub(super) state: RuleState,
}

/// What a rule has found so far.
#[derive(Debug)]
pub(super) struct RuleState {
    /// The violations that are pending or firing, by their labels. Who makes a list of them sorts it.
    pub(super) violations: FxHashMap<Labels, u32>,
    /// Those of a rule that is evaluated for all series, by the labels of the expression's element. Looked up, never
    /// iterated.
    pub(super) by_element: FxHashMap<Labels, u32>,
    /// When it was last evaluated for all series. Never goes back.
    pub(super) evaluated_at: Timestamp,
    /// The newest sample of the series it reads.
    pub(super) read_at: Timestamp,
    /// Who sent it.
    pub(super) producer: ProducerId,
    /// When it has to be evaluated if no sample comes: the last one is out of the window then.
    pub(super) expires_at: Option<Timestamp>,
    /// The entry in the deadlines for that.
    pub(super) queued: Option<Timestamp>,
    /// The frame and the time for which an evaluation is wanted already.
    pub(super) wanted: (u64, Timestamp),
    /// The evaluation for which the longest interval between samples was found, and the interval.
    pub(super) interval: (u64, Duration),
    /// Whether it was told that there are too many violations.
    pub(super) told_limit: bool,
    /// Whether it was told that the evaluation fails, or gives what cannot be a violation.
    pub(super) told_failure: bool,
}

impl RuleState {
    /// The violations, in the order of their labels.
    pub(super) fn sorted(&self) -> Vec<u32> {
        let mut violations: Vec<(&Labels, u32)> =
            self.violations.iter().map(|(labels, place)| (labels, *place)).collect();
        violations.sort_unstable();
        violations.into_iter().map(|(_, place)| place).collect()
    }
}

impl Default for RuleState {
    fn default() -> Self {
        Self {
            violations: FxHashMap::default(),
            by_element: FxHashMap::default(),
            evaluated_at: Timestamp::MIN,
            read_at: Timestamp::MIN,
            producer: ProducerId::NOBODY,
            expires_at: None,
            queued: None,
            wanted: (0, Timestamp::MIN),
            interval: (0, Duration::ZERO),
            told_limit: false,
            told_failure: false,
        }
    }
}

impl Rule {
    /// The labels of a violation, made of those of the expression's element: without the metric's name, with the
    /// rule's own and the alert's name, in Prometheus' order.
    pub(super) fn violation_labels(&self, element: &Labels, value: f64) -> Result<Labels, LabelsError> {
        let own = self.spec.labels.iter();
        let own = own.map(|(name, template)| (Arc::clone(name), template.render(element, value)));
        element.overlaid(own.chain([(Arc::clone(&self.alert_name), Arc::clone(&self.spec.name.alert))]))
    }

    pub(super) fn annotations(&self, element: &Labels, value: f64) -> Vec<(Arc<str>, Arc<str>)> {
        let render = |(name, template): &(Arc<str>, Template)| {
            (Arc::clone(name), shortened(template.render(element, value)))
        };
        let mut annotations: Vec<_> = self.spec.annotations.iter().map(render).collect();
        annotations.sort();
        annotations
    }
}

/// An annotation that labels made long is for nobody to read; 32 of them fit beside the labels in half a row of the store.
fn shortened(text: Arc<str>) -> Arc<str> {
    if text.len() <= ANNOTATION_BYTES_MAX {
        return text;
    }
    let end = text.floor_char_boundary(ANNOTATION_BYTES_MAX);
    format!("{}…", &text[..end]).into()
}

/// The severity that a violation's labels tell.
pub(super) fn severity_of(labels: &Labels) -> Severity {
    Severity::from_label(labels.get(SEVERITY))
}

/// A group that is evaluated at an interval.
#[derive(Clone, Debug)]
pub(super) struct GridGroup {
    pub(super) name: Arc<str>,
    pub(super) interval: Duration,
    /// Places of its rules, in its order.
    pub(super) rules: Vec<u32>,
}

/// A rule that cannot be evaluated, and why. The loader refuses such rules with place and cause; this is for a
/// configuration that came another way.
#[derive(Clone, Debug)]
pub(super) struct Unusable {
    pub(super) name: RuleName,
    pub(super) cause: String,
}

/// The rules of a configuration.
#[derive(Debug, Default)]
pub(super) struct Compiled {
    pub(super) rules: Vec<Rule>,
    pub(super) groups: Vec<GridGroup>,
    pub(super) unusable: Vec<Unusable>,
}

/// Compiles all rules of a configuration, in its order.
pub(super) fn compile(configuration: &Configuration) -> Compiled {
    let mut compiled = Compiled::default();
    let mut numbers: BTreeMap<RuleKey, u32> = BTreeMap::new();
    for group in &configuration.groups {
        let grid = group.interval.filter(|interval| interval.as_millis() > 0);
        let group_place = place_of(compiled.groups.len());
        let mut grid_rules = Vec::new();
        for spec in &group.rules {
            if group.name.as_ref() == EXTERNAL_GROUP {
                let cause = format!("the group name `{EXTERNAL_GROUP}` is for violations from outside");
                compiled.unusable.push(Unusable { name: spec.name.clone(), cause });
                continue;
            }
            let expr = match Expr::parse(&spec.expr) {
                Ok(expr) => expr,
                Err(error) => {
                    compiled.unusable.push(Unusable { name: spec.name.clone(), cause: error.to_string() });
                    continue;
                }
            };
            let path = if grid.is_some() { Path::Grid { group: group_place } } else { path_of(&expr) };
            let mut key = key_of(spec, grid);
            let number = numbers.entry(key.clone()).or_default();
            key.number = *number;
            *number += 1;
            grid_rules.push(place_of(compiled.rules.len()));
            compiled.rules.push(rule_of(spec, key, expr, path));
        }
        if let Some(interval) = grid {
            let group = GridGroup { name: Arc::clone(&group.name), interval, rules: grid_rules };
            compiled.groups.push(group);
        }
    }
    compiled
}

fn rule_of(spec: &model::Rule, key: RuleKey, expr: Expr, path: Path) -> Rule {
    Rule {
        key,
        path,
        timing: Timing { hold: spec.hold, keep_firing: spec.keep_firing },
        window: expr.longest_window(),
        needs_observation: expr.can_hold_without_samples(),
        expr,
        alert_name: ALERT_NAME.into(),
        spec: Arc::new(spec.clone()),
        state: RuleState::default(),
    }
}

fn path_of(expr: &Expr) -> Path {
    match expr.as_threshold() {
        Some(threshold) => Path::Threshold { comparison: threshold.comparison, bound: threshold.bound },
        None if expr.is_separable() => Path::Separable,
        None => Path::Joined,
    }
}

fn key_of(spec: &model::Rule, interval: Option<Duration>) -> RuleKey {
    RuleKey {
        name: spec.name.clone(),
        expr: Arc::clone(&spec.expr),
        hold: spec.hold,
        labels: spec
            .labels
            .iter()
            .map(|(name, template)| (Arc::clone(name), template.source().into()))
            .collect(),
        interval,
        number: 0,
    }
}

/// Places are 32 bits wide; a configuration is bounded far below.
pub(super) fn place_of(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

//! Rules, compiled: how each is evaluated, and what it has found so far.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::intake::{EXTERNAL_GROUP, SEVERITY};
use super::phases::Timing;
use super::producers::ProducerId;
use super::pulse::Pulse;
use super::recording::Recorded;
use super::texts::Texts;
use crate::engine::Configuration;
use crate::engine::promql::{Comparison, Expr, is_stale};
use crate::model::{self, Gives, Labels, RuleName, Severity, Timestamp};

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
    pub(super) texts: Texts,
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
    /// The series that its last evaluation has recorded.
    pub(super) recorded: BTreeMap<Labels, Recorded>,
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
            recorded: BTreeMap::new(),
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
    pub(super) pulses: Vec<Pulse>,
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
            let (expr, texts) = match parts_of(spec) {
                Ok(parts) => parts,
                Err(cause) => {
                    compiled.unusable.push(Unusable { name: spec.name.clone(), cause });
                    continue;
                }
            };
            let path = match grid {
                Some(_) => Path::Grid { group: group_place },
                None => path_of(spec.gives, &expr),
            };
            let mut key = key_of(spec, grid);
            let number = numbers.entry(key.clone()).or_default();
            key.number = *number;
            *number += 1;
            grid_rules.push(place_of(compiled.rules.len()));
            compiled.rules.push(rule_of(spec, key, (expr, texts), path));
        }
        if grid.is_none() {
            compiled.pulses.extend(pulse_of(group, &grid_rules, &compiled.rules));
        }
        if let Some(interval) = grid {
            let group = GridGroup { name: Arc::clone(&group.name), interval, rules: grid_rules };
            compiled.groups.push(group);
        }
    }
    compiled
}

/// What of a rule is written in a language.
fn parts_of(spec: &model::Rule) -> Result<(Expr, Texts), String> {
    Ok((Expr::parse(&spec.expr).map_err(|error| error.to_string())?, Texts::of(spec)?))
}

fn rule_of(spec: &model::Rule, key: RuleKey, (expr, texts): (Expr, Texts), path: Path) -> Rule {
    Rule {
        key,
        path,
        timing: Timing { hold: spec.hold, keep_firing: spec.keep_firing },
        window: expr.longest_window(),
        needs_observation: expr.can_hold_without_samples(),
        expr,
        texts,
        spec: Arc::new(spec.clone()),
        state: RuleState::default(),
    }
}

fn path_of(gives: Gives, expr: &Expr) -> Path {
    match expr.as_threshold() {
        // What is recorded is recorded for all series at one time.
        _ if gives == Gives::Samples => Path::Joined,
        Some(threshold) => Path::Threshold { comparison: threshold.comparison, bound: threshold.bound },
        None if expr.is_separable() => Path::Separable,
        None => Path::Joined,
    }
}

/// Thresholds are compared with a sample, which stays what it is.
fn pulse_of(group: &model::RuleGroup, places: &[u32], rules: &[Rule]) -> Option<Pulse> {
    let moves = |place: &u32| matches!(rules[*place as usize].path, Path::Separable | Path::Joined);
    let rules: Vec<u32> = places.iter().copied().filter(moves).collect();
    let (name, interval) = (Arc::clone(&group.name), group.pulse);
    let is_any = !rules.is_empty() && interval.as_millis() > 0;
    is_any.then_some(Pulse { group: name, interval, rules, next: None })
}

fn key_of(spec: &model::Rule, interval: Option<Duration>) -> RuleKey {
    RuleKey {
        name: spec.name.clone(),
        expr: Arc::clone(&spec.expr),
        hold: spec.hold,
        labels: spec.labels.clone(),
        interval,
        number: 0,
    }
}

/// Places are 32 bits wide; a configuration is bounded far below.
pub(super) fn place_of(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

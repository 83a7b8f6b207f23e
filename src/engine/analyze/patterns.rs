//! What the violations of an incident have in common.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::fold::{Episode, Fold};
use crate::model::{Confidence, METRIC_NAME, Pattern, PatternKind};

/// Fewer violations are no burst.
const BURST_LEAST: usize = 3;
/// A burst has to come within this time.
const BURST_WINDOW_MILLIS: u64 = 60_000;
/// Common labels that are told, most telling first.
const COMMON_LABELS_MAX: usize = 8;

type LabelPair<'a> = (&'a str, &'a str);

/// How often each label value stands on a firing violation, anywhere.
#[derive(Debug)]
pub(super) struct Background<'a> {
    firing: usize,
    counts: BTreeMap<LabelPair<'a>, usize>,
}

impl<'a> Background<'a> {
    pub(super) fn of(fold: &'a Fold) -> Self {
        let mut counts = BTreeMap::new();
        let mut firing = 0;
        for (_, episode) in fold.episodes.iter().filter(|(_, episode)| episode.is_firing()) {
            firing += 1;
            for pair in telling_labels(episode) {
                *counts.entry(pair).or_insert(0) += 1;
            }
        }
        Self { firing, counts }
    }
}

/// Bursts and common labels among episodes in the order of their time.
pub(super) fn find(episodes: &[&Episode], background: &Background<'_>) -> Vec<Pattern> {
    burst(episodes).into_iter().chain(common_labels(episodes, background)).collect()
}

fn burst(episodes: &[&Episode]) -> Option<Pattern> {
    let (first, last) = (episodes.first()?, episodes.last()?);
    let window = last.violation.at.saturating_since(first.violation.at);
    let window_millis = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
    if episodes.len() < BURST_LEAST || window_millis > BURST_WINDOW_MILLIS {
        return None;
    }
    let violations = u32::try_from(episodes.len()).unwrap_or(u32::MAX);
    // That n independent violations fall into one window is the less likely the more they are.
    let confidence = Confidence::new(1.0 - 1.0 / f64::from(violations))?;
    Some(Pattern { kind: PatternKind::Burst { violations, window_millis }, confidence })
}

/// Label values that all of them have. Confidence is the probability that as many violations drawn from all that fire
/// would not all have it: a value that everything has tells nothing.
fn common_labels(episodes: &[&Episode], background: &Background<'_>) -> Vec<Pattern> {
    let [first, rest @ ..] = episodes else { return Vec::new() };
    if rest.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (name, value) in telling_labels(first) {
        if !rest.iter().all(|episode| episode.violation.labels.get(name) == Some(value)) {
            continue;
        }
        let with = background.counts.get(&(name, value)).copied().unwrap_or(0).max(episodes.len());
        // One more of each: with nothing else firing there is nothing to tell it from, not certainty of chance.
        let share = (with as f64 + 1.0) / (background.firing.max(with) as f64 + 2.0);
        let chance = share.powf(episodes.len() as f64);
        if let Some(confidence) = Confidence::new(1.0 - chance) {
            let kind = PatternKind::CommonLabel { name: Arc::from(name), value: Arc::from(value) };
            found.push(Pattern { kind, confidence });
        }
    }
    // Stable: equal ones stay in the order of the label names.
    found.sort_by(|a, b| b.confidence.as_f64().total_cmp(&a.confidence.as_f64()));
    found.truncate(COMMON_LABELS_MAX);
    found
}

/// Labels that say where: not what it is called and how bad it is.
fn telling_labels(episode: &Episode) -> impl Iterator<Item = LabelPair<'_>> {
    episode
        .violation
        .labels
        .iter()
        .filter(|(name, _)| !matches!(*name, METRIC_NAME | "alertname" | "severity"))
}

//! What the violations of an incident have in common.

use std::sync::Arc;

use crate::engine::fold::{Episode, Episodes, telling_labels};
use crate::model::{Confidence, Pattern, PatternKind};

/// Fewer violations are no burst.
const BURST_LEAST: usize = 3;
/// A burst has to come within this time.
const BURST_WINDOW_MILLIS: u64 = 60_000;
/// Common labels that are told, most telling first.
const COMMON_LABELS_MAX: usize = 8;

/// Bursts and common labels among episodes in the order of their time.
pub(super) fn find(episodes: &[&Episode], all: &Episodes) -> Vec<Pattern> {
    burst(episodes).into_iter().chain(common_labels(episodes, all)).collect()
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
fn common_labels(episodes: &[&Episode], all: &Episodes) -> Vec<Pattern> {
    let [first, rest @ ..] = episodes else { return Vec::new() };
    if rest.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    let background = all.background();
    for (name, value) in telling_labels(&first.violation) {
        if !rest.iter().all(|episode| episode.violation.labels.get(name) == Some(value)) {
            continue;
        }
        let with = background.with(name, value).max(episodes.len());
        // One more of each: with nothing else firing there is nothing to tell it from, not certainty of chance.
        let share = (with as f64 + 1.0) / (background.firing().max(with) as f64 + 2.0);
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

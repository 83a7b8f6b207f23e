//! Supposed root causes, from the cause catalogue.
//!
//! Symptoms are combined as a noisy-or with the prior as leak (Pearl, *Probabilistic Reasoning in Intelligent Systems*,
//! 1988, §4.3.2): `1 − (1 − prior) · Π (1 − weight)` over the symptoms that were seen. The result is scaled by the share
//! of the incident's violations that the cause explains: a cause that leaves half of them open is half a cause.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::fold::Episode;
use crate::model::{Cause, CauseEntry, Confidence, Labels, METRIC_NAME, Violation};

/// Causes that are told, most probable first.
const CAUSES_MAX: usize = 8;
/// Pieces of evidence that are told of one cause.
const EVIDENCE_MAX: usize = 8;
/// What a violation that the catalogue does not know says of itself.
const SYMPTOM_ONLY: f64 = 0.5;

/// Causes of an incident with these episodes, most probable first.
pub(super) fn rank(episodes: &[&Episode], catalogue: &[CauseEntry]) -> Vec<Cause> {
    let violations: Vec<&Violation> = episodes.iter().map(|episode| episode.violation.as_ref()).collect();
    let mut causes: Vec<Cause> = catalogue.iter().filter_map(|entry| weigh(entry, &violations)).collect();
    causes.extend(symptoms(&violations));
    causes.sort_by(|a, b| {
        b.confidence.as_f64().total_cmp(&a.confidence.as_f64()).then_with(|| a.name.cmp(&b.name))
    });
    causes.truncate(CAUSES_MAX);
    causes
}

fn weigh(entry: &CauseEntry, violations: &[&Violation]) -> Option<Cause> {
    let mut explained: Vec<&Violation> = Vec::new();
    let mut evidence = Vec::new();
    let mut unlikely = 1.0 - entry.prior.as_f64();
    for symptom in &entry.symptoms {
        let seen: Vec<&Violation> = violations
            .iter()
            .copied()
            .filter(|violation| violation.labels.contains_all(&symptom.matches))
            .collect();
        let Some(first) = seen.first() else { continue };
        unlikely *= 1.0 - symptom.weight.as_f64();
        evidence.push(Arc::from(format!(
            "{} ({}, {} of {} violations, first at {})",
            symptom.because,
            first.rule.alert,
            seen.len(),
            violations.len(),
            first.at
        )));
        explained.extend(seen);
    }
    if explained.is_empty() {
        return None;
    }
    explained.sort_by_key(|violation| violation.episode);
    explained.dedup_by_key(|violation| violation.episode);
    let share = explained.len() as f64 / violations.len() as f64;
    evidence.truncate(EVIDENCE_MAX);
    Some(Cause {
        name: Arc::clone(&entry.name),
        scope: common_scope(&explained),
        confidence: Confidence::new((1.0 - unlikely) * share)?,
        evidence,
    })
}

/// Each alert as its own cause, so that a playbook can answer a symptom where the symptom is the cause.
fn symptoms(violations: &[&Violation]) -> Vec<Cause> {
    let mut by_alert: BTreeMap<&str, Vec<&Violation>> = BTreeMap::new();
    for violation in violations {
        by_alert.entry(violation.rule.alert.as_ref()).or_default().push(violation);
    }
    let told = by_alert.into_iter().filter_map(|(alert, seen)| {
        let share = seen.len() as f64 / violations.len() as f64;
        let first = seen.first()?;
        Some(Cause {
            name: format!("symptom:{alert}").into(),
            scope: common_scope(&seen),
            confidence: Confidence::new(SYMPTOM_ONLY * share)?,
            evidence: vec![format!("{alert} fires with value {} since {}", first.value, first.since).into()],
        })
    });
    told.collect()
}

/// The labels that all of them have with the same values, without what they are called and how bad they are.
fn common_scope(violations: &[&Violation]) -> Labels {
    let [first, rest @ ..] = violations else { return Labels::empty() };
    first.labels.filter(|name| {
        !matches!(name, METRIC_NAME | "alertname" | "severity")
            && rest.iter().all(|violation| violation.labels.get(name) == first.labels.get(name))
    })
}

//! Supposed root causes, from the cause catalogue.
//!
//! Symptoms are combined as a noisy-or with the prior as leak (Pearl, *Probabilistic Reasoning in Intelligent Systems*,
//! 1988, §4.3.2): `1 − (1 − prior) · Π (1 − weight)` over the symptoms that were seen. The result is scaled by the share
//! of the incident's violations that the cause explains: a cause that leaves half of them open is half a cause.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::engine::fold::Episode;
use crate::model::{Cause, CauseEntry, Confidence, Labels, METRIC_NAME, Violation};

/// Causes that are told, most probable first.
const CAUSES_MAX: usize = 8;
/// Pieces of evidence that are told of one cause.
const EVIDENCE_MAX: usize = 8;
/// What is said of a symptom beside its alert's name: room for it is made once.
const EVIDENCE_BYTES: usize = 80;
/// What a violation that the catalogue does not know says of itself.
const SYMPTOM_ONLY: f64 = 0.5;

/// The names of the causes that alerts are of themselves, each made once for a decision.
#[derive(Debug, Default)]
pub(super) struct SymptomNames {
    /// The last one: mostly the next violation is of the same alert.
    last: Option<(Arc<str>, Arc<str>)>,
}

impl SymptomNames {
    fn of(&mut self, alert: &Arc<str>) -> Arc<str> {
        match &self.last {
            Some((known, name)) if known == alert => Arc::clone(name),
            Some(_) | None => {
                let name: Arc<str> = format!("symptom:{alert}").into();
                self.last = Some((Arc::clone(alert), Arc::clone(&name)));
                name
            }
        }
    }
}

/// Causes of an incident with these episodes, most probable first.
pub(super) fn rank(episodes: &[&Episode], catalogue: &[CauseEntry], names: &mut SymptomNames) -> Vec<Cause> {
    let mut violations: Vec<&Violation> = episodes.iter().map(|episode| episode.violation.as_ref()).collect();
    let mut causes: Vec<Cause> = catalogue.iter().filter_map(|entry| weigh(entry, &violations)).collect();
    symptoms(&mut violations, &mut causes, names);
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
fn symptoms(violations: &mut [&Violation], causes: &mut Vec<Cause>, names: &mut SymptomNames) {
    // Stable: those of one alert stay in the order of their time.
    violations.sort_by(|one, other| one.rule.alert.cmp(&other.rule.alert));
    causes.reserve_exact(1);
    for seen in violations.chunk_by(|one, other| one.rule.alert == other.rule.alert) {
        let share = seen.len() as f64 / violations.len() as f64;
        let (Some(first), Some(confidence)) = (seen.first(), Confidence::new(SYMPTOM_ONLY * share)) else {
            continue;
        };
        let alert = &first.rule.alert;
        let mut evidence = String::with_capacity(alert.len() + EVIDENCE_BYTES);
        let _ = write!(evidence, "{alert} fires with value {} since {}", first.value, first.since);
        causes.push(Cause {
            name: names.of(alert),
            scope: common_scope(seen),
            confidence,
            evidence: vec![evidence.into()],
        });
    }
}

/// The labels that all of them have with the same values, without what they are called and how bad they are.
fn common_scope(violations: &[&Violation]) -> Labels {
    let [first, rest @ ..] = violations else { return Labels::empty() };
    first.labels.filter(|name| {
        !matches!(name, METRIC_NAME | "alertname" | "severity")
            && rest.iter().all(|violation| violation.labels.get(name) == first.labels.get(name))
    })
}

//! Which playbooks answer an incident's causes, best first.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::engine::Configuration;
use crate::engine::fold::Learned;
use crate::model::{ActionSpec, Analysis, Cause, Filled, Playbook, StepTemplate, Template, Timestamp};

/// A playbook and the cause it would answer.
#[derive(Debug)]
pub(super) struct Candidate<'a> {
    pub(super) playbook: &'a Playbook,
    pub(super) cause: &'a Cause,
    /// What the playbook says about the cause's scope.
    pub(super) filled: Filled,
    score: f64,
}

/// Why there is no candidate.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lack {
    /// No playbook answers any of the causes.
    NoPlaybook,
    /// All that answer were tried.
    Exhausted,
    /// Some would answer if the analysis were surer.
    Unsure(String),
    /// Some would answer, but ask for labels that the scope does not have, or that do not fit where they would stand.
    MissingLabel(String),
}

/// The best playbook that was not tried yet: by confidence in the cause times what is known of the playbook's
/// effectiveness against it (lower credible bound), then by the playbook's own order, then by name.
pub(super) fn best<'a>(
    configuration: &'a Configuration,
    learned: &Learned,
    analysis: &'a Analysis,
    tried: &BTreeSet<&Arc<str>>,
    now: Timestamp,
) -> Result<Candidate<'a>, Lack> {
    let mut lack = Lack::NoPlaybook;
    let mut best: Option<Candidate<'a>> = None;
    for cause in &analysis.causes {
        for playbook in &configuration.playbooks {
            match answer(playbook, cause, tried) {
                None => {}
                Some(Err(reason)) => lack = reason,
                Some(Ok(filled)) => {
                    let effectiveness =
                        learned.of(&playbook.name, &cause.name, &cause.scope, now).lower_bound();
                    let score = cause.confidence.as_f64() * effectiveness;
                    let candidate = Candidate { playbook, cause, filled, score };
                    if best.as_ref().is_none_or(|best| candidate.compare(best).is_lt()) {
                        best = Some(candidate);
                    }
                }
            }
        }
    }
    best.ok_or(lack)
}

impl Candidate<'_> {
    /// The better one first.
    fn compare(&self, other: &Self) -> Ordering {
        let by_score = other.score.total_cmp(&self.score);
        let by_order = by_score.then_with(|| self.playbook.order.cmp(&other.playbook.order));
        by_order.then_with(|| self.playbook.name.cmp(&other.playbook.name))
    }
}

/// What a playbook says where it may be used against a cause; `None` where it has nothing to do with it.
fn answer(playbook: &Playbook, cause: &Cause, tried: &BTreeSet<&Arc<str>>) -> Option<Result<Filled, Lack>> {
    let answer = playbook
        .answers
        .iter()
        .find(|answer| answer.cause == cause.name && cause.scope.contains_all(&answer.scope))?;
    if tried.contains(&playbook.name) {
        return Some(Err(Lack::Exhausted));
    }
    if cause.confidence < answer.min_confidence {
        return Some(Err(Lack::Unsure(format!(
            "{} answers {} from a confidence of {:.2} on, it is {:.2}",
            playbook.name,
            cause.name,
            answer.min_confidence.as_f64(),
            cause.confidence.as_f64()
        ))));
    }
    let missing = templates(playbook).flat_map(Template::labels).find(|name| cause.scope.get(name).is_none());
    match missing {
        Some(name) => Some(Err(Lack::MissingLabel(format!(
            "{} asks for the label `{name}`, and the scope {} does not have it",
            playbook.name, cause.scope
        )))),
        None => Some(playbook.fill(&cause.scope).map_err(|error| {
            Lack::MissingLabel(format!(
                "{} cannot be used on the scope {}: {error}",
                playbook.name, cause.scope
            ))
        })),
    }
}

fn templates(playbook: &Playbook) -> impl Iterator<Item = &Template> {
    let steps = playbook.steps.iter().chain(&playbook.undo).flat_map(step_templates);
    steps.chain([&playbook.verify.expr]).chain(&playbook.verify.harm)
}

fn step_templates(step: &StepTemplate) -> impl Iterator<Item = &Template> {
    let (named, rest) = match &step.spec {
        ActionSpec::NatsPublish { subject, body } | ActionSpec::NatsRequest { subject, body } => {
            ([Some(subject), Some(body)], &[][..])
        }
        ActionSpec::Webhook { url, body, .. } => ([Some(url), Some(body)], &[][..]),
        ActionSpec::Command { arguments, .. } => ([None, None], arguments.as_slice()),
    };
    named.into_iter().flatten().chain(rest)
}

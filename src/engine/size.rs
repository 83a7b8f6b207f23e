//! How many bytes an entry takes in a message: an estimate from above by the lengths of its texts, so that a batch can be
//! cut before it is written.

use std::sync::Arc;

use crate::model::{
    Action, ActionSpec, Admission, Analysis, Cause, ENTRIES_PER_BATCH_MAX, Entry, Incident, Intent, Labels,
    Pattern, PatternKind, Plan, Verification,
};

/// Estimated bytes of the entries in one message. The server takes 1 MiB; half of it is left for what an estimate leaves
/// out.
pub const BATCH_BYTES_MAX: usize = 512 * 1024;
/// What every entry takes beside its texts: ids, times, numbers and the names of its fields.
const ENTRY_BYTES: usize = 512;
/// What a text, an id or a number in a list takes beside its bytes.
const ITEM_BYTES: usize = 24;

/// How many of the first entries fit into one message; at least one, where there is one.
pub fn fitting(entries: &[Entry]) -> usize {
    let mut bytes = 0;
    let fitting = entries.iter().take(ENTRIES_PER_BATCH_MAX).take_while(|entry| {
        bytes += estimate(entry);
        bytes <= BATCH_BYTES_MAX
    });
    fitting.count().max(1).min(entries.len())
}

/// See the module.
pub fn estimate(entry: &Entry) -> usize {
    let texts = match entry {
        Entry::Violation(violation) => {
            text(&violation.rule.group)
                + text(&violation.rule.alert)
                + labels(&violation.labels)
                + violation.annotations.iter().map(|(name, value)| text(name) + text(value)).sum::<usize>()
        }
        Entry::Incident(incident) => of_incident(incident),
        Entry::Analysis(analysis) => of_analysis(analysis),
        Entry::Plan(plan) => of_plan(plan),
        Entry::Admission(Admission::Intent(intent)) => of_intent(intent),
        Entry::Admission(Admission::Halt { by, reason, .. }) => text(by) + text(reason),
        Entry::Admission(Admission::Resume { by, .. }) => text(by),
        Entry::Admission(Admission::Release(_) | Admission::Charter { .. }) => 0,
        Entry::Outcome(outcome) => text(&outcome.output),
        Entry::Verdict(verdict) => {
            text(&verdict.playbook) + text(&verdict.cause) + labels(&verdict.scope) + text(&verdict.reason)
        }
        Entry::Report(report) => text(&report.text),
        Entry::Change(change) => labels(&change.scope) + text(&change.summary),
        Entry::Applied { hash, .. } => text(hash),
    };
    ENTRY_BYTES + texts
}

fn of_incident(incident: &Incident) -> usize {
    labels(&incident.scope) + incident.joined.len() * ITEM_BYTES * 2
}

fn of_analysis(analysis: &Analysis) -> usize {
    let pattern = |pattern: &Pattern| match &pattern.kind {
        PatternKind::Burst { .. } => ITEM_BYTES * 4,
        PatternKind::CommonLabel { name, value } => ITEM_BYTES * 4 + text(name) + text(value),
    };
    let cause = |cause: &Cause| {
        let evidence = cause.evidence.iter().map(text).sum::<usize>();
        ITEM_BYTES * 4 + text(&cause.name) + labels(&cause.scope) + evidence
    };
    analysis.patterns.iter().map(pattern).sum::<usize>() + analysis.causes.iter().map(cause).sum::<usize>()
}

fn of_plan(plan: &Plan) -> usize {
    let Verification { expr, harm, .. } = &plan.verify;
    let verify = text(expr) + harm.as_ref().map_or(0, text);
    let actions = plan.steps.iter().chain(&plan.undo).map(of_action).sum::<usize>();
    text(&plan.playbook) + text(&plan.cause) + labels(&plan.scope) + verify + actions
}

fn of_action(action: &Action) -> usize {
    let spec = match &action.spec {
        ActionSpec::NatsPublish { subject, body } | ActionSpec::NatsRequest { subject, body } => {
            text(subject) + text(body)
        }
        ActionSpec::Webhook { url, body, .. } => text(url) + text(body),
        ActionSpec::Command { program, arguments } => {
            text(program) + arguments.iter().map(text).sum::<usize>()
        }
    };
    ENTRY_BYTES + text(&action.name) + spec
}

fn of_intent(intent: &Intent) -> usize {
    text(&intent.playbook) + labels(&intent.scope) + text(&intent.executor)
}

fn labels(labels: &Labels) -> usize {
    labels.iter().map(|(name, value)| name.len() + value.len() + 2 * ITEM_BYTES).sum()
}

fn text(text: &Arc<str>) -> usize {
    text.len() + ITEM_BYTES
}

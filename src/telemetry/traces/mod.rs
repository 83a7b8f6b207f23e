//! Traces: what the ledger says of an incident, as spans from the sample to the verdict.
//!
//! A trace is named by its incident, which is its first episode. Its root is the incident, from the sample with which it
//! began to its close; each decision about it is a child of the root: when it was decided until it was in the ledger. An
//! attempt is a child as well, under the id that its target was given in `traceparent`. Episodes of other traces and
//! further incidents of the same message are links. Spans are a pure function of a record, so whoever reads the ledger
//! twice sends the same spans twice, under the same ids.

#[cfg(feature = "otlp")]
mod otlp;

#[cfg(feature = "otlp")]
pub use otlp::TraceError;

use std::collections::BTreeSet;
#[cfg(feature = "otlp")]
use std::sync::Arc;

use crate::model::{
    Admission, Entry, EpisodeId, Incident, IncidentPhase, MessageId, Outcome, OutcomeResult, Phase, Record,
    Timestamp, Topic, Violation,
};
use crate::wire::envelope::Trace;

/// Links of one span. A storm's message has more; they are found by its attributes.
const LINKS_MAX: usize = 64;

/// Where traces are sent to, if anywhere. Cheap to clone; what is under way is sent when the last clone is dropped.
#[derive(Clone, Debug, Default)]
pub struct Traces {
    #[cfg(feature = "otlp")]
    tracer: Option<Arc<otlp::Tracer>>,
    /// What was recorded before it is not sent: a store that is rebuilt reads the whole ledger again.
    since: Timestamp,
}

impl Traces {
    /// To the OTLP/HTTP collector at an address, of what is recorded from now on. Headers, time-outs and compression are
    /// those of the `OTEL_EXPORTER_OTLP_*` variables.
    #[cfg(feature = "otlp")]
    pub fn to(address: &str, cell: &str, instance: &str, now: Timestamp) -> Result<Self, TraceError> {
        Ok(Self { tracer: Some(Arc::new(otlp::Tracer::to(address, cell, instance)?)), since: now })
    }

    /// Sends the spans that a record completes.
    pub fn tell(&self, record: &Record) {
        let is_new = record.stored_at >= self.since;
        #[cfg(feature = "otlp")]
        if let Some(tracer) = self.tracer.as_ref().filter(|_| is_new) {
            tracer.tell(record);
        }
        #[cfg(not(feature = "otlp"))]
        let _ = is_new;
    }
}

/// Something that took a while.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Where it stands.
    pub place: Trace,
    /// The span it is a part of.
    pub parent: Option<u64>,
    /// What it is.
    pub name: String,
    /// When it began.
    pub from: Timestamp,
    /// When it was over: not before it began.
    pub until: Timestamp,
    /// What else is known of it.
    pub attributes: Vec<(&'static str, Attribute)>,
    /// The roots of other traces that it has to do with.
    pub links: Vec<Trace>,
    /// Why it failed, where it did.
    pub failure: Option<String>,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// In words.
    Text(String),
    /// A whole number.
    Count(u64),
    /// A measured value.
    Value(f64),
}

/// The spans that a record completes.
pub fn spans_of(record: &Record) -> Vec<Span> {
    // Copies for subscribers: what they say is in the analyses already.
    if matches!(record.topic, Topic::Incidents(_)) {
        return Vec::new();
    }
    let mut spans: Vec<Span> = decision(record).into_iter().collect();
    for entry in &record.batch.entries {
        spans.extend(match entry {
            Entry::Violation(violation) => episode(violation),
            Entry::Incident(closed) if closed.phase == IncidentPhase::Closed => incident(closed),
            Entry::Outcome(outcome) => attempt(outcome),
            Entry::Incident(_)
            | Entry::Analysis(_)
            | Entry::Plan(_)
            | Entry::Admission(_)
            | Entry::Verdict(_)
            | Entry::Report(_)
            | Entry::Change(_)
            | Entry::Applied { .. } => None,
        });
    }
    spans
}

/// The message itself: decided by a role, until it was in the ledger.
fn decision(record: &Record) -> Option<Span> {
    let batch = &record.batch;
    let place = Trace::of(batch.trace, batch.id)?;
    let mut span = Span {
        place,
        parent: Some(root_of(batch.trace)?.span),
        name: format!("{} {}", batch.role, batch.entries.first().map_or("nothing", kind_of)),
        from: batch.at,
        until: record.stored_at.max(batch.at),
        attributes: vec![
            ("messaging.system", text("nats")),
            ("messaging.message.id", text(&batch.id)),
            ("homeostat.instance", text(&batch.instance)),
            ("homeostat.sequence", Attribute::Count(record.sequence)),
            ("homeostat.entries", Attribute::Count(batch.entries.len() as u64)),
            ("homeostat.basis.ledger", Attribute::Count(batch.basis.ledger)),
            ("homeostat.basis.generation", Attribute::Count(batch.basis.generation.0)),
        ],
        links: links(record),
        failure: None,
    };
    if let Some(first) = batch.entries.first() {
        describe(first, &mut span.attributes);
    }
    Some(span)
}

/// From when the expression began to hold: until it fired, or until it was over.
fn episode(violation: &Violation) -> Option<Span> {
    let trace = violation.episode.as_u128();
    let place = Trace::of(trace, MessageId::of(&[&violation.episode, &u64::from(violation.rev)]))?;
    let how = match violation.phase {
        Phase::Pending => return None,
        Phase::Firing => "fires",
        Phase::Resolved => "resolved",
    };
    Some(Span {
        place,
        parent: Some(root_of(trace)?.span),
        name: format!("{} {how}", violation.rule.alert),
        from: violation.since,
        until: violation.at.max(violation.since),
        attributes: vec![
            ("homeostat.episode", text(&violation.episode)),
            ("homeostat.rule", text(&violation.rule)),
            ("homeostat.severity", text(&violation.severity)),
            ("homeostat.labels", text(&violation.labels)),
            ("homeostat.value", Attribute::Value(violation.value)),
        ],
        links: Vec::new(),
        failure: None,
    })
}

fn incident(closed: &Incident) -> Option<Span> {
    Some(Span {
        place: root_of(closed.id.as_u128())?,
        parent: None,
        name: "incident".to_owned(),
        from: closed.opened_at,
        until: closed.changed_at.max(closed.opened_at),
        attributes: vec![
            ("homeostat.incident", text(&closed.id)),
            ("homeostat.scope", text(&closed.scope)),
            ("homeostat.severity", text(&closed.severity)),
            ("homeostat.violations", Attribute::Count(u64::from(closed.violations))),
        ],
        links: Vec::new(),
        failure: None,
    })
}

fn attempt(outcome: &Outcome) -> Option<Span> {
    let trace = outcome.incident.as_u128();
    let failure = match outcome.result {
        OutcomeResult::Succeeded => None,
        OutcomeResult::Failed
        | OutcomeResult::NotStarted
        | OutcomeResult::TimedOut
        | OutcomeResult::InDoubt => Some(format!("{}: {}", outcome.result.as_str(), outcome.output)),
    };
    Some(Span {
        place: Trace::of_attempt(outcome.incident, outcome.attempt)?,
        parent: Some(root_of(trace)?.span),
        name: "attempt".to_owned(),
        from: outcome.started_at,
        until: outcome.ended_at.max(outcome.started_at),
        attributes: vec![
            ("homeostat.attempt", text(&outcome.attempt)),
            ("homeostat.action", text(&outcome.action)),
            ("homeostat.plan", text(&outcome.plan)),
            ("homeostat.result", text(outcome.result.as_str())),
        ],
        links: Vec::new(),
        failure,
    })
}

/// The root of a trace; `None` where there is no trace.
fn root_of(trace: u128) -> Option<Trace> {
    #[expect(clippy::cast_possible_truncation, reason = "the lower half of the id is meant")]
    let span = trace as u64;
    (trace != 0 && span != 0).then_some(Trace { trace, span })
}

/// The roots of the other traces that a message has to do with.
fn links(record: &Record) -> Vec<Trace> {
    let mut seen = BTreeSet::from([record.batch.trace]);
    let all = record.batch.entries.iter().flat_map(|entry| {
        let joined = entry.as_incident().map_or(&[][..], |incident| &incident.joined);
        std::iter::once(entry.trace()).chain(joined.iter().copied().map(EpisodeId::as_u128))
    });
    all.filter(|trace| seen.insert(*trace)).filter_map(root_of).take(LINKS_MAX).collect()
}

fn kind_of(entry: &Entry) -> &'static str {
    match entry {
        Entry::Violation(_) => "violation",
        Entry::Incident(_) | Entry::Analysis(_) => "analysis",
        Entry::Plan(_) => "plan",
        Entry::Admission(Admission::Intent(_)) => "intent",
        Entry::Admission(Admission::Release(_)) => "release",
        Entry::Admission(Admission::Halt { .. }) => "halt",
        Entry::Admission(Admission::Resume { .. }) => "resume",
        Entry::Admission(Admission::Charter { .. }) => "charter",
        Entry::Outcome(_) => "outcome",
        Entry::Verdict(_) => "verdict",
        Entry::Report(_) => "report",
        Entry::Change(_) => "change",
        Entry::Applied { .. } => "configuration",
    }
}

fn describe(entry: &Entry, attributes: &mut Vec<(&'static str, Attribute)>) {
    match entry {
        Entry::Plan(plan) => attributes.extend([
            ("homeostat.plan", text(&plan.id)),
            ("homeostat.playbook", text(&plan.playbook)),
            ("homeostat.cause", text(&plan.cause)),
            ("homeostat.confidence", Attribute::Value(plan.confidence.as_f64())),
            ("homeostat.mode", text(plan.mode.as_str())),
        ]),
        Entry::Verdict(verdict) => attributes.extend([
            ("homeostat.plan", text(&verdict.plan)),
            ("homeostat.verdict", text(verdict.kind.as_str())),
            ("homeostat.reason", text(&verdict.reason)),
        ]),
        Entry::Report(report) => attributes.extend([
            ("homeostat.reason", text(report.reason.as_str())),
            ("homeostat.text", text(&report.text)),
        ]),
        Entry::Violation(_)
        | Entry::Incident(_)
        | Entry::Analysis(_)
        | Entry::Admission(_)
        | Entry::Outcome(_)
        | Entry::Change(_)
        | Entry::Applied { .. } => {}
    }
}

fn text(value: &(impl ToString + ?Sized)) -> Attribute {
    Attribute::Text(value.to_string())
}

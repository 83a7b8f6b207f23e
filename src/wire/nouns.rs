//! The nouns of the ledger, mirrored field by field: a field that is added to the model stops the build here, so that
//! nobody forgets to say how it is written and what an old message without it means.
//!
//! New fields are `default`; nothing that was ever written changes its name or its meaning within one major version.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::leaf::{bits, float, float_option, millis, pairs};
use super::words::mirrored;
use crate::model::{
    self, Action, ActionId, ActionSpec, Admission, Analysis, AnalysisId, AttemptId, Basis, Cause, Change,
    ChangeId, ChangeKind, Confidence, Entry, EpisodeId, Generation, HttpMethod, Idempotency, Incident,
    IncidentId, IncidentPhase, Intent, Labels, MessageId, Mode, Outcome, OutcomeResult, Pattern, PatternKind,
    Phase, Plan, PlanEnd, PlanId, Reason, Release, Report, ReportId, Role, RuleName, Severity, Timestamp,
    Verdict, VerdictKind, Verification, Violation,
};

mirrored! {
    Action => ActionShape,
    ActionSpec => ActionSpecShape,
    Admission => AdmissionShape,
    Analysis => AnalysisShape,
    Basis => BasisShape,
    model::Batch => BatchShape,
    Cause => CauseShape,
    Change => ChangeShape,
    Entry => EntryShape,
    Generation => GenerationShape,
    Incident => IncidentShape,
    Intent => IntentShape,
    Outcome => OutcomeShape,
    Pattern => PatternShape,
    PatternKind => PatternKindShape,
    Plan => PlanShape,
    Release => ReleaseShape,
    Report => ReportShape,
    RuleName => RuleNameShape,
    Verdict => VerdictShape,
    Verification => VerificationShape,
    Violation => ViolationShape,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "model::Batch")]
struct BatchShape {
    id: MessageId,
    role: Role,
    instance: Arc<str>,
    at: Timestamp,
    basis: Basis,
    #[serde(default, with = "bits", skip_serializing_if = "bits::is_zero")]
    trace: u128,
    entries: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Basis")]
struct BasisShape {
    ledger: u64,
    generation: Generation,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Generation")]
struct GenerationShape(u64);

#[derive(Serialize, Deserialize)]
#[serde(remote = "Entry", rename_all = "snake_case")]
enum EntryShape {
    Violation(Arc<Violation>),
    Incident(Arc<Incident>),
    Analysis(Arc<Analysis>),
    Plan(Arc<Plan>),
    Admission(Admission),
    Outcome(Arc<Outcome>),
    Verdict(Arc<Verdict>),
    Report(Arc<Report>),
    Change(Arc<Change>),
    Applied { generation: Generation, hash: Arc<str> },
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Violation")]
struct ViolationShape {
    episode: EpisodeId,
    rev: u32,
    rule: RuleName,
    severity: Severity,
    phase: Phase,
    labels: Labels,
    #[serde(with = "pairs")]
    annotations: Vec<(Arc<str>, Arc<str>)>,
    since: Timestamp,
    at: Timestamp,
    #[serde(with = "float")]
    value: f64,
    #[serde(default, rename = "sample_interval_ms", with = "millis")]
    sample_interval: Duration,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "RuleName")]
struct RuleNameShape {
    group: Arc<str>,
    alert: Arc<str>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Incident")]
struct IncidentShape {
    id: IncidentId,
    rev: u32,
    phase: IncidentPhase,
    scope: Labels,
    severity: Severity,
    joined: Vec<EpisodeId>,
    violations: u32,
    opened_at: Timestamp,
    changed_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Analysis")]
struct AnalysisShape {
    id: AnalysisId,
    incident: IncidentId,
    incident_rev: u32,
    patterns: Vec<Pattern>,
    causes: Vec<Cause>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Pattern")]
struct PatternShape {
    kind: PatternKind,
    confidence: Confidence,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "PatternKind", rename_all = "snake_case")]
enum PatternKindShape {
    Burst {
        violations: u32,
        #[serde(rename = "window_ms")]
        window_millis: u64,
    },
    CommonLabel {
        name: Arc<str>,
        value: Arc<str>,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Cause")]
struct CauseShape {
    name: Arc<str>,
    scope: Labels,
    confidence: Confidence,
    evidence: Vec<Arc<str>>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Plan")]
struct PlanShape {
    id: PlanId,
    incident: IncidentId,
    generation: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<PlanId>,
    playbook: Arc<str>,
    cause: Arc<str>,
    confidence: Confidence,
    scope: Labels,
    mode: Mode,
    steps: Vec<Action>,
    verify: Verification,
    undo: Vec<Action>,
    at: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Action")]
struct ActionShape {
    id: ActionId,
    name: Arc<str>,
    spec: ActionSpec,
    #[serde(rename = "timeout_ms", with = "millis")]
    timeout: Duration,
    idempotency: Idempotency,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "ActionSpec", rename_all = "snake_case")]
enum ActionSpecShape {
    NatsPublish { subject: Arc<str>, body: Arc<str> },
    NatsRequest { subject: Arc<str>, body: Arc<str> },
    Webhook { method: HttpMethod, url: Arc<str>, body: Arc<str> },
    Command { program: Arc<str>, arguments: Vec<Arc<str>> },
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Verification")]
struct VerificationShape {
    expr: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    harm: Option<Arc<str>>,
    #[serde(rename = "settle_ms", with = "millis")]
    settle: Duration,
    #[serde(rename = "within_ms", with = "millis")]
    within: Duration,
    evaluations: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Admission", rename_all = "snake_case")]
enum AdmissionShape {
    Intent(Arc<Intent>),
    Release(Release),
    Halt { request: u64, by: Arc<str>, reason: Arc<str> },
    Resume { request: u64, by: Arc<str> },
    Charter { generation: Generation },
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Intent")]
struct IntentShape {
    attempt: AttemptId,
    action: ActionId,
    number: u32,
    plan: PlanId,
    incident: IncidentId,
    playbook: Arc<str>,
    scope: Labels,
    undo: bool,
    executor: Arc<str>,
    #[serde(with = "bits")]
    nonce: u128,
    lease: u64,
    #[serde(rename = "timeout_ms", with = "millis")]
    timeout: Duration,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Release")]
struct ReleaseShape {
    plan: PlanId,
    incident: IncidentId,
    end: PlanEnd,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Outcome")]
struct OutcomeShape {
    attempt: AttemptId,
    action: ActionId,
    plan: PlanId,
    incident: IncidentId,
    result: OutcomeResult,
    started_at: Timestamp,
    ended_at: Timestamp,
    output: Arc<str>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Verdict")]
struct VerdictShape {
    plan: PlanId,
    incident: IncidentId,
    playbook: Arc<str>,
    cause: Arc<str>,
    scope: Labels,
    kind: VerdictKind,
    reason: Arc<str>,
    #[serde(default, with = "float_option", skip_serializing_if = "Option::is_none")]
    before: Option<f64>,
    #[serde(default, with = "float_option", skip_serializing_if = "Option::is_none")]
    after: Option<f64>,
    evaluations: u32,
    at: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Report")]
struct ReportShape {
    id: ReportId,
    reason: Reason,
    text: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    incident: Option<IncidentId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    plan: Option<PlanId>,
    at: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Change")]
struct ChangeShape {
    id: ChangeId,
    kind: ChangeKind,
    scope: Labels,
    at: Timestamp,
    summary: Arc<str>,
}

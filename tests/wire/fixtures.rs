//! One fixed value of every message. What stands here is in the golden files: add, but do not change.

use std::sync::Arc;
use std::time::Duration;

use homeostat::model::{
    Action, ActionId, ActionSpec, Admission, Analysis, AnalysisId, AttemptId, Basis, Batch, Bundle,
    BundleFile, Cause, Change, ChangeKind, Confidence, Entry, EpisodeId, Frame, Generation, HttpMethod,
    Idempotency, Incident, IncidentId, IncidentPhase, Intent, Labels, MessageId, Mode, OperatorRequest,
    Outcome, OutcomeResult, Pattern, PatternKind, Phase, Plan, PlanEnd, PlanId, Reason, Release, Report,
    ReportId, Role, Row, RuleName, ScrapePart, SeriesTable, Severity, Timestamp, Verdict, VerdictKind,
    Verification, Violation,
};
use homeostat::wire::intake::{Received, ReportedChange, ReportedViolation};

const AT: Timestamp = Timestamp::from_millis(1_700_000_000_123);

fn after(millis: u64) -> Timestamp {
    AT + Duration::from_millis(millis)
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::new(pairs.iter().copied()).unwrap()
}

fn scope() -> Labels {
    labels(&[("service", "checkout")])
}

fn episode() -> EpisodeId {
    EpisodeId::of(&[&"cell", &"memory/WorkerMemoryHigh", &AT])
}

fn incident_id() -> IncidentId {
    IncidentId::of_episode(episode())
}

fn plan_id() -> PlanId {
    PlanId::of(&[&incident_id(), &2_u64])
}

fn action_id() -> ActionId {
    ActionId::of(&[&plan_id(), &0_u64])
}

fn attempt_id() -> AttemptId {
    AttemptId::of(&[&action_id(), &1_u64])
}

fn confidence(value: f64) -> Confidence {
    Confidence::new(value).unwrap()
}

/// Every variant of an entry, by the name of its golden file.
pub(crate) fn entries() -> Vec<(&'static str, Entry)> {
    vec![
        ("violation", Entry::Violation(Arc::new(violation(93.5e6)))),
        ("violation_nan", Entry::Violation(Arc::new(violation(f64::NEG_INFINITY)))),
        ("incident", incident()),
        ("analysis", analysis()),
        ("plan", plan()),
        ("plan_actions", plan_of_every_action()),
        ("admission_intent", intent()),
        (
            "admission_release",
            Entry::Admission(Admission::Release(Release {
                plan: plan_id(),
                incident: incident_id(),
                end: PlanEnd::Verified,
            })),
        ),
        (
            "admission_halt",
            Entry::Admission(Admission::Halt { request: 17, by: "kim".into(), reason: "deploy".into() }),
        ),
        ("admission_resume", Entry::Admission(Admission::Resume { request: 18, by: "kim".into() })),
        ("admission_charter", Entry::Admission(Admission::Charter { generation: Generation(4) })),
        ("outcome", outcome()),
        ("verdict", verdict()),
        ("report", report()),
        (
            "change",
            Entry::Change(Arc::new(Change::new(ChangeKind::Deploy, scope(), AT, "checkout 2.0 rolled out"))),
        ),
        ("applied", Entry::Applied { generation: Generation(4), hash: "af1349b9f5f9a1a6".into() }),
    ]
}

/// A batch around entries, as a role writes it.
pub(crate) fn batch(entries: Vec<Entry>) -> Batch {
    Batch {
        id: MessageId::of(&[&"golden"]),
        role: Role::Analyzer,
        instance: "host-1".into(),
        at: after(5),
        basis: Basis { ledger: 41, generation: Generation(3) },
        trace: episode().as_u128(),
        entries,
    }
}

fn violation(value: f64) -> Violation {
    Violation {
        episode: episode(),
        rev: 1,
        rule: RuleName { group: "memory".into(), alert: "WorkerMemoryHigh".into() },
        severity: Severity::Critical,
        phase: Phase::Firing,
        labels: labels(&[
            ("alertname", "WorkerMemoryHigh"),
            ("service", "checkout"),
            ("worker", "w1"),
            ("ä", "\u{1f980} \"quoted\"\n"),
        ]),
        annotations: vec![("description".into(), "".into()), ("summary".into(), "w1 takes 93.5M".into())],
        since: AT,
        at: after(2),
        value,
        sample_interval: Duration::from_secs(1),
    }
}

fn incident() -> Entry {
    Entry::Incident(Arc::new(Incident {
        id: incident_id(),
        rev: 3,
        phase: IncidentPhase::Open,
        scope: scope(),
        severity: Severity::Warning,
        joined: vec![episode(), EpisodeId::of(&[&"second"])],
        violations: 7,
        opened_at: AT,
        changed_at: after(3),
    }))
}

fn analysis() -> Entry {
    let burst = PatternKind::Burst { violations: 12, window_millis: 1_500 };
    let common = PatternKind::CommonLabel { name: "worker".into(), value: "w1".into() };
    Entry::Analysis(Arc::new(Analysis {
        id: AnalysisId::of(&[&incident_id(), &3_u64]),
        incident: incident_id(),
        incident_rev: 3,
        patterns: vec![
            Pattern { kind: burst, confidence: confidence(0.75) },
            Pattern { kind: common, confidence: Confidence::CERTAIN },
        ],
        causes: vec![Cause {
            name: "memory_leak".into(),
            scope: scope(),
            confidence: confidence(0.8),
            evidence: vec!["memory grows and does not come back".into()],
        }],
    }))
}

fn plan() -> Entry {
    let restart =
        ActionSpec::NatsRequest { subject: "workers.w1.restart".into(), body: r#"{"key":"w1"}"#.into() };
    Entry::Plan(Arc::new(Plan {
        id: plan_id(),
        incident: incident_id(),
        generation: 2,
        parent: Some(PlanId::of(&[&incident_id(), &1_u64])),
        playbook: "restart-worker".into(),
        cause: "memory_leak".into(),
        confidence: confidence(0.8),
        scope: scope(),
        mode: Mode::Auto,
        steps: vec![action(restart, Idempotency::Key)],
        verify: Verification {
            expr: r#"worker_rss_bytes{worker="w1"} < 100e6"#.into(),
            harm: Some("up == 0".into()),
            settle: Duration::from_millis(200),
            within: Duration::from_secs(5),
            evaluations: 3,
        },
        undo: Vec::new(),
        at: after(4),
    }))
}

fn plan_of_every_action() -> Entry {
    let publish = ActionSpec::NatsPublish { subject: "a.b".into(), body: "".into() };
    let webhook = ActionSpec::Webhook {
        method: HttpMethod::Patch,
        url: "http://localhost/hook".into(),
        body: "x".into(),
    };
    let command =
        ActionSpec::Command { program: "/bin/true".into(), arguments: vec!["-v".into(), "".into()] };
    let steps = vec![action(publish, Idempotency::None), action(webhook, Idempotency::Fence)];
    let Entry::Plan(plan) = plan() else { unreachable!("a plan is a plan") };
    let mut plan = Plan { parent: None, mode: Mode::Shadow, steps, ..Plan::clone(&plan) };
    plan.verify.harm = None;
    plan.undo = vec![action(command, Idempotency::None)];
    Entry::Plan(Arc::new(plan))
}

fn action(spec: ActionSpec, idempotency: Idempotency) -> Action {
    Action { id: action_id(), name: "step".into(), spec, timeout: Duration::from_secs(5), idempotency }
}

fn intent() -> Entry {
    Entry::Admission(Admission::Intent(Arc::new(Intent {
        attempt: attempt_id(),
        action: action_id(),
        number: 1,
        plan: plan_id(),
        incident: incident_id(),
        playbook: "restart-worker".into(),
        scope: scope(),
        undo: false,
        executor: "host-2".into(),
        nonce: 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef,
        lease: 9,
        timeout: Duration::from_secs(5),
    })))
}

fn outcome() -> Entry {
    Entry::Outcome(Arc::new(Outcome {
        attempt: attempt_id(),
        action: action_id(),
        plan: plan_id(),
        incident: incident_id(),
        result: OutcomeResult::TimedOut,
        started_at: after(6),
        ended_at: after(5_006),
        output: "no answer".into(),
    }))
}

fn verdict() -> Entry {
    Entry::Verdict(Arc::new(Verdict {
        plan: plan_id(),
        incident: incident_id(),
        playbook: "restart-worker".into(),
        cause: "memory_leak".into(),
        scope: scope(),
        kind: VerdictKind::Verified,
        reason: "3 evaluations in a row agree".into(),
        before: Some(93.5e6),
        after: Some(12.25e6),
        evaluations: 3,
        at: after(900),
    }))
}

fn report() -> Entry {
    Entry::Report(Arc::new(Report {
        id: ReportId::of(&[&incident_id(), &"cooldown"]),
        reason: Reason::Cooldown,
        text: "restart-worker acted on service=checkout 12 s ago, the charter asks for 5m".into(),
        incident: Some(incident_id()),
        plan: None,
        at: after(7),
    }))
}

/// The series of the frames.
pub(crate) fn table() -> SeriesTable {
    let series = |name, worker| labels(&[("__name__", name), ("service", "checkout"), ("worker", worker)]);
    SeriesTable::new(vec![series("rss_bytes", "w1"), series("rss_bytes", "w2"), series("up", "w1")])
}

/// Frames by the names of their golden files: with a table and without, with near, far and equal times.
pub(crate) fn frames() -> Vec<(&'static str, Frame, Option<SeriesTable>)> {
    let row = |series, millis, value| Row { series, at: AT + Duration::from_millis(millis), value };
    let frame = Frame {
        producer: "web-1".into(),
        epoch: 2,
        sequence: 300,
        bucket: 5,
        scrape: None,
        table: table().hash,
        rows: vec![row(0, 0, 1.5), row(1, 1_000, f64::NEG_INFINITY), row(2, 999, -0.0)],
    };
    let scrape = Frame {
        scrape: Some(ScrapePart { part: 1, parts: 3 }),
        rows: vec![row(0, 0, 1.5), row(1, 0, 0.1)],
        ..frame.clone()
    };
    let far = Frame { rows: vec![row(0, 0, 1.0), row(0, 1 << 40, 2.0)], ..frame.clone() };
    let empty = Frame { rows: Vec::new(), ..frame.clone() };
    vec![
        ("frame", frame.clone(), None),
        ("frame_with_table", frame, Some(table())),
        ("frame_scrape", scrape, None),
        ("frame_far", far, None),
        ("frame_empty", empty, None),
    ]
}

/// What people and tools send, by the names of its golden files.
pub(crate) fn intake() -> Vec<(&'static str, Received)> {
    let violation = ReportedViolation {
        alert: "DiskFull".into(),
        labels: labels(&[("alertname", "DiskFull"), ("host", "db-1")]),
        annotations: vec![("summary".into(), "full".into())],
        severity: Severity::Warning,
        phase: Phase::Resolved,
        since: Some(AT),
        value: Some(f64::INFINITY),
    };
    let change = ReportedChange {
        kind: ChangeKind::Config,
        scope: scope(),
        at: Some(AT),
        summary: "pool size 8 to 16".into(),
    };
    vec![
        ("intake_violation", Received::Violation(violation)),
        ("intake_change", Received::Change(change)),
        ("intake_halt", Received::Control("kim".into(), OperatorRequest::Halt { reason: "deploy".into() })),
        ("intake_resume", Received::Control("kim".into(), OperatorRequest::Resume)),
    ]
}

/// A bundle of two files.
pub(crate) fn bundle() -> Bundle {
    let file = |path: &str, text: &str| BundleFile { path: path.into(), text: text.into() };
    Bundle::new(vec![file("charter.yaml", "mode: shadow\n"), file("rules/a.yml", "groups: []\n")])
}

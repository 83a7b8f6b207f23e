//! Stories of a planner, a charter that changes and plans that overtake each other.

use super::*;
use crate::engine::testing::{Bench, configuration, incident, intent_of, plan, violation};
use crate::model::{
    ActionSpec, Analysis, AnalysisId, Cause, Confidence, Generation, Idempotency, Incident, IncidentPhase,
    Labels, Plan, PlanEnd, Playbook, Release, Severity, Shard, StepTemplate, Template, Verification,
};

fn with_playbook(generation: u64) -> Configuration {
    let text = |text: &str| Template::parse(text).unwrap();
    let step = StepTemplate {
        name: "step".into(),
        spec: ActionSpec::NatsPublish { subject: text("x"), body: text("y") },
        timeout: Duration::from_secs(1),
        idempotency: Idempotency::Key,
    };
    let answer = crate::model::Answer {
        cause: "symptom:Ill".into(),
        scope: Labels::empty(),
        min_confidence: Confidence::NONE,
    };
    let playbook = |name: &str| Playbook {
        name: name.into(),
        answers: vec![answer.clone()],
        settle: Some(Duration::ZERO),
        order: 0,
        steps: vec![step.clone()],
        verify: Verification {
            expr: text("up"),
            harm: None,
            settle: Duration::ZERO,
            within: Duration::from_secs(1),
            evaluations: 1,
        },
        undo: Vec::new(),
    };
    let playbooks = vec![playbook("mend"), playbook("other")];
    Configuration { generation: Generation(generation), playbooks, ..configuration() }
}

/// An incident with an analysis; returns the record that is the planner's work.
fn fall_ill(bench: &mut Bench<Planner>, service: &str) -> Arc<Record> {
    let found = violation(service, 0, bench.now);
    let scope = Labels::new([("service", service)]).unwrap();
    let opened = Incident {
        id: incident(service),
        rev: 1,
        phase: IncidentPhase::Open,
        scope: scope.clone(),
        severity: Severity::Warning,
        joined: vec![found.episode],
        violations: 1,
        opened_at: bench.now,
        changed_at: bench.now,
    };
    let cause = Cause {
        name: "symptom:Ill".into(),
        scope,
        confidence: Confidence::new(0.8).unwrap(),
        evidence: Vec::new(),
    };
    let analysis = Analysis {
        id: AnalysisId::of(&[&opened.id, &1_u64]),
        incident: opened.id,
        incident_rev: 1,
        patterns: Vec::new(),
        causes: vec![cause],
    };
    bench.record(Topic::Violations(Severity::Warning), Entry::Violation(Arc::new(found)));
    bench.record(Topic::Analyses(Shard::default()), Entry::Incident(Arc::new(opened)));
    bench.record(Topic::Analyses(Shard::default()), Entry::Analysis(Arc::new(analysis)))
}

fn deliver(bench: &mut Bench<Planner>, record: &Arc<Record>, token: u64) {
    let work = Work::Record(Arc::clone(record));
    bench.give(Input::Work(vec![Delivery { token: Token(token), delivered: 1, work }]));
}

#[test]
fn a_planner_with_an_older_charter_than_the_one_that_holds_leaves_the_work_to_others() {
    let mut bench = Bench::new(Planner::new("one".into(), Arc::new(with_playbook(1))));
    let newer = Admission::Charter { generation: Generation(2) };
    bench.record(Topic::Admission, Entry::Admission(newer));
    let record = fall_ill(&mut bench, "a");
    deliver(&mut bench, &record, 1);
    assert!(bench.entries(Topic::Plans).is_empty());
    assert_eq!(bench.done, [(Token(1), Done::Nak(OUTDATED_PAUSE))]);
    bench.give(Input::Configuration(Arc::new(with_playbook(2))));
    deliver(&mut bench, &record, 2);
    assert_eq!(bench.entries(Topic::Plans).len(), 1);
}

#[test]
fn nothing_is_planned_beside_a_plan_at_work_though_a_newer_one_was_given_up() {
    let mut bench = Bench::new(Planner::new("one".into(), Arc::new(with_playbook(1))));
    let record = fall_ill(&mut bench, "a");
    let first = plan("a", 1, Idempotency::Key, bench.now);
    let second = plan("a", 2, Idempotency::Key, bench.now);
    bench.record(Topic::Plans, Entry::Plan(Arc::new(first.clone())));
    bench.record(Topic::Plans, Entry::Plan(Arc::new(second.clone())));
    bench.record(Topic::Admission, Entry::Admission(Admission::Intent(intent_of(&first).into())));
    let release = |plan: &Plan, end| {
        Entry::Admission(Admission::Release(Release { plan: plan.id, incident: plan.incident, end }))
    };
    bench.record(Topic::Admission, release(&second, PlanEnd::Cancelled));
    deliver(&mut bench, &record, 1);
    assert_eq!(bench.entries(Topic::Plans).len(), 2);
    let over = bench.record(Topic::Admission, release(&first, PlanEnd::Failed));
    deliver(&mut bench, &over, 2);
    let plans = bench.entries(Topic::Plans);
    assert_eq!(plans.len(), 3);
    assert!(matches!(plans[2], Entry::Plan(plan) if plan.generation == 3 && &*plan.playbook == "other"));
}

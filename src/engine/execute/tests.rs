//! Stories of one executor and a ledger that does what ledgers do.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the stories look at the few entries that they are about"
)]

use std::time::Duration;

use super::*;
use crate::engine::testing::{Bench, configuration, incident, intent_of, plan, violation};
use crate::model::{
    Charter, Confidence, Generation, Idempotency, Incident, IncidentPhase, Labels, Mode, Outcome,
    OutcomeResult, Plan, Report, ReportId, Severity, VerdictKind,
};

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

type Change = fn(&mut Configuration);

fn bench(configuration: Configuration) -> Bench<Executor> {
    bench_of_shards(configuration, &(0..SHARDS).collect::<Vec<u16>>())
}

fn bench_of_shards(configuration: Configuration, shards: &[u16]) -> Bench<Executor> {
    let mut bench = Bench::new(Executor::new("one".into(), Arc::new(configuration), 7));
    let until = bench.now + DAY * 1_000;
    let leases = shards.iter().map(|shard| Lease { shard: *shard, revision: 1, until }).collect();
    bench.give(Input::Leases(leases));
    bench
}

fn open(bench: &mut Bench<Executor>, service: &str) {
    let found = violation(service, 0, bench.now);
    let opened = Incident {
        id: incident(service),
        rev: 1,
        phase: IncidentPhase::Open,
        scope: Labels::new([("service", service)]).unwrap(),
        severity: Severity::Warning,
        joined: vec![found.episode],
        violations: 1,
        opened_at: bench.now,
        changed_at: bench.now,
    };
    bench.record(Topic::Violations(Severity::Warning), Entry::Violation(Arc::new(found)));
    bench.record(Topic::Analyses(crate::model::Shard::default()), Entry::Incident(Arc::new(opened)));
}

fn add(bench: &mut Bench<Executor>, plan: &Plan) {
    bench.record(Topic::Plans, Entry::Plan(Arc::new(plan.clone())));
}

/// An incident of this service and a first plan for it.
fn fall_ill(bench: &mut Bench<Executor>, service: &str) -> Plan {
    open(bench, service);
    let plan = plan(service, 1, Idempotency::Key, bench.now);
    add(bench, &plan);
    plan
}

/// What was admitted and released, as the subject tells it.
fn told(bench: &Bench<Executor>) -> Vec<String> {
    let line = |entry: &&Entry| match entry {
        Entry::Admission(Admission::Intent(intent)) => {
            format!("{} {} {}", if intent.undo { "undo" } else { "intent" }, intent.scope, intent.number)
        }
        Entry::Admission(Admission::Release(release)) => format!("release {}", release.end.as_str()),
        Entry::Admission(Admission::Halt { request, .. }) => format!("halt {request}"),
        Entry::Admission(Admission::Resume { request, .. }) => format!("resume {request}"),
        Entry::Admission(Admission::Charter { generation }) => format!("charter {}", generation.0),
        other => panic!("{other:?} on admission"),
    };
    bench.entries(Topic::Admission).iter().map(line).collect()
}

fn reports(bench: &Bench<Executor>) -> Vec<(Reason, String)> {
    let entries = bench.entries(Topic::Reports(Role::Executor));
    let report = |entry: &Entry| match entry {
        Entry::Report(report) => (report.reason, report.text.to_string()),
        other => panic!("{other:?} is no report"),
    };
    entries.into_iter().map(report).collect()
}

/// The attempts that were started end like this.
fn end_attempts(bench: &mut Bench<Executor>, result: OutcomeResult) {
    for act in std::mem::take(&mut bench.acts) {
        let mut outcome = act.outcome;
        outcome.result = result;
        (outcome.started_at, outcome.ended_at) = (bench.now, bench.now);
        bench.give(Input::Acted(Acted { attempt: act.attempt, outcome }));
    }
}

#[test]
fn when_the_last_entry_on_the_subject_has_aged_out_admission_goes_on() {
    let mut bench = bench(configuration());
    fall_ill(&mut bench, "a");
    end_attempts(&mut bench, OutcomeResult::Failed);
    assert_eq!(told(&bench), ["charter 1", "intent {service=\"a\"} 1", "release failed"]);
    bench.kept_from = bench.ledger.len() as u64 + 1;
    bench.pass(HOUR);
    fall_ill(&mut bench, "b");
    bench.pass(Duration::from_secs(1));
    assert_eq!(told(&bench)[3..], ["intent {service=\"b\"} 1"]);
    assert_eq!(bench.acts.len(), 1);
}

#[test]
fn a_write_that_is_refused_for_nothing_is_made_again_after_a_pause() {
    let mut bench = bench(configuration());
    bench.refuse_in_vain = 4;
    fall_ill(&mut bench, "a");
    let tries = bench.published.len();
    assert!(tries < 3, "{tries} writes at once");
    bench.pass(Duration::from_secs(1));
    assert_eq!(told(&bench), ["charter 1", "intent {service=\"a\"} 1"]);
    assert_eq!(bench.acts.len(), 1);
}

#[test]
fn a_plan_is_not_cancelled_behind_an_intent_and_the_next_one_does_not_run_beside_it() {
    let mut bench = bench_of_shards(configuration(), &[]);
    bench.record(Topic::Admission, Entry::Admission(Admission::Charter { generation: Generation(1) }));
    let first = fall_ill(&mut bench, "a");
    let second = plan("a", 2, Idempotency::Key, bench.now);
    add(&mut bench, &second);
    // The owner before us was admitted behind the second generation, and we have not read it yet.
    bench.feeds = false;
    bench.record(Topic::Admission, Entry::Admission(Admission::Intent(intent_of(&first).into())));
    let lease = |shard| Lease { shard, revision: 1, until: bench.now + DAY };
    let leases = (0..SHARDS).map(lease).collect();
    bench.give(Input::Leases(leases));
    assert_eq!(told(&bench), ["charter 1", "intent {service=\"a\"} 1"]);

    bench.feeds = true;
    bench.feed();
    assert_eq!(told(&bench)[2..], ["release cancelled"]);
    assert!(bench.core.fold().plans.get(second.id).unwrap().is_over());
    assert!(bench.acts.is_empty());

    bench.pass(HOUR);
    assert_eq!(told(&bench)[3..], ["intent {service=\"a\"} 2"], "the first goes on");
    end_attempts(&mut bench, OutcomeResult::Failed);
    assert_eq!(told(&bench)[4..], ["release failed"]);
}

#[test]
fn of_one_incident_one_plan_is_admitted_at_a_time() {
    let mut gate = crate::engine::fold::Gate::default();
    let (now, charter) = (Timestamp::from_millis(0), configuration().charter);
    let (first, second) = (plan("a", 1, Idempotency::Key, now), plan("a", 2, Idempotency::Key, now));
    gate.admit(now, &intent_of(&first));
    let later = now + DAY;
    assert_eq!(gate.check(&charter, &first, false, later), Ok(()));
    assert_eq!(gate.check(&charter, &second, false, later).unwrap_err().reason, Reason::Concurrency);
    assert_eq!(gate.check(&charter, &plan("b", 1, Idempotency::Key, now), false, later), Ok(()));
    gate.released(first.id);
    assert_eq!(gate.check(&charter, &second, false, later), Ok(()));
}

#[test]
fn a_plan_that_waits_is_given_up_when_the_charter_does_not_let_it_act_any_more() {
    let shadow = |configuration: &mut Configuration| configuration.charter.mode = Mode::Shadow;
    let disarmed = |configuration: &mut Configuration| configuration.charter.armed.clear();
    let surer = |configuration: &mut Configuration| {
        configuration.charter.min_confidence = Confidence::new(0.9).unwrap();
    };
    let cases: [(Change, Reason); 3] =
        [(shadow, Reason::Shadow), (disarmed, Reason::Shadow), (surer, Reason::Unsure)];
    for (change, reason) in cases {
        let mut bench = bench(configuration());
        let halt = Admission::Halt { request: 1, by: "ann".into(), reason: "drill".into() };
        bench.record(Topic::Admission, Entry::Admission(halt));
        fall_ill(&mut bench, "a");
        let mut changed = Configuration { generation: Generation(2), ..configuration() };
        change(&mut changed);
        bench.give(Input::Configuration(Arc::new(changed)));
        let resume = Admission::Resume { request: 2, by: "ann".into() };
        bench.record(Topic::Admission, Entry::Admission(resume));
        bench.pass(HOUR);
        assert_eq!(told(&bench).last().unwrap(), "release cancelled");
        assert!(!told(&bench).iter().any(|line| line.starts_with("intent")), "{:?}", told(&bench));
        assert!(reports(&bench).iter().any(|(told, _)| *told == reason), "{:?}", reports(&bench));
        assert!(bench.acts.is_empty());
    }
}

#[test]
fn a_plan_that_has_begun_is_brought_to_its_end_under_any_charter() {
    let mut bench = bench(configuration());
    let mut plan = plan("a", 1, Idempotency::Key, bench.now);
    let mut next = plan.steps[0].clone();
    next.id = crate::model::ActionId::of(&[&"next"]);
    plan.steps.push(next);
    open(&mut bench, "a");
    add(&mut bench, &plan);
    let disarmed =
        Configuration { generation: Generation(2), charter: Charter::default(), ..configuration() };
    bench.give(Input::Configuration(Arc::new(disarmed)));
    end_attempts(&mut bench, OutcomeResult::Succeeded);
    end_attempts(&mut bench, OutcomeResult::Failed);
    end_attempts(&mut bench, OutcomeResult::Succeeded);
    let expected = [
        "charter 1",
        "intent {service=\"a\"} 1",
        "charter 2",
        "intent {service=\"a\"} 1",
        "undo {service=\"a\"} 1",
        "release failed",
    ];
    assert_eq!(told(&bench), expected);
}

#[test]
fn only_an_action_whose_target_honours_the_key_is_repeated() {
    for (idempotency, repeated) in
        [(Idempotency::None, false), (Idempotency::Fence, false), (Idempotency::Key, true)]
    {
        let mut bench = bench(configuration());
        open(&mut bench, "a");
        let plan = plan("a", 1, idempotency, bench.now);
        add(&mut bench, &plan);
        end_attempts(&mut bench, OutcomeResult::TimedOut);
        let last = told(&bench).pop().unwrap();
        assert_eq!(last, if repeated { "intent {service=\"a\"} 2" } else { "release in_doubt" });
    }
}

#[test]
fn a_request_that_nobody_answers_is_made_again_after_a_pause_and_not_for_ever() {
    let mut bench = bench(configuration());
    open(&mut bench, "a");
    let plan = plan("a", 1, Idempotency::None, bench.now);
    add(&mut bench, &plan);
    let attempts = |bench: &Bench<Executor>| told(bench).iter().filter(|it| it.starts_with("intent")).count();
    let moment = Duration::from_millis(100);
    for (pause, tried) in [(Duration::from_secs(2), 1), (Duration::from_secs(20), 2)] {
        assert_eq!(bench.acts.len(), 1);
        end_attempts(&mut bench, OutcomeResult::NotStarted);
        bench.pass(pause.saturating_sub(moment));
        assert_eq!(attempts(&bench), tried, "{:?}", told(&bench));
        bench.pass(moment * 2);
        assert_eq!(attempts(&bench), tried + 1, "{:?}", told(&bench));
    }
    end_attempts(&mut bench, OutcomeResult::NotStarted);
    assert_eq!(told(&bench)[4..], ["release failed"], "{:?}", told(&bench));
    bench.pass(HOUR);
    assert_eq!((attempts(&bench), bench.acts.len()), (3, 0));
}

#[test]
fn what_another_executor_did_not_start_goes_on_at_once() {
    let mut bench = bench_of_shards(configuration(), &[]);
    bench.record(Topic::Admission, Entry::Admission(Admission::Charter { generation: Generation(1) }));
    let plan = fall_ill(&mut bench, "a");
    let intent = intent_of(&plan);
    let outcome = Outcome {
        attempt: intent.attempt,
        action: intent.action,
        plan: plan.id,
        incident: plan.incident,
        result: OutcomeResult::NotStarted,
        started_at: bench.now,
        ended_at: bench.now,
        output: "".into(),
    };
    bench.record(Topic::Admission, Entry::Admission(Admission::Intent(intent.into())));
    bench.record(Topic::Outcomes(OutcomeResult::NotStarted), Entry::Outcome(outcome.into()));
    let lease = |shard| Lease { shard, revision: 1, until: bench.now + DAY };
    bench.give(Input::Leases((0..SHARDS).map(lease).collect()));
    assert_eq!(told(&bench)[2..], ["intent {service=\"a\"} 2"]);
}

#[test]
fn a_clock_that_is_hours_fast_spends_no_more_than_the_budget() {
    let mut rules = configuration();
    rules.charter.actions_per_hour_max = 3;
    let mut bench = bench(rules);
    bench.fast = HOUR * 48;
    for service in ["a", "b", "c", "d", "e"] {
        fall_ill(&mut bench, service);
        end_attempts(&mut bench, OutcomeResult::Failed);
        bench.pass(Duration::from_secs(1));
    }
    let admitted = |bench: &Bench<Executor>| told(bench).iter().filter(|it| it.starts_with("intent")).count();
    assert_eq!(admitted(&bench), 3, "{:?}", told(&bench));
    bench.pass(HOUR / 2);
    assert_eq!(admitted(&bench), 3);
    // It is not said of any time: an hour after the first ones the others have their turn.
    bench.pass(HOUR);
    assert_eq!(admitted(&bench), 5);
}

#[test]
fn a_halt_that_stands_for_long_is_said_again_before_the_ledger_forgets_it() {
    for (shards, says) in [(vec![0, 1], true), (vec![1, 2], false)] {
        let mut bench = bench_of_shards(configuration(), &shards);
        let charter = Admission::Charter { generation: Generation(1) };
        bench.record(Topic::Admission, Entry::Admission(charter));
        let halt = Admission::Halt { request: 5, by: "ann".into(), reason: "drill".into() };
        bench.record(Topic::Admission, Entry::Admission(halt));
        for _ in 0..40 {
            bench.pass(DAY);
            open(&mut bench, "a");
        }
        let told = told(&bench);
        let again = told.iter().filter(|line| *line == "halt 5").count();
        assert_eq!(again, if says { 6 } else { 1 }, "{told:?}");
        // What a fold of the last thirty days knows.
        let mut fold = Fold::default();
        bench.kept_from =
            bench.ledger.iter().find(|it| it.stored_at + DAY * 30 > bench.now).unwrap().sequence;
        bench.ledger.iter().filter(|it| it.sequence >= bench.kept_from).for_each(|it| fold.apply(it));
        assert_eq!((fold.gate.halted().is_some(), fold.gate.last_request() == 5), (says, says));
        assert_eq!(fold.gate.charter_generation() == Generation(1), says);
    }
}

#[test]
fn a_halt_that_was_lifted_is_not_said_again() {
    let mut bench = bench(configuration());
    let halt = Admission::Halt { request: 5, by: "ann".into(), reason: "drill".into() };
    bench.record(Topic::Admission, Entry::Admission(halt));
    bench.record(Topic::Admission, Entry::Admission(Admission::Resume { request: 6, by: "ann".into() }));
    for _ in 0..20 {
        bench.pass(DAY);
        open(&mut bench, "a");
    }
    assert_eq!(told(&bench), ["halt 5", "resume 6"]);
}

#[test]
fn an_intent_that_the_ledger_refuses_is_reported_and_does_not_hold_up_the_others() {
    let mut rules = configuration();
    rules.charter.actions_per_hour_max = 100;
    let mut bench = bench_of_shards(rules, &[]);
    bench.refuses = |batch| {
        batch.entries.iter().any(|entry| match entry {
            Entry::Admission(Admission::Intent(intent)) => intent.scope.get("service") == Some("bad"),
            _ => false,
        })
    };
    for service in ["a", "b", "bad", "c", "d"] {
        fall_ill(&mut bench, service);
    }
    let lease = |shard| Lease { shard, revision: 1, until: bench.now + DAY };
    let leases = (0..SHARDS).map(lease).collect();
    bench.give(Input::Leases(leases));
    assert!(bench.published.len() < 10, "{} publishes at once", bench.published.len());
    bench.pass(Duration::from_secs(10));
    assert_eq!(bench.acts.len(), 4, "{:?}", told(&bench));
    assert_eq!(reports(&bench).iter().filter(|(reason, _)| *reason == Reason::Refused).count(), 1);
    assert!(bench.published.len() < 60, "{} publishes", bench.published.len());
}

#[test]
fn a_report_does_not_say_its_reason_twice() {
    let mut bench = bench(configuration());
    open(&mut bench, "a");
    let shown = Plan { mode: Mode::Shadow, ..plan("a", 1, Idempotency::Key, bench.now) };
    add(&mut bench, &shown);
    let expected = (Reason::Shadow, "mend would step on {service=\"a\"}".to_owned());
    assert_eq!(reports(&bench), [expected]);
}

#[test]
fn a_report_that_was_heard_is_not_said_again_while_its_outcome_is_on_the_way() {
    let mut bench = bench_of_shards(configuration(), &[]);
    bench.record(Topic::Admission, Entry::Admission(Admission::Charter { generation: Generation(1) }));
    let plan = fall_ill(&mut bench, "a");
    bench.record(Topic::Admission, Entry::Admission(Admission::Intent(intent_of(&plan).into())));
    let report = Report {
        id: ReportId::of(&[&plan.id, &Reason::InDoubt.as_str()]),
        reason: Reason::InDoubt,
        text: "".into(),
        incident: None,
        plan: Some(plan.id),
        at: bench.now,
    };
    bench.record(Topic::Reports(Role::Executor), Entry::Report(Arc::new(report)));
    bench.refuses = |batch| matches!(batch.entries.as_slice(), [Entry::Outcome(_)]);
    let lease = |shard| Lease { shard, revision: 1, until: bench.now + DAY };
    let leases = (0..SHARDS).map(lease).collect();
    bench.give(Input::Leases(leases));
    bench.pass(HOUR);
    let said = bench.published.iter().filter(|emit| matches!(emit.topic, Topic::Reports(_))).count();
    assert_eq!(said, 0);
}

#[test]
fn a_clock_that_is_hours_fast_waits_for_verdicts_and_for_the_attempts_of_others() {
    for fast in [Duration::ZERO, HOUR * 48] {
        let mut bench = bench(configuration());
        bench.fast = fast;
        fall_ill(&mut bench, "a");
        end_attempts(&mut bench, OutcomeResult::Succeeded);
        bench.pass(Duration::from_mins(1));
        let verdicts =
            |bench: &Bench<Executor>| bench.entries(Topic::Verdicts(VerdictKind::Inconclusive)).len();
        assert_eq!(verdicts(&bench), 0);
        bench.pass(Duration::from_secs(10));
        assert_eq!(verdicts(&bench), 1);

        let mut bench = bench_of_shards(configuration(), &[]);
        bench.fast = fast;
        bench.record(Topic::Admission, Entry::Admission(Admission::Charter { generation: Generation(1) }));
        let plan = fall_ill(&mut bench, "a");
        bench.record(Topic::Admission, Entry::Admission(Admission::Intent(intent_of(&plan).into())));
        bench.pass(HOUR);
        // Its owner may have begun it just before the lease was ours.
        let lease = |shard| Lease { shard, revision: 1, until: bench.now + DAY };
        let leases = (0..SHARDS).map(lease).collect();
        bench.give(Input::Leases(leases));
        bench.pass(Duration::from_millis(2_900));
        open(&mut bench, "b");
        assert!(bench.entries(Topic::Outcomes(OutcomeResult::InDoubt)).is_empty());
        bench.pass(Duration::from_millis(200));
        assert_eq!(bench.entries(Topic::Outcomes(OutcomeResult::InDoubt)).len(), 1);
    }
}

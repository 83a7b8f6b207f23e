//! Verdicts on plans.

use super::*;
use crate::model::{
    Action, ActionId, ActionSpec, Admission, AttemptId, Confidence, EpisodeId, Idempotency, IncidentId,
    Intent, Mode, Outcome, OutcomeResult, Plan, PlanId, Topic, Verdict, VerdictKind, Verification,
};

fn plan(expr: &str, harm: Option<&str>, evaluations: u32) -> Plan {
    let incident = IncidentId::of_episode(EpisodeId::of(&[&"first"]));
    let id = PlanId::of(&[&incident]);
    let action = Action {
        id: ActionId::of(&[&id]),
        name: "restart".into(),
        spec: ActionSpec::NatsPublish { subject: "s".into(), body: "b".into() },
        timeout: Duration::from_secs(1),
        idempotency: Idempotency::Key,
    };
    Plan {
        id,
        incident,
        generation: 1,
        parent: None,
        playbook: "restart".into(),
        cause: "leak".into(),
        confidence: Confidence::new(0.9).unwrap(),
        scope: Labels::empty(),
        mode: Mode::Auto,
        steps: vec![action],
        verify: Verification {
            expr: expr.into(),
            harm: harm.map(Into::into),
            settle: Duration::from_secs(2),
            within: Duration::from_secs(10),
            evaluations,
        },
        undo: Vec::new(),
        at: secs(0.0),
    }
}

/// A world in which a plan's effect ended at 20 s.
fn after_effect(plan: Plan) -> World {
    let mut world = World::new(configuration(1, None, vec![rule("High", "load > 5", 0, 0)]));
    world.scrape(secs(10.0), &[("load", 7.0)]);
    world.run_until(secs(20.0));
    carry_out(&mut world, plan);
    world
}

fn carry_out(world: &mut World, plan: Plan) {
    let (id, incident, action) = (plan.id, plan.incident, plan.steps[0].id);
    world.record(Topic::Plans, vec![Entry::Plan(Arc::new(plan))]);
    let attempt = AttemptId::of(&[&action, &1_u64]);
    let intent = Intent {
        attempt,
        action,
        number: 1,
        plan: id,
        incident,
        playbook: "restart".into(),
        scope: Labels::empty(),
        undo: false,
        executor: "x".into(),
        nonce: 1,
        lease: 1,
        timeout: Duration::from_secs(1),
    };
    world.record(Topic::Admission, vec![Entry::Admission(Admission::Intent(intent.into()))]);
    let outcome = Outcome {
        attempt,
        action,
        plan: id,
        incident,
        result: OutcomeResult::Succeeded,
        started_at: secs(19.0),
        ended_at: secs(20.0),
        output: "".into(),
    };
    world.record(Topic::Outcomes(OutcomeResult::Succeeded), vec![Entry::Outcome(Arc::new(outcome))]);
}

fn verdicts(world: &World) -> Vec<Verdict> {
    let entries = world.ledger.iter().flat_map(|record| &record.batch.entries);
    let verdict =
        |entry: &Entry| if let Entry::Verdict(verdict) = entry { Some((**verdict).clone()) } else { None };
    entries.filter_map(verdict).collect()
}

fn only_verdict(world: &World) -> Verdict {
    let mut verdicts = verdicts(world);
    assert_eq!(verdicts.len(), 1, "{verdicts:?}");
    verdicts.remove(0)
}

#[test]
fn enough_evaluations_in_a_row_verify() {
    let mut world = after_effect(plan("load < 5", None, 2));
    // 22 s is not after the settling yet; at 24 s the row is broken.
    for (at, value) in [(22.0, 1.0), (23.0, 1.0), (24.0, 9.0), (25.0, 3.0), (26.0, 2.0), (27.0, 1.0)] {
        world.scrape(secs(at), &[("load", value)]);
    }
    let verdict = only_verdict(&world);
    assert_eq!((verdict.kind, verdict.at, verdict.evaluations), (VerdictKind::Verified, secs(26.0), 4));
    assert_eq!((verdict.before, verdict.after), (Some(7.0), Some(2.0)));
    world.run_until(secs(100.0));
    assert_eq!(verdicts(&world).len(), 1);
}

#[test]
fn fresh_samples_that_do_not_hold_are_ineffective() {
    let mut world = after_effect(plan("load < 5", None, 2));
    for at in 21..40 {
        world.scrape(secs(f64::from(at)), &[("load", 8.0)]);
    }
    let verdict = only_verdict(&world);
    assert_eq!((verdict.kind, verdict.evaluations), (VerdictKind::Ineffective, 10));
    assert_eq!((verdict.before, verdict.after), (Some(7.0), Some(8.0)));
}

#[test]
fn harm_is_told_at_once() {
    let mut world = after_effect(plan("load < 5", Some("load > 100"), 2));
    world.scrape(secs(23.0), &[("load", 8.0)]);
    world.scrape(secs(24.0), &[("load", 101.0)]);
    let verdict = only_verdict(&world);
    assert_eq!((verdict.kind, verdict.at), (VerdictKind::Harmful, secs(24.0)));
}

#[test]
fn what_cannot_be_known_is_inconclusive() {
    let mut silent = after_effect(plan("load < 5", None, 2));
    silent.run_until(secs(32.0));
    assert_eq!(verdicts(&silent).len(), 0);
    silent.run_until(secs(33.0));
    assert!(only_verdict(&silent).reason.starts_with("no fresh samples"));

    let unparsable = after_effect(plan("load <", None, 2));
    assert!(only_verdict(&unparsable).reason.contains("cannot be evaluated"));

    let mut lossy = after_effect(plan("load < 5", None, 2));
    lossy.scrape(secs(23.0), &[("load", 8.0)]);
    let table = lossy.send_table(&[series("load")]);
    let _lost = lossy.frame("p", &table, None, Vec::new());
    lossy.scrape(secs(24.0), &[("load", 8.0)]);
    lossy.run_until(secs(40.0));
    assert!(only_verdict(&lossy).reason.contains("lost"));

    for world in [silent, unparsable, lossy] {
        assert_eq!(only_verdict(&world).kind, VerdictKind::Inconclusive);
    }
}

#[test]
fn a_wrong_clock_verifies_nothing() {
    let mut world = World::new(configuration(1, None, vec![rule("High", "load > 5", 0, 0)]));
    let table = world.send_table(&[series("load")]);
    for step in 0..40 {
        let now = f64::from(step);
        world.run_until(secs(now));
        if step == 20 {
            carry_out(&mut world, plan("load < 5", None, 1));
        }
        let frame = world.frame("p", &table, None, vec![Row { series: 0, at: secs(now + 5.0), value: 1.0 }]);
        world.handle(Input::Frame(frame));
    }
    world.run_until(secs(60.0));
    let verdict = only_verdict(&world);
    assert_eq!(verdict.kind, VerdictKind::Inconclusive);
    assert!(verdict.reason.contains("clock"), "{}", verdict.reason);
}

#[test]
fn after_a_restart_the_samples_of_the_rules_are_taken_over() {
    let mut world = after_effect(plan("load < 5", None, 2));
    world.scrape(secs(23.0), &[("load", 1.0)]);
    let snapshot = world.monitor.snapshot();
    let mut world =
        world.restart(configuration(1, None, vec![rule("High", "load > 5", 0, 0)]), Some(snapshot));
    world.scrape(secs(24.0), &[("load", 1.0)]);
    let verdict = only_verdict(&world);
    assert_eq!((verdict.kind, verdict.evaluations), (VerdictKind::Verified, 2));
}

#[test]
fn the_windows_of_the_rules_are_not_touched() {
    let mut world = after_effect(plan("rate(load[10s]) < 1", None, 1));
    for at in 21..26 {
        world.scrape(secs(f64::from(at)), &[("load", 6.0)]);
    }
    // The rule's own windows go on over the effect; the violation is as it was.
    assert_eq!(world.story(), ["10 s High{} firing since 10 = 7"]);
    // Two samples after the settling are what a rate needs.
    assert_eq!(only_verdict(&world).at, secs(24.0));
}

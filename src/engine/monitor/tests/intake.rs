//! What comes from outside.

use super::*;
use crate::engine::{Delivery, Intake, Work};
use crate::model::{Change, ChangeKind, EpisodeId, Severity, Topic};

fn delivery(token: u64, intake: Intake) -> Input {
    let work = Work::Intake { sequence: token, stored_at: secs(0.0), intake };
    Input::Work(vec![Delivery { token: Token(token), delivered: 1, work }])
}

fn found(phase: Phase) -> Intake {
    Intake::Violation(Box::new(Violation {
        episode: EpisodeId::of(&[&"theirs"]),
        rev: 9,
        rule: RuleName { group: "theirs".into(), alert: "DiskFull".into() },
        severity: Severity::Critical,
        phase,
        labels: series(r#"disk{host="a"}"#).without_metric_name(),
        annotations: Vec::new(),
        since: secs(1.0),
        at: secs(2.0),
        value: 1.0,
        sample_interval: Duration::ZERO,
    }))
}

#[test]
fn a_delivery_is_settled_only_when_the_ledger_has_it() {
    let mut world = World::new(configuration(1, None, Vec::new()));
    world.answers = false;
    world.handle(delivery(1, found(Phase::Firing)));
    world.handle(delivery(1, found(Phase::Firing)));
    assert_eq!(world.done, []);
    world.handle(delivery(2, found(Phase::Firing)));
    assert_eq!(world.done, [(Token(2), Done::Nak(Duration::from_millis(100)))]);

    let mut world = World::new(configuration(1, None, Vec::new()));
    world.handle(delivery(1, found(Phase::Firing)));
    world.handle(delivery(2, found(Phase::Firing)));
    world.handle(delivery(3, found(Phase::Resolved)));
    world.handle(delivery(4, found(Phase::Firing)));
    let expected: Vec<_> = (1..=4).map(|token| (Token(token), Done::Ack)).collect();
    assert_eq!(world.done, expected);
    assert_eq!(
        world.story(),
        [r#"2 s DiskFull{host="a"} firing since 1 = 1"#, r#"2 s DiskFull{host="a"} resolved since 1 = 1"#]
    );
}

#[test]
fn changes_are_recorded() {
    let mut world = World::new(configuration(1, None, Vec::new()));
    let change = Change::new(ChangeKind::Deploy, Labels::empty(), secs(1.0), "v2");
    world.handle(delivery(1, Intake::Change(change)));
    assert_eq!(world.done, [(Token(1), Done::Ack)]);
    assert_eq!(world.ledger[0].topic, Topic::Changes);
}

#[test]
fn what_is_not_for_us_is_not_lost_silently() {
    let mut world = World::new(configuration(1, None, Vec::new()));
    world.handle(delivery(1, found(Phase::Pending)));
    assert!(matches!(&world.done[..], [(Token(1), Done::Dead(cause))] if cause.contains("pending")));
}

#[test]
fn an_end_that_comes_before_its_beginning_waits_for_it() {
    let mut world = World::new(configuration(1, None, Vec::new()));
    world.handle(delivery(1, found(Phase::Resolved)));
    assert_eq!(world.done, [(Token(1), Done::Nak(Duration::from_secs(1)))]);
    world.handle(delivery(2, found(Phase::Firing)));
    world.handle(delivery(3, found(Phase::Resolved)));
    assert_eq!(world.story().len(), 2);
    world.run_until(secs(30.0));
    world.handle(delivery(4, found(Phase::Resolved)));
    assert_eq!(world.done[1..], [2, 3, 4].map(|token| (Token(token), Done::Ack)));
}

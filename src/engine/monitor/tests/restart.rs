//! What happens around a restart.

use super::*;
use crate::model::{Severity, Topic};

fn rules() -> Arc<Configuration> {
    configuration(1, None, vec![rule("High", "load > 5", 10, 0)])
}

#[test]
fn without_a_checkpoint_an_episode_that_still_holds_goes_on() {
    let mut world = World::new(rules());
    world.scrape(secs(1.0), &[("load", 7.0)]);
    world.scrape(secs(11.0), &[("load", 8.0)]);
    let mut world = world.restart(rules(), None);
    world.scrape(secs(20.0), &[("load", 9.0)]);
    let live: Vec<_> = world.monitor.violations().map(|live| (live.phase, live.course.since)).collect();
    assert_eq!(live, [(Phase::Firing, secs(1.0))]);
    world.scrape(secs(30.0), &[("load", 1.0)]);
    assert_eq!(world.story(), ["11 s High{} firing since 1 = 8", "30 s High{} resolved since 1 = 9"]);
}

#[test]
fn without_a_checkpoint_an_episode_that_holds_no_longer_ends_when_that_is_known() {
    let mut world = World::new(rules());
    world.scrape(secs(1.0), &[("load", 7.0)]);
    world.scrape(secs(11.0), &[("load", 8.0)]);
    world.run_until(secs(15.0));
    let mut world = world.restart(rules(), None);
    world.scrape(secs(20.0), &[("load", 1.0)]);
    world.run_until(secs(314.0));
    assert_eq!(world.story().len(), 1);
    world.run_until(secs(316.0));
    assert_eq!(world.story()[1], "315 s High{} resolved since 1 = 8");
}

#[test]
fn without_samples_nothing_is_known_and_nothing_ends() {
    let mut world = World::new(rules());
    world.scrape(secs(1.0), &[("load", 7.0)]);
    world.scrape(secs(11.0), &[("load", 8.0)]);
    let mut world = world.restart(rules(), None);
    world.run_until(secs(5_000.0));
    assert_eq!(world.story().len(), 1);
    assert_eq!(world.wake_at, None);
}

#[test]
fn episodes_of_rules_that_are_gone_end_after_a_restart() {
    let mut world = World::new(rules());
    world.scrape(secs(1.0), &[("load", 7.0)]);
    world.scrape(secs(11.0), &[("load", 8.0)]);
    let mut world = world.restart(configuration(2, None, vec![rule("Other", "load > 5", 0, 0)]), None);
    world.run_until(secs(100.0));
    assert_eq!(world.story()[1], "15.95 s High{} resolved since 1 = 8");
}

#[test]
fn what_was_decided_and_not_published_is_published_after_the_restart() {
    let mut world = World::new(rules());
    world.scrape(secs(1.0), &[("load", 7.0)]);
    world.answers = false;
    world.scrape(secs(11.0), &[("load", 8.0)]);
    world.scrape(secs(12.0), &[("load", 1.0)]);
    assert_eq!(world.story(), [] as [String; 0]);
    let snapshot = world.monitor.snapshot();
    assert_eq!(snapshot.unpublished.len(), 2);
    world.answers = true;
    let world = world.restart(rules(), Some(snapshot));
    assert_eq!(world.story(), ["11 s High{} firing since 1 = 8", "12 s High{} resolved since 1 = 8"]);
}

#[test]
fn a_checkpoint_that_the_ledger_is_ahead_of_gives_way_to_it() {
    let mut world = World::new(rules());
    world.scrape(secs(1.0), &[("load", 7.0)]);
    world.scrape(secs(11.0), &[("load", 8.0)]);
    let snapshot = world.monitor.snapshot();
    world.scrape(secs(12.0), &[("load", 1.0)]);
    // The frame of second 12 is lost for the restored monitor; the load is high again.
    let mut world = world.restart(rules(), Some(snapshot));
    world.scrape(secs(13.0), &[("load", 9.0)]);
    world.scrape(secs(23.0), &[("load", 9.0)]);
    assert_eq!(world.story()[2..], ["23 s High{} firing since 13 = 9"]);
}

#[test]
fn samples_of_an_episode_that_is_over_make_no_second_one_when_they_come_once_more() {
    let rules = || configuration(1, None, vec![rule("High", "load > 5", 0, 0)]);
    let tail = [(5.0, 8.0), (12.0, 1.0)];
    let mut world = World::new(rules());
    world.scrape(secs(1.0), &[("load", 7.0)]);
    tail.iter().for_each(|(at, value)| world.scrape(secs(*at), &[("load", *value)]));
    let told = ["1 s High{} firing since 1 = 7", "12 s High{} resolved since 1 = 8"];
    assert_eq!(world.story(), told);
    // The sample that it began with is lost, and the rest is read again, each at its time.
    world.now = secs(4.0);
    let mut world = world.restart(rules(), None);
    tail.iter().for_each(|(at, value)| world.scrape(secs(*at), &[("load", *value)]));
    assert_eq!(world.story(), told);
    world.scrape(secs(13.0), &[("load", 9.0)]);
    assert_eq!(world.story()[2..], ["13 s High{} firing since 13 = 9"]);
}

#[test]
fn an_episode_that_is_over_is_the_same_one_where_samples_show_that_it_began_earlier() {
    let rules = || configuration(1, None, vec![rule("High", "load > 5", 0, 0)]);
    let mut world = World::new(rules());
    world.scrape(secs(3.0), &[("load", 7.0)]);
    world.scrape(secs(12.0), &[("load", 1.0)]);
    let told = ["3 s High{} firing since 3 = 7", "12 s High{} resolved since 3 = 7"];
    assert_eq!(world.story(), told);
    world.now = secs(1.0);
    let mut world = world.restart(rules(), None);
    world.scrape(secs(2.0), &[("load", 7.0)]);
    world.scrape(secs(3.0), &[("load", 7.0)]);
    world.scrape(secs(12.0), &[("load", 1.0)]);
    assert_eq!(world.story(), told);
}

#[test]
fn a_tail_with_a_hole_is_not_taken_for_absence() {
    let absent = || configuration(1, None, vec![rule("Gone", "absent(up)", 0, 0)]);
    let story = |hole: bool| {
        let mut world = World::new(absent());
        world.scrape(secs(1.0), &[("other", 1.0)]);
        world.scrape(secs(2.0), &[("up", 1.0)]);
        let snapshot = world.monitor.snapshot();
        world.run_until(secs(200.0));
        if hole {
            let table = world.send_table(&[series("up")]);
            let _lost = world.frame("p", &table, None, Vec::new());
        }
        let mut world = world.restart(absent(), Some(snapshot));
        world.scrape(secs(290.0), &[("other", 1.0)]);
        world.run_until(secs(1_000.0));
        world.story()
    };
    assert_eq!(story(false), ["302 s Gone{} firing since 302 = 1"]);
    // It is absent since it is known to be.
    assert_eq!(story(true), ["590 s Gone{} firing since 590 = 1"]);
}

#[test]
fn a_violation_that_was_recorded_by_somebody_else_is_not_ours_to_repeat() {
    let mut world = World::new(rules());
    world.scrape(secs(1.0), &[("load", 7.0)]);
    world.scrape(secs(11.0), &[("load", 8.0)]);
    let fired = world.violations().next().unwrap().clone();
    world.record(Topic::Violations(Severity::Warning), vec![Entry::Violation(Arc::new(fired))]);
    world.scrape(secs(12.0), &[("load", 1.0)]);
    assert_eq!(world.story().len(), 3);
}

/// Two episodes, the first one over; what the ledger says of them is read one record at a time after a restart.
#[test]
fn an_episode_that_is_over_is_not_taken_for_the_one_that_began_since_while_the_ledger_is_half_read() {
    let mut world = World::new(rules());
    for (at, value) in [(1.0, 7.0), (11.0, 8.0), (12.0, 1.0), (20.0, 9.0)] {
        world.scrape(secs(at), &[("load", value)]);
    }
    let snapshot = world.monitor.snapshot();
    let ledger = std::mem::take(&mut world.ledger);
    let mut world = world.restart(rules(), Some(snapshot));
    for record in ledger {
        world.ledger.push(Arc::clone(&record));
        world.handle(Input::Ledger(vec![record]));
    }
    world.scrape(secs(31.0), &[("load", 9.0)]);
    assert_eq!(
        world.story(),
        [
            "11 s High{} firing since 1 = 8",
            "12 s High{} resolved since 1 = 8",
            "30 s High{} firing since 20 = 9"
        ]
    );
}

#[test]
fn a_revision_that_is_recorded_again_does_not_bring_back_what_is_over() {
    let mut world = World::new(rules());
    for (at, value) in [(1.0, 7.0), (11.0, 8.0), (12.0, 1.0)] {
        world.scrape(secs(at), &[("load", value)]);
    }
    let fired = world.violations().next().unwrap().clone();
    let mut world = world.restart(rules(), None);
    world.record(Topic::Violations(Severity::Warning), vec![Entry::Violation(Arc::new(fired))]);
    world.scrape(secs(20.0), &[("load", 9.0)]);
    world.scrape(secs(31.0), &[("load", 9.0)]);
    assert_eq!(world.story()[3..], ["30 s High{} firing since 20 = 9"]);
}

#[test]
fn without_a_checkpoint_an_episode_is_not_taken_up_again_after_a_sample_that_ended_it() {
    let mut world = World::new(rules());
    world.scrape(secs(1.0), &[("load", 7.0)]);
    world.scrape(secs(11.0), &[("load", 8.0)]);
    let mut world = world.restart(rules(), None);
    for (at, value) in [(20.0, 1.0), (30.0, 9.0), (40.0, 9.0)] {
        world.scrape(secs(at), &[("load", value)]);
    }
    assert_eq!(
        world.story(),
        [
            "11 s High{} firing since 1 = 8",
            "20 s High{} resolved since 1 = 8",
            "40 s High{} firing since 30 = 9"
        ]
    );
}

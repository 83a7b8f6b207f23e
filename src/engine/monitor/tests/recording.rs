//! Recording rules: what they record is read by other rules like any sample.

use super::*;

fn records(name: &str, expr: &str, labels: &[(&str, &str)]) -> Rule {
    let labels = labels.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    let rule = rule(name, expr, 0, 0);
    Rule { gives: Gives::Samples, labels: labels.collect(), annotations: Vec::new(), ..rule }
}

fn chain() -> Vec<Rule> {
    vec![
        records("job:load:sum", "sum by (job) (load)", &[("team", "web")]),
        records("job:load:double", "job:load:sum * 2", &[]),
        rule("High", "job:load:double > 10", 0, 0),
        rule("Share", "load / on (job) group_left job:load:sum > 0.9", 0, 0),
    ]
}

const TWO: [(&str, f64); 2] = [(r#"load{job="a",n="1"}"#, 2.0), (r#"load{job="a",n="2"}"#, 1.0)];

#[test]
fn what_is_recorded_is_read_by_the_rules_behind_it_in_the_same_moment() {
    let mut world = World::new(configuration(1, None, chain()));
    world.scrape(secs(1.0), &TWO);
    world.scrape(secs(2.0), &[(TWO[0].0, 9.0), (TWO[1].0, 0.5)]);
    world.scrape(secs(3.0), &TWO);
    world.run_until(secs(4.0));
    assert_eq!(
        world.story(),
        [
            r#"2 s Share{job="a",n="1"} firing since 2 = 0.9473684210526315"#,
            r#"2 s High{job="a",team="web"} firing since 2 = 19"#,
            r#"3 s Share{job="a",n="1"} resolved since 2 = 0.9473684210526315"#,
            r#"3 s High{job="a",team="web"} resolved since 2 = 19"#,
        ]
    );
}

#[test]
fn what_is_not_given_any_more_ends_at_once() {
    let rules =
        vec![records("big", "load > 5", &[]), rule("Big", "big", 0, 0), rule("None", "absent(big)", 0, 0)];
    let mut world = World::new(configuration(1, None, rules));
    for (at, value) in [(1.0, 7.0), (2.0, 1.0)] {
        world.scrape(secs(at), &[(r#"load{job="a"}"#, value)]);
        world.run_until(secs(at + 0.5));
    }
    assert_eq!(
        world.story(),
        [r#"1 s Big{job="a"} firing since 1 = 7"#, r#"2 s Big{job="a"} resolved since 1 = 7"#]
    );
}

#[test]
fn a_group_with_an_interval_records_at_its_points_and_reads_it_there() {
    let mut world = World::new(configuration(1, Some(10), chain()));
    for at in 0..25 {
        let load = if at >= 8 { 9.0 } else { 1.0 };
        world.scrape(secs(f64::from(at)), &[(TWO[0].0, load), (TWO[1].0, 0.5)]);
    }
    world.run_until(secs(30.0));
    assert_eq!(
        world.story(),
        [
            r#"10 s High{job="a",team="web"} firing since 10 = 19"#,
            r#"10 s Share{job="a",n="1"} firing since 10 = 0.9473684210526315"#,
        ]
    );
}

#[test]
fn a_restart_remembers_what_was_recorded() {
    let rules = || vec![records("big", "load > 5", &[]), rule("Big", "big", 0, 0)];
    let mut world = World::new(configuration(1, None, rules()));
    world.scrape(secs(1.0), &[(r#"load{job="a"}"#, 7.0)]);
    world.run_until(secs(1.5));
    let snapshot = world.monitor.snapshot();
    let mut world = world.restart(configuration(1, None, rules()), Some(snapshot));
    world.scrape(secs(2.0), &[(r#"load{job="a"}"#, 1.0)]);
    world.run_until(secs(2.5));
    assert_eq!(
        world.story(),
        [r#"1 s Big{job="a"} firing since 1 = 7"#, r#"2 s Big{job="a"} resolved since 1 = 7"#]
    );
}

#[test]
fn a_recording_rule_that_is_gone_ends_its_series() {
    let with = vec![records("big", "load > 5", &[]), rule("Big", "big", 0, 0)];
    let without = vec![rule("Big", "big", 0, 0)];
    let mut world = World::new(configuration(1, None, with));
    world.scrape(secs(1.0), &[(r#"load{job="a"}"#, 7.0)]);
    world.run_until(secs(1.5));
    world.handle(Input::Configuration(configuration(2, None, without)));
    world.run_until(secs(2.0));
    assert_eq!(world.story().len(), 2, "{:?}", world.story());
    assert_eq!(world.violations().count(), 2);
}

#[test]
fn two_elements_under_one_name_are_refused_and_a_rule_that_reads_itself_comes_to_an_end() {
    let rules = vec![
        records("both", "load", &[("n", "")]),
        records("again", "again + 1 or load * 0", &[]),
        rule("Both", "both", 0, 0),
        rule("Again", "again > 3", 0, 0),
    ];
    let mut world = World::new(configuration(1, None, rules));
    for at in 1..8 {
        world.scrape(secs(f64::from(at)), &TWO);
        world.run_until(secs(f64::from(at) + 0.5));
    }
    let story = world.story();
    assert!(story.iter().all(|line| !line.contains("Both")), "{story:?}");
    assert!(world.reports().iter().any(|text| text.contains("same labels")), "{:?}", world.reports());
}

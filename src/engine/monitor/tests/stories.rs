//! One story each: samples in, violations out.

use super::*;
use crate::engine::promql::STALE;

#[test]
fn a_threshold_without_for_fires_and_resolves_with_the_sample() {
    let mut world = World::new(configuration(1, None, vec![rule("High", "load > 5", 0, 0)]));
    for (at, value) in [(0.0, 1.0), (1.0, 7.0), (2.0, 8.0), (3.0, 5.0)] {
        world.scrape(secs(at), &[(r#"load{job="a"}"#, value), (r#"load{job="b"}"#, 1.0)]);
    }
    assert_eq!(
        world.story(),
        [r#"1 s High{job="a"} firing since 1 = 7"#, r#"3 s High{job="a"} resolved since 1 = 8"#]
    );
    let fired = world.violations().next().unwrap();
    assert_eq!(fired.annotations[0].1.as_ref(), "a is at 7");
    assert_eq!(fired.sample_interval, Duration::from_secs(1));
    assert_eq!(fired.rev, 1);
    assert_eq!(fired.labels.get("alertname"), Some("High"));
}

#[test]
fn for_fires_at_its_deadline_even_if_no_sample_comes() {
    let mut world = World::new(configuration(1, None, vec![rule("High", "load > 5", 10, 0)]));
    world.scrape(secs(1.0), &[("load", 7.0)]);
    assert_eq!(world.monitor.violations().map(|live| live.phase).collect::<Vec<_>>(), [Phase::Pending]);
    world.run_until(secs(11.0));
    assert_eq!(world.story(), [] as [String; 0]);
    // Fifty milliseconds for a sample of the same time.
    world.run_until(secs(11.05));
    assert_eq!(world.story(), ["11 s High{} firing since 1 = 7"]);
}

#[test]
fn a_sample_at_the_deadline_comes_before_it() {
    let mut world = World::new(configuration(1, None, vec![rule("High", "load > 5", 10, 0)]));
    world.scrape(secs(1.0), &[("load", 7.0)]);
    world.scrape(secs(11.0), &[("load", 1.0)]);
    world.scrape(secs(12.0), &[("load", 9.0)]);
    world.scrape(secs(22.0), &[("load", 9.0)]);
    assert_eq!(world.story(), ["22 s High{} firing since 12 = 9"]);
}

#[test]
fn a_deadline_between_two_samples_is_evaluated_at_its_own_time() {
    let mut world = World::new(configuration(1, None, vec![rule("High", "load > 5", 10, 0)]));
    world.scrape(secs(1.0), &[("load", 7.0)]);
    world.now = secs(20.0);
    world.wake_at = None;
    // The driver was late: the next sample is there before the clock has told of the deadline.
    world.scrape(secs(20.0), &[("load", 1.0)]);
    assert_eq!(world.story(), ["11 s High{} firing since 1 = 7", "20 s High{} resolved since 1 = 7"]);
}

#[test]
fn keep_firing_ends_by_deadline() {
    let mut world = World::new(configuration(1, None, vec![rule("High", "load > 5", 0, 30)]));
    world.scrape(secs(1.0), &[("load", 7.0)]);
    world.scrape(secs(2.0), &[("load", 1.0)]);
    world.scrape(secs(12.0), &[("load", 1.0)]);
    world.run_until(secs(60.0));
    assert_eq!(world.story(), ["1 s High{} firing since 1 = 7", "32 s High{} resolved since 1 = 7"]);
}

#[test]
fn a_series_that_falls_silent_resolves_when_the_lookback_is_over() {
    let rules = vec![rule("High", "load > 5", 0, 0), rule("Sum", "sum(load) > 5", 0, 0)];
    let mut world = World::new(configuration(1, None, rules));
    world.scrape(secs(1.0), &[("load", 7.0)]);
    world.run_until(secs(1_000.0));
    assert_eq!(
        world.story(),
        [
            "1 s High{} firing since 1 = 7",
            "1 s Sum{} firing since 1 = 7",
            "301 s High{} resolved since 1 = 7",
            "301 s Sum{} resolved since 1 = 7"
        ]
    );
    assert_eq!(world.wake_at, None);
}

#[test]
fn a_stale_marker_resolves_at_once() {
    let mut world = World::new(configuration(1, None, vec![rule("Low", "load != 5", 0, 0)]));
    world.scrape(secs(1.0), &[("load", 7.0)]);
    world.scrape(secs(2.0), &[("load", STALE)]);
    assert_eq!(world.story(), ["1 s Low{} firing since 1 = 7", "2 s Low{} resolved since 1 = 7"]);
}

#[test]
fn absence_counts_from_when_we_began_to_look() {
    let rules = vec![rule("Gone", r#"absent(up{job="a"})"#, 60, 0)];
    let mut world = World::new(configuration(1, None, rules));
    world.scrape(secs(10.0), &[("other", 1.0)]);
    world.run_until(secs(320.0));
    assert_eq!(world.monitor.violations().count(), 1);
    world.run_until(secs(400.0));
    assert_eq!(world.story(), [r#"370 s Gone{job="a"} firing since 310 = 1"#]);
    world.scrape(secs(410.0), &[(r#"up{job="a"}"#, 1.0)]);
    assert_eq!(world.story()[1], r#"410 s Gone{job="a"} resolved since 310 = 1"#);
    world.run_until(secs(2_000.0));
    assert_eq!(world.story()[2], r#"770 s Gone{job="a"} firing since 710 = 1"#);
}

#[test]
fn an_aggregation_waits_for_all_parts_of_a_scrape() {
    let mut world = World::new(configuration(1, None, vec![rule("Low", "sum(load) < 5", 0, 0)]));
    let labels = [series(r#"load{job="a"}"#), series(r#"load{job="b"}"#)];
    let table = world.send_table(&labels);
    for at in [1.0, 2.0] {
        world.run_until(secs(at));
        for part in 0..2 {
            let rows = vec![Row { series: part, at: secs(at), value: if at < 2.0 { 3.0 } else { 1.0 } }];
            let frame = world.frame("p", &table, Some(ScrapePart { part, parts: 2 }), rows);
            world.handle(Input::Frame(frame));
        }
    }
    // After the first part of the first scrape the sum was 3: nobody saw it.
    assert_eq!(world.story(), ["2 s Low{} firing since 2 = 2"]);
}

#[test]
fn half_a_scrape_is_evaluated_when_the_rest_does_not_come() {
    let mut world = World::new(configuration(1, None, vec![rule("Low", "sum(load) < 5", 0, 0)]));
    let table = world.send_table(&[series("load")]);
    world.run_until(secs(1.0));
    let rows = vec![Row { series: 0, at: secs(1.0), value: 3.0 }];
    let frame = world.frame("p", &table, Some(ScrapePart { part: 0, parts: 2 }), rows);
    world.handle(Input::Frame(frame));
    assert_eq!(world.wake_at, Some(secs(1.05)));
    world.run_until(secs(1.05));
    assert_eq!(world.story(), ["1 s Low{} firing since 1 = 3"]);
}

#[test]
fn interval_groups_see_only_the_points_of_their_grid() {
    let mut world = World::new(configuration(1, Some(15), vec![rule("High", "load > 5", 15, 0)]));
    for (at, value) in [(1.0, 9.0), (16.0, 1.0), (17.0, 9.0), (31.0, 9.0), (44.0, 1.0), (46.0, 9.0)] {
        world.scrape(secs(at), &[("load", value)]);
    }
    world.run_until(secs(60.0));
    assert_eq!(world.story(), ["30 s High{} firing since 15 = 9", "45 s High{} resolved since 15 = 9"]);
}

#[test]
fn frames_of_an_unknown_table_wait_for_it() {
    let mut world = World::new(configuration(1, None, vec![rule("High", "load > 5", 0, 0)]));
    world.run_until(secs(1.0));
    let table = SeriesTable::new(vec![series("load")]);
    for at in [1.0, 1.5] {
        world.run_until(secs(at));
        let frame = world.frame("p", &table, None, vec![Row { series: 0, at: secs(at), value: 7.0 }]);
        world.handle(Input::Frame(frame));
    }
    assert_eq!((world.story().len(), world.asked.len()), (0, 1));
    world.run_until(secs(2.0));
    assert_eq!(world.asked.len(), 2);
    world.handle(Input::Table(SeriesTable { hash: table.hash, series: Arc::from([series("other")]) }));
    assert_eq!(world.monitor.counters().tables_refused, 1);
    world.handle(Input::Table(table));
    assert_eq!(world.story(), ["1 s High{} firing since 1 = 7"]);
    assert_eq!(world.monitor.counters().tables_missing, 0);
}

#[test]
fn too_many_violations_of_a_rule_are_reported_once() {
    let mut world = World::new(configuration(1, None, vec![rule("High", "load > 5", 0, 0)]));
    let max = super::super::live::VIOLATIONS_PER_RULE_MAX;
    let labels: Vec<Labels> = (0..max + 50).map(|n| series(&format!(r#"load{{n="{n}"}}"#))).collect();
    for chunk in labels.chunks(500) {
        let table = world.send_table(chunk);
        let rows = (0..).take(chunk.len()).map(|series| Row { series, at: secs(1.0), value: 7.0 });
        let frame = world.frame("p", &table, None, rows.collect());
        world.handle(Input::Frame(frame));
    }
    assert_eq!(world.violations().count(), max);
    assert_eq!(world.monitor.counters().violations_refused, 50);
    assert_eq!(world.reports(), ["limit rule g/High has 10000 violations; more are not told apart"]);
}

#[test]
fn two_series_with_the_labels_of_one_violation_are_refused_not_mixed() {
    let mut high = rule("High", "load > 5", 0, 0);
    high.labels.push(("job".into(), "all".into()));
    let mut world = World::new(configuration(1, None, vec![high]));
    world.scrape(secs(1.0), &[(r#"load{job="a"}"#, 7.0), (r#"load{job="b"}"#, 8.0)]);
    assert_eq!(world.story(), [r#"1 s High{job="all"} firing since 1 = 7"#]);
    assert_eq!(world.reports().len(), 1);
}

#[test]
fn a_clock_that_is_off_is_reported_once() {
    let mut world = World::new(configuration(1, None, vec![rule("High", "load > 5", 0, 0)]));
    let table = world.send_table(&[series("load")]);
    for step in 1..30 {
        let now = f64::from(step);
        world.run_until(secs(now));
        let frame = world.frame("p", &table, None, vec![Row { series: 0, at: secs(now + 5.0), value: 1.0 }]);
        world.handle(Input::Frame(frame));
    }
    assert_eq!(world.reports(), ["stale the clock of p is off by 5.0 s: its samples verify nothing"]);
}

#[test]
fn an_evaluation_that_fails_is_reported_and_leaves_violations_alone() {
    let rules = vec![rule("Both", "load * on(job) limit > 5", 0, 0)];
    let mut world = World::new(configuration(1, None, rules));
    world.scrape(secs(1.0), &[(r#"load{job="a"}"#, 3.0), (r#"limit{job="a"}"#, 2.0)]);
    world.scrape(secs(2.0), &[(r#"load{job="a"}"#, 0.0), (r#"limit{job="a",x="1"}"#, 2.0)]);
    world.scrape(secs(3.0), &[(r#"load{job="a"}"#, 0.0), (r#"limit{job="a",x="1"}"#, 2.0)]);
    assert_eq!(world.story(), [r#"1 s Both{job="a"} firing since 1 = 6"#]);
    assert_eq!(world.reports().len(), 1);
}

#[test]
fn the_same_rule_keeps_its_state_and_one_that_is_gone_resolves() {
    let rules = vec![rule("High", "load > 5", 10, 0), rule("Old", "load > 6", 0, 0)];
    let mut world = World::new(configuration(1, None, rules));
    world.scrape(secs(1.0), &[("load", 7.0)]);
    world.run_until(secs(5.0));
    let mut high = rule("High", "load > 5", 10, 0);
    high.annotations.clear();
    world.handle(Input::Configuration(configuration(2, None, vec![rule("New", "load > 1", 0, 0), high])));
    world.run_until(secs(11.05));
    assert_eq!(
        world.story(),
        [
            "1 s Old{} firing since 1 = 7",
            "4.95 s Old{} resolved since 1 = 7",
            "11 s High{} firing since 1 = 7"
        ]
    );
}

#[test]
fn a_deadline_that_shorter_delays_bring_forward_comes_at_its_time_whether_or_not_somebody_looks_before() {
    let fired_at = |looks: bool| {
        let mut world = World::new(configuration(1, None, vec![rule("High", "load > 5", 10, 0)]));
        let table = world.send_table(&[series("load")]);
        let mut last = None;
        for (now, age, value) in [(1.0, 0.25, 0.0), (3.0, 0.0, 0.0), (10.0, 0.0, 7.0)] {
            world.run_until(secs(now));
            let frame = world.frame("p", &table, None, vec![Row { series: 0, at: secs(now - age), value }]);
            world.handle(Input::Frame(frame.clone()));
            last = Some(frame);
        }
        if looks {
            world.run_until(secs(12.0));
            world.handle(Input::Frame(last.unwrap()));
        }
        world.run_until(secs(60.0));
        world.ledger[0].stored_at
    };
    // 250 ms and twice nothing, smoothed, and the wait for the rest of the moment.
    assert_eq!([fired_at(false), fired_at(true)], [secs(20.242), secs(20.242)]);
}

#[test]
fn a_grid_goes_on_with_samples_that_it_does_not_read() {
    let evaluated_at = |together: bool| {
        let mut world = World::new(configuration(1, Some(15), vec![rule("Grid", "load > 5", 0, 0)]));
        let table = world.send_table(&[series("load"), series("other")]);
        let row = |series, at, value| Row { series, at: secs(at), value };
        world.run_until(secs(20.0));
        let rows = [row(0, 14.0, 7.0), row(1, 20.0, 1.0)];
        for rows in if together { vec![rows.to_vec()] } else { rows.map(|row| vec![row]).to_vec() } {
            let frame = world.frame("p", &table, None, rows);
            world.handle(Input::Frame(frame));
        }
        world.run_until(secs(100.0));
        world.ledger[0].stored_at
    };
    assert_eq!([evaluated_at(true), evaluated_at(false)], [secs(20.001), secs(20.001)]);
}

#[test]
fn one_violation_that_the_ledger_refuses_costs_no_other_and_is_reported() {
    let mut world = World::new(configuration(1, None, vec![rule("Down", "up == 0", 0, 0)]));
    world.refuses = |batch| {
        let is_bad = |entry: &Entry| {
            entry.as_violation().is_some_and(|found| found.labels.get("instance") == Some("bad"))
        };
        batch.entries.iter().any(is_bad)
    };
    let names: Vec<String> =
        (0..20).map(|n| if n == 7 { "bad".into() } else { format!("i{n:02}") }).collect();
    let samples: Vec<String> = names.iter().map(|name| format!("up{{instance=\"{name}\"}}")).collect();
    let down: Vec<(&str, f64)> = samples.iter().map(|series| (series.as_str(), 0.0)).collect();
    world.scrape(secs(1.0), &down);
    assert_eq!(world.violations().count(), 19, "{:?}", world.story());
    world.run_until(secs(2.0));
    let reports = world.reports();
    assert!(
        matches!(reports.as_slice(), [told] if told.starts_with("refused the ledger refuses revision 1 of")),
        "{reports:?}"
    );
    assert_eq!(world.monitor.counters().batches_refused, 1);
}

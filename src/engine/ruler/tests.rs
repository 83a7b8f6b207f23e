//! Groups against what Prometheus' rule manager does, as tables.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::engine::promql::{Limits, is_stale};
use crate::engine::template::Template;
use crate::model::METRIC_NAME;

const MINUTE: Duration = Duration::from_mins(1);

fn at(minute: i64) -> Timestamp {
    Timestamp::from_millis(minute * 60_000)
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::new(pairs.iter().copied()).unwrap()
}

fn record(name: &str, expr: &str, labels: &[(&str, &str)]) -> Rule {
    let labels = labels.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    Rule::Recording(RecordingRule {
        name: name.into(),
        expr: Expr::parse(expr).unwrap(),
        labels: labels.collect(),
    })
}

/// Fires after `hold` minutes and is kept for `keep` more.
fn alert(name: &str, expr: &str, (hold, keep): (u32, u32), labels: &[(&str, &str)]) -> Rule {
    let mut rule = AlertingRule::new(name, Expr::parse(expr).unwrap());
    (rule.hold, rule.keep_firing) = (MINUTE * hold, MINUTE * keep);
    let templates = labels.iter().map(|(name, text)| (Arc::from(*name), Template::parse(text).unwrap()));
    rule.labels = templates.collect();
    rule.annotations = vec![("value".into(), Template::parse("{{ $value }}").unwrap())];
    Rule::Alerting(rule)
}

/// A group and the store that it reads and records into.
struct Bed {
    group: Group,
    store: SeriesStore,
}

impl Bed {
    fn new(rules: Vec<Rule>) -> Self {
        Self::with(Terms::default(), rules)
    }

    fn with(terms: Terms, rules: Vec<Rule>) -> Self {
        let mut store = SeriesStore::new(Limits { lateness: MINUTE * 600, ..Limits::default() });
        store.retain(MINUTE * 600);
        Self { group: Group::new(terms, rules), store }
    }

    /// Gives a series a value.
    fn put(&mut self, minute: i64, series: &Labels, value: f64) {
        let id = self.store.series(series).unwrap();
        self.store.append(id, at(minute), value);
    }

    /// Gives `x{job="…"}` a value in each of these minutes, then evaluates; what failed.
    fn step(&mut self, minute: i64, values: &[(&str, f64)]) -> Vec<String> {
        for (job, value) in values {
            self.put(minute, &labels(&[(METRIC_NAME, "x"), ("job", job)]), *value);
        }
        let failures = self.group.evaluate(&mut self.store, at(minute));
        failures.iter().map(|failure| format!("{}: {}", failure.name, failure.error)).collect()
    }

    /// What a selector means at a minute.
    fn read(&self, expr: &str, minute: i64) -> Vec<String> {
        let elements = elements(&Expr::parse(expr).unwrap(), &self.store, at(minute)).unwrap();
        elements.iter().map(|element| format!("{} {}", element.labels, element.value)).collect()
    }

    /// The alerts of the first rule, shortly.
    fn alerts(&self) -> Vec<String> {
        let Some(Rule::Alerting(rule)) = self.group.rules().next() else { return Vec::new() };
        let told = rule.alerts().map(|alert| {
            let phase = match alert.phase {
                Phase::Pending => "pending".to_owned(),
                Phase::Firing { kept_since: None } => "firing".to_owned(),
                Phase::Firing { kept_since: Some(since) } => {
                    format!("kept since {}", since.as_millis() / 60_000)
                }
                Phase::Resolved { at } => format!("resolved at {}", at.as_millis() / 60_000),
            };
            let job = alert.labels.get("job").unwrap_or("");
            format!("{job} {phase}, active at {}", alert.active_at.as_millis() / 60_000)
        });
        told.collect()
    }
}

#[test]
fn a_rule_reads_what_earlier_ones_recorded_at_the_same_time() {
    let mut bed = Bed::new(vec![
        record("late", "first * 2", &[]),
        record("first", "sum(x)", &[]),
        record("second", "first + 1", &[]),
    ]);
    assert_eq!(bed.step(0, &[("a", 1.0), ("b", 2.0)]), [""; 0]);
    assert_eq!(
        (bed.read("first", 0), bed.read("second", 0)),
        (vec!["first 3".into()], vec!["second 4".into()])
    );
    assert_eq!(bed.read("late", 0), [""; 0]);
    bed.step(1, &[("a", 5.0)]);
    assert_eq!(bed.read("late", 1), ["late 6"]);
}

#[test]
fn recorded_series_have_the_rules_name_and_labels() {
    let mut bed = Bed::new(vec![
        record("a.b", "x", &[("job", ""), ("tier", "{{ $labels.job }}")]),
        record("number", "7", &[("job", "c")]),
    ]);
    assert_eq!(bed.step(0, &[("a", 1.0)]), [""; 0]);
    assert_eq!(bed.read("{\"a.b\"}", 0), [r#"{"a.b",tier="{{ $labels.job }}"} 1"#]);
    assert_eq!(bed.read("number", 0), [r#"number{job="c"} 7"#]);
}

#[test]
fn a_series_that_a_rule_gives_no_longer_ends() {
    let mut bed = Bed::new(vec![record("big", "x > 1", &[])]);
    bed.step(0, &[("a", 2.0), ("b", 2.0)]);
    bed.step(1, &[("a", 1.0), ("b", 2.0)]);
    assert_eq!(bed.read("big", 1), [r#"big{job="b"} 2"#]);
    let series = bed.store.series(&labels(&[(METRIC_NAME, "big"), ("job", "a")])).unwrap();
    let samples = bed.store.samples(series, Timestamp::MIN, Timestamp::MAX);
    assert_eq!(
        samples.iter().map(|(at, value)| (*at, is_stale(*value))).collect::<Vec<_>>(),
        [(at(0), false), (at(1), true)]
    );
}

#[test]
fn a_rule_that_fails_leaves_the_others_and_its_series_until_it_can_be_evaluated_again() {
    let mut bed = Bed::new(vec![
        record("joined", "x * on () group_left () y", &[]),
        record("text", "\"x\"", &[]),
        record("after", "count(joined)", &[]),
    ]);
    let y = |job| labels(&[(METRIC_NAME, "y"), ("job", job)]);
    bed.put(0, &y("one"), 1.0);
    assert_eq!(bed.step(0, &[("a", 2.0)]), ["text: rule result is not a vector or scalar"]);
    bed.put(1, &y("two"), 1.0);
    let failures = bed.step(1, &[("a", 2.0)]);
    assert!(failures.len() == 2 && failures[0].contains("found duplicate series"), "{failures:?}");
    assert_eq!(bed.read("after", 1), ["after 1"], "what was recorded a minute ago is still there");
    bed.put(2, &y("one"), crate::engine::promql::STALE);
    bed.put(2, &y("two"), crate::engine::promql::STALE);
    bed.step(2, &[("a", 2.0)]);
    assert_eq!((bed.read("joined", 2), bed.read("after", 2)), (vec![], vec![]));
}

#[test]
fn what_a_rule_gives_has_to_be_distinct_and_within_the_limit() {
    let limited = || Terms { limit: 1, ..Terms::default() };
    let two: [(&str, f64); 2] = [("a", 1.0), ("b", 1.0)];
    let same = "vector contains metrics with the same labelset after applying";
    let mut bed = Bed::new(vec![record("r", "x", &[("job", "")]), alert("A", "x", (0, 0), &[("job", "c")])]);
    assert_eq!(bed.step(0, &two), [format!("r: {same} rule labels"), format!("A: {same} alert labels")]);
    let mut bed = Bed::with(limited(), vec![alert("A", "x > 0", (0, 0), &[]), record("r", "x", &[])]);
    bed.step(0, &[("a", 1.0)]);
    let over = ["A: exceeded limit of 1 with 2 alerts", "r: exceeded limit of 1 with 2 series"];
    assert_eq!(bed.step(1, &two), over);
    assert_eq!(bed.alerts(), [""; 0], "an alerting rule above its limit forgets its alerts");
    assert_eq!(bed.step(2, &[("a", 0.0)]), over[1..]);
    assert_eq!(bed.alerts(), ["b pending, active at 2"].map(|text| text.replace("pending", "firing")));
}

#[test]
fn a_sample_of_something_else_at_the_same_time_is_a_failure() {
    let mut bed = Bed::new(vec![record("y", "1", &[]), record("z", "1", &[])]);
    bed.put(0, &labels(&[(METRIC_NAME, "y")]), 2.0);
    bed.put(1, &labels(&[(METRIC_NAME, "z")]), 1.0);
    assert_eq!(
        bed.step(0, &[]),
        [
            "y: duplicate sample for timestamp: y has another value at this time",
            "z: out of order sample: z has a newer one",
        ]
    );
    assert_eq!((bed.read("y", 0), bed.read("z", 0)), (vec!["y 2".to_owned()], vec![]));
    let mut same = Bed::new(vec![record("y", "1", &[]), record("y", "1", &[])]);
    assert_eq!(same.step(0, &[]), [""; 0]);
}

#[test]
fn an_alert_fires_when_it_has_held_long_enough_and_is_known_for_a_while_after() {
    let mut bed = Bed::new(vec![alert("A", "x > 1", (2, 0), &[])]);
    for (minute, value, expected) in [
        (0, 2.0, vec!["a pending, active at 0"]),
        (1, 2.0, vec!["a pending, active at 0"]),
        (2, 2.0, vec!["a firing, active at 0"]),
        (3, 1.0, vec!["a resolved at 3, active at 0"]),
        (18, 1.0, vec!["a resolved at 3, active at 0"]),
        (19, 1.0, vec![]),
        (20, 2.0, vec!["a pending, active at 20"]),
        (21, 1.0, vec![]),
        (22, 2.0, vec!["a pending, active at 22"]),
        (24, 3.0, vec!["a firing, active at 22"]),
        (25, 1.0, vec!["a resolved at 25, active at 22"]),
        (26, 2.0, vec!["a pending, active at 26"]),
    ] {
        assert_eq!(bed.step(minute, &[("a", value)]), [""; 0]);
        assert_eq!(bed.alerts(), expected, "minute {minute}");
    }
}

#[test]
fn an_alert_is_kept_firing_from_the_first_evaluation_that_does_not_give_it() {
    let mut bed = Bed::new(vec![alert("A", "x > 1", (0, 3), &[])]);
    for (minute, value, expected) in [
        (0, 2.0, "a firing, active at 0"),
        (1, 1.0, "a kept since 1, active at 0"),
        (3, 1.0, "a kept since 1, active at 0"),
        (4, 2.0, "a firing, active at 0"),
        (5, 1.0, "a kept since 5, active at 0"),
        (7, 1.0, "a kept since 5, active at 0"),
        (8, 1.0, "a resolved at 8, active at 0"),
    ] {
        bed.step(minute, &[("a", value)]);
        assert_eq!(bed.alerts(), [expected], "minute {minute}");
    }
}

#[test]
fn alerts_are_series_too_which_end_with_their_phase() {
    let rule = alert("A", "x > 1", (1, 0), &[("job", ""), ("severity", "page"), ("of", "{{ $labels.job }}")]);
    let mut bed = Bed::new(vec![rule]);
    bed.step(0, &[("a", 2.0)]);
    let series =
        |name: &str, state: &str| format!(r#"{name}{{alertname="A",{state}of="a",severity="page"}}"#);
    let (pending, firing) = ("alertstate=\"pending\",", "alertstate=\"firing\",");
    assert_eq!(bed.read("ALERTS", 0), [series("ALERTS", pending) + " 1"]);
    bed.step(1, &[("a", 2.0)]);
    assert_eq!(bed.read("ALERTS", 1), [series("ALERTS", firing) + " 1"]);
    assert_eq!(bed.read("ALERTS_FOR_STATE", 1), [series("ALERTS_FOR_STATE", "") + " 0"]);
    bed.step(2, &[("a", 1.0)]);
    assert_eq!((bed.read("ALERTS", 2), bed.read("ALERTS_FOR_STATE", 2)), (vec![], vec![]));
}

#[test]
fn a_label_that_expands_to_nothing_is_not_on_the_alert_and_as_written_on_its_series() {
    let mut bed = Bed::new(vec![alert("A", "x", (0, 0), &[("none", "{{ $labels.none }}")])]);
    bed.step(0, &[("a", 1.0)]);
    let Some(Rule::Alerting(rule)) = bed.group.rules().next() else { panic!("an alerting rule") };
    let alert = rule.firing().next().unwrap();
    assert_eq!(alert.labels, labels(&[("alertname", "A"), ("job", "a")]));
    assert_eq!(alert.annotations[&Arc::from("value")].as_ref(), "1");
    assert_eq!(bed.read("ALERTS{none!=\"\"}", 0).len(), 1);
}

#[test]
fn templates_know_the_outside_and_may_query_what_is_recorded() {
    let external = External { labels: labels(&[("cell", "north")]), url: "http://here".into() };
    let text = "{{ $externalLabels.cell }} {{ $externalURL }} {{ query \"sum(x)\" | first | value }}";
    let mut bed = Bed::with(
        Terms { external, ..Terms::default() },
        vec![alert("A", "x > 1", (0, 0), &[("said", text), ("bad", "{{ query \"y +\" }}")])],
    );
    bed.step(0, &[("a", 2.0), ("b", 1.0)]);
    let Some(Rule::Alerting(rule)) = bed.group.rules().next() else { panic!("an alerting rule") };
    let labels = &rule.firing().next().unwrap().labels;
    assert_eq!(labels.get("said"), Some("north http://here 3"));
    assert!(labels.get("bad").unwrap().starts_with("<error expanding template: "), "{labels}");
}

#[test]
fn values_and_annotations_are_those_of_the_last_evaluation_that_gave_the_alert() {
    let mut bed = Bed::new(vec![alert("A", "x > 1", (0, 5), &[])]);
    for (minute, value) in [(0, 2.0), (1, 3.0), (2, 1.0)] {
        bed.step(minute, &[("a", value)]);
    }
    let Some(Rule::Alerting(rule)) = bed.group.rules().next() else { panic!("an alerting rule") };
    let alert = rule.firing().next().unwrap();
    assert_eq!((alert.value.to_bits(), &*alert.annotations[&Arc::from("value")]), (3.0_f64.to_bits(), "3"));
}

#[test]
fn with_an_offset_everything_is_read_and_recorded_that_much_earlier() {
    let terms = Terms { query_offset: MINUTE, ..Terms::default() };
    let mut bed = Bed::with(terms, vec![alert("A", "x > 1", (0, 0), &[]), record("y", "x", &[])]);
    bed.step(0, &[("a", 2.0)]);
    assert_eq!(bed.alerts(), [""; 0]);
    bed.step(1, &[("a", 1.0)]);
    assert_eq!(bed.alerts(), ["a firing, active at 1"]);
    assert_eq!(bed.read("y", 0), [r#"y{job="a"} 2"#]);
    assert_eq!(bed.read("timestamp(y)", 4), [r#"{job="a"} 0"#]);
    bed.step(2, &[]);
    assert_eq!(bed.alerts(), ["a resolved at 2, active at 1"]);
}

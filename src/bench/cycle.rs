//! The whole cycle in one process: samples in, would-be actions out, timed.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::engine::Configuration;
use crate::model::{
    ActionSpec, Answer, Charter, Confidence, Entry, Generation, Gives, Idempotency, Labels, METRIC_NAME,
    Playbook, Rule, RuleGroup, RuleName, Sample, StepTemplate, Template, Timestamp, Verification,
};
use crate::role::replay::Replay;

/// When the measured world begins.
const BEGIN: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// The mean time of a cycle with one violation: a sample breaches, is analysed, planned for and reported as shadow.
pub fn one_violation(rounds: u32, clock: &Clock) -> Duration {
    mean(rounds, 1, clock)
}

/// The mean time of a cycle with a thousand violations on as many services at once.
pub fn thousand_violations(rounds: u32, clock: &Clock) -> Duration {
    mean(rounds, 1_000, clock)
}

fn mean(rounds: u32, services: u32, clock: &Clock) -> Duration {
    let mut replay = Replay::new(configuration(), BEGIN);
    let series: Vec<Labels> = (0..services).filter_map(series).collect();
    let mut spent = Duration::ZERO;
    let mut planned = 0;
    let mut at = BEGIN;
    for round in 0..rounds.max(1) {
        // Quiet for long enough that what was over is forgotten.
        at = at + Duration::from_mins(20);
        scrape(&mut replay, &series, at, 0.0);
        replay.settle();
        replay.news();
        at = at + Duration::from_secs(10);
        let begun = clock.stopwatch();
        scrape(&mut replay, &series, at, f64::from(round) + 100.0);
        replay.settle();
        spent += begun.elapsed();
        let plans =
            replay.news().iter().flat_map(|record| record.batch.entries.clone()).filter(is_plan).count();
        planned += plans;
    }
    debug_assert_eq!(
        planned,
        rounds.max(1) as usize * services as usize,
        "a cycle that plans nothing is none"
    );
    spent / rounds.max(1)
}

fn scrape(replay: &mut Replay<'_>, series: &[Labels], at: Timestamp, value: f64) {
    for series in series {
        replay.push(Sample { series: series.clone(), at, value });
    }
}

fn is_plan(entry: &Entry) -> bool {
    matches!(entry, Entry::Plan(_))
}

fn series(service: u32) -> Option<Labels> {
    Labels::new([(METRIC_NAME.to_owned(), "load".to_owned()), ("service".to_owned(), format!("s{service}"))])
        .ok()
}

fn configuration() -> Configuration {
    let name = RuleName { group: "bench".into(), alert: "LoadHigh".into() };
    let rule = Rule {
        name,
        gives: Gives::Violations,
        expr: "load > 50".into(),
        hold: Duration::ZERO,
        keep_firing: Duration::ZERO,
        labels: vec![("severity".into(), "critical".into())],
        annotations: Vec::new(),
    };
    let playbook = Playbook {
        name: "restart".into(),
        answers: vec![Answer {
            cause: "symptom:LoadHigh".into(),
            scope: Labels::empty(),
            min_confidence: Confidence::NONE,
        }],
        settle: Some(Duration::ZERO),
        order: 0,
        steps: vec![StepTemplate {
            name: "restart".into(),
            spec: ActionSpec::NatsPublish {
                subject: Template::verbatim("bench.restart"),
                body: Template::verbatim("now"),
            },
            timeout: Duration::from_secs(1),
            idempotency: Idempotency::Key,
        }],
        verify: Verification {
            expr: Template::verbatim("load < 50"),
            harm: None,
            settle: Duration::ZERO,
            within: Duration::from_secs(1),
            evaluations: 1,
        },
        undo: Vec::new(),
    };
    Configuration {
        generation: Generation(1),
        hash: "bench".into(),
        groups: vec![RuleGroup {
            name: "bench".into(),
            file: "bench".into(),
            interval: None,
            pulse: Duration::from_mins(1),
            rules: vec![rule],
        }],
        playbooks: vec![playbook],
        causes: Vec::new(),
        scope_labels: vec![Arc::from("service")],
        charter: Charter { storm_violations: u32::MAX, ..Charter::default() },
    }
}

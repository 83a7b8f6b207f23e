//! What comes in, and the loop that it comes to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use homeostat::engine::analyze::Analyzer;
use homeostat::engine::execute::{Executor, SHARDS};
use homeostat::engine::monitor::Monitor;
use homeostat::engine::plan::Planner;
use homeostat::engine::{Configuration, Core, Input, Intake, Lease};
use homeostat::model::{
    ActionSpec, Answer, CauseEntry, Change, ChangeKind, Charter, Confidence, EpisodeId, Frame, Generation,
    Gives, Idempotency, Labels, METRIC_NAME, Mode, OperatorRequest, OutcomeResult, Phase, Playbook, Record,
    Row, Rule, RuleGroup, RuleName, ScrapePart, SeriesTable, Severity, StepTemplate, Symptom, Template,
    Timestamp, Topic, Verification, Violation,
};
use homeostat::role::world::{MemberId, Weather, World};
use proptest::prelude::*;

const BEGIN: Timestamp = Timestamp::from_millis(1_700_000_000_000);
/// How long the loop goes on after the last sample: verifications, cooldowns and what they put off.
const AFTER: Duration = Duration::from_mins(12);
const SERVICES: [&str; 3] = ["a", "b", "c"];
const PRODUCERS: [&str; 2] = ["one", "two"];

/// What comes at one instant.
#[derive(Clone, Debug)]
pub(crate) struct Instant {
    /// How long after the one before.
    after: Duration,
    /// Who sends.
    producer: usize,
    /// Series, how long before the instant it was read, value.
    samples: Vec<(u16, i64, f64)>,
    /// Whether all were read at one time.
    is_scrape: bool,
    /// What else comes in, after the samples.
    outside: Option<Outside>,
}

/// What comes from somebody else.
#[derive(Clone, Copy, Debug)]
enum Outside {
    Found(usize, Phase),
    Deploy(usize),
    Halt,
    Resume,
}

pub(crate) fn instants() -> impl Strategy<Value = Vec<Instant>> {
    let after =
        prop_oneof![6 => 1..20_u64, 1 => 60..600_u64].prop_map(|half| Duration::from_millis(half * 500));
    // Calm and high values both stay for a while, so that a rule with a `for` gets to fire.
    let value = prop_oneof![2 => 0..4_i32, 3 => 6..9_i32].prop_map(f64::from);
    let sample = (0..6_u16, prop_oneof![4 => Just(0_i64), 1 => 0..8_i64], value);
    let sample = sample.prop_map(|(series, age, value)| (series, age * 250, value));
    let outside = prop_oneof![
        3 => (0..3_usize).prop_map(|service| Outside::Found(service, Phase::Firing)),
        2 => (0..3_usize).prop_map(|service| Outside::Found(service, Phase::Resolved)),
        1 => (0..3_usize).prop_map(Outside::Deploy),
        1 => Just(Outside::Halt),
        2 => Just(Outside::Resume),
    ];
    let outside = prop_oneof![3 => Just(None), 1 => outside.prop_map(Some)];
    let samples = prop::collection::vec(sample, 0..10);
    let instant = (after, 0..2_usize, samples, any::<bool>(), outside).prop_map(
        |(after, producer, mut samples, is_scrape, outside)| {
            if is_scrape {
                samples.iter_mut().for_each(|(_, age, _)| *age = 0);
            }
            Instant { after, producer, samples, is_scrape, outside }
        },
    );
    prop::collection::vec(instant, 1..40)
}

/// Everything that the loop has decided about the input. With a seed, frames are cut by it, and some come again.
pub(crate) fn play(instants: &[Instant], weather: impl Weather, seed: Option<u64>) -> Vec<Arc<Record>> {
    let mut world = World::new(BEGIN, weather, Box::new(called));
    let monitor = join_all(&mut world, &Arc::new(configuration()));
    let mut sender = Sender { random: seed.map(fastrand::Rng::with_seed), sequences: BTreeMap::new() };
    let table = SeriesTable::new(all_series());
    world.give(BEGIN, monitor, Input::Table(table.clone()));
    let mut now = BEGIN;
    for instant in instants {
        now = now + instant.after;
        for (at, frame) in sender.frames(instant, now, &table) {
            world.give(at, monitor, Input::Frame(frame));
        }
        if let Some(outside) = instant.outside {
            world.take_in(now, intake(outside, now));
            let is_again = matches!(outside, Outside::Found(..) | Outside::Deploy(_));
            if is_again && sender.random.as_mut().is_some_and(fastrand::Rng::bool) {
                world.take_in(now, intake(outside, now));
            }
        }
    }
    world.run_until(now + AFTER);
    world.ledger().read_from(1).to_vec()
}

struct Sender {
    random: Option<fastrand::Rng>,
    sequences: BTreeMap<usize, u64>,
}

impl Sender {
    /// The samples of an instant, whole or cut, and frames that come again with it or later.
    fn frames(&mut self, instant: &Instant, now: Timestamp, table: &SeriesTable) -> Vec<(Timestamp, Frame)> {
        let rows: Vec<Row> = instant
            .samples
            .iter()
            .map(|(series, age, value)| Row {
                series: *series,
                at: Timestamp::from_millis(now.as_millis() - age),
                value: *value,
            })
            .collect();
        let mut cuts = vec![0, rows.len()];
        if let Some(random) = &mut self.random {
            cuts.extend((0..random.usize(..4)).map(|_| random.usize(..=rows.len())));
        }
        cuts.sort_unstable();
        cuts.dedup();
        let parts = u16::try_from(cuts.len()).unwrap() - 1;
        let (mut frames, mut again) = (Vec::new(), Vec::new());
        for (part, cut) in (0..).zip(cuts.windows(2)) {
            let sequence = self.sequences.entry(instant.producer).or_default();
            *sequence += 1;
            let frame = Frame {
                producer: PRODUCERS[instant.producer].into(),
                epoch: 1,
                sequence: *sequence,
                bucket: 0,
                scrape: instant.is_scrape.then_some(ScrapePart { part, parts }),
                table: table.hash,
                rows: rows[cut[0]..cut[1]].to_vec(),
            };
            if let Some(random) = &mut self.random
                && random.u8(..3) == 0
            {
                let late = if random.bool() { 0 } else { random.u64(..20_000) };
                again.push((now + Duration::from_millis(late), frame.clone()));
            }
            frames.push((now, frame));
        }
        frames.extend(again);
        frames
    }
}

fn intake(outside: Outside, now: Timestamp) -> Intake {
    let operator = |request| Intake::Operator { by: "ann".into(), request };
    match outside {
        Outside::Halt => operator(OperatorRequest::Halt { reason: "drill".into() }),
        Outside::Resume => operator(OperatorRequest::Resume),
        Outside::Deploy(service) => {
            let scope = Labels::new([("service", SERVICES[service])]).unwrap();
            Intake::Change(Change::new(ChangeKind::Deploy, scope, now, "v2"))
        }
        Outside::Found(service, phase) => Intake::Violation(Box::new(Violation {
            episode: EpisodeId::of(&[&"theirs"]),
            rev: 1,
            rule: RuleName { group: "theirs".into(), alert: "DiskFull".into() },
            severity: Severity::Critical,
            phase,
            labels: Labels::new([("service", SERVICES[service]), ("severity", "critical")]).unwrap(),
            annotations: Vec::new(),
            since: now,
            at: now,
            value: 1.0,
            sample_interval: Duration::ZERO,
        })),
    }
}

/// The managed resource: what becomes of an attempt depends on the attempt alone.
fn called(_now: Timestamp, act: &homeostat::engine::Act) -> (OutcomeResult, Arc<str>) {
    match act.attempt.as_u128() % 8 {
        0 => (OutcomeResult::Failed, "no".into()),
        1 => (OutcomeResult::TimedOut, "".into()),
        _ => (OutcomeResult::Succeeded, "ok".into()),
    }
}

fn join_all<W: Weather>(world: &mut World<'_, W>, configuration: &Arc<Configuration>) -> MemberId {
    let loaded = Arc::clone(configuration);
    let takes: fn(&Intake) -> bool = |intake| matches!(intake, Intake::Violation(_) | Intake::Change(_));
    let make = move |_| {
        Box::new(Monitor::new("cell".into(), "monitor".into(), Arc::clone(&loaded))) as Box<dyn Core>
    };
    let monitor = world.join(None, Some(takes), Box::new(make));
    let loaded = Arc::clone(configuration);
    let make = move |_| Box::new(Analyzer::new("analyzer".into(), Arc::clone(&loaded))) as Box<dyn Core>;
    world.join(Some(("analyzer", |topic| matches!(topic, Topic::Violations(_)))), None, Box::new(make));
    let loaded = Arc::clone(configuration);
    let make = move |_| Box::new(Planner::new("planner".into(), Arc::clone(&loaded))) as Box<dyn Core>;
    let filter: fn(Topic) -> bool = |topic| matches!(topic, Topic::Analyses(_) | Topic::Admission);
    world.join(Some(("planner", filter)), None, Box::new(make));
    let loaded = Arc::clone(configuration);
    let takes: fn(&Intake) -> bool = |intake| matches!(intake, Intake::Operator { .. });
    let make = move |_| Box::new(Executor::new("executor".into(), Arc::clone(&loaded), 7)) as Box<dyn Core>;
    let executor = world.join(None, Some(takes), Box::new(make));
    let all = (0..SHARDS).map(|shard| Lease { shard, revision: 1, until: Timestamp::MAX }).collect();
    world.lease(executor, all);
    monitor
}

fn all_series() -> Vec<Labels> {
    ["load", "errors"]
        .into_iter()
        .flat_map(|metric| SERVICES.map(|service| (metric, service)))
        .map(|(metric, service)| Labels::new([(METRIC_NAME, metric), ("service", service)]).unwrap())
        .collect()
}

fn rule(group: &str, alert: &str, expr: &str, hold: u64, severity: &str) -> Rule {
    Rule {
        name: RuleName { group: group.into(), alert: alert.into() },
        gives: Gives::Violations,
        expr: expr.into(),
        hold: Duration::from_secs(hold),
        keep_firing: Duration::ZERO,
        labels: vec![("severity".into(), severity.into())],
        annotations: Vec::new(),
    }
}

/// Rules of each kind, playbooks that wait and that do not, and every budget tight.
fn configuration() -> Configuration {
    let rules = vec![
        rule("g", "LoadHigh", "load > 5", 0, "critical"),
        rule("g", "LoadStays", "load > 5", 10, "warning"),
        rule("g", "Errors", "errors > 5", 0, "info"),
        rule("g", "Both", "load > 5 and on (service) errors > 5", 0, "warning"),
        rule("g", "Sum", "sum by (service) (errors) > 6", 5, "critical"),
        rule("g", "Gone", r#"absent(load{service="a"})"#, 0, "critical"),
    ];
    let grid = vec![rule("grid", "LoadOnGrid", "load > 5", 15, "warning")];
    let group = |name: &str, interval: Option<u64>, rules| RuleGroup {
        name: name.into(),
        file: "rules.yaml".into(),
        interval: interval.map(Duration::from_secs),
        pulse: Duration::from_secs(20),
        rules,
    };
    let causes = vec![CauseEntry {
        name: "overload".into(),
        prior: Confidence::new(0.1).unwrap(),
        symptoms: ["LoadStays", "Errors"]
            .map(|alert| Symptom {
                matches: Labels::new([("alertname", alert)]).unwrap(),
                weight: Confidence::new(0.8).unwrap(),
                because: "it says so".into(),
            })
            .to_vec(),
    }];
    let playbooks = vec![
        playbook("now", "symptom:LoadHigh", 1, Some(0), Idempotency::Key),
        playbook("shortly", "symptom:LoadHigh", 2, Some(300), Idempotency::Key),
        playbook("steadily", "overload", 1, None, Idempotency::None),
        playbook("disk", "symptom:DiskFull", 1, Some(1_000), Idempotency::Fence),
        playbook("gone", "symptom:Gone", 1, Some(0), Idempotency::None),
    ];
    Configuration {
        generation: Generation(1),
        hash: "test".into(),
        groups: vec![group("g", None, rules), group("grid", Some(15), grid)],
        causes,
        scope_labels: vec!["service".into()],
        charter: Charter {
            mode: Mode::Auto,
            armed: playbooks.iter().map(|playbook| Arc::clone(&playbook.name)).collect(),
            concurrent_plans_max: 2,
            actions_per_hour_max: 20,
            cooldown: Duration::from_secs(20),
            storm_violations: 12,
            ..Charter::default()
        },
        playbooks,
    }
}

fn playbook(
    name: &str,
    cause: &str,
    order: u32,
    settle_millis: Option<u64>,
    idempotency: Idempotency,
) -> Playbook {
    let text = |text: &str| Template::parse(text).unwrap();
    let step = |name: &str| StepTemplate {
        name: name.into(),
        spec: ActionSpec::NatsPublish { subject: text("x"), body: text("{{ $labels.service }}") },
        timeout: Duration::from_secs(1),
        idempotency,
    };
    Playbook {
        name: name.into(),
        answers: vec![Answer {
            cause: cause.into(),
            scope: Labels::empty(),
            min_confidence: Confidence::NONE,
        }],
        settle: settle_millis.map(Duration::from_millis),
        order,
        steps: vec![step("first"), step("second")],
        verify: Verification {
            expr: text(r#"load{service="{{ $labels.service }}"} < 5"#),
            harm: Some(text(r#"errors{service="{{ $labels.service }}"} > 7"#)),
            settle: Duration::from_secs(1),
            within: Duration::from_secs(20),
            evaluations: 2,
        },
        undo: vec![step("back")],
    }
}

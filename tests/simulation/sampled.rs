//! Worlds in which the monitor of production evaluates samples: frames are late, lost, doubled and out of order, it is
//! killed and comes back from its checkpoint and the tail of the sample stream, and effects change what is measured.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use homeostat::engine::monitor::Monitor;
use homeostat::engine::{Act, Configuration, Core, Input, Intake, Step};
use homeostat::model::{
    ActionSpec, EpisodeId, Frame, Gives, Labels, METRIC_NAME, OutcomeResult, Phase, Row, Rule, RuleGroup,
    RuleName, ScrapePart, SeriesTable, Severity, Timestamp, Violation,
};
use homeostat::role::world::{MemberId, Target};
use homeostat::wire::checkpoint::{self, Checkpoint};

use crate::oracle::{LOAD_CALM, Run};
use crate::saboteur::Sabotage;
use crate::stage::{self, BEGIN, CALM, Effect, Stage, Told};

/// How long the storm lasts: a few episodes for each service.
const STORM: Duration = Duration::from_mins(1);
/// How long samples come every second: the storm and what follows from it.
const BUSY: Duration = Duration::from_secs(100);
/// Without a checkpoint there is nothing to come back to: until the first one the monitor is spared.
const SPARED: Duration = Duration::from_secs(5);
/// How often the state is kept; more often than in production, so that a minute has many.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(3);
/// The services, and which alert their load raises.
pub(crate) const SERVICES: [(&str, &str); 4] =
    [("s0", "KeyAlert"), ("s1", "NoneAlert"), ("s2", "FenceAlert"), ("s3", "KeyAlert")];
/// The alert that any service raises at once.
pub(crate) const PEAK: &str = "Peak";
/// How long a service's own alert waits.
pub(crate) const HOLD: Duration = Duration::from_secs(8);

/// What happened, and what the samples say should have.
pub(crate) struct Sampled {
    pub(crate) told: Told,
    pub(crate) runs: Vec<Run>,
    /// Labels of what others reported.
    pub(crate) reported: Vec<Labels>,
    pub(crate) monitor_kills: usize,
}

pub(crate) fn run(seed: u64) -> Sampled {
    let effects = Rc::new(RefCell::new(Vec::new()));
    let load = Rc::new(RefCell::new(Load::new(seed)));
    let stream = Rc::new(RefCell::new(SampleStream::default()));
    let configuration = Arc::new(configuration());
    let kept = (Arc::clone(&configuration), Rc::clone(&stream));
    let monitor = Box::new(move |_| Box::new(Watching::start(&kept.0, &kept.1)) as Box<dyn Core>);
    let target = target(&effects, &load, seed);
    let mut stage = Stage::new(seed, target, monitor, &configuration, Sabotage::None);
    let reported = report(&mut stage);
    let mut producers = ["left", "right"].map(Producer::new);
    let mut monitor_kills = 0;
    let mut next = BEGIN;
    let mut is_stormy = true;
    while stage.now < BEGIN + STORM + CALM {
        let mut back = stage.pass();
        stream.borrow_mut().now = stage.now;
        while next <= stage.now {
            load.borrow_mut().advance(next, next < BEGIN + STORM);
            for (producer, services) in producers.iter_mut().zip([0..2, 2..4]) {
                producer.scrape(&mut stage, &stream, &load.borrow(), services, next);
            }
            next = next + Duration::from_secs(if next < BEGIN + BUSY { 1 } else { 10 });
        }
        if is_stormy && stage.now >= BEGIN + STORM {
            is_stormy = false;
            back.extend(stage.calm());
        }
        back.into_iter().for_each(|member| restart(&mut stage, &stream, &configuration, member));
        if is_stormy {
            let monitor = stage.monitor();
            let lived = stage.world.lives(monitor);
            stage.harm(Some(monitor).filter(|_| stage.now < BEGIN + SPARED));
            monitor_kills += usize::from(lived && !stage.world.lives(monitor));
        }
    }
    let records = stage.world.ledger().read_from(1).to_vec();
    let accepted = accepted(&records);
    let effects = effects.borrow().clone();
    let runs = load.borrow().runs.clone();
    Sampled { told: Told { accepted, records, effects, kills: stage.kills }, runs, reported, monitor_kills }
}

/// Every episode that is in the ledger.
fn accepted(records: &[Arc<homeostat::model::Record>]) -> Vec<EpisodeId> {
    let entries = records.iter().flat_map(|record| &record.batch.entries);
    let mut episodes: Vec<EpisodeId> =
        entries.filter_map(|entry| entry.as_violation()).map(|violation| violation.episode).collect();
    episodes.sort_unstable();
    episodes.dedup();
    episodes
}

/// As the live runner: configured at once, with the newest frames once more, because the subscription was there before
/// the tail was read.
fn restart(
    stage: &mut Stage<'_>,
    stream: &Rc<RefCell<SampleStream>>,
    configuration: &Arc<Configuration>,
    member: MemberId,
) {
    stage.world.restart(member);
    if member == stage.monitor() {
        stage.world.give(stage.now, member, Input::Configuration(Arc::clone(configuration)));
        for input in stream.borrow().newest(4) {
            stage.world.give(stage.now, member, input);
        }
    }
}

/// Something that others have found, and that is over a while later.
fn report(stage: &mut Stage<'_>) -> Vec<Labels> {
    let mut reported = Vec::new();
    for number in 0..stage.random.u64(0..3) {
        let at = BEGIN + Duration::from_millis(stage.random.u64(0..30_000));
        let over_at = at + Duration::from_millis(stage.random.u64(5_000..20_000));
        let service = format!("s{}", stage.random.u8(..4));
        let labels = [("alertname", "DiskFull"), ("n", &number.to_string()), ("service", service.as_str())];
        let labels = Labels::new(labels).expect("few short labels");
        for (phase, at) in [(Phase::Firing, at), (Phase::Resolved, over_at)] {
            let found = Violation {
                episode: EpisodeId::of(&[&"theirs"]),
                rev: 1,
                rule: RuleName { group: "theirs".into(), alert: "DiskFull".into() },
                severity: Severity::Critical,
                phase,
                labels: labels.clone(),
                annotations: Vec::new(),
                since: at,
                at,
                value: 1.0,
                sample_interval: Duration::ZERO,
            };
            stage.world.take_in(at, Intake::Violation(Box::new(found)));
        }
        reported.push(labels);
    }
    reported
}

/// What a call does besides being noted: it takes the load off the service.
fn target<'a>(effects: &Rc<RefCell<Vec<Effect>>>, load: &Rc<RefCell<Load>>, seed: u64) -> Target<'a> {
    let mut noted = stage::target(Rc::clone(effects), seed);
    let load = Rc::clone(load);
    Box::new(move |at, act: &Act| {
        let ended = noted(at, act);
        if let (OutcomeResult::Succeeded, ActionSpec::NatsPublish { body, .. }) = (ended.0, &act.action.spec)
        {
            load.borrow_mut().relieve(body);
        }
        ended
    })
}

/// The services' load: calm and busy by turns, and calm once it was relieved.
struct Load {
    random: fastrand::Rng,
    services: Vec<Service>,
    /// Every time that a service was busy.
    runs: Vec<Run>,
}

struct Service {
    value: f64,
    /// When it turns by itself.
    turns_at: Timestamp,
    run: Option<usize>,
}

impl Load {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed ^ 0x10ad);
        let mut service = |_| Service {
            value: LOAD_CALM,
            turns_at: BEGIN + Duration::from_secs(random.u64(2..15)),
            run: None,
        };
        let services = SERVICES.iter().map(&mut service).collect();
        Self { random, services, runs: Vec::new() }
    }

    /// The load at a sample's time. A gap and a run are longer than samples are late, and a run is clearly shorter or
    /// clearly longer than the hold: whether it fires is not a matter of milliseconds.
    fn advance(&mut self, at: Timestamp, may_begin: bool) {
        for (place, service) in self.services.iter_mut().enumerate() {
            if service.value > LOAD_CALM {
                if service.turns_at <= at {
                    service.value = LOAD_CALM;
                    service.turns_at = at + Duration::from_secs(self.random.u64(6..15));
                    service.run = None;
                } else if let Some(run) = service.run.and_then(|run| self.runs.get_mut(run)) {
                    run.last = at;
                }
            } else if service.turns_at <= at && may_begin {
                let seconds = if self.random.bool() { 4 } else { self.random.u64(14..22) };
                service.value = if self.random.bool() { 6.0 } else { 9.0 };
                service.turns_at = at + Duration::from_secs(seconds);
                service.run = Some(self.runs.len());
                self.runs.push(Run { service: place, value: service.value, first: at, last: at });
            }
        }
    }

    fn relieve(&mut self, service: &str) {
        let known = SERVICES.iter().zip(&mut self.services).find(|((name, _), _)| *name == service);
        if let Some((_, service)) = known {
            service.turns_at = if service.value > LOAD_CALM { BEGIN } else { service.turns_at };
        }
    }
}

/// Sends the samples of two services, each second in one frame.
struct Producer {
    name: &'static str,
    sequence: u64,
    /// No two frames in a row are lost, so that a run is seen.
    lost_last: bool,
}

impl Producer {
    fn new(name: &'static str) -> Self {
        Self { name, sequence: 0, lost_last: false }
    }

    fn scrape(
        &mut self,
        stage: &mut Stage<'_>,
        stream: &Rc<RefCell<SampleStream>>,
        load: &Load,
        services: std::ops::Range<usize>,
        at: Timestamp,
    ) {
        let table = SeriesTable::new(services.clone().map(series).collect::<Vec<_>>());
        let rows = services.zip(0..).map(|(service, series)| Row {
            series,
            at,
            value: load.services[service].value,
        });
        self.sequence += 1;
        let frame = Frame {
            producer: self.name.into(),
            epoch: 1,
            sequence: self.sequence,
            bucket: 0,
            scrape: Some(ScrapePart { part: 0, parts: 1 }),
            table: table.hash,
            rows: rows.collect(),
        };
        let force = stage.world.weather().force;
        self.lost_last = !self.lost_last && stage.random.f64() < 0.1 * force;
        if self.lost_last {
            return;
        }
        let copies = if stage.random.f64() < 0.1 * force { 2 } else { 1 };
        for _ in 0..copies {
            let worst = if stage.random.f64() < 0.2 * force { 1_500 } else { 3 };
            let arrives_at = at.max(stage.now) + Duration::from_millis(stage.random.u64(0..=worst));
            for input in [Input::Table(table.clone()), Input::Frame(frame.clone())] {
                stream.borrow_mut().store(arrives_at, input.clone());
                stage.world.give(arrives_at, stage.monitor(), input);
            }
        }
    }
}

fn series(service: usize) -> Labels {
    let (service, alert) = SERVICES[service];
    Labels::new([(METRIC_NAME, "load"), ("kind", alert), ("service", service)]).expect("few short labels")
}

/// What the server has captured, and the newest checkpoint.
#[derive(Default)]
struct SampleStream {
    now: Timestamp,
    stored: BTreeMap<(Timestamp, usize), Input>,
    checkpoint: Option<Vec<u8>>,
}

impl SampleStream {
    fn store(&mut self, arrives_at: Timestamp, input: Input) {
        self.stored.insert((arrives_at, self.stored.len()), input);
    }

    /// Everything that is there, in its order.
    fn there(&self) -> impl DoubleEndedIterator<Item = (Timestamp, &Input)> {
        self.stored.range(..(self.now + Duration::from_millis(1), 0)).map(|((at, _), input)| (*at, input))
    }

    fn newest(&self, count: usize) -> Vec<Input> {
        let mut newest: Vec<Input> = self.there().rev().take(count).map(|(_, input)| input.clone()).collect();
        newest.reverse();
        newest
    }
}

/// The monitor of production with what `role::sampling` does around it: restored from a checkpoint and the tail behind it,
/// and kept from time to time, in the form that is kept.
struct Watching {
    core: Monitor,
    stream: Rc<RefCell<SampleStream>>,
    /// What it wanted done while it read the tail.
    first: Vec<Step>,
    kept_at: Option<Timestamp>,
    /// The end of the stream when the state was kept last.
    behind: usize,
}

impl Watching {
    fn start(configuration: &Arc<Configuration>, stream: &Rc<RefCell<SampleStream>>) -> Self {
        let configuration = Arc::clone(configuration);
        let (cell, instance) = (Arc::from("cell"), Arc::from("monitor"));
        let mut first = Vec::new();
        let read = stream.borrow();
        let kept = read.checkpoint.as_ref().map(|bytes| checkpoint::decode(bytes).expect("what was written"));
        let core = match kept {
            Some(Checkpoint { sequence, snapshot, stream: _ }) => {
                let mut core = Monitor::restore(cell, instance, configuration, snapshot);
                let behind = usize::try_from(sequence).expect("a small number");
                first.extend(read.there().skip(behind).map(|(at, input)| core.handle(at, input.clone())));
                core
            }
            None => Monitor::new(cell, instance, configuration),
        };
        let behind = read.there().count();
        Self { core, stream: Rc::clone(stream), first, kept_at: None, behind }
    }

    /// The step with those before it: what was to be done first is done first, and only the last one knows when to wake.
    fn after_the_first(&mut self, mut step: Step) -> Step {
        let mut all = Step { wake_at: step.wake_at, ..Step::default() };
        let mut add = |step: &mut Step| {
            all.emit.append(&mut step.emit);
            all.ask.append(&mut step.ask);
            all.done.append(&mut step.done);
        };
        self.first.iter_mut().for_each(&mut add);
        add(&mut step);
        self.first.clear();
        all
    }

    fn keep(&mut self, now: Timestamp) {
        let kept_at = *self.kept_at.get_or_insert(now);
        if now.saturating_since(kept_at) < CHECKPOINT_EVERY {
            return;
        }
        self.kept_at = Some(now);
        let sequence = u64::try_from(self.behind).expect("a small number");
        let snapshot = self.core.snapshot();
        let bytes = checkpoint::encode(&Checkpoint { stream: Timestamp::MIN, sequence, snapshot })
            .expect("a small state");
        let mut stream = self.stream.borrow_mut();
        stream.checkpoint = Some(bytes);
        self.behind = stream.there().count();
    }
}

impl Core for Watching {
    fn handle(&mut self, now: Timestamp, input: Input) -> Step {
        let step = self.core.handle(now, input);
        self.keep(now);
        self.after_the_first(step)
    }

    fn tick(&mut self, now: Timestamp) -> Step {
        let step = self.core.tick(now);
        self.keep(now);
        self.after_the_first(step)
    }
}

fn configuration() -> Configuration {
    let rule = |alert: &str, expr: String, hold| Rule {
        name: RuleName { group: "load".into(), alert: alert.into() },
        gives: Gives::Violations,
        expr: expr.into(),
        hold,
        keep_firing: Duration::ZERO,
        labels: vec![("severity".into(), "warning".into())],
        annotations: Vec::new(),
    };
    let mut rules: Vec<Rule> = ["KeyAlert", "NoneAlert", "FenceAlert"]
        .into_iter()
        .map(|alert| rule(alert, format!(r#"load{{kind="{alert}"}} > 5"#), HOLD))
        .collect();
    rules.push(rule(PEAK, "load > 8".into(), Duration::ZERO));
    let group = RuleGroup {
        name: "load".into(),
        file: "load.yaml".into(),
        interval: None,
        pulse: Duration::from_mins(1),
        rules,
    };
    Configuration { groups: vec![group], ..stage::configuration() }
}

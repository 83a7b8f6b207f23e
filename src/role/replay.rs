//! The replay: the whole loop over recorded samples, in one thread, on virtual time, without a server.
//!
//! Nothing is executed: plans are shadow whatever the charter says, so nothing is verified and nothing is learned. The same
//! input gives the same bytes.

use std::sync::Arc;
use std::time::Duration;

use super::world::{Calm, World};
use crate::engine::analyze::Analyzer;
use crate::engine::execute::{Executor, SHARDS};
use crate::engine::monitor::Monitor;
use crate::engine::plan::Planner;
use crate::engine::{Configuration, Core, Input, Lease};
use crate::model::{Mode, OutcomeResult, Record, Sample, Timestamp, Topic};
use crate::producer::Framer;

/// How long the loop goes on after the last sample: the longest default settle, and what follows from it.
const AFTER_THE_LAST_SAMPLE: Duration = Duration::from_mins(1);
/// The name of the producer of a replay's samples.
const PRODUCER: &str = "replay";

/// What a replay has seen, in figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Samples that went in.
    pub samples: u64,
    /// Samples that were no samples of the loop: without a metric name, or more series than it takes.
    pub refused: u64,
    /// Time of the first sample.
    pub first: Option<Timestamp>,
    /// Time of the last sample.
    pub last: Option<Timestamp>,
}

/// A replay under way.
pub struct Replay<'a> {
    world: World<'a, Calm>,
    monitor: super::world::MemberId,
    framer: Framer,
    scrape: Vec<Sample>,
    scrape_at: Option<Timestamp>,
    told: u64,
    summary: Summary,
}

impl Replay<'_> {
    /// A loop at the time of the first sample. The charter's mode is not looked at.
    pub fn new(configuration: Configuration, begin: Timestamp) -> Self {
        let mut configuration = configuration;
        configuration.charter.mode = Mode::Shadow;
        let configuration = Arc::new(configuration);
        // Nothing is ever called: shadow plans ask for no effect.
        let target = Box::new(|_now, _act: &_| (OutcomeResult::NotStarted, Arc::from("not executed")));
        let mut world = World::new(begin, Calm, target);
        let monitor = join_all(&mut world, &configuration);
        Self {
            world,
            monitor,
            framer: Framer::new(PRODUCER, 1, 1),
            scrape: Vec::new(),
            scrape_at: None,
            told: 0,
            summary: Summary::default(),
        }
    }

    /// Takes in the next sample, which is not older than the one before. Samples of one time are one scrape.
    pub fn push(&mut self, sample: Sample) {
        if self.scrape_at != Some(sample.at) {
            self.finish_scrape();
            self.scrape_at = Some(sample.at);
        }
        self.summary.first.get_or_insert(sample.at);
        self.summary.last = Some(sample.at);
        self.summary.samples += 1;
        self.scrape.push(sample);
    }

    /// What the loop has decided since the last call, in the order of the ledger.
    pub fn news(&mut self) -> Vec<Arc<Record>> {
        let news = self.world.ledger().read_from(self.told + 1).to_vec();
        self.told += news.len() as u64;
        news
    }

    /// Takes the samples so far as a whole scrape.
    pub fn settle(&mut self) {
        self.finish_scrape();
    }

    /// Lets the loop come to rest after the last sample.
    pub fn finish(&mut self) -> Summary {
        self.finish_scrape();
        self.world.run_until(self.world.now() + AFTER_THE_LAST_SAMPLE);
        self.summary
    }

    fn finish_scrape(&mut self) {
        let Some(at) = self.scrape_at.take() else { return };
        let scrape = std::mem::take(&mut self.scrape);
        self.summary.refused += self.framer.push_scrape(at, &scrape) as u64;
        for (frame, table) in self.framer.take_ready(at) {
            if let Some(table) = table {
                self.world.give(at, self.monitor, Input::Table(table));
            }
            self.world.give(at, self.monitor, Input::Frame(frame));
        }
        self.world.run_until(at);
        // A year of samples makes more decisions than memory holds.
        self.world.forget(self.told);
        self.scrape = scrape;
        self.scrape.clear();
    }
}

fn join_all(world: &mut World<'_, Calm>, configuration: &Arc<Configuration>) -> super::world::MemberId {
    let loaded = Arc::clone(configuration);
    let monitor = world.join(
        None,
        None,
        Box::new(move |_| {
            Box::new(Monitor::new(PRODUCER.into(), "monitor".into(), Arc::clone(&loaded))) as Box<dyn Core>
        }),
    );
    let loaded = Arc::clone(configuration);
    world.join(
        Some(("analyzer", |topic| matches!(topic, Topic::Violations(_)))),
        None,
        Box::new(move |_| Box::new(Analyzer::new("analyzer".into(), Arc::clone(&loaded))) as Box<dyn Core>),
    );
    let loaded = Arc::clone(configuration);
    world.join(
        Some(("planner", |topic| matches!(topic, Topic::Analyses(_) | Topic::Admission))),
        None,
        Box::new(move |_| Box::new(Planner::new("planner".into(), Arc::clone(&loaded))) as Box<dyn Core>),
    );
    let loaded = Arc::clone(configuration);
    let executor = world.join(
        None,
        None,
        Box::new(move |_| {
            Box::new(Executor::new("executor".into(), Arc::clone(&loaded), 0)) as Box<dyn Core>
        }),
    );
    let all = (0..SHARDS).map(|shard| Lease { shard, revision: 1, until: Timestamp::MAX }).collect();
    world.lease(executor, all);
    monitor
}

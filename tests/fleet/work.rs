//! Work for the loop: units that break one after the other, half of them seen in their samples, half of them reported.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use homeostat::Producer;
use homeostat::bus::Outgoing;
use homeostat::bus::nats::{Connection, Names, Publisher};
use homeostat::clock::Clock;
use homeostat::model::{Labels, Sample, Timestamp};
use homeostat::wire::Subjects;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::target::{Targets, World};

/// How often every unit is sampled.
const SAMPLES_EVERY: Duration = Duration::from_millis(150);
/// How often something breaks.
const BREAK_EVERY: Duration = Duration::from_millis(120);
/// Units that are ill at once, beyond which nothing else breaks: the loop is to be killed at work, not buried.
const ILL_MAX: usize = 24;
/// Pause before a report without an acknowledgement is sent again.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Units seen in their samples are called so, reported ones `r-…` and [`held-…`](crate::target::HELD).
const SAMPLED: &str = "s-";

/// A trickle of violations. Dropped, it ends.
pub(crate) struct Work {
    breaking: watch::Sender<bool>,
    /// Units of which a violation was accepted.
    accepted: watch::Receiver<BTreeSet<String>>,
    _tasks: JoinSet<()>,
}

impl Work {
    /// Begins to sample the world, to report on it, and to break units.
    pub(crate) async fn start(connections: [Connection; 2], names: &Names, targets: &Targets) -> Self {
        let [samples, reports] = connections;
        let clock = Clock::system();
        let producer = producer(samples, "units").await;
        let (accepted_in, accepted) = watch::channel(BTreeSet::new());
        let (breaking, broken) = watch::channel(true);
        let mut tasks = JoinSet::new();
        tasks.spawn(sample(producer, clock, Arc::clone(&targets.world)));
        let publisher = Publisher::new(reports, &names.intake);
        let subject = format!("{}.intake.violations", names.root);
        tasks.spawn(report(publisher, subject, Arc::clone(&targets.world), accepted_in));
        tasks.spawn(break_units(Arc::clone(&targets.world), broken));
        Self { breaking, accepted, _tasks: tasks }
    }

    /// Nothing breaks any more.
    pub(crate) fn stop_breaking(&self) {
        self.breaking.send_replace(false);
    }

    /// Reported units whose report was acknowledged.
    pub(crate) fn accepted(&self) -> BTreeSet<String> {
        self.accepted.borrow().clone()
    }

    /// Waits until a report was acknowledged.
    pub(crate) async fn until_accepted(&self, unit: &str) {
        let mut accepted = self.accepted.clone();
        let waiting = accepted.wait_for(|accepted| accepted.contains(unit));
        let _ = crate::support::soon("an acknowledged report", waiting).await;
    }
}

/// A producer of samples. The sample stream is gone with the server's memory, until a process has made it anew.
pub(crate) async fn producer(connection: Connection, name: &str) -> Producer {
    let subjects = Subjects::new("homeostat").unwrap();
    let opening = async {
        loop {
            let clock = Clock::system();
            let opened = Producer::open(connection.clone(), subjects.clone(), "default", name, clock).await;
            match opened {
                Ok(producer) => return producer,
                Err(_) => tokio::time::sleep(AGAIN_AFTER).await,
            }
        }
    };
    crate::support::soon("a producer", opening).await
}

/// One reading of a unit.
pub(crate) fn reading(unit: &str, is_ill: bool, at: Timestamp) -> Sample {
    let metric = if unit.starts_with(SAMPLED) { "unit_broken" } else { "unit_degraded" };
    let series = Labels::new([("__name__", metric), ("unit", unit)]).unwrap();
    Sample { series, at, value: f64::from(u8::from(is_ill)) }
}

async fn sample(mut producer: Producer, clock: Clock, world: Arc<watch::Sender<World>>) {
    let mut every = tokio::time::interval(SAMPLES_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let at = clock.now();
        let readings: Vec<Sample> =
            world.borrow().units.iter().map(|(unit, is_ill)| reading(unit, *is_ill, at)).collect();
        for sample in &readings {
            producer.push(sample).await.unwrap();
        }
        producer.flush().await.unwrap();
    }
}

/// Reports units that are not sampled by a rule when they fall ill, and again when they are well.
async fn report(
    publisher: Publisher,
    subject: String,
    world: Arc<watch::Sender<World>>,
    accepted: watch::Sender<BTreeSet<String>>,
) {
    let mut news = world.subscribe();
    let mut firing = BTreeSet::new();
    loop {
        let ill = news.borrow_and_update().ill();
        let mut said = Vec::new();
        for unit in ill.iter().filter(|unit| !unit.starts_with(SAMPLED) && !firing.contains(*unit)) {
            said.push((unit.clone(), "firing"));
        }
        for unit in firing.difference(&ill) {
            said.push((unit.clone(), "resolved"));
        }
        if said.is_empty() {
            if news.changed().await.is_err() {
                return;
            }
            continue;
        }
        for (unit, status) in said {
            say(&publisher, &subject, &unit, status).await;
            if status == "firing" {
                firing.insert(unit.clone());
                accepted.send_modify(|accepted| {
                    accepted.insert(unit);
                });
            } else {
                firing.remove(&unit);
            }
        }
    }
}

/// Until it is acknowledged, as a sender that means it does.
async fn say(publisher: &Publisher, subject: &str, unit: &str, status: &str) {
    let body = serde_json::json!({
        "alertname": "UnitDegraded",
        "labels": { "unit": unit, "severity": "warning" },
        "status": status,
    });
    let outgoing = Outgoing {
        subject: subject.to_owned(),
        headers: vec![("Content-Type".into(), "application/json".into())],
        payload: body.to_string().into(),
        id: format!("{unit}.{status}"),
        expected_last_on_subject: None,
    };
    while publisher.publish(outgoing.clone()).await.is_err() {
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

async fn break_units(world: Arc<watch::Sender<World>>, mut breaking: watch::Receiver<bool>) {
    let mut every = tokio::time::interval(BREAK_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for number in 0_u32.. {
        every.tick().await;
        let mut changes = world.subscribe();
        let room = changes.wait_for(|world| world.ill().len() < ILL_MAX);
        if room.await.is_err() || !*breaking.borrow_and_update() {
            return;
        }
        let kind = if number % 2 == 0 { SAMPLED } else { "r-" };
        world.send_modify(|world| {
            world.units.insert(format!("{kind}{number}"), true);
        });
    }
}

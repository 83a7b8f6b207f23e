//! What the bus alone costs on the loop's way: the same hops, acknowledgements and batches with empty handlers.
//!
//! The floor has streams, connections, consumers and tasks of its own, made as the roles make theirs, on the same server.
//! Its messages are the loop's own, byte for byte, as they stand in the ledger after its warm-up; only the ids are new.
//! What it does not do is decode, fold, decide and encode. The way, with the loop's counterpart:
//!
//! | Hop | Floor | Loop |
//! |---|---|---|
//! | 1 | a frame on core NATS → subscription → a channel | `nats::Outbox` → `role::sampling` → `role::live` of the monitor |
//! | 2 | a publish on `violations.critical` → shared pull consumer | the monitor's violation → the analyzer's queue |
//! | 3 | a conditional publish on `analyses.0` → shared pull consumer | the analyzer's decision → the planner's queue |
//! | 4 | a publish on `plans` → ordered feed | the planner's plan → the executor's feed |
//! | 5 | a conditional publish on `admission` → its acknowledgement | the executor's intent → "it is ours" |
//! | 6 | a publish on core NATS → subscription | the `nats_publish` actuator → who listens for the effect |
//!
//! Beside the way, as in the loop: five ordered feeds (one a role) get every message; after the acknowledgement of an
//! analysis the incident's copy is published on `incidents.open`, and the violation's delivery is acknowledged when that
//! one is stored; the planner's delivery is acknowledged when the plan is stored, and that of an admission at once; the
//! outcome is published when the server has confirmed the effect. What the loop does after that (verdict, release) comes
//! after the measured moment and has no counterpart.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::BenchError;
use super::closed_loop::{timed, topology};
use crate::bus::nats::{
    self, Answer, Connection, Connections, Feed, Ledger, Listener, Outbox, Publisher, Purpose, Settings,
    Work, WorkSpec,
};
use crate::bus::{Delivery, Incoming, Outgoing, PublishError, Published, Settle, Stored};
use crate::clock::Clock;
use crate::model::{Role, Severity, Shard, Topic};
use crate::role::live::{ACK_WAIT, TAKEN_AT_ONCE_MAX};
use crate::role::process::{ACK_PENDING_MAX, FRAME_BATCHES_QUEUED_MAX, TAKEN_IN_ADVANCE};
use crate::wire::Subjects;

/// Frames that are taken from the subscription at once, as by the monitor's.
const FRAMES_AT_ONCE_MAX: usize = 64;
/// Where the effect is heard of.
const EFFECT: &str = "bench.effect.floor";
/// Headers that the client or the server put there.
const SERVER_HEADERS: &str = "Nats-";

/// The floor at work.
pub struct Floor {
    frame: Incoming,
    outbox: Outbox,
    effects: Listener,
    tasks: JoinSet<Result<(), BenchError>>,
    stop: CancellationToken,
    clock: Clock,
}

/// The loop's messages by topic, the longest of each: of intents and releases the intent, of beginnings and ends the
/// beginning.
type Messages = BTreeMap<String, Stored>;

impl Floor {
    /// Makes streams and stations, with the frame and the messages of a loop that has run at least once.
    pub async fn open(
        settings: &Settings,
        (ledger, frame): (&Ledger, Incoming),
        clock: &Clock,
        stop: &CancellationToken,
    ) -> Result<Self, BenchError> {
        let stop = stop.child_token();
        let messages = Arc::new(messages(ledger).await?);
        let topology = topology("floor")?;
        let connections = Connections::open(settings).await?;
        topology.ensure(&connections.services).await?;
        let names = topology.names();
        let subjects = Subjects::new(&topology.prefix)?;
        let mut tasks = JoinSet::new();
        let mut frames = Some(start_pump(&connections.samples, &subjects, &mut tasks, &stop).await?);
        for role in Role::ALL {
            let connection = connections.decisions.clone();
            let ledger = Ledger::open(connection.clone(), &names).await?;
            let station = Station {
                role,
                subjects: subjects.clone(),
                messages: Arc::clone(&messages),
                publisher: Publisher::new(connection.clone(), &names.ledger),
                feed: ledger.feed(1, None),
                work: work(role, connection, &names.ledger, &subjects).await?,
                frames: if role == Role::Monitor { frames.take() } else { None },
                services: connections.services.clone(),
                answers: FuturesUnordered::new(),
                last: 0,
                sent: 0,
            };
            tasks.spawn(station.run(stop.clone()));
        }
        let (outbox, pump) = nats::outbox(Connection::open(settings, Purpose::Samples).await?);
        let pump = pump.run(stop.clone());
        tasks.spawn(async move {
            pump.await;
            Ok(())
        });
        let services = Connection::open(settings, Purpose::Services).await?;
        let effects = Listener::open(&services, &[EFFECT.to_owned()]).await?;
        let frame = Incoming { subject: subjects.samples(0), ..frame };
        Ok(Self { frame, outbox, effects, tasks, stop, clock: clock.clone() })
    }

    /// Some rounds, with a pause as long as the loop's after each.
    pub async fn block(&mut self, rounds: u32, pause: Duration) -> Result<Vec<Duration>, BenchError> {
        let mut times = Vec::new();
        for _ in 0..rounds {
            let timing = timed(&self.outbox, self.frame.clone(), &mut self.effects, EFFECT, &self.clock);
            times.push(tokio::select! {
                took = timing => took?,
                Some(ended) = self.tasks.join_next() => {
                    ended.map_err(|_| BenchError::Ended("the floor"))??;
                    return Err(BenchError::Ended("the floor"));
                }
            });
            tokio::time::sleep(2 * pause).await;
        }
        Ok(times)
    }

    /// Ends its tasks.
    pub async fn close(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn messages(ledger: &Ledger) -> Result<Messages, BenchError> {
    let end = ledger.tail().await?.last_sequence;
    let mut feed = ledger.feed(1, None);
    let mut messages = Messages::new();
    while feed.next_sequence() <= end {
        for stored in feed.next_batch(TAKEN_AT_ONCE_MAX).await? {
            let topic = stored.subject.splitn(3, '.').nth(2).unwrap_or_default().to_owned();
            let is_longest =
                messages.get(&topic).is_none_or(|known| known.payload.len() <= stored.payload.len());
            if is_longest {
                messages.insert(topic, stored);
            }
        }
    }
    Ok(messages)
}

/// The monitor's subscription and the channel behind it.
async fn start_pump(
    connection: &Connection,
    subjects: &Subjects,
    tasks: &mut JoinSet<Result<(), BenchError>>,
    stop: &CancellationToken,
) -> Result<mpsc::Receiver<Vec<Incoming>>, BenchError> {
    let all: Vec<String> =
        (0..u32::from(topology("floor")?.buckets)).map(|bucket| subjects.samples(bucket)).collect();
    let mut listener = Listener::open(connection, &all).await?;
    let (out, frames) = mpsc::channel(FRAME_BATCHES_QUEUED_MAX);
    let stop = stop.clone();
    tasks.spawn(async move {
        loop {
            let batch = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                batch = listener.next_batch(FRAMES_AT_ONCE_MAX) => batch,
            };
            let Some(batch) = batch else { return Ok(()) };
            if out.send(batch).await.is_err() {
                return Ok(());
            }
        }
    });
    Ok(frames)
}

/// The shared queue of a role that has one.
async fn work(
    role: Role,
    connection: Connection,
    stream: &str,
    subjects: &Subjects,
) -> Result<Option<Work>, BenchError> {
    let filters = match role {
        Role::Analyzer => vec![format!("{subjects}.violations.*")],
        Role::Planner => vec![format!("{subjects}.analyses.*"), subjects.ledger(Topic::Admission)],
        Role::Monitor | Role::Executor | Role::Knowledge => return Ok(None),
    };
    let spec = WorkSpec {
        stream: stream.to_owned(),
        name: role.as_str().to_owned(),
        filters,
        ack_wait: ACK_WAIT,
        ack_pending_max: ACK_PENDING_MAX,
        batch: TAKEN_IN_ADVANCE,
    };
    Ok(Some(Work::open(connection, spec).await?))
}

/// A role with empty handlers.
struct Station {
    role: Role,
    subjects: Subjects,
    messages: Arc<Messages>,
    publisher: Publisher,
    feed: Feed,
    work: Option<Work>,
    frames: Option<mpsc::Receiver<Vec<Incoming>>>,
    services: Connection,
    answers: FuturesUnordered<BoxFuture<'static, Heard>>,
    /// The sequence of its last conditional publish.
    last: u64,
    sent: u64,
}

/// What a station waits for, beside messages.
enum Heard {
    /// A publish on this topic is stored, or not.
    Stored(Topic, Result<Published, PublishError>, Option<Delivery>),
    /// The effect is confirmed, or not.
    Confirmed(Result<(), nats::AskError>),
}

/// What a station woke up for.
enum Woken {
    Heard(Heard),
    Records(Vec<Stored>),
    Work(Vec<Delivery>),
    Frames(usize),
    Stop,
}

impl Station {
    async fn run(mut self, stop: CancellationToken) -> Result<(), BenchError> {
        loop {
            match self.wait(&stop).await? {
                Woken::Heard(heard) => self.hear(heard).await?,
                Woken::Records(records) => self.read(&records).await?,
                Woken::Work(deliveries) => self.take(deliveries).await?,
                Woken::Frames(count) => {
                    for _ in 0..count {
                        self.publish(Topic::Violations(Severity::Critical), None, None).await?;
                    }
                }
                Woken::Stop => return Ok(()),
            }
        }
    }

    /// Waits in the order in which the live runner waits. Each branch is cancel safe.
    async fn wait(&mut self, stop: &CancellationToken) -> Result<Woken, BenchError> {
        tokio::select! {
            biased;
            () = stop.cancelled() => Ok(Woken::Stop),
            Some(heard) = self.answers.next(), if !self.answers.is_empty() => Ok(Woken::Heard(heard)),
            records = self.feed.next_batch(TAKEN_AT_ONCE_MAX) => Ok(Woken::Records(records?)),
            work = next_work(self.work.as_mut()) => Ok(Woken::Work(work?)),
            frames = next_frames(self.frames.as_mut()) => Ok(Woken::Frames(frames)),
        }
    }

    async fn read(&mut self, records: &[Stored]) -> Result<(), BenchError> {
        let plans = self.subjects.ledger(Topic::Plans);
        if self.role == Role::Executor {
            for _ in records.iter().filter(|record| record.subject == plans) {
                self.publish(Topic::Admission, Some(self.last), None).await?;
            }
        }
        Ok(())
    }

    async fn take(&mut self, deliveries: Vec<Delivery>) -> Result<(), BenchError> {
        let admission = self.subjects.ledger(Topic::Admission);
        for delivery in deliveries {
            match self.role {
                Role::Analyzer => {
                    self.publish(Topic::Analyses(Shard::default()), Some(self.last), Some(delivery)).await?;
                }
                Role::Planner if delivery.stored.subject != admission => {
                    self.publish(Topic::Plans, None, Some(delivery)).await?;
                }
                Role::Planner | Role::Monitor | Role::Executor | Role::Knowledge => {
                    self.ack(&delivery).await;
                }
            }
        }
        Ok(())
    }

    async fn hear(&mut self, heard: Heard) -> Result<(), BenchError> {
        let (topic, published, delivery) = match heard {
            Heard::Confirmed(confirmed) => {
                confirmed.map_err(|error| BenchError::Invalid(error.to_string()))?;
                let topic = Topic::Outcomes(crate::model::OutcomeResult::Succeeded);
                return self.publish(topic, None, None).await;
            }
            Heard::Stored(topic, published, delivery) => (topic, published?, delivery),
        };
        match topic {
            Topic::Analyses(_) => {
                self.last = published.sequence;
                let copy = Topic::Incidents(crate::model::IncidentPhase::Open);
                return self.publish(copy, None, delivery).await;
            }
            Topic::Admission => {
                self.last = published.sequence;
                let services = self.services.clone();
                self.answers.push(Box::pin(async move {
                    let effect = Answer { headers: effect_headers(), payload: "now".into() };
                    Heard::Confirmed(nats::say(&services, EFFECT, effect).await)
                }));
            }
            Topic::Incidents(_) | Topic::Plans => {
                if let Some(delivery) = &delivery {
                    self.ack(delivery).await;
                }
            }
            Topic::Violations(_)
            | Topic::Outcomes(_)
            | Topic::Verdicts(_)
            | Topic::Reports(_)
            | Topic::Changes
            | Topic::Control => {}
        }
        Ok(())
    }

    /// Hands a message of the loop to the connection; its answer comes later.
    async fn publish(
        &mut self,
        topic: Topic,
        expected_last: Option<u64>,
        delivery: Option<Delivery>,
    ) -> Result<(), BenchError> {
        let subject = self.subjects.ledger(topic);
        let name = subject.splitn(3, '.').nth(2).unwrap_or_default();
        let Some(message) = self.messages.get(name) else {
            return Err(BenchError::Invalid(format!("the loop wrote nothing on {name}")));
        };
        self.sent += 1;
        let headers = message.headers.iter().filter(|(name, _)| !name.starts_with(SERVER_HEADERS));
        let outgoing = Outgoing {
            headers: headers.cloned().collect(),
            payload: message.payload.clone(),
            // As long as an id.
            id: format!("{:>9}-{:020}", self.role, self.sent),
            expected_last_on_subject: expected_last,
            subject,
        };
        let sent = self.publisher.send(outgoing).await?;
        self.answers.push(Box::pin(async move { Heard::Stored(topic, sent.await, delivery) }));
        Ok(())
    }

    /// One that does not arrive leaves the delivery out, here as there.
    async fn ack(&mut self, delivery: &Delivery) {
        if let Some(settler) = self.work.as_ref().map(Work::settler) {
            let _ = settler.settle(&delivery.token, Settle::Ack).await;
        }
    }
}

/// As long as those of an action.
fn effect_headers() -> Vec<(String, String)> {
    vec![
        (crate::actuator::KEY_HEADER.to_owned(), format!("ac-{:032x}", 0)),
        (crate::actuator::FENCE_HEADER.to_owned(), "1000".to_owned()),
        ("traceparent".to_owned(), format!("00-{:032x}-{:016x}-01", 1, 1)),
    ]
}

/// Cancel safe.
async fn next_work(work: Option<&mut Work>) -> Result<Vec<Delivery>, nats::WorkError> {
    match work {
        Some(work) => work.next_batch(TAKEN_AT_ONCE_MAX).await,
        None => std::future::pending().await,
    }
}

/// Cancel safe.
async fn next_frames(frames: Option<&mut mpsc::Receiver<Vec<Incoming>>>) -> usize {
    match frames {
        Some(frames) => match frames.recv().await {
            Some(frames) => frames.len(),
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

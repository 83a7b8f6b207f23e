//! The producer: samples in, frames onto the bus.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::framing::FRAME_AGE_MAX;
use super::{Framer, Refusals};
use crate::bus::Incoming;
use crate::bus::nats::{
    self, Answer, Connection, Names, Outbox, Purpose, Question, Refusal, ServiceSpec, Settings,
};
use crate::clock::Clock;
use crate::model::{Sample, TableHash, Timestamp};
use crate::wire::{self, Subjects};

/// Frames in the ring above which a producer that can wait does.
const FRAMES_WAITING_MAX: u64 = 256;
/// How often a waiting producer looks for room.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// How long a producer waits for room before it says so: reconnecting to a server that was restarted takes seconds.
const ROOM_WITHIN: Duration = Duration::from_secs(30);
/// Questions for tables that are answered at the same time.
const QUESTIONS_AT_ONCE_MAX: usize = 4;
/// The prefix and the cell of [`Producer::connect`], as `homeostat run` has them without arguments.
const USUAL_PREFIX: &str = "homeostat";
const USUAL_CELL: &str = "default";

/// Why samples cannot be published.
#[derive(Debug, thiserror::Error)]
pub enum ProducerError {
    /// The address is none.
    #[error("the address of the bus cannot be used")]
    Address(#[from] nats::SettingsError),
    /// The bus does not let us in.
    #[error(transparent)]
    Connect(#[from] nats::ConnectError),
    /// The sample stream is not there.
    #[error("the cell's sample stream cannot be used")]
    Topology(#[from] nats::TopologyError),
    /// A frame cannot be written.
    #[error("a frame cannot be written")]
    Encode(#[from] wire::EncodeError),
    /// The name is none.
    #[error("the producer's name cannot be used")]
    Name(#[from] wire::subject::SubjectError),
    /// The samples are kept and go out when there is room; what is pushed meanwhile waits behind them, up to
    /// [`ROWS_WAITING_MAX`](super::ROWS_WAITING_MAX).
    #[error(
        "the bus has taken no frame for {0:?}\nhint: is the server there? `offer` never waits, and sheds the oldest"
    )]
    NoRoom(Duration),
}

/// Publishes samples: collects them into frames, sends the frames, answers for its series tables.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use homeostat::Producer;
/// use homeostat::clock::Clock;
/// use homeostat::model::{Labels, Sample};
///
/// let mut producer = Producer::connect("nats://127.0.0.1:4222", "checkout-1").await?;
/// let series = Labels::new([("__name__", "queue_length"), ("service", "checkout")])?;
/// producer.push(&Sample { series, at: Clock::system().now(), value: 42.0 }).await?;
/// producer.close().await?;
/// # Ok(())
/// # }
/// ```
///
/// # What waits, and what does not
///
/// A sample waits for company until its frame has 500 rows, but not longer than 50 ms: a task of the producer sees to
/// that, whether or not anything is pushed after it. [`Producer::flush`] ends the waiting at once.
///
/// Frames go into a bounded ring, from which they are sent. While the server is away or slow the ring fills.
/// [`Producer::push`] and [`Producer::push_scrape`] then wait for room, and give up with [`ProducerError::NoRoom`] after
/// 30 s; nothing is lost by that. [`Producer::offer`] and [`Producer::offer_scrape`] never wait: a full ring sheds its
/// oldest frames, which is counted here and, by the gap in the numbers of the frames, by the receiver.
///
/// Frames travel on core NATS and are not acknowledged: *sent* is not *arrived*.
///
/// # Refused samples
///
/// A sample without a metric name, or one too many (see [`Refusals`]), is counted and left out; the call succeeds. Look at
/// [`Producer::refusals`].
///
/// # Names
///
/// The name is stable over restarts, and each start is a new *epoch*, the time of the start: frames of an earlier epoch
/// are old news to the receiver. So of two producers with one name at the same time the one that started later is heard,
/// and the other is counted as lost. Give each process a name of its own.
///
/// # The end of a series
///
/// A series that is not pushed any more goes stale after five minutes, as in Prometheus. To end it at once push a stale
/// marker, a NaN with the bits of [`STALE`](crate::engine::promql::STALE); the collectors of `homeostat run` do.
pub struct Producer {
    desk: Arc<Desk>,
    outbox: Outbox,
    clock: Clock,
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

/// Where samples become messages; shared with the tasks of the producer.
struct Desk {
    framer: Mutex<Sending>,
    outbox: Outbox,
    subjects: Subjects,
    cell: Arc<str>,
}

struct Sending {
    framer: Framer,
    /// Frames that found no room in the ring, in order.
    ready: VecDeque<Incoming>,
}

/// Whether to wait where the ring is full.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    Await,
    Make,
}

impl Producer {
    /// Connects to a server as `homeostat run` without arguments does, and begins to produce under this name.
    pub async fn connect(address: &str, name: &str) -> Result<Self, ProducerError> {
        let connection = Connection::open(&Settings::new(address)?, Purpose::Samples).await?;
        Self::open(connection, Subjects::new(USUAL_PREFIX)?, USUAL_CELL, name, Clock::system()).await
    }

    /// Begins to produce under a name, over a connection and for a cell of the caller's choice.
    pub async fn open(
        connection: Connection,
        subjects: Subjects,
        cell: &str,
        name: &str,
        clock: Clock,
    ) -> Result<Self, ProducerError> {
        let root = subjects.to_string();
        let names = Names::new(root.strip_suffix(".v1").unwrap_or(&root));
        let buckets = nats::buckets(&connection, &names).await?;
        let epoch = u64::try_from(clock.now().as_millis()).unwrap_or(0);
        let tables = subjects.tables(name)?;
        let (outbox, pump) = nats::outbox(connection.clone());
        let framer = Framer::new(name, epoch, u32::from(buckets));
        let desk = Arc::new(Desk {
            framer: Mutex::new(Sending { framer, ready: VecDeque::new() }),
            outbox: outbox.clone(),
            subjects,
            cell: cell.into(),
        });
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(pump.run(stop.clone()));
        tasks.spawn(send_what_is_old(Arc::clone(&desk), clock.clone(), stop.clone()));
        let spec = ServiceSpec {
            name: "homeostat-producer".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            description: "Answers for its series tables".to_owned(),
            queue_group: "producer".to_owned(),
            endpoints: vec![("table".to_owned(), tables)],
            concurrency: QUESTIONS_AT_ONCE_MAX,
        };
        let (answering, stopped) = (Arc::clone(&desk), stop.clone());
        tasks.spawn(async move {
            let answer = move |question: Question| {
                let found = table(&answering.sending().framer, &question);
                async move { found }
            };
            if let Err(error) = nats::serve(&connection, spec, stopped, answer).await {
                tracing::warn!(%error, "series tables are only sent with frames");
            }
        });
        Ok(Self { desk, outbox, clock, tasks, stop })
    }

    /// Adds a sample; waits while too many frames are waiting to be sent. Cancel safe: what was added is sent later.
    pub async fn push(&mut self, sample: &Sample) -> Result<(), ProducerError> {
        // A refused sample is counted: see `refusals`.
        let _ = self.desk.sending().framer.push(sample);
        self.send().await
    }

    /// Adds the samples of one scrape, which the receiver evaluates together; waits as [`Producer::push`] does.
    pub async fn push_scrape(&mut self, at: Timestamp, samples: &[Sample]) -> Result<(), ProducerError> {
        self.desk.sending().framer.push_scrape(at, samples);
        self.send().await
    }

    /// Adds a sample and never waits: where there is no room, the oldest frames make it.
    pub fn offer(&mut self, sample: &Sample) -> Result<(), ProducerError> {
        let mut sending = self.desk.sending();
        let _ = sending.framer.push(sample);
        self.desk.send(&mut sending, self.clock.now(), Room::Make).map(drop)
    }

    /// Adds the samples of one scrape and sends them now. Never waits: where there is no room, the oldest frames make it.
    pub fn offer_scrape(&mut self, at: Timestamp, samples: &[Sample]) -> Result<(), ProducerError> {
        let mut sending = self.desk.sending();
        sending.framer.push_scrape(at, samples);
        sending.framer.flush();
        self.desk.send(&mut sending, self.clock.now(), Room::Make).map(drop)
    }

    /// Sends what waits for more; returns when it is in the ring, which is before it has arrived anywhere.
    pub async fn flush(&mut self) -> Result<(), ProducerError> {
        self.desk.sending().framer.flush();
        self.send().await
    }

    /// Samples that were refused so far.
    pub fn refusals(&self) -> Refusals {
        self.desk.sending().framer.refusals()
    }

    /// Sends what is left, for two seconds at most, and ends; returns how many frames were not sent. A producer that is
    /// dropped without it loses what still waits.
    pub async fn close(mut self) -> Result<u64, ProducerError> {
        {
            let mut sending = self.desk.sending();
            sending.framer.flush();
            self.desk.send(&mut sending, self.clock.now(), Room::Make)?;
        }
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        let counts = self.outbox.counts();
        Ok(counts.shed + counts.refused + counts.waiting)
    }

    async fn send(&mut self) -> Result<(), ProducerError> {
        let waiting = self.clock.stopwatch();
        loop {
            if self.desk.send(&mut self.desk.sending(), self.clock.now(), Room::Await)? {
                return Ok(());
            }
            if waiting.elapsed() > ROOM_WITHIN {
                return Err(ProducerError::NoRoom(ROOM_WITHIN));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Desk {
    /// Puts into the ring what is ready; whether all of it found room.
    fn send(&self, sending: &mut Sending, now: Timestamp, room: Room) -> Result<bool, ProducerError> {
        // What found no room stays with the framer too, which knows how much may wait.
        if sending.ready.is_empty() || room == Room::Make {
            for (frame, table) in sending.framer.take_ready(now) {
                let message = wire::frame::message(&self.subjects, &self.cell, &frame, table.as_ref())?;
                let headers = message.headers.iter();
                let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
                let payload = message.payload;
                sending.ready.push_back(Incoming { subject: message.subject, headers, payload });
            }
        }
        while room == Room::Make || self.outbox.counts().waiting <= FRAMES_WAITING_MAX {
            let Some(message) = sending.ready.pop_front() else { return Ok(true) };
            self.outbox.push(message);
        }
        Ok(sending.ready.is_empty())
    }

    fn sending(&self) -> std::sync::MutexGuard<'_, Sending> {
        // Whoever panicked while it held the framer left it whole: it is changed by whole rows.
        self.framer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends rows that have waited for company long enough, until it is told to stop.
async fn send_what_is_old(desk: Arc<Desk>, clock: Clock, stop: CancellationToken) {
    let mut pace = tokio::time::interval(FRAME_AGE_MAX);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = pace.tick() => {}
        }
        if let Err(error) = desk.send(&mut desk.sending(), clock.now(), Room::Await) {
            tracing::warn!(%error, "a frame was left out");
        }
    }
}

fn table(framer: &Framer, question: &Question) -> Result<Answer, Refusal> {
    let text = String::from_utf8_lossy(&question.payload);
    let refused = |code, status: &str| Refusal { code, status: status.to_owned() };
    let hash = u64::from_str_radix(text.trim(), 16).map_err(|_| refused(400, "not the hash of a table"))?;
    let table = framer.table(TableHash(hash)).ok_or_else(|| refused(404, "not one of our tables"))?;
    let payload = wire::table::encode(table).map_err(|error| refused(500, &error.to_string()))?;
    Ok(Answer { headers: Vec::new(), payload })
}

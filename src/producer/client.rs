//! The producer: samples in, frames onto the bus.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Framer, Refusals};
use crate::bus::Incoming;
use crate::bus::nats::{self, Answer, Connection, Names, Outbox, Question, Refusal, ServiceSpec};
use crate::clock::Clock;
use crate::model::{Frame, Sample, SeriesTable, TableHash, Timestamp};
use crate::wire::{self, Subjects};

/// Frames in the ring above which a producer that can wait does.
const FRAMES_WAITING_MAX: u64 = 256;
/// How often a waiting producer looks for room.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Questions for tables that are answered at the same time.
const QUESTIONS_AT_ONCE_MAX: usize = 4;

/// Why samples cannot be published.
#[derive(Debug, thiserror::Error)]
pub enum ProducerError {
    /// The sample stream is not there.
    #[error("the cell's sample stream cannot be used\nhint: `homeostat run` creates it")]
    Topology(#[from] nats::TopologyError),
    /// A frame cannot be written.
    #[error("a frame cannot be written")]
    Encode(#[from] wire::EncodeError),
    /// The name is none.
    #[error("the producer's name cannot be used")]
    Name(#[from] wire::subject::SubjectError),
}

/// Publishes samples: collects them into frames, sends the frames, answers for its series tables. What cannot be sent in
/// time waits in a bounded ring; a full ring sheds its oldest frames, which is counted here and by the receiver.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use homeostat::bus::nats::{Connection, Purpose, Settings};
/// use homeostat::clock::Clock;
/// use homeostat::model::{Labels, Sample};
/// use homeostat::wire::Subjects;
///
/// let clock = Clock::system();
/// let settings = Settings::new("nats://127.0.0.1:4222")?;
/// let connection = Connection::open(&settings, Purpose::Samples).await?;
/// let subjects = Subjects::new("homeostat")?;
/// let mut producer = homeostat::Producer::open(connection, subjects, "default", "checkout-1", clock.clone()).await?;
/// let series = Labels::new([("__name__", "queue_length"), ("service", "checkout")])?;
/// producer.push(&Sample { series, at: clock.now(), value: 42.0 }).await?;
/// producer.close().await?;
/// # Ok(())
/// # }
/// ```
pub struct Producer {
    framer: Arc<Mutex<Framer>>,
    outbox: Outbox,
    subjects: Subjects,
    cell: Arc<str>,
    clock: Clock,
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl Producer {
    /// Begins to produce under a name that is stable over restarts; each start is a new epoch.
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
        let framer = Arc::new(Mutex::new(Framer::new(name, epoch, u32::from(buckets))));
        let (outbox, pump) = nats::outbox(connection.clone());
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(pump.run(stop.clone()));
        let spec = ServiceSpec {
            name: "homeostat-producer".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            description: "Answers for its series tables".to_owned(),
            queue_group: "producer".to_owned(),
            endpoints: vec![("table".to_owned(), subjects.tables(name)?)],
            concurrency: QUESTIONS_AT_ONCE_MAX,
        };
        let (answering, stopped) = (Arc::clone(&framer), stop.clone());
        tasks.spawn(async move {
            let answer = move |question: Question| {
                let found = table(&answering, &question);
                async move { found }
            };
            if let Err(error) = nats::serve(&connection, spec, stopped, answer).await {
                tracing::warn!(%error, "series tables are only sent with frames");
            }
        });
        Ok(Self { framer, outbox, subjects, cell: cell.into(), clock, tasks, stop })
    }

    /// Adds a sample; waits while too many frames are waiting to be sent.
    pub async fn push(&mut self, sample: &Sample) -> Result<(), ProducerError> {
        // A refused sample is counted: see `refusals`.
        let _ = self.framer().push(sample);
        self.send(false).await
    }

    /// Adds the samples of one scrape, which the receiver evaluates together.
    pub async fn push_scrape(&mut self, at: Timestamp, samples: &[Sample]) -> Result<(), ProducerError> {
        self.framer().push_scrape(at, samples);
        self.send(false).await
    }

    /// Sends what waits for more.
    pub async fn flush(&mut self) -> Result<(), ProducerError> {
        self.send(true).await
    }

    /// Samples that were refused so far.
    pub fn refusals(&self) -> Refusals {
        self.framer().refusals()
    }

    /// Sends what is left and ends; returns how many frames were shed.
    pub async fn close(mut self) -> Result<u64, ProducerError> {
        self.send(true).await?;
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        let counts = self.outbox.counts();
        Ok(counts.shed + counts.waiting)
    }

    async fn send(&mut self, all: bool) -> Result<(), ProducerError> {
        let ready: Vec<(Frame, Option<SeriesTable>)> = {
            let mut framer = self.framer();
            if all {
                framer.flush();
            }
            framer.take_ready(self.clock.now())
        };
        for (frame, table) in ready {
            while self.outbox.counts().waiting > FRAMES_WAITING_MAX {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            let message = wire::frame::message(&self.subjects, &self.cell, &frame, table.as_ref())?;
            let headers =
                message.headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            self.outbox.push(Incoming { subject: message.subject, headers, payload: message.payload });
        }
        Ok(())
    }

    fn framer(&self) -> std::sync::MutexGuard<'_, Framer> {
        // Whoever panicked while it held the framer left it whole: it is changed by whole rows.
        self.framer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn table(framer: &Mutex<Framer>, question: &Question) -> Result<Answer, Refusal> {
    let text = String::from_utf8_lossy(&question.payload);
    let refused = |code, status: &str| Refusal { code, status: status.to_owned() };
    let hash = u64::from_str_radix(text.trim(), 16).map_err(|_| refused(400, "not the hash of a table"))?;
    let framer = framer.lock().unwrap_or_else(PoisonError::into_inner);
    let table = framer.table(TableHash(hash)).ok_or_else(|| refused(404, "not one of our tables"))?;
    let payload = wire::table::encode(table).map_err(|error| refused(500, &error.to_string()))?;
    Ok(Answer { headers: Vec::new(), payload })
}

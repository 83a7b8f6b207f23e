//! How samples reach the monitor: first the tail of the stream behind its checkpoint, then the live subscription.
//!
//! The subscription is made before the tail is read, so nothing falls between them; what comes twice is dropped by its
//! frame number.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::RoleError;
use super::process::ProcessError;
use crate::bus::nats::{self, Answer, Connection, FeedError, Ledger, Listener, Names, Objects};
use crate::clock::Clock;
use crate::engine::monitor::Monitor;
use crate::engine::{Ask, Configuration, Core as _, Input, Step};
use crate::model::Timestamp;
use crate::telemetry;
use crate::wire::{self, Subjects};

/// Frames that are taken from the subscription at once.
const FRAMES_AT_ONCE_MAX: usize = 64;
/// How often the monitor's state is kept.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);
/// How often the metrics get what the monitor has counted.
const COUNTERS_EVERY: Duration = Duration::from_secs(1);
/// The object that holds it.
const CHECKPOINT: &str = "checkpoint.monitor";
/// How long a producer has to answer for a table.
const TABLE_TIMEOUT: Duration = Duration::from_secs(2);

/// Where samples come from.
pub(super) struct Sampling {
    pub(super) samples: Connection,
    pub(super) services: Connection,
    pub(super) names: Names,
    pub(super) subjects: Subjects,
    pub(super) buckets: u32,
}

/// A monitor that was restored, and what it wanted done meanwhile.
pub(super) struct Restored {
    pub(super) core: Monitor,
    pub(super) steps: Vec<Step>,
    pub(super) frames: Listener,
}

impl Sampling {
    /// Subscribes, restores the last checkpoint and reads the tail of the sample stream behind it.
    pub(super) async fn restore(
        &self,
        cell: &Arc<str>,
        instance: &Arc<str>,
        configuration: &Arc<Configuration>,
        clock: &Clock,
    ) -> Result<Restored, RoleError> {
        let subjects: Vec<String> = (0..self.buckets).map(|bucket| self.subjects.samples(bucket)).collect();
        let frames = Listener::open(&self.samples, &subjects).await.map_err(RoleError::Listen)?;
        let stream = Ledger::of_stream(self.services.clone(), &self.names.samples).await?;
        let tail = stream.tail().await?;
        let objects = Objects::open(self.services.clone(), &self.names).await?;
        let kept = match objects.get(CHECKPOINT).await? {
            Some(bytes) => match wire::checkpoint::decode(&bytes) {
                Ok(kept) => Some(kept),
                Err(error) => {
                    tracing::warn!(%error, "the checkpoint cannot be read; windows begin anew");
                    None
                }
            },
            None => None,
        };
        let mut steps = Vec::new();
        let mut core = match kept {
            Some(kept) => {
                let mut snapshot = kept.snapshot;
                let next = kept.sequence + 1;
                let whole = next >= tail.first_sequence && kept.sequence <= tail.last_sequence;
                if !whole {
                    // What may have been missed is not taken for absence.
                    snapshot.observed_since = Some(clock.now());
                }
                let core = Monitor::restore(
                    Arc::clone(cell),
                    Arc::clone(instance),
                    Arc::clone(configuration),
                    snapshot,
                );
                tracing::info!(from = next, to = tail.last_sequence, whole, "restored from a checkpoint");
                self.read_tail(core, &stream, next.max(tail.first_sequence), tail.last_sequence, &mut steps)
                    .await?
            }
            None => Monitor::new(Arc::clone(cell), Arc::clone(instance), Arc::clone(configuration)),
        };
        steps.push(core.tick(clock.now()));
        Ok(Restored { core, steps, frames })
    }

    async fn read_tail(
        &self,
        mut core: Monitor,
        stream: &Ledger,
        from: u64,
        last: u64,
        steps: &mut Vec<Step>,
    ) -> Result<Monitor, RoleError> {
        if from > last {
            return Ok(core);
        }
        let mut feed = stream.feed(from, None);
        loop {
            let batch = match feed.next_batch(FRAMES_AT_ONCE_MAX).await {
                Ok(batch) => batch,
                Err(FeedError::Gap { found, .. }) => {
                    feed.skip_to(found);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            for stored in batch {
                for input in decoded(&stored.payload) {
                    steps.push(core.handle(stored.stored_at, input));
                }
                if stored.sequence >= last {
                    return Ok(core);
                }
            }
        }
    }

    /// Hands frames on, and answers the monitor's questions for tables, until it is told to stop.
    pub(super) async fn pump(
        self,
        mut frames: Listener,
        out: mpsc::Sender<Vec<Input>>,
        mut asked: mpsc::Receiver<Ask>,
        stop: CancellationToken,
    ) -> Result<(), RoleError> {
        let mut answers = JoinSet::new();
        loop {
            let inputs = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                batch = frames.next_batch(FRAMES_AT_ONCE_MAX) => match batch {
                    Some(batch) => batch.iter().flat_map(|frame| decoded(&frame.payload)).collect(),
                    None => return Ok(()),
                },
                Some(Ask::Table { producer, table }) = asked.recv() => {
                    if let Ok(subject) = self.subjects.tables(&producer) {
                        answers.spawn(table_of(self.services.clone(), subject, table));
                    }
                    continue;
                }
                Some(Ok(Some(table))) = answers.join_next(), if !answers.is_empty() => vec![table],
            };
            if out.send(inputs).await.is_err() {
                return Ok(());
            }
        }
    }
}

async fn table_of(connection: Connection, subject: String, table: crate::model::TableHash) -> Option<Input> {
    let question = Answer { headers: Vec::new(), payload: format!("{:016x}", table.0).into() };
    let answer = nats::ask(&connection, &subject, question, TABLE_TIMEOUT).await.ok()?;
    wire::table::decode(&answer.payload).ok().map(Input::Table)
}

/// What a message of samples says; nothing where it says nothing, which is counted.
fn decoded(payload: &[u8]) -> Vec<Input> {
    match wire::frame::decode(payload) {
        Ok((frame, table)) => table.map(Input::Table).into_iter().chain([Input::Frame(frame)]).collect(),
        Err(error) => {
            telemetry::frame_refused();
            tracing::debug!(%error, "a frame cannot be read");
            Vec::new()
        }
    }
}

/// Keeps the monitor's state.
pub(super) struct Saving {
    out: mpsc::Sender<wire::checkpoint::Checkpoint>,
    place: watch::Receiver<u64>,
    last: Option<Timestamp>,
    /// When the counters were told last.
    told: Timestamp,
    /// The end of the sample stream when the state was kept last: by now, all before it was handled.
    behind: u64,
}

impl Saving {
    /// Begins to keep states.
    pub(super) async fn start(
        sampling: &Sampling,
        tasks: &mut JoinSet<Result<(), ProcessError>>,
        stop: CancellationToken,
    ) -> Result<Self, RoleError> {
        let stream = Ledger::of_stream(sampling.services.clone(), &sampling.names.samples).await?;
        let objects = Objects::open(sampling.services.clone(), &sampling.names).await?;
        let (out, mut kept) = mpsc::channel::<wire::checkpoint::Checkpoint>(1);
        let (end, place) = watch::channel(stream.tail().await?.last_sequence);
        tasks.spawn(async move {
            let mut every = tokio::time::interval(CHECKPOINT_EVERY / 2);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    _ = every.tick() => {
                        if let Ok(tail) = stream.tail().await {
                            end.send_replace(tail.last_sequence);
                        }
                    }
                    Some(checkpoint) = kept.recv() => match wire::checkpoint::encode(&checkpoint) {
                        Ok(bytes) => {
                            if let Err(error) = objects.put(CHECKPOINT, &bytes).await {
                                tracing::warn!(%error, "a checkpoint could not be kept");
                            }
                        }
                        Err(error) => tracing::warn!(%error, "a checkpoint could not be written"),
                    },
                }
            }
        });
        let behind = *place.borrow();
        Ok(Self { out, place, last: None, told: Timestamp::MIN, behind })
    }

    /// Tells the counters and keeps the state when it is time to.
    pub(super) fn observe(&mut self, core: &Monitor, now: Timestamp) {
        if now.saturating_since(self.told) >= COUNTERS_EVERY {
            self.told = now;
            telemetry::monitor_counters(&core.counters());
        }
        let last = *self.last.get_or_insert(now);
        if now.saturating_since(last) < CHECKPOINT_EVERY {
            return;
        }
        self.last = Some(now);
        // Full: the last one is still being kept, and the next one is newer anyway.
        if let Ok(room) = self.out.try_reserve() {
            room.send(wire::checkpoint::Checkpoint { sequence: self.behind, snapshot: core.snapshot() });
        }
        self.behind = *self.place.borrow();
    }
}

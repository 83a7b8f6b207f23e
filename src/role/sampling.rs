//! How samples reach the monitor: first the tail of the stream behind its checkpoint, then the live subscription.
//!
//! The subscription is made before the tail is read, so nothing falls between them; what comes twice is dropped by its
//! frame number.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::RoleError;
use super::catching_up::catch_up;
use super::live::{Arrival, Wiring};
use super::process::ProcessError;
use crate::bus::nats::{
    self, Answer, Connection, FeedError, Ledger, Listener, Names, Objects, Topology, TopologyError,
};
use crate::bus::{Incoming, Tail};
use crate::engine::monitor::{Monitor, MonitorSnapshot};
use crate::engine::{Ask, Configuration, Core as _, Input, Step};
use crate::model::Timestamp;
use crate::telemetry;
use crate::wire::checkpoint::Checkpoint;
use crate::wire::{self, Subjects};

/// Frames that are taken from the subscription at once.
const FRAMES_AT_ONCE_MAX: usize = 64;
/// How often the monitor's state is kept.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);
/// How often the metrics get what the monitor has counted.
const COUNTERS_EVERY: Duration = Duration::from_secs(1);
/// The object that holds it.
const CHECKPOINT: &str = "checkpoint.monitor";
/// How often the sample stream is looked at for what came while its tail was read: each round takes a fraction of the last.
const TAIL_ROUNDS_MAX: usize = 16;
/// Batches that are handed on at once where all is asked for: as many as wait in one full subscription. Where more come
/// than go, there is no end to wait for.
const BATCHES_WAITING_MAX: usize = 256;
/// How long a producer has to answer for a table.
const TABLE_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause before a server is asked again for the stream that it is not ready to tell of.
const STREAM_AGAIN: Duration = Duration::from_millis(100);

/// Where samples come from.
pub(super) struct Sampling {
    pub(super) samples: Connection,
    pub(super) services: Connection,
    pub(super) names: Names,
    pub(super) subjects: Subjects,
    pub(super) buckets: u32,
}

/// What the monitor asks of its samples.
pub(super) struct Questions {
    /// For series tables.
    pub(super) tables: mpsc::Receiver<Ask>,
    /// Whether all is here that was under way at a time.
    pub(super) under_way: mpsc::Receiver<Timestamp>,
}

/// A monitor that was restored, and what it wanted done meanwhile.
pub(super) struct Restored {
    pub(super) core: Monitor,
    pub(super) steps: Vec<Step>,
    pub(super) frames: Listener,
    /// What came before it has been read.
    pub(super) observed: Timestamp,
}

impl Sampling {
    /// Subscribes, restores the last checkpoint, folds the ledger and reads the tail of the sample stream behind the
    /// checkpoint.
    pub(super) async fn restore(
        &self,
        cell: &Arc<str>,
        configuration: &Arc<Configuration>,
        wiring: &mut Wiring,
        instance: &Arc<str>,
    ) -> Result<Restored, RoleError> {
        let clock = wiring.clock.clone();
        let subjects: Vec<String> = (0..self.buckets).map(|bucket| self.subjects.samples(bucket)).collect();
        let frames = Listener::open(&self.samples, &subjects).await.map_err(RoleError::Listen)?;
        let stream = Ledger::of_stream(self.services.clone(), &self.names.samples).await?;
        let tail = stream.tail().await?;
        let (cell, instance, configuration) = (cell.clone(), instance.clone(), configuration.clone());
        let (mut core, from, begun) = if let Some(kept) = self.checkpoint().await? {
            let (snapshot, from) = continued(kept, &tail, clock.now());
            let begun = snapshot.at;
            (Monitor::restore(cell, instance, configuration, snapshot), from, begun)
        } else {
            // One that ended before its first checkpoint is where it was by the samples alone.
            let first = if tail.first_sequence == 0 { None } else { stream.get(tail.first_sequence).await? };
            let core = Monitor::new(cell, instance, configuration);
            (core, tail.first_sequence, first.map(|first| first.stored_at))
        };
        // At one instant, before the first sample: no deadline passes on a part of the ledger, or before its samples.
        let begun = begun.unwrap_or_else(|| clock.now());
        let Wiring { ledger, feed, known, reader, .. } = wiring;
        let mut steps = catch_up(&mut core, known.take(), ledger, feed, reader, || begun).await?;
        // What came while it was read is read too, each at its time: taken later, from the subscription, it would come
        // after the deadlines that it has to come before.
        let (mut from, mut last) = (from, tail.last_sequence);
        let mut observed = begun;
        for _ in 0..TAIL_ROUNDS_MAX {
            core = self.read_tail(core, &stream, from, last, &mut steps).await?;
            let asked_at = clock.now();
            let end = stream.tail().await?.last_sequence;
            if end <= last {
                observed = asked_at;
                break;
            }
            (from, last) = (from.max(last + 1), end);
        }
        // Later deadlines pass when it is known that no sample of before is under way.
        steps.push(core.tick(observed));
        Ok(Restored { core, steps, frames, observed })
    }

    async fn checkpoint(&self) -> Result<Option<Checkpoint>, RoleError> {
        let objects = Objects::open(self.services.clone(), &self.names).await?;
        let Some(bytes) = objects.get(CHECKPOINT).await? else { return Ok(None) };
        let read = wire::checkpoint::decode(&bytes);
        Ok(read
            .inspect_err(|error| tracing::warn!(%error, "the checkpoint cannot be read; windows begin anew"))
            .ok())
    }

    async fn read_tail(
        &self,
        mut core: Monitor,
        stream: &Ledger,
        from: u64,
        last: u64,
        steps: &mut Vec<Step>,
    ) -> Result<Monitor, RoleError> {
        if from > last || last == 0 {
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

    /// Hands frames on, and answers the monitor's questions for tables and for what is under way, until it is told to stop.
    pub(super) async fn pump(
        self,
        mut frames: Listener,
        out: mpsc::Sender<Arrival>,
        Questions { mut tables, mut under_way }: Questions,
        stop: CancellationToken,
    ) -> Result<(), RoleError> {
        let mut answers = JoinSet::new();
        let mut barriers = JoinSet::new();
        loop {
            let inputs = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                batch = frames.next_batch(FRAMES_AT_ONCE_MAX) => match batch {
                    Some(batch) => all_decoded(&batch),
                    None => return Ok(()),
                },
                Some(asked_at) = under_way.recv() => {
                    let samples = self.samples.clone();
                    barriers.spawn(async move { samples.barrier().await.then_some(asked_at) });
                    continue;
                }
                Some(Ok(Some(asked_at))) = barriers.join_next(), if !barriers.is_empty() => {
                    // The server's answer came on the same connection behind them: what it had for us is here.
                    if hand_on_all(&mut frames, &out).await.is_err()
                        || out.send(Arrival::AllUntil(asked_at)).await.is_err()
                    {
                        return Ok(());
                    }
                    continue;
                }
                Some(Ask::Table { producer, table }) = tables.recv() => {
                    if let Ok(subject) = self.subjects.tables(&producer) {
                        answers.spawn(table_of(self.services.clone(), subject, table));
                    }
                    continue;
                }
                Some(Ok(Some(table))) = answers.join_next(), if !answers.is_empty() => vec![table],
            };
            if out.send(Arrival::Some(inputs)).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// Hands on what waits in the subscription.
async fn hand_on_all(
    frames: &mut Listener,
    out: &mpsc::Sender<Arrival>,
) -> Result<(), mpsc::error::SendError<Arrival>> {
    for _ in 0..BATCHES_WAITING_MAX {
        let Some(Some(batch)) = frames.next_batch(FRAMES_AT_ONCE_MAX).now_or_never() else { break };
        out.send(Arrival::Some(all_decoded(&batch))).await?;
    }
    Ok(())
}

fn all_decoded(batch: &[Incoming]) -> Vec<Input> {
    batch.iter().flat_map(|frame| decoded(&frame.payload)).collect()
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

/// The state of a checkpoint, and where in the sample stream it goes on.
fn continued(kept: Checkpoint, tail: &Tail, now: Timestamp) -> (MonitorSnapshot, u64) {
    let Checkpoint { stream, sequence, mut snapshot } = kept;
    // A stream in the server's memory is another one after the server was restarted.
    let same = stream == tail.created;
    let whole = same && sequence + 1 >= tail.first_sequence && sequence <= tail.last_sequence;
    if !whole {
        // What may have been missed is not taken for absence.
        snapshot.observed_since = Some(now);
    }
    let from = if same { tail.first_sequence.max(sequence + 1) } else { tail.first_sequence };
    tracing::info!(from, to = tail.last_sequence, whole, "restored from a checkpoint");
    (snapshot, from)
}

/// Makes the sample stream anew when a connection has come up and it is not there, until it is told to stop: it is kept in
/// the server's memory, so a server that was restarted has none. What is published before that reaches a monitor that
/// lives, and no other.
pub(super) async fn keep_stream(connection: Connection, topology: Topology, stop: CancellationToken) {
    let mut link = connection.events().link();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = link.changed() => if changed.is_err() { return },
        }
        while link.borrow_and_update().up {
            let made = tokio::select! {
                () = stop.cancelled() => return,
                made = topology.ensure_samples(&connection) => made,
            };
            match made {
                Ok(false) => break,
                Ok(true) => {
                    tracing::warn!("the sample stream was gone and is made anew");
                    break;
                }
                // The server is there before its streams are.
                Err(TopologyError::Failed { name, reason }) => {
                    tracing::debug!(name, reason, "the sample stream cannot be looked at");
                    tokio::time::sleep(STREAM_AGAIN).await;
                }
                Err(error) => {
                    tracing::error!(%error, "samples are not kept for a monitor's restart");
                    break;
                }
            }
        }
    }
}

/// Keeps the monitor's state.
pub(super) struct Saving {
    out: mpsc::Sender<Checkpoint>,
    place: watch::Receiver<Place>,
    last: Option<Timestamp>,
    /// When the counters were told last.
    told: Timestamp,
    /// The end of the sample stream when the state was kept last: by now, all before it was handled.
    behind: Place,
}

/// A place in the sample stream.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Which stream of that name.
    stream: Timestamp,
    sequence: u64,
}

impl Place {
    fn end(tail: &Tail) -> Self {
        Self { stream: tail.created, sequence: tail.last_sequence }
    }
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
        let (out, mut kept) = mpsc::channel::<Checkpoint>(1);
        let (end, place) = watch::channel(Place::end(&stream.tail().await?));
        tasks.spawn(async move {
            let mut every = tokio::time::interval(CHECKPOINT_EVERY / 2);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    _ = every.tick() => {
                        if let Ok(tail) = stream.tail().await {
                            end.send_replace(Place::end(&tail));
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
            let Place { stream, sequence } = self.behind;
            room.send(Checkpoint { stream, sequence, snapshot: core.snapshot() });
        }
        self.behind = *self.place.borrow();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_goes_on_where_its_stream_does_and_not_in_another_one() {
        let at = Timestamp::from_millis;
        let kept = |stream, sequence| Checkpoint {
            stream: at(stream),
            sequence,
            snapshot: MonitorSnapshot { observed_since: Some(at(1)), ..MonitorSnapshot::default() },
        };
        let tail = Tail { first_sequence: 10, last_sequence: 20, created: at(5) };
        for (stream, sequence, from, whole) in [
            (5, 15, 16, true),
            (5, 20, 21, true),
            (5, 9, 10, true),
            (5, 8, 10, false),
            (5, 21, 22, false),
            // The same place in the stream before the server was restarted: not a sample of this one was seen.
            (4, 15, 10, false),
        ] {
            let (snapshot, found) = continued(kept(stream, sequence), &tail, at(99));
            let since = if whole { at(1) } else { at(99) };
            assert_eq!((found, snapshot.observed_since), (from, Some(since)), "{sequence} of {stream}");
        }
    }
}

//! A ledger in memory on virtual time: synchronous, deterministic, with the server's rules.
//!
//! What it imitates: the duplicate window comes before the condition on the last sequence; a duplicate is answered with the
//! place of the first copy; an unsettled delivery comes again after the acknowledgement wait, a negative acknowledgement
//! after its delay; a consumer has at most so many deliveries unsettled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::engine::{Done, Published};
use crate::model::{Batch, MessageId, Record, Timestamp, Topic};

/// How long an id is remembered: the duplicate window of the ledger's stream.
pub const DUPLICATE_WINDOW: Duration = Duration::from_mins(10);

/// What a consumer takes from the ledger.
pub type Filter = fn(Topic) -> bool;

/// A delivery: the record, and how often it was delivered.
pub type Delivered = (Arc<Record>, u64);

/// A shared queue over messages with places 1, 2, 3 ….
#[derive(Clone, Debug)]
pub struct Queue {
    ack_wait: Duration,
    ack_pending_max: usize,
    /// The first message that was never looked at.
    next: u64,
    /// Delivered and not settled: when it comes again, and how often it came.
    unsettled: BTreeMap<u64, (Timestamp, u64)>,
}

impl Queue {
    /// At the first message.
    pub fn new(ack_wait: Duration, ack_pending_max: usize) -> Self {
        Self { ack_wait, ack_pending_max, next: 1, unsettled: BTreeMap::new() }
    }

    /// Takes up to `max` places up to `last` that `matches`: what is due again first, then new ones in their order. With
    /// each, how often it was delivered.
    pub fn pull(
        &mut self,
        now: Timestamp,
        max: usize,
        last: u64,
        matches: impl Fn(u64) -> bool,
    ) -> Vec<(u64, u64)> {
        let mut taken = Vec::new();
        for (sequence, (again_at, delivered)) in &mut self.unsettled {
            if taken.len() == max {
                return taken;
            }
            if *again_at <= now {
                *again_at = now + self.ack_wait;
                *delivered += 1;
                taken.push((*sequence, *delivered));
            }
        }
        while taken.len() < max && self.unsettled.len() < self.ack_pending_max && self.next <= last {
            let sequence = self.next;
            self.next += 1;
            if matches(sequence) {
                self.unsettled.insert(sequence, (now + self.ack_wait, 1));
                taken.push((sequence, 1));
            }
        }
        taken
    }

    /// Settles a delivery; settling it twice, or one that is not out, changes nothing.
    pub fn settle(&mut self, now: Timestamp, sequence: u64, done: &Done) {
        match done {
            Done::Ack | Done::Dead(_) => {
                self.unsettled.remove(&sequence);
            }
            Done::Nak(delay) => {
                if let Some((again_at, _)) = self.unsettled.get_mut(&sequence) {
                    *again_at = now + *delay;
                }
            }
        }
    }

    /// Says that a delivery is still being worked on: its wait begins anew.
    pub fn in_progress(&mut self, now: Timestamp, sequence: u64) {
        if let Some((again_at, _)) = self.unsettled.get_mut(&sequence) {
            *again_at = now + self.ack_wait;
        }
    }

    /// When the next unsettled delivery comes again, if it is not settled before.
    pub fn next_redelivery(&self) -> Option<Timestamp> {
        self.unsettled.values().map(|(again_at, _)| *again_at).min()
    }
}

#[derive(Clone, Debug)]
struct Consumer {
    filter: Filter,
    queue: Queue,
}

/// The ledger.
#[derive(Clone, Debug, Default)]
pub struct MemoryLedger {
    records: Vec<Arc<Record>>,
    last_on: BTreeMap<Topic, u64>,
    ids: BTreeMap<MessageId, (u64, Timestamp)>,
    consumers: BTreeMap<Arc<str>, Consumer>,
}

impl MemoryLedger {
    /// Writes, unless the id is known or the condition does not hold.
    pub fn publish(
        &mut self,
        now: Timestamp,
        topic: Topic,
        batch: &Arc<Batch>,
        expected_last: Option<u64>,
    ) -> Published {
        if let Some((sequence, stored_at)) = self.ids.get(&batch.id)
            && now.saturating_since(*stored_at) < DUPLICATE_WINDOW
        {
            return Published::Stored { sequence: *sequence, duplicate: true };
        }
        let last = self.last_sequence_on(topic);
        if expected_last.is_some_and(|expected| expected != last) {
            return Published::WrongLastSequence;
        }
        let sequence = self.records.len() as u64 + 1;
        self.records.push(Arc::new(Record { sequence, stored_at: now, topic, batch: Batch::clone(batch) }));
        self.last_on.insert(topic, sequence);
        self.ids.insert(batch.id, (sequence, now));
        Published::Stored { sequence, duplicate: false }
    }

    /// Creates a shared queue over the topics that `filter` takes; one that exists stays as it is.
    pub fn create_consumer(&mut self, name: &Arc<str>, filter: Filter, queue: Queue) {
        self.consumers.entry(Arc::clone(name)).or_insert(Consumer { filter, queue });
    }

    /// Takes up to `max` deliveries from a shared queue.
    pub fn pull(&mut self, now: Timestamp, consumer: &str, max: usize) -> Vec<Delivered> {
        let Some(consumer) = self.consumers.get_mut(consumer) else { return Vec::new() };
        let records = &self.records;
        let matches = |sequence| record_at(records, sequence).is_some_and(|it| (consumer.filter)(it.topic));
        let taken = consumer.queue.pull(now, max, records.len() as u64, matches);
        let records = taken
            .into_iter()
            .filter_map(|(sequence, delivered)| Some((Arc::clone(record_at(records, sequence)?), delivered)));
        records.collect()
    }

    /// The shared queue of this name.
    pub fn queue(&mut self, consumer: &str) -> Option<&mut Queue> {
        self.consumers.get_mut(consumer).map(|consumer| &mut consumer.queue)
    }

    /// The records from a place on, in order.
    pub fn read_from(&self, sequence: u64) -> &[Arc<Record>] {
        self.records.get(index_of(sequence)..).unwrap_or_default()
    }

    /// The record at a place.
    pub fn get(&self, sequence: u64) -> Option<&Arc<Record>> {
        record_at(&self.records, sequence)
    }

    /// The last record on a topic.
    pub fn last_on(&self, topic: Topic) -> Option<&Arc<Record>> {
        self.get(self.last_sequence_on(topic))
    }

    /// The last place of all.
    pub fn last_sequence(&self) -> u64 {
        self.records.len() as u64
    }

    /// The topics that were written on.
    pub fn topics(&self) -> BTreeSet<Topic> {
        self.last_on.keys().copied().collect()
    }

    fn last_sequence_on(&self, topic: Topic) -> u64 {
        self.last_on.get(&topic).copied().unwrap_or(0)
    }
}

fn record_at(records: &[Arc<Record>], sequence: u64) -> Option<&Arc<Record>> {
    sequence.checked_sub(1).and_then(|index| records.get(usize::try_from(index).ok()?))
}

fn index_of(sequence: u64) -> usize {
    usize::try_from(sequence.saturating_sub(1)).unwrap_or(usize::MAX)
}

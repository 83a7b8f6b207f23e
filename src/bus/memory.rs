//! A ledger in memory on virtual time: synchronous, deterministic, with the server's rules.
//!
//! What it imitates: an id is stored once and a duplicate is answered with the place of the first copy; a condition on the
//! last sequence holds or nothing is written; an unsettled delivery comes again after the acknowledgement wait, one that is
//! given back after its delay; a consumer has at most so many deliveries unsettled. `tests/conformance` holds it to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::engine::{Done, Published};
use crate::model::{Batch, MessageId, Record, Timestamp, Topic};

/// How long an id is remembered: the duplicate window of the ledger's stream.
pub const DUPLICATE_WINDOW: Duration = Duration::from_mins(10);

/// What is looked at first where an id is known and the condition does not hold either. There are both: nats-server 2.15.1
/// looks at the condition where it is alone, and at the id where it has replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precedence {
    /// `wrong last sequence`.
    #[default]
    Condition,
    /// `duplicate`.
    Id,
}

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
    /// Delivered and not settled.
    unsettled: BTreeMap<u64, Unsettled>,
    /// Counts what was said of deliveries.
    said: u64,
}

#[derive(Clone, Copy, Debug)]
struct Unsettled {
    /// When it comes again.
    again_at: Timestamp,
    /// What was given back at one instant comes again in this order.
    order: u64,
    /// How often it came.
    delivered: u64,
}

impl Queue {
    /// At the first message.
    pub fn new(ack_wait: Duration, ack_pending_max: usize) -> Self {
        Self { ack_wait, ack_pending_max, next: 1, unsettled: BTreeMap::new(), said: 0 }
    }

    /// Takes up to `max` places up to `last` that `matches`: what is due again first, soonest first, then new ones in their
    /// order. With each, how often it was delivered.
    pub fn pull(
        &mut self,
        now: Timestamp,
        max: usize,
        last: u64,
        matches: impl Fn(u64) -> bool,
    ) -> Vec<(u64, u64)> {
        let due = self.unsettled.iter().filter(|(_, it)| it.again_at <= now);
        let mut due: Vec<(Timestamp, u64, u64)> =
            due.map(|(sequence, it)| (it.again_at, it.order, *sequence)).collect();
        due.sort_unstable();
        let mut taken = Vec::new();
        for (_, _, sequence) in due.into_iter().take(max) {
            if let Some(again) = self.unsettled.get_mut(&sequence) {
                *again =
                    Unsettled { again_at: now + self.ack_wait, order: 0, delivered: again.delivered + 1 };
                taken.push((sequence, again.delivered));
            }
        }
        while taken.len() < max && self.unsettled.len() < self.ack_pending_max && self.next <= last {
            let sequence = self.next;
            self.next += 1;
            if matches(sequence) {
                let first = Unsettled { again_at: now + self.ack_wait, order: 0, delivered: 1 };
                self.unsettled.insert(sequence, first);
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
                self.said += 1;
                if let Some(unsettled) = self.unsettled.get_mut(&sequence) {
                    (unsettled.again_at, unsettled.order) = (now + *delay, self.said);
                }
            }
        }
    }

    /// Says that a delivery is still being worked on: its wait begins anew.
    pub fn in_progress(&mut self, now: Timestamp, sequence: u64) {
        if let Some(unsettled) = self.unsettled.get_mut(&sequence) {
            unsettled.again_at = now + self.ack_wait;
        }
    }

    /// Up to here everything is settled.
    fn settled(&self) -> u64 {
        self.unsettled.first_key_value().map_or(self.next, |(first, _)| *first) - 1
    }

    /// When the next unsettled delivery comes again, if it is not settled before.
    pub fn next_redelivery(&self) -> Option<Timestamp> {
        self.unsettled.values().map(|unsettled| unsettled.again_at).min()
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
    precedence: Precedence,
    /// Records that are forgotten.
    forgotten: u64,
    /// Those after them.
    records: Vec<Arc<Record>>,
    last_on: BTreeMap<Topic, Arc<Record>>,
    /// Looked up, never iterated.
    ids: FxHashMap<MessageId, (u64, Timestamp)>,
    consumers: BTreeMap<Arc<str>, Consumer>,
}

impl MemoryLedger {
    /// Answers as that server does.
    pub fn answer_by(&mut self, precedence: Precedence) {
        self.precedence = precedence;
    }

    /// Writes, unless the id is known or the condition does not hold.
    pub fn publish(
        &mut self,
        now: Timestamp,
        topic: Topic,
        batch: &Arc<Batch>,
        expected_last: Option<u64>,
    ) -> Published {
        let known = self.ids.get(&batch.id);
        let known = known.filter(|(_, stored_at)| now.saturating_since(*stored_at) < DUPLICATE_WINDOW);
        let duplicate = known.map(|(sequence, _)| Published::Stored { sequence: *sequence, duplicate: true });
        let last = self.last_sequence_on(topic);
        let wrong = expected_last.is_some_and(|expected| expected != last);
        let refused = wrong.then_some(Published::WrongLastSequence);
        let answered = match self.precedence {
            Precedence::Condition => refused.or(duplicate),
            Precedence::Id => duplicate.or(refused),
        };
        if let Some(answered) = answered {
            return answered;
        }
        let sequence = self.last_sequence() + 1;
        let record = Arc::new(Record { sequence, stored_at: now, topic, batch: Arc::clone(batch) });
        self.last_on.insert(topic, Arc::clone(&record));
        self.records.push(record);
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
        let (records, forgotten) = (&self.records, self.forgotten);
        let record_at = |sequence| records.get(index_of(sequence, forgotten)?);
        let matches = |sequence| record_at(sequence).is_some_and(|it| (consumer.filter)(it.topic));
        let taken = consumer.queue.pull(now, max, forgotten + records.len() as u64, matches);
        let records = taken
            .into_iter()
            .filter_map(|(sequence, delivered)| Some((Arc::clone(record_at(sequence)?), delivered)));
        records.collect()
    }

    /// Forgets what everybody has read: records up to `read` that nobody can ask for any more. The last one on each topic
    /// stays, and so does whatever the server would know a duplicate of, or deliver again.
    pub fn forget(&mut self, now: Timestamp, read: u64) {
        let settled = self.consumers.values().map(|consumer| consumer.queue.settled()).min();
        let read = read.min(settled.unwrap_or(u64::MAX));
        let is_over = |record: &Arc<Record>| {
            record.sequence <= read && now.saturating_since(record.stored_at) >= DUPLICATE_WINDOW
        };
        let over = self.records.iter().take_while(|record| is_over(record)).count();
        // Not each by itself: what is left moves up.
        if over > self.records.len() / 2 {
            for record in self.records.drain(..over) {
                if self.ids.get(&record.batch.id).is_some_and(|(sequence, _)| *sequence == record.sequence) {
                    self.ids.remove(&record.batch.id);
                }
            }
            self.forgotten += over as u64;
        }
    }

    /// The shared queue of this name.
    pub fn queue(&mut self, consumer: &str) -> Option<&mut Queue> {
        self.consumers.get_mut(consumer).map(|consumer| &mut consumer.queue)
    }

    /// The records from a place on, in order, as far as they are not forgotten.
    pub fn read_from(&self, sequence: u64) -> &[Arc<Record>] {
        let index = index_of(sequence.max(self.forgotten + 1), self.forgotten);
        index.and_then(|index| self.records.get(index..)).unwrap_or_default()
    }

    /// The record at a place.
    pub fn get(&self, sequence: u64) -> Option<&Arc<Record>> {
        self.records.get(index_of(sequence, self.forgotten)?)
    }

    /// The last record on a topic.
    pub fn last_on(&self, topic: Topic) -> Option<&Arc<Record>> {
        self.last_on.get(&topic)
    }

    /// The last place of all.
    pub fn last_sequence(&self) -> u64 {
        self.forgotten + self.records.len() as u64
    }

    /// The topics that were written on.
    pub fn topics(&self) -> BTreeSet<Topic> {
        self.last_on.keys().copied().collect()
    }

    fn last_sequence_on(&self, topic: Topic) -> u64 {
        self.last_on.get(&topic).map_or(0, |record| record.sequence)
    }
}

/// Where the record at a place is, if it is not forgotten.
fn index_of(sequence: u64, forgotten: u64) -> Option<usize> {
    usize::try_from(sequence.checked_sub(forgotten + 1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Basis, Role};

    fn batch(name: &str) -> Arc<Batch> {
        Arc::new(Batch {
            id: MessageId::of(&[&name]),
            role: Role::Executor,
            instance: "test".into(),
            at: Timestamp::from_millis(0),
            basis: Basis::default(),
            trace: 0,
            entries: Vec::new(),
        })
    }

    #[test]
    fn only_what_nobody_can_ask_for_is_forgotten() {
        let mut ledger = MemoryLedger::default();
        let at = |minutes| Timestamp::from_millis(0) + Duration::from_mins(minutes);
        let queue: Arc<str> = "queue".into();
        ledger.create_consumer(
            &queue,
            |topic| topic == Topic::Plans,
            Queue::new(Duration::from_hours(1), 10),
        );
        for (minute, topic) in
            [Topic::Changes, Topic::Plans, Topic::Control, Topic::Changes].into_iter().enumerate()
        {
            let minute = minute as u64;
            ledger.publish(at(minute), topic, &batch(&minute.to_string()), None);
        }
        assert_eq!(ledger.pull(at(4), &queue, 10).len(), 1);
        ledger.forget(at(30), 4);
        assert_eq!(ledger.read_from(1).len(), 4, "the delivery may come again");
        ledger.queue(&queue).unwrap().settle(at(30), 2, &Done::Ack);
        ledger.forget(at(30), 1);
        assert_eq!(ledger.read_from(1).len(), 4, "three of four were not read");
        ledger.forget(at(12), 4);
        assert_eq!((ledger.read_from(1).len(), ledger.last_sequence()), (1, 4), "the last one is too young");
        assert!(ledger.get(2).is_none() && ledger.get(4).is_some() && ledger.read_from(5).is_empty());
        assert_eq!(ledger.last_on(Topic::Plans).map(|record| record.sequence), Some(2));
        let again = ledger.publish(at(12), Topic::Changes, &batch("3"), None);
        assert_eq!(again, Published::Stored { sequence: 4, duplicate: true });
        let new = ledger.publish(at(12), Topic::Changes, &batch("0"), Some(4));
        assert_eq!(new, Published::Stored { sequence: 5, duplicate: false });
    }

    /// Measured on three replicas of nats-server 2.15.1; one alone is in the conformance suite.
    #[test]
    fn with_replicas_a_known_id_comes_before_a_condition_that_does_not_hold() {
        let mut ledger = MemoryLedger::default();
        ledger.answer_by(Precedence::Id);
        let batch = batch("one");
        let now = Timestamp::from_millis(1);
        let mut publish = || ledger.publish(now, Topic::Admission, &batch, Some(0));
        assert_eq!(publish(), Published::Stored { sequence: 1, duplicate: false });
        assert_eq!(publish(), Published::Stored { sequence: 1, duplicate: true });
    }
}

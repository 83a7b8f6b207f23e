//! The two buses behind one set of words.

use std::sync::Arc;
use std::time::Duration;

use homeostat::bus::memory::{MemoryLedger, Queue};
use homeostat::bus::nats::{Connection, Ledger, Work, WorkSpec};
use homeostat::bus::{Outgoing, PublishError, Settle, Token};
use homeostat::engine::{Done, Published};
use homeostat::model::{
    Basis, Batch, Change, ChangeKind, Entry, Labels, MessageId, Record, Role, Timestamp, Topic,
};
use homeostat::role::read_record;
use homeostat::wire::{self, Subjects};

use crate::support::{Bed, soon};

/// The shared queue of all claims.
const QUEUE: &str = "analyzer";

/// A bus.
pub(crate) enum Bus {
    Memory(Memory),
    Nats(Box<Nats>),
}

/// The memory bus, whose time is moved.
pub(crate) struct Memory {
    ledger: MemoryLedger,
    now: Timestamp,
    /// Whose turn it is: whoever asks gets what is there.
    turn: usize,
}

/// A server of its own, whose time passes.
pub(crate) struct Nats {
    bed: Bed,
    ledger: Ledger,
    subjects: Subjects,
    /// Each with its own connection.
    members: Vec<Option<(Connection, Work)>>,
    began: tokio::time::Instant,
}

/// A delivery.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) name: String,
    pub(crate) sequence: u64,
    pub(crate) delivered: u64,
    token: Option<Token>,
}

/// A message of the ledger: as many entries as `entries` says, and an id that is a function of the name.
pub(crate) fn batch(name: &str, entries: usize) -> Arc<Batch> {
    let at = Timestamp::from_millis(1_700_000_000_000);
    let change = |_| Entry::Change(Arc::new(Change::new(ChangeKind::Deploy, Labels::empty(), at, name)));
    Arc::new(Batch {
        id: MessageId::of(&[&name]),
        role: Role::Monitor,
        instance: "test".into(),
        at,
        basis: Basis::default(),
        trace: 7,
        entries: (0..entries).map(change).collect(),
    })
}

/// The name it was made from.
pub(crate) fn name(record: &Record) -> String {
    match record.batch.entries.first() {
        Some(Entry::Change(change)) => change.summary.to_string(),
        other => panic!("{other:?} is not what was published"),
    }
}

impl Bus {
    pub(crate) fn memory() -> Self {
        Self::Memory(Memory { ledger: MemoryLedger::default(), now: Timestamp::from_millis(1), turn: 0 })
    }

    pub(crate) async fn nats() -> Self {
        let (bed, connection) = Bed::ready().await;
        let ledger = Ledger::open(connection, &bed.names).await.unwrap();
        let subjects = Subjects::new("homeostat").unwrap();
        let (members, began) = (Vec::new(), tokio::time::Instant::now());
        Self::Nats(Box::new(Nats { bed, ledger, subjects, members, began }))
    }

    pub(crate) async fn publish(
        &mut self,
        topic: Topic,
        batch: &Arc<Batch>,
        expected: Option<u64>,
    ) -> Published {
        match self {
            Self::Memory(memory) => {
                memory.now = memory.now + Duration::from_millis(1);
                memory.ledger.publish(memory.now, topic, batch, expected)
            }
            Self::Nats(nats) => nats.publish(topic, batch, expected).await,
        }
    }

    /// Publishes a message and expects nothing.
    pub(crate) async fn put(&mut self, topic: Topic, name: &str) -> u64 {
        match self.publish(topic, &batch(name, 1), None).await {
            Published::Stored { sequence, .. } => sequence,
            other @ (Published::WrongLastSequence | Published::TimedOut | Published::Refused) => {
                panic!("{name} was answered {other:?}")
            }
        }
    }

    pub(crate) async fn get(&self, sequence: u64) -> Option<Record> {
        match self {
            Self::Memory(memory) => memory.ledger.get(sequence).map(|record| Record::clone(record)),
            Self::Nats(nats) => {
                nats.ledger.get(sequence).await.unwrap().and_then(|it| read_record(&nats.subjects, &it))
            }
        }
    }

    pub(crate) async fn last_on(&self, topic: Topic) -> Option<Record> {
        match self {
            Self::Memory(memory) => memory.ledger.last_on(topic).map(|record| Record::clone(record)),
            Self::Nats(nats) => {
                let last = nats.ledger.last_on(&nats.subjects.ledger(topic)).await.unwrap();
                last.and_then(|it| read_record(&nats.subjects, &it))
            }
        }
    }

    pub(crate) async fn last_sequence(&self) -> u64 {
        match self {
            Self::Memory(memory) => memory.ledger.last_sequence(),
            Self::Nats(nats) => nats.ledger.tail().await.unwrap().last_sequence,
        }
    }

    /// The next so many from a place on.
    pub(crate) async fn feed(&self, from: u64, count: usize) -> Vec<Record> {
        match self {
            Self::Memory(memory) => {
                memory.ledger.read_from(from).iter().take(count).map(|record| Record::clone(record)).collect()
            }
            Self::Nats(nats) => {
                let mut feed = nats.ledger.feed(from, None);
                let mut all = Vec::new();
                while all.len() < count {
                    all.extend(soon("a batch", feed.next_batch(count - all.len())).await.unwrap());
                }
                all.iter().filter_map(|it| read_record(&nats.subjects, it)).collect()
            }
        }
    }

    /// Opens the shared queue over violations with so many members.
    pub(crate) async fn open(&mut self, members: usize, ack_wait: Duration, ack_pending_max: u32) {
        match self {
            Self::Memory(memory) => {
                let queue = Queue::new(ack_wait, ack_pending_max as usize);
                let filter = |topic| matches!(topic, Topic::Violations(_));
                memory.ledger.create_consumer(&QUEUE.into(), filter, queue);
            }
            Self::Nats(nats) => {
                let spec = WorkSpec {
                    stream: nats.bed.names.ledger.clone(),
                    name: QUEUE.into(),
                    filters: vec![nats.bed.subject("violations.*")],
                    ack_wait,
                    ack_pending_max,
                    batch: 4,
                };
                nats.members.clear();
                for _ in 0..members {
                    let connection = nats.bed.connect().await;
                    let work = Work::open(connection.clone(), spec.clone()).await.unwrap();
                    nats.members.push(Some((connection, work)));
                }
            }
        }
    }

    /// Waits until something comes to a member and takes what is there.
    pub(crate) async fn next(&mut self, member: usize, max: usize) -> Vec<Taken> {
        match self {
            Self::Memory(memory) => {
                let taken = memory.pull(max);
                if !taken.is_empty() {
                    return taken;
                }
                let due = memory.ledger.queue(QUEUE).and_then(|queue| queue.next_redelivery());
                memory.now = memory.now.max(due.expect("something is still to come"));
                memory.pull(max)
            }
            Self::Nats(nats) => {
                let (_, work) = nats.members[member].as_mut().unwrap();
                let batch = soon("a delivery", work.next_batch(max)).await.unwrap();
                batch.iter().map(|delivery| nats.taken(delivery)).collect()
            }
        }
    }

    /// Waits until something comes to one of two members.
    pub(crate) async fn next_of_two(&mut self, max: usize) -> (usize, Vec<Taken>) {
        let nats = match self {
            Self::Nats(nats) => nats,
            Self::Memory(memory) => {
                memory.turn = 1 - memory.turn;
                let member = memory.turn;
                return (member, self.next(member, max).await);
            }
        };
        let [Some((_, one)), Some((_, other))] = &mut nats.members[..] else { panic!("two members") };
        let (member, batch) = tokio::select! {
            batch = one.next_batch(max) => (0, batch.unwrap()),
            batch = other.next_batch(max) => (1, batch.unwrap()),
        };
        (member, batch.iter().map(|delivery| nats.taken(delivery)).collect())
    }

    /// Takes so many, in as many steps as it needs.
    pub(crate) async fn take(&mut self, member: usize, count: usize) -> Vec<Taken> {
        let mut taken = Vec::new();
        while taken.len() < count {
            let more = self.next(member, count - taken.len()).await;
            taken.extend(more);
        }
        taken
    }

    /// Whether nothing comes to a member for a while.
    pub(crate) async fn is_quiet(&mut self, member: usize, duration: Duration) -> bool {
        match self {
            Self::Memory(memory) => {
                memory.now = memory.now + duration;
                memory.pull(1).is_empty()
            }
            Self::Nats(nats) => {
                let (_, work) = nats.members[member].as_mut().unwrap();
                tokio::time::timeout(duration, work.next_batch(1)).await.is_err()
            }
        }
    }

    pub(crate) async fn settle(&mut self, taken: &Taken, done: Done) {
        match self {
            Self::Memory(memory) => {
                let now = memory.now;
                memory.ledger.queue(QUEUE).unwrap().settle(now, taken.sequence, &done);
            }
            Self::Nats(nats) => {
                let settle = match done {
                    Done::Ack => Settle::Ack,
                    Done::Nak(delay) => Settle::Nak(delay),
                    Done::Dead(cause) => Settle::Term(cause.to_string()),
                };
                let settler = nats.settler();
                settler.settle(taken.token.as_ref().unwrap(), settle).await.unwrap();
                nats.arrived().await;
            }
        }
    }

    pub(crate) async fn progress(&mut self, taken: &Taken) {
        match self {
            Self::Memory(memory) => {
                let now = memory.now;
                memory.ledger.queue(QUEUE).unwrap().in_progress(now, taken.sequence);
            }
            Self::Nats(nats) => {
                nats.settler().progress(taken.token.as_ref().unwrap()).await.unwrap();
                nats.arrived().await;
            }
        }
    }

    /// Ends a member where it stands.
    pub(crate) fn die(&mut self, member: usize) {
        if let Self::Nats(nats) = self {
            nats.members[member] = None;
        }
    }

    /// The time on the bus.
    pub(crate) fn now(&self) -> Duration {
        match self {
            Self::Memory(memory) => memory.now.saturating_since(Timestamp::from_millis(0)),
            Self::Nats(nats) => nats.began.elapsed(),
        }
    }
}

impl Memory {
    fn pull(&mut self, max: usize) -> Vec<Taken> {
        let taken = self.ledger.pull(self.now, QUEUE, max);
        let taken = taken.into_iter().map(|(record, delivered)| Taken {
            name: name(&record),
            sequence: record.sequence,
            delivered,
            token: None,
        });
        taken.collect()
    }
}

impl Nats {
    async fn publish(&self, topic: Topic, batch: &Batch, expected: Option<u64>) -> Published {
        let message = wire::ledger::message(&self.subjects, "cell", topic, batch).unwrap();
        let outgoing = Outgoing {
            subject: message.subject,
            headers: message
                .headers
                .iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            payload: message.payload,
            id: batch.id.to_string(),
            expected_last_on_subject: expected,
        };
        match self.ledger.publisher().publish(outgoing).await {
            Ok(stored) => Published::Stored { sequence: stored.sequence, duplicate: stored.duplicate },
            Err(PublishError::WrongLastSequence { .. }) => Published::WrongLastSequence,
            Err(error) => panic!("{error}"),
        }
    }

    fn taken(&self, delivery: &homeostat::bus::Delivery) -> Taken {
        let record = read_record(&self.subjects, &delivery.stored).unwrap();
        Taken {
            name: name(&record),
            sequence: record.sequence,
            delivered: delivery.delivered,
            token: Some(delivery.token.clone()),
        }
    }

    fn settler(&self) -> homeostat::bus::nats::Settler {
        self.members.iter().flatten().next().unwrap().1.settler()
    }

    /// What was said of deliveries has come to the server.
    async fn arrived(&self) {
        for (connection, _) in self.members.iter().flatten() {
            assert!(connection.barrier().await);
        }
    }
}

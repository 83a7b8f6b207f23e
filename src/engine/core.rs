//! The contract between a deciding core and whoever runs it.
//!
//! `handle(now, input) -> Step` and `tick(now) -> Step`. What a core wants from the world is in the step; the world's
//! answer is the next input. A core may be dropped at any moment and rebuilt from the ledger.

use std::sync::Arc;
use std::time::Duration;

use super::Configuration;
use super::fold::Fold;
use crate::model::{
    Action, AttemptId, Batch, Change, Frame, Operator, OperatorRequest, Outcome, Record, SeriesTable,
    TableHash, Timestamp, Topic, Violation,
};

/// A request of a core that the world answers; counted from 1 in each core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A delivery that a core has to settle; drawn by whoever runs the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// What happened in the world.
#[derive(Clone, Debug)]
pub enum Input {
    /// The fold of the ledger up to some place, kept by somebody: before any record, and instead of those up to there.
    Known(Arc<Fold>),
    /// The ledger, all of it and in its order: what the fold is made of. Repeats are harmless, gaps are a bug.
    Ledger(Vec<Arc<Record>>),
    /// Deliveries from a queue that is shared with other processes of the role, in any order and more than once.
    Work(Vec<Delivery>),
    /// Samples.
    Frame(Frame),
    /// A series table that frames refer to.
    Table(SeriesTable),
    /// What became of an [`Emit`].
    Published {
        /// The emit's ticket.
        ticket: Ticket,
        /// What the ledger said.
        result: Published,
    },
    /// The answer to [`Ask::ReadBack`].
    ReadBack {
        /// The question's ticket.
        ticket: Ticket,
        /// The record at the place asked for, or the last one on the topic; `Err` where the ledger could not be
        /// asked.
        found: Result<Option<Arc<Record>>, Unanswered>,
    },
    /// The answer to [`Ask::Act`].
    Acted(Acted),
    /// The shards whose lease this process holds, all of them.
    Leases(Vec<Lease>),
    /// The configuration to decide by from now on.
    Configuration(Arc<Configuration>),
}

/// The ledger did not answer in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unanswered;

/// What the ledger said to a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// It is in the ledger at this place. With `duplicate`, a message with this id was there already: *it* counts, and
    /// it may be somebody else's.
    Stored {
        /// Its place.
        sequence: u64,
        /// Whether the id was known.
        duplicate: bool,
    },
    /// Somebody else wrote on the topic since the expected sequence.
    WrongLastSequence,
    /// No answer: it may or may not be in the ledger.
    TimedOut,
    /// The ledger refused it for good (too large, not permitted).
    Refused,
}

/// Something taken from a shared queue.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// To settle it by.
    pub token: Token,
    /// How often it was delivered, from 1.
    pub delivered: u64,
    /// What it is.
    pub work: Work,
}

/// What a shared queue carries.
#[derive(Clone, Debug)]
pub enum Work {
    /// A record of the ledger.
    Record(Arc<Record>),
    /// Something from outside, at its place in the intake.
    Intake {
        /// Its place: grows with every message, whatever becomes of the stream.
        sequence: u64,
        /// When it came in.
        stored_at: Timestamp,
        /// What it is.
        intake: Intake,
    },
}

/// What comes from outside.
#[derive(Clone, Debug)]
pub enum Intake {
    /// A violation that somebody else found. Its episode and revision are not taken over: the role that records it
    /// derives them.
    Violation(Box<Violation>),
    /// A change that somebody made.
    Change(Change),
    /// An operator's wish.
    Operator {
        /// Who: the last token of the subject, which the server's permissions guard.
        by: Operator,
        /// What.
        request: OperatorRequest,
    },
}

/// The right to work on a shard until a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Which shard of the plans.
    pub shard: u16,
    /// Grows whenever the lease is renewed or changes hands.
    pub revision: u64,
    /// No effect is started from here on.
    pub until: Timestamp,
}

/// How an effect went.
#[derive(Clone, Debug)]
pub struct Acted {
    /// The attempt.
    pub attempt: AttemptId,
    /// How it ended.
    pub outcome: Outcome,
}

/// What a core wants done.
#[derive(Debug, Default)]
pub struct Step {
    /// To be published, in this order.
    pub emit: Vec<Emit>,
    /// To be asked of the world.
    pub ask: Vec<Ask>,
    /// To be settled, after all that stands before it was sent.
    pub done: Vec<(Token, Done)>,
    /// When to call `tick`, if nothing else happens before. Later than the `now` of the call.
    pub wake_at: Option<Timestamp>,
}

/// A batch for the ledger.
#[derive(Clone, Debug)]
pub struct Emit {
    /// To answer by.
    pub ticket: Ticket,
    /// Where.
    pub topic: Topic,
    /// What. Its id is the message's id.
    pub batch: Arc<Batch>,
    /// The last sequence on the topic that the decision was made on; refused if there is a newer one.
    pub expected_last: Option<u64>,
}

/// A question to the world.
#[derive(Clone, Debug)]
pub enum Ask {
    /// What is in the ledger, asked of its leader: at a place, or last on the topic.
    ReadBack {
        /// To answer by.
        ticket: Ticket,
        /// The topic.
        topic: Topic,
        /// The place; `None` asks for the last one on the topic.
        sequence: Option<u64>,
    },
    /// Carry out an attempt.
    Act(Box<Act>),
    /// Ask a producer for a series table.
    Table {
        /// Which producer.
        producer: Arc<str>,
        /// Which table.
        table: TableHash,
    },
}

/// An attempt that was admitted.
#[derive(Clone, Debug)]
pub struct Act {
    /// The attempt.
    pub attempt: AttemptId,
    /// What to do.
    pub action: Action,
    /// The ledger sequence of the intent: grows with every admission, so a target can refuse an older one.
    pub fence: u64,
    /// Checked again by the clock that does not jump, immediately before the call: not started later than this.
    pub not_after: Timestamp,
    /// Filled in with how it went and handed back.
    pub outcome: Outcome,
}

/// How a delivery is settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// Never again.
    Ack,
    /// Again, to anybody, after this long.
    Nak(Duration),
    /// Never again, and put where a person can look at it.
    Dead(Arc<str>),
}

/// A deciding core.
pub trait Core {
    /// Takes in what happened.
    fn handle(&mut self, now: Timestamp, input: Input) -> Step;

    /// Lets deadlines pass.
    fn tick(&mut self, now: Timestamp) -> Step;
}

impl Step {
    /// Wakes no later than `at`.
    pub fn wake_no_later_than(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |known| known.min(at)));
    }
}

//! A process in a world, and what can happen to it.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::MakeCore;
use crate::engine::{Act, Core, Done, Emit, Input, Intake, Published, Ticket, Token};
use crate::model::Timestamp;

/// A process of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemberId(pub(super) usize);

/// See [`MemberId`].
pub(super) struct Member<'a> {
    pub(super) make: MakeCore<'a>,
    pub(super) core: Option<Box<dyn Core + 'a>>,
    /// Counts the starts; what was meant for an earlier one does not reach this one.
    pub(super) start: u64,
    /// How far its clock is off, in milliseconds.
    pub(super) skew_millis: i64,
    pub(super) queue: Option<Arc<str>>,
    pub(super) takes_intake: Option<fn(&Intake) -> bool>,
    pub(super) fed: u64,
    /// Whether it has read the ledger since its start: nothing is taken from outside before, as in the live runner.
    pub(super) caught_up: bool,
    /// Samples that wait for that.
    pub(super) held: Vec<Input>,
    pub(super) tokens: BTreeMap<Token, Source>,
    pub(super) last_token: u64,
    pub(super) waiting: BTreeSet<Ticket>,
    pub(super) wake_at: Option<Timestamp>,
    /// When it looks next, and at what.
    pub(super) scheduled: BTreeMap<Poll, Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    Ledger(u64),
    Intake(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Poll {
    Feed,
    Work,
}

pub(super) enum Event {
    /// From outside, or an answer: for the core as it is.
    Give(MemberId, u64, Box<Input>),
    Poll(MemberId, u64, Poll),
    Wake(MemberId, u64),
    Arrive(MemberId, u64, Box<Emit>, bool),
    Answer(MemberId, u64, Ticket, Published),
    Settle(MemberId, Source, Done),
    Call(MemberId, u64, Box<Act>),
    Intake(Box<Intake>),
}

/// Outside comes before inside at the same instant: what arrives together is decided on together.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) at: Timestamp,
    pub(super) inside: bool,
    pub(super) order: u64,
}

/// An event at its place. No two have the same.
pub(super) struct Scheduled {
    pub(super) place: Place,
    pub(super) event: Event,
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place.cmp(&other.place)
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.place == other.place
    }
}

impl Eq for Scheduled {}

impl Member<'_> {
    pub(super) fn token(&mut self, source: Source) -> Token {
        self.last_token += 1;
        self.tokens.insert(Token(self.last_token), source);
        Token(self.last_token)
    }
}

/// A member's own time.
pub(super) fn local(at: Timestamp, skew_millis: i64) -> Timestamp {
    Timestamp::from_millis(at.as_millis().saturating_add(skew_millis))
}

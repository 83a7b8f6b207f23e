//! What can go wrong between the roles of a world.

use std::time::Duration;

use crate::engine::Delivery;

/// A way that something goes in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// A publish on its way to the ledger.
    Publish,
    /// The ledger's answer on its way back.
    Answer,
    /// Records on the ordered feed.
    Feed,
    /// Deliveries of a shared queue.
    Work,
    /// A settlement on its way to the queue.
    Settle,
    /// From the decision to act to the call, and from the call to its answer.
    Effect,
}

/// What can go wrong between the roles.
pub trait Weather {
    /// How long this takes.
    fn delay(&mut self, hop: Hop) -> Duration;
    /// Whether it is lost. The feed never is: it is read again from where it was.
    fn is_lost(&mut self, hop: Hop) -> bool;
    /// Whether it arrives twice. Answers and effects never do: a request has one answer, and what is admitted is called
    /// once.
    fn is_repeated(&mut self, hop: Hop) -> bool;
    /// How many of those that are there are taken now, at least 1.
    fn take(&mut self, available: usize) -> usize;
    /// Puts deliveries into another order.
    fn shuffle(&mut self, deliveries: &mut Vec<Delivery>);
}

/// Everything arrives at once, once and in order.
#[derive(Clone, Copy, Debug)]
pub struct Calm;

impl Weather for Calm {
    fn delay(&mut self, _hop: Hop) -> Duration {
        Duration::ZERO
    }

    fn is_lost(&mut self, _hop: Hop) -> bool {
        false
    }

    fn is_repeated(&mut self, _hop: Hop) -> bool {
        false
    }

    fn take(&mut self, available: usize) -> usize {
        available
    }

    fn shuffle(&mut self, _deliveries: &mut Vec<Delivery>) {}
}

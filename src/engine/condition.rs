//! What the next conditional write on a topic is conditional on, and how that is found out again after a refusal.
//!
//! A refusal says that the last sequence on the topic is another one than was expected; it does not say which. Usually
//! somebody else has written. But the last entry may also have grown too old and be gone (then 0 is expected), or another
//! write was in process and came to nothing. So the ledger is asked, and what it says is what is known.

use std::sync::Arc;
use std::time::Duration;

use super::core::Unanswered;
use super::outbox::Outbox;
use super::{Ask, Step, Ticket};
use crate::model::{Record, Timestamp, Topic};

/// Pause before an unanswered read is asked again.
const READ_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// Pause after the first write that was refused for nothing new; it doubles with each.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
/// The longest such pause.
const PAUSE_LONGEST: Duration = Duration::from_secs(2);
/// How long the fold may take to come to an entry that is known to exist. Then it is asked whether it still does.
const FOLD_PATIENCE: Duration = Duration::from_secs(5);

/// How far the fold has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Folded {
    /// The last record of all.
    pub(super) applied: u64,
    /// The last one on the topic; 0 where there was none.
    pub(super) last: u64,
}

/// See the module. One write is under way at a time.
#[derive(Debug)]
pub(super) struct Condition {
    topic: Topic,
    fate: Fate,
    /// Entries up to here exist: nothing is decided before the fold has come that far.
    known_last: u64,
    /// Since when that is known.
    known_at: Timestamp,
    /// The last entry on the topic, where it is not the fold's last one (the first of the two): that one is gone, or the fold
    /// has come by an entry that it could make nothing of.
    kept: Option<(u64, u64)>,
    /// Writes in a row that were refused for nothing new.
    in_vain: u32,
    /// Nothing is written before.
    not_before: Timestamp,
}

/// What is known of the last write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Known,
    Writing(Ticket),
    /// The ledger is being asked.
    Reading(Ticket, Question),
    /// Nobody answered: to be asked again then.
    Unread(Timestamp, Option<u64>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Question {
    /// The place of the entry, or the last one on the topic.
    sequence: Option<u64>,
    /// The fold's last entry when it was asked. What is found before it says that it is gone.
    asked_on: u64,
}

impl Condition {
    pub(super) fn new(topic: Topic) -> Self {
        Self {
            topic,
            fate: Fate::Known,
            known_last: 0,
            known_at: Timestamp::MIN,
            kept: None,
            in_vain: 0,
            not_before: Timestamp::MIN,
        }
    }

    /// The last sequence to expect; `None` while nothing may be decided.
    pub(super) fn expected(&self, now: Timestamp, folded: Folded) -> Option<u64> {
        let is_free = self.fate == Fate::Known && now >= self.not_before;
        let last = match self.kept {
            Some((last, kept)) if last == folded.last => kept,
            Some(_) | None => folded.last,
        };
        (is_free && folded.applied >= self.known_last).then_some(last)
    }

    /// A write was sent.
    pub(super) fn wrote(&mut self, ticket: Ticket) {
        self.fate = Fate::Writing(ticket);
    }

    /// Whether this is the write under way.
    pub(super) fn is_writing(&self, ticket: Ticket) -> bool {
        self.fate == Fate::Writing(ticket)
    }

    /// The write got in at this place.
    pub(super) fn stored(&mut self, now: Timestamp, sequence: u64) {
        self.fate = Fate::Known;
        self.known_last = self.known_last.max(sequence);
        self.known_at = now;
        self.in_vain = 0;
    }

    /// The ledger will not have the write: another one is made, not at once.
    pub(super) fn refused(&mut self, now: Timestamp) {
        self.fate = Fate::Known;
        self.pause(now);
    }

    /// What became of the write is not known, or what stands in its way: asks for the entry at `sequence`, or for the
    /// last one.
    pub(super) fn read(
        &mut self,
        step: &mut Step,
        outbox: &mut Outbox,
        sequence: Option<u64>,
        folded: Folded,
    ) {
        let ticket = outbox.ticket();
        step.ask.push(Ask::ReadBack { ticket, topic: self.topic, sequence });
        self.fate = Fate::Reading(ticket, Question { sequence, asked_on: folded.last });
    }

    /// The answer to a read; returns the record that was found.
    pub(super) fn read_back(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        found: Result<Option<Arc<Record>>, Unanswered>,
    ) -> Option<Arc<Record>> {
        let Fate::Reading(asked, Question { sequence, asked_on }) = self.fate else { return None };
        if asked != ticket {
            return None;
        }
        let Ok(found) = found else {
            self.fate = Fate::Unread(now + READ_AGAIN_AFTER, sequence);
            return None;
        };
        self.fate = Fate::Known;
        self.known_at = now;
        let place = found.as_ref().map_or(0, |record| record.sequence);
        if sequence.is_some() {
            // Of what is under the id of a duplicate, others may have made more since.
            self.known_last = self.known_last.max(place);
        } else {
            self.known_last = place;
            self.kept = (place != asked_on).then_some((asked_on, place));
        }
        if place > asked_on {
            self.in_vain = 0;
        } else {
            self.pause(now);
        }
        found
    }

    /// Asks again what is due, and says when to wake.
    pub(super) fn tick(&mut self, now: Timestamp, step: &mut Step, outbox: &mut Outbox, folded: Folded) {
        match self.fate {
            Fate::Unread(at, sequence) if at <= now => self.read(step, outbox, sequence, folded),
            Fate::Unread(at, _) => step.wake_no_later_than(at),
            Fate::Known if folded.applied < self.known_last => {
                let at = self.known_at + FOLD_PATIENCE;
                if at <= now {
                    self.read(step, outbox, None, folded);
                } else {
                    step.wake_no_later_than(at);
                }
            }
            Fate::Known if self.not_before > now => step.wake_no_later_than(self.not_before),
            Fate::Known | Fate::Writing(_) | Fate::Reading(..) => {}
        }
    }

    fn pause(&mut self, now: Timestamp) {
        let pause = PAUSE_FIRST.saturating_mul(1 << self.in_vain.min(7)).min(PAUSE_LONGEST);
        self.in_vain += 1;
        self.not_before = now + pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Role;

    #[test]
    fn an_entry_that_the_fold_made_nothing_of_is_expected_where_it_stands() {
        let now = Timestamp::from_millis(0);
        let mut condition = Condition::new(Topic::Admission);
        let mut outbox = Outbox::new(Role::Executor, "one".into());
        let mut step = Step::default();
        let folded = |applied, last| Folded { applied, last };
        condition.read(&mut step, &mut outbox, None, folded(6, 5));
        let Some(Ask::ReadBack { ticket, .. }) = step.ask.pop() else { panic!("it asks") };
        let found = Record::unreadable(7, now, Topic::Admission);
        condition.read_back(now, ticket, Ok(Some(found.into())));
        assert_eq!(condition.expected(now, folded(6, 5)), None, "the fold has not come so far");
        assert_eq!(condition.expected(now, folded(7, 5)), Some(7), "it has come by");
        assert_eq!(condition.expected(now, folded(7, 7)), Some(7));
        assert_eq!(condition.expected(now, folded(9, 8)), Some(8), "somebody has written since");
    }
}

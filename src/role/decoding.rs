//! From messages to what the cores take in.

use crate::bus::{Delivery, Stored};
use crate::engine::{Intake, Work};
use crate::model::{Record, Role, Timestamp};
use crate::wire::{self, DecodeError, Fault, Headers, Message, Subject, Subjects};

/// What became of a message.
#[derive(Clone, Debug)]
pub(super) enum Decoded<T> {
    /// Read.
    Value(T),
    /// Not what it should be, and never will be.
    Malformed(String),
    /// Of a version that we do not know.
    Newer(String),
}

impl<T> Decoded<T> {
    /// The same of something else.
    pub(super) fn map<U>(self, then: impl FnOnce(T) -> U) -> Decoded<U> {
        match self {
            Self::Value(value) => Decoded::Value(then(value)),
            Self::Malformed(cause) => Decoded::Malformed(cause),
            Self::Newer(cause) => Decoded::Newer(cause),
        }
    }
}

/// A record of the ledger.
pub(super) fn record(subjects: &Subjects, stored: &Stored) -> Decoded<Record> {
    let topic = match subjects.parse(&stored.subject) {
        Ok(Subject::Ledger(topic)) => topic,
        Ok(Subject::Intake(_) | Subject::Samples(_) | Subject::Dlq(_) | Subject::Tables(_)) => {
            return Decoded::Malformed(format!("`{}` is no subject of the ledger", stored.subject));
        }
        Err(error) => return Decoded::Malformed(error.to_string()),
    };
    match wire::ledger::open(&message(stored)) {
        Ok(batch) => {
            Decoded::Value(Record { sequence: stored.sequence, stored_at: stored.stored_at, topic, batch })
        }
        Err(error) => refused(&error),
    }
}

/// What stands in the ledger for a message of it that is malformed; nothing where its subject is none of the ledger's.
pub(super) fn unreadable(subjects: &Subjects, stored: &Stored) -> Option<Record> {
    match subjects.parse(&stored.subject) {
        Ok(Subject::Ledger(topic)) => Some(Record::unreadable(stored.sequence, stored.stored_at, topic)),
        Ok(Subject::Intake(_) | Subject::Samples(_) | Subject::Dlq(_) | Subject::Tables(_)) | Err(_) => None,
    }
}

/// A message of the intake; `None` where it is nothing for this role.
pub(super) fn intake(subjects: &Subjects, role: Role, delivery: &Delivery) -> Decoded<Option<Work>> {
    let stored = &delivery.stored;
    let intake = match wire::intake::open(subjects, &message(stored)) {
        Ok(received) => received.taken_in(stored.stored_at),
        Err(error) => return refused(&error),
    };
    let wanted = match &intake {
        Intake::Violation(_) | Intake::Change(_) => Role::Monitor,
        Intake::Operator { .. } => Role::Executor,
    };
    let sequence = intake_place(delivery.stream_created, stored.sequence);
    let work = Work::Intake { sequence, stored_at: stored.stored_at, intake };
    Decoded::Value((wanted == role).then_some(work))
}

/// The place of a message of the intake, for ever: a stream that is created anew counts from 1 again, and a halt there must
/// not look older than what was obeyed before. The second in which the stream was created stands above the sequence; the
/// 32 bits of each last until 2106 and for four billion messages.
pub fn intake_place(stream_created: Timestamp, sequence: u64) -> u64 {
    let second = u32::try_from(stream_created.as_millis() / 1_000).unwrap_or(0);
    (u64::from(second) << u32::BITS) | (sequence & u64::from(u32::MAX))
}

fn message(stored: &Stored) -> Message {
    Message {
        subject: stored.subject.clone(),
        headers: stored
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect::<Headers>(),
        payload: stored.payload.clone(),
    }
}

fn refused<T>(error: &DecodeError) -> Decoded<T> {
    match error.fault() {
        Fault::Unknown => Decoded::Newer(error.to_string()),
        Fault::Malformed | Fault::Limit => Decoded::Malformed(error.to_string()),
    }
}

/// A record of the ledger, for those who only look; nothing where it cannot be read.
pub fn read_record(subjects: &Subjects, stored: &Stored) -> Option<Record> {
    match record(subjects, stored) {
        Decoded::Value(record) => Some(record),
        Decoded::Malformed(_) | Decoded::Newer(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_in_a_stream_that_was_created_anew_is_newer() {
        let (before, anew) =
            (Timestamp::from_millis(1_700_000_000_000), Timestamp::from_millis(1_700_000_001_000));
        let place = |created, sequence| intake_place(created, sequence);
        assert!(place(before, 7) < place(before, 8));
        assert!(place(before, 1 << 31) < place(anew, 1));
        // What was obeyed before places were counted like this is older than anything.
        assert!(1_000_000 < place(before, 1));
    }
}

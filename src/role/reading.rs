//! What a process reads of the ledger, decoded once for all its roles.
//!
//! Each role follows the ledger by a feed of its own and at its own pace, and some take the same messages from a shared
//! queue as well: a violation would be decoded six times. Whoever comes first decodes, the others take what it got. Nobody
//! waits for another role's pace here, only for the end of a decoding that it would have to do itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::RoleError;
use super::decoding::{self, Decoded};
use crate::bus::{Delivery, Stored};
use crate::engine::Work;
use crate::model::{Record, Role};
use crate::telemetry;
use crate::wire::{Subject, Subjects};

/// Messages that are kept for the other roles: a tenth of a second of a storm. Who is further behind decodes for itself.
const MESSAGES_MAX: usize = 512;
/// Bytes of theirs, as they came; decoded they take about as much again.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// Reads messages. Cheap to clone; clones share what they have read.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    subjects: Subjects,
    recent: Arc<Mutex<Recent>>,
    unreadable: Arc<Mutex<Unreadable>>,
}

/// Places of messages that cannot be read and that somebody was told of: each role and each question comes across them.
#[derive(Debug, Default)]
struct Unreadable(BTreeSet<u64>);

impl Unreadable {
    /// Whether this one is to be told.
    fn tell(&mut self, sequence: u64) -> bool {
        let is_new = self.0.insert(sequence);
        if self.0.len() > MESSAGES_MAX {
            self.0.pop_first();
        }
        is_new
    }
}

/// The newest messages that were read, by their place in the ledger.
#[derive(Debug, Default)]
struct Recent {
    messages: BTreeMap<u64, Arc<Read>>,
    bytes: usize,
}

/// A message, and what it says once somebody has looked.
#[derive(Debug)]
struct Read {
    stored: Stored,
    decoded: OnceLock<Decoded<Arc<Record>>>,
}

impl Reader {
    pub(super) fn new(subjects: Subjects) -> Self {
        Self { subjects, recent: Arc::default(), unreadable: Arc::default() }
    }

    /// A record of the ledger.
    pub(super) fn record(&self, stored: &Stored) -> Decoded<Arc<Record>> {
        let read = self.recent.lock().unwrap_or_else(PoisonError::into_inner).find_or_add(stored);
        let decode = |stored| decoding::record(&self.subjects, stored).map(Arc::new);
        // The place is the same and the message is not: the ledger was created anew, and each role finds out by itself.
        if read.stored != *stored {
            return decode(stored);
        }
        read.decoded.get_or_init(|| decode(stored)).clone()
    }

    /// Records of the ledger. One of a newer version is an error.
    pub(super) fn records(&self, stored: &[Stored]) -> Result<Vec<Arc<Record>>, RoleError> {
        let mut records = Vec::with_capacity(stored.len());
        for stored in stored {
            records.extend(self.standing(stored)?);
        }
        Ok(records)
    }

    /// What stands at a place of the ledger. A message that cannot be read says nothing: nobody but a role may write there,
    /// so it is a hole that everybody sees alike. But it has its place, and whoever writes on its subject next has to know
    /// that. Nothing where it is on no subject of the ledger; an error where it is of a newer version.
    pub(super) fn standing(&self, stored: &Stored) -> Result<Option<Arc<Record>>, RoleError> {
        match self.record(stored) {
            Decoded::Value(record) => Ok(Some(record)),
            Decoded::Malformed(cause) => {
                if self.unreadable.lock().unwrap_or_else(PoisonError::into_inner).tell(stored.sequence) {
                    tracing::warn!(sequence = stored.sequence, subject = %stored.subject, %cause, "a message of the ledger cannot be read and is skipped");
                    telemetry::ledger_unreadable();
                }
                Ok(decoding::unreadable(&self.subjects, stored).map(Arc::new))
            }
            Decoded::Newer(cause) => Err(RoleError::NewerLedger { sequence: stored.sequence, cause }),
        }
    }

    /// Work from a shared queue; `None` where it is nothing for this role.
    pub(super) fn work(&self, role: Role, delivery: &Delivery) -> Decoded<Option<Work>> {
        match self.subjects.parse(&delivery.stored.subject) {
            Ok(Subject::Intake(_)) => decoding::intake(&self.subjects, role, delivery),
            Ok(Subject::Ledger(_)) => self.record(&delivery.stored).map(|record| Some(Work::Record(record))),
            Ok(Subject::Samples(_) | Subject::Dlq(_) | Subject::Tables(_)) => Decoded::Value(None),
            Err(error) => Decoded::Malformed(error.to_string()),
        }
    }
}

impl Recent {
    fn find_or_add(&mut self, stored: &Stored) -> Arc<Read> {
        if let Some(known) = self.messages.get(&stored.sequence) {
            return Arc::clone(known);
        }
        let read = Arc::new(Read { stored: stored.clone(), decoded: OnceLock::new() });
        self.bytes += stored.payload.len();
        self.messages.insert(stored.sequence, Arc::clone(&read));
        // The first in the ledger go first: a role that catches up does not push out what the others are at.
        while self.messages.len() > MESSAGES_MAX || self.bytes > BYTES_MAX {
            let Some((_, oldest)) = self.messages.pop_first() else { break };
            self.bytes -= oldest.stored.payload.len();
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Token;
    use crate::model::{Basis, Batch, Entry, Generation, MessageId, Shard, Timestamp, Topic};
    use crate::wire;

    fn stored(subjects: &Subjects, sequence: u64, generation: u64) -> Stored {
        let entry = Entry::Applied { generation: Generation(generation), hash: "h".into() };
        let batch = Batch {
            id: MessageId::of(&[&generation]),
            role: Role::Knowledge,
            instance: "one".into(),
            at: Timestamp::default(),
            basis: Basis::default(),
            trace: 0,
            entries: vec![entry],
        };
        let message = wire::ledger::message(subjects, "cell", Topic::Control, &batch).unwrap();
        Stored {
            subject: message.subject,
            headers: message.headers.iter().map(|(name, value)| (name.into(), value.into())).collect(),
            payload: message.payload,
            sequence,
            stored_at: Timestamp::default(),
        }
    }

    fn value<T>(decoded: Decoded<T>) -> T {
        match decoded {
            Decoded::Value(value) => value,
            Decoded::Malformed(cause) | Decoded::Newer(cause) => panic!("{cause}"),
        }
    }

    #[test]
    fn a_message_is_decoded_once_for_feeds_and_queues_and_another_one_at_its_place_is_not_taken_for_it() {
        let subjects = Subjects::new("homeostat").unwrap();
        let reader = Reader::new(subjects.clone());
        let message = stored(&subjects, 7, 1);
        let first = value(reader.record(&message));
        let again = reader.clone().records(std::slice::from_ref(&message)).unwrap().remove(0);
        assert!(Arc::ptr_eq(&first, &again));
        let delivery = Delivery {
            stored: message,
            stream_created: Timestamp::default(),
            delivered: 1,
            token: Token::new("t".into()),
        };
        let work = value(reader.work(Role::Planner, &delivery));
        assert!(matches!(work, Some(Work::Record(record)) if Arc::ptr_eq(&first, &record)));
        let anew = value(reader.record(&stored(&subjects, 7, 2)));
        assert_eq!((anew.sequence, anew.batch.id), (7, MessageId::of(&[&2_u64])));
    }

    #[test]
    fn a_message_that_cannot_be_read_stands_at_its_place_and_says_nothing() {
        let subjects = Subjects::new("homeostat").unwrap();
        let reader = Reader::new(subjects.clone());
        for topic in [Topic::Admission, Topic::Analyses(Shard::default()), Topic::Plans] {
            let mut message = stored(&subjects, 7, 1);
            message.subject = subjects.ledger(topic);
            message.payload.truncate(5);
            let standing = reader.standing(&message).unwrap().unwrap();
            assert_eq!(*standing, Record::unreadable(7, message.stored_at, topic));
            // The feed gives it too, so that the fold comes to its place.
            assert_eq!(reader.records(&[message]).unwrap(), [standing]);
        }
        let mut elsewhere = stored(&subjects, 8, 1);
        elsewhere.subject = "homeostat.v1.dlq.monitor".into();
        assert_eq!(reader.records(&[elsewhere]).unwrap(), []);
        assert!(
            !reader.unreadable.lock().unwrap().tell(7),
            "it was told before, by all of its roles together"
        );
    }

    #[test]
    fn what_is_kept_is_bounded_and_a_role_that_catches_up_does_not_push_out_the_newest() {
        let subjects = Subjects::new("homeostat").unwrap();
        let reader = Reader::new(subjects.clone());
        let message = |sequence| stored(&subjects, sequence, sequence);
        let max = MESSAGES_MAX as u64;
        let newest = value(reader.record(&message(10 * max)));
        for sequence in 1..2 * max {
            assert_eq!(value(reader.record(&message(sequence))).sequence, sequence);
        }
        assert!(Arc::ptr_eq(&newest, &value(reader.record(&message(10 * max)))));
        let recent = reader.recent.lock().unwrap();
        assert_eq!(recent.messages.len(), MESSAGES_MAX);
        assert_eq!(
            recent.bytes,
            recent.messages.values().map(|read| read.stored.payload.len()).sum::<usize>()
        );
    }
}

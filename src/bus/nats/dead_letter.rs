//! What could not be processed: put where a person finds it, with its cause, before it is taken off the queue.

use super::Connection;
use super::publish::Publisher;
use super::topology::Names;
use super::work::{Settler, one_line};
use crate::bus::{Delivery, Outgoing, PublishError, Settle};

/// Why the message could not be processed.
pub const CAUSE_HEADER: &str = "homeostat-dead-cause";
/// The subject it was published on.
pub const SUBJECT_HEADER: &str = "homeostat-dead-subject";
/// Its sequence in the stream it was taken from.
pub const SEQUENCE_HEADER: &str = "homeostat-dead-sequence";
/// How often it was tried.
pub const DELIVERED_HEADER: &str = "homeostat-dead-delivered";

/// A cause is a chain of errors, not a log.
const CAUSE_BYTES_MAX: usize = 2_048;

/// Writes dead letters. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    publisher: Publisher,
    settler: Settler,
    root: String,
}

impl DeadLetters {
    /// Into the stream that `names` names; `settler` is that of the work the letters come from.
    pub fn new(connection: Connection, names: &Names, settler: Settler) -> Self {
        let publisher = Publisher::new(connection, &names.dead_letters);
        Self { publisher, settler, root: names.root.clone() }
    }

    /// Stores the message under `<root>.dlq.<role>` with its cause, and only then ends its delivery. Repeating it is
    /// harmless: the letter is the same.
    pub async fn bury(&self, role: &str, delivery: &Delivery, cause: &str) -> Result<(), PublishError> {
        let stored = &delivery.stored;
        let cause = one_line(cause, CAUSE_BYTES_MAX);
        // What told the server how to store it would tell it again.
        let own = stored.headers.iter().filter(|(name, _)| !name.starts_with("Nats-"));
        let mut headers: Vec<_> = own.cloned().collect();
        headers.extend([
            (CAUSE_HEADER.to_owned(), cause.clone()),
            (SUBJECT_HEADER.to_owned(), stored.subject.clone()),
            (SEQUENCE_HEADER.to_owned(), stored.sequence.to_string()),
            (DELIVERED_HEADER.to_owned(), delivery.delivered.to_string()),
        ]);
        let letter = Outgoing {
            subject: format!("{}.dlq.{role}", self.root),
            headers,
            payload: stored.payload.clone(),
            id: format!("dead.{role}.{}.{}", stored.subject, stored.sequence),
            expected_last_on_subject: None,
        };
        self.publisher.publish(letter).await?;
        // The letter is there; a delivery that could not be ended comes again, and is buried again.
        let _ = self.settler.settle(&delivery.token, Settle::Term(cause)).await;
        Ok(())
    }
}

//! What could not be processed: put where a person finds it, with its cause, before it is taken off the queue.

use super::Connection;
use super::convert::header_map;
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

/// How many bytes the body had, where the letter holds only the first of them.
pub const CUT_HEADER: &str = "homeostat-dead-payload-bytes";

/// A cause is a chain of errors, not a log.
const CAUSE_BYTES_MAX: usize = 2_048;
/// What is kept of the sender's own headers: the server stores at most 64 KiB of all of them, and what did not fit there
/// with our own beside it could never be put aside.
const SENDER_HEADER_BYTES_MAX: usize = 16 * 1024;
/// What the client writes around a header.
const HEADER_FRAME_BYTES: usize = 4;
/// The version line, message id and expected stream, which the publisher adds, with room to spare.
const OWN_HEADER_BYTES: usize = 2_048;

/// Writes dead letters. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    publisher: Publisher,
    settler: Settler,
    root: String,
    payload_bytes_max: usize,
}

impl DeadLetters {
    /// Into the stream that `names` names; `settler` is that of the work the letters come from.
    pub fn new(connection: Connection, names: &Names, settler: Settler) -> Self {
        let payload_bytes_max = connection.payload_bytes_max();
        let publisher = Publisher::new(connection, &names.dead_letters);
        Self { publisher, settler, root: names.root.clone(), payload_bytes_max }
    }

    /// Stores the message under `<root>.dlq.<role>` with its cause, and only then ends its delivery. Repeating it is
    /// harmless: the letter is the same. A body that leaves no room for the cause is cut, and the letter says so.
    pub async fn bury(&self, role: &str, delivery: &Delivery, cause: &str) -> Result<(), PublishError> {
        let stored = &delivery.stored;
        let cause = one_line(cause, CAUSE_BYTES_MAX);
        let mut headers = senders_headers(&stored.headers);
        headers.extend([
            (CAUSE_HEADER.to_owned(), cause.clone()),
            (SUBJECT_HEADER.to_owned(), one_line(&stored.subject, CAUSE_BYTES_MAX)),
            (SEQUENCE_HEADER.to_owned(), stored.sequence.to_string()),
            (DELIVERED_HEADER.to_owned(), delivery.delivered.to_string()),
            (CUT_HEADER.to_owned(), stored.payload.len().to_string()),
        ]);
        let room = self.payload_bytes_max.saturating_sub(bytes_of(&headers) + OWN_HEADER_BYTES);
        if stored.payload.len() <= room {
            headers.retain(|(name, _)| name != CUT_HEADER);
        }
        let letter = Outgoing {
            subject: format!("{}.dlq.{role}", self.root),
            headers,
            payload: stored.payload.slice(..stored.payload.len().min(room)),
            // With the time: a stream that was created anew counts its messages from the beginning.
            id: format!("dead.{role}.{}.{}", stored.stored_at.as_millis(), stored.sequence),
            expected_last_on_subject: None,
        };
        self.publisher.publish(letter).await?;
        // The letter is there; a delivery that could not be ended comes again, and is buried again.
        let _ = self.settler.settle(&delivery.token, Settle::Term(cause)).await;
        Ok(())
    }
}

/// Those that can be sent again, as many as there is room for. What told the server how to store it would tell it again.
fn senders_headers(headers: &[(String, String)]) -> Vec<(String, String)> {
    let mut left = SENDER_HEADER_BYTES_MAX;
    let mut kept = Vec::new();
    for header in headers.iter().filter(|(name, _)| !name.to_ascii_lowercase().starts_with("nats-")) {
        let bytes = bytes_of(std::slice::from_ref(header));
        if bytes <= left && header_map(std::slice::from_ref(header)).is_ok() {
            left -= bytes;
            kept.push(header.clone());
        }
    }
    kept
}

fn bytes_of(headers: &[(String, String)]) -> usize {
    headers.iter().map(|(name, value)| name.len() + value.len() + HEADER_FRAME_BYTES).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_senders_headers_are_kept_as_far_as_they_can_be_sent() {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let long = "x".repeat(SENDER_HEADER_BYTES_MAX);
        let sent = [
            header("ce-id", "7"),
            header("Nats-Msg-Id", "7"),
            header("nats-rollup", "all"),
            header("long", &long),
            header("two\nlines", "x"),
            header("ce-type", "t"),
        ];
        assert_eq!(senders_headers(&sent), [header("ce-id", "7"), header("ce-type", "t")]);
    }
}

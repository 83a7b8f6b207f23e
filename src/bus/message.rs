//! What goes over a bus, as plain values.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;

use crate::model::Timestamp;

/// A message on its way into a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Where to.
    pub subject: String,
    /// Names are case-sensitive and may repeat; values hold no line breaks.
    pub headers: Vec<(String, String)>,
    /// What it carries, at most what the server takes (1 MiB unless configured).
    pub payload: Bytes,
    /// A second message with this id within the stream's duplicate window is dropped and answered as `duplicate`; empty:
    /// none is.
    pub id: String,
    /// Compare and set: stored only if this is the sequence of the last message on `subject`; 0 for "none yet".
    pub expected_last_on_subject: Option<u64>,
}

/// A message that is not in a stream: a frame of samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// Where it was published.
    pub subject: String,
    /// Sorted by name.
    pub headers: Vec<(String, String)>,
    /// What it carries.
    pub payload: Bytes,
}

/// A message at its place in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Where it was published.
    pub subject: String,
    /// Sorted by name.
    pub headers: Vec<(String, String)>,
    /// What it carries.
    pub payload: Bytes,
    /// Its place, from 1.
    pub sequence: u64,
    /// The stream's time of it.
    pub stored_at: Timestamp,
}

/// The stream has the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its place; where it is a duplicate, the place of the first one.
    pub sequence: u64,
    /// A message with the same id was there before. It says nothing about who wrote that one.
    pub duplicate: bool,
}

/// Where a stream begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The oldest message that is retained; 0 or `last_sequence + 1` where there is none.
    pub first_sequence: u64,
    /// The newest message that was ever stored; 0 where there was none.
    pub last_sequence: u64,
    /// When the stream was created: another value means another stream under the same name.
    pub created: Timestamp,
}

/// Why a message was not (or not certainly) stored.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PublishError {
    /// The compare-and-set failed: somebody else was there first.
    #[error("another message is the last one on the subject{}", actual.map(|n| format!(" (sequence {n})")).unwrap_or_default())]
    WrongLastSequence {
        /// The sequence of the last message on the subject, where the server told.
        actual: Option<u64>,
    },
    /// No acknowledgement came, or the connection was lost before it: the message may be stored now or later.
    #[error("no acknowledgement came in time; the message may be stored or not")]
    TimedOut,
    /// Nothing took the message: it is not stored.
    #[error("the stream cannot be reached: {0}")]
    Unavailable(String),
    /// The message is larger than the server or the stream takes.
    #[error("the message is too large: {0}")]
    TooLarge(String),
    /// The server said no, and will say no again.
    #[error("the message was refused: {0}")]
    Refused(String),
}

impl PublishError {
    /// Whether the message may be in the stream all the same: publish it again with the same id, or read it back.
    pub const fn may_be_stored(&self) -> bool {
        match self {
            Self::TimedOut => true,
            Self::WrongLastSequence { .. } | Self::Unavailable(_) | Self::TooLarge(_) | Self::Refused(_) => {
                false
            }
        }
    }
}

/// Why a stream could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    /// No answer in time, or nobody to answer.
    #[error("the stream cannot be read: {0}")]
    Unavailable(String),
    /// The server said no.
    #[error("reading the stream was refused: {0}")]
    Refused(String),
}

/// A message that is ours to work on, until `ack_wait` is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The message.
    pub stored: Stored,
    /// When its stream was created: one that was created anew counts its messages from 1 again.
    pub stream_created: Timestamp,
    /// Which attempt this is, from 1.
    pub delivered: u64,
    /// Names this attempt when it is settled.
    pub token: Token,
}

/// Names one delivery of one message to the bus it came from.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Token(String);

impl Token {
    /// For buses only.
    pub(crate) const fn new(name: String) -> Self {
        Self(name)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settle {
    /// It is done; everything that follows from it is stored.
    Ack,
    /// Give it to somebody again, after this long.
    Nak(Duration),
    /// Never give it to anybody again; the reason goes into the server's advisory.
    Term(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lost_answer_leaves_it_open_whether_the_message_is_stored() {
        assert!(PublishError::TimedOut.may_be_stored());
        for certain in [
            PublishError::WrongLastSequence { actual: Some(7) },
            PublishError::Unavailable(String::new()),
            PublishError::TooLarge(String::new()),
            PublishError::Refused(String::new()),
        ] {
            assert!(!certain.may_be_stored(), "{certain}");
        }
    }
}

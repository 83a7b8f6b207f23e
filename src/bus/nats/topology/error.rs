//! Why the streams are not as they should be.

use thiserror::Error;

use super::super::difference::{Difference, lines};

/// A prefix becomes a part of directory names on the server.
pub(super) const PREFIX_BYTES_MAX: usize = 32;
/// What this version understands; a stream that asks for more is left alone.
pub(super) const READER: u32 = 1;

/// Why the streams are not as they should be.
#[derive(Debug, Error)]
pub enum TopologyError {
    /// The prefix cannot be part of subjects and stream names.
    #[error(
        "`{0}` cannot be a prefix\nhint: lower-case letters, digits, `-` and `_`, a letter first, at most {PREFIX_BYTES_MAX}"
    )]
    Prefix(String),
    /// The number of buckets is not a power of two.
    #[error("{0} is not a number of buckets\nhint: a power of two: 8, 16, 32")]
    Buckets(u16),
    /// A stream is missing.
    #[error(
        "the stream `{0}` does not exist\nhint: `homeostat run` creates it with a user that may; `homeostat check` tells what it needs"
    )]
    Missing(String),
    /// A stream or a consumer is there and is another one.
    #[error(
        "{what} `{name}` exists and differs:{}\nhint: it is never changed in silence: change it with the `nats` command, or choose another prefix",
        lines(differences)
    )]
    Differs {
        /// `the stream` or `the consumer`.
        what: &'static str,
        /// Which.
        name: String,
        /// How.
        differences: Vec<Difference>,
    },
    /// Another stream stores our subjects.
    #[error(
        "the subject `{subject}` is stored by the stream `{owner}` already, which `{wanted}` needs\nhint: delete `{owner}`, or choose another prefix"
    )]
    SubjectTaken {
        /// The subject.
        subject: String,
        /// The stream that has it.
        owner: String,
        /// The stream that should have it.
        wanted: String,
    },
    /// A newer version writes there, and this one would misread it.
    #[error(
        "the stream `{name}` needs reader version {needed}, this program is version {READER}\nhint: upgrade it"
    )]
    TooNew {
        /// Which.
        name: String,
        /// What it says it needs.
        needed: String,
    },
    /// The server does not have the room.
    #[error(
        "the server has no room for `{name}`: {reason}\nhint: raise `max_file` and `max_mem` of its `jetstream` block or the account's limits, or lower the limits of the streams"
    )]
    NoRoom {
        /// Which.
        name: String,
        /// What the server said.
        reason: String,
    },
    /// The server did not answer, or said no.
    #[error("`{name}` cannot be created or verified: {reason}")]
    Failed {
        /// Which.
        name: String,
        /// What the server or the client said.
        reason: String,
    },
}

//! What the actuator needs of a NATS connection. Whoever wires the process together brings one.

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

/// A message for a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where to; checked, without wildcards.
    pub subject: String,
    /// Idempotency key, fence, trace.
    pub headers: Vec<(&'static str, String)>,
    /// What.
    pub payload: Bytes,
    /// How long to wait for the server or the answer.
    pub timeout: Duration,
}

/// What a target answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// In any order.
    pub headers: Vec<(String, String)>,
    /// What.
    pub payload: Bytes,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessengerError {
    /// Nothing left this process, and nothing will.
    #[error("nothing was sent: {0}")]
    NotSent(String),
    /// The server said that nobody listens.
    #[error("nobody listens on the subject")]
    NoResponders,
    /// It was sent, or may still be.
    #[error("{0}")]
    Unanswered(String),
}

/// A NATS connection, as far as actions need one. Dropping a future gives up the waiting, not the message.
pub trait Messenger: Send + Sync {
    /// Publishes, and returns when the *server* has the message: `flush` only says that the socket took it, so this
    /// needs a round trip behind it on the same connection.
    fn publish(&self, message: Message) -> BoxFuture<'_, Result<(), MessengerError>>;

    /// Publishes and returns the first answer.
    fn request(&self, message: Message) -> BoxFuture<'_, Result<Answer, MessengerError>>;
}

//! Work that is shared: a durable consumer that many processes take from, each message by one of them, until it is
//! settled. Acknowledge last: what follows from a message is stored before.
//!
//! An acknowledgement is not durable on a single server (nats-server#8036): after a crash of the server settled
//! messages may come again, so whatever is done with them has to bear it.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, Config, DeliverPolicy, Info, ReplayPolicy};
use async_nats::jetstream::message::Message as JetStreamMessage;
use async_nats::jetstream::stream::Info as StreamInfo;
use async_nats::{Client, Message};
use serde_json::{Value, json};
use thiserror::Error;

use super::api::{ApiError, CONSUMER_ALREADY_EXISTS, CONSUMER_NOT_FOUND, STREAM_NOT_FOUND};
use super::connect::Connection;
use super::convert::{headers, timestamp};
use super::difference::{Difference, differences, lines};
use super::pull::{Pulled, Puller};
use crate::bus::{Delivery, Settle, Stored, Token};
use crate::model::Timestamp;

/// A reason goes into an advisory; more than a line of it helps nobody.
const REASON_BYTES_MAX: usize = 256;

/// What is compared with a consumer that exists.
const FIELDS: [&str; 10] = [
    "durable_name",
    "filter_subjects",
    "deliver_policy",
    "ack_policy",
    "ack_wait",
    "max_ack_pending",
    "max_deliver",
    "replay_policy",
    "backoff",
    "headers_only",
];

/// Which work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkSpec {
    /// The stream it is taken from.
    pub stream: String,
    /// The consumer's name: who uses the same name shares the work.
    pub name: String,
    /// Its subjects; none: all.
    pub filters: Vec<String>,
    /// What is not settled or reported in progress for this long is given to somebody else. Also the pause after a
    /// process was killed.
    pub ack_wait: Duration,
    /// How many messages may be unsettled, over all processes.
    pub ack_pending_max: u32,
    /// How many messages one process takes in advance; a killed process keeps them for `ack_wait`.
    pub batch: usize,
}

/// Takes work.
#[derive(Debug)]
pub struct Work {
    connection: Connection,
    spec: WorkSpec,
    puller: Puller,
    stream_created: Timestamp,
}

/// Settles what [`Work`] took. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Settler {
    client: Client,
    timeout: Duration,
}

/// Why there is no work to be had.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WorkError {
    /// The consumer exists and is another one.
    #[error(
        "the consumer `{name}` exists and differs:{}\nhint: it is never changed in silence: delete it with `nats consumer rm`, and what was unsettled comes again",
        lines(differences)
    )]
    Differs {
        /// Which.
        name: String,
        /// How.
        differences: Vec<Difference>,
    },
    /// Somebody deleted the consumer. What was unsettled comes again once it is made anew.
    #[error("the consumer `{0}` was deleted\nhint: a restart makes it anew")]
    Deleted(String),
    /// The server did not answer.
    #[error("the consumer `{name}` cannot be made or verified: {reason}")]
    Unavailable {
        /// Which.
        name: String,
        /// What the client said.
        reason: String,
    },
    /// The server says no.
    #[error("the consumer `{name}` is refused: {reason}")]
    Refused {
        /// Which.
        name: String,
        /// What the server said.
        reason: String,
    },
    /// The connection is closed for good.
    #[error("the connection is closed")]
    Closed,
}

/// The server was not told: the delivery comes again after `ack_wait`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the delivery could not be settled in time; it comes again")]
pub struct SettleError;

impl Work {
    /// Makes the consumer, or verifies the one that is there.
    pub async fn open(connection: Connection, spec: WorkSpec) -> Result<Self, WorkError> {
        ensure(&connection, &spec).await?;
        // After the consumer: a stream that is created anew from here on takes the consumer with it.
        let stream: StreamInfo = connection
            .api(format!("STREAM.INFO.{}", spec.stream), &json!({}))
            .await
            .map_err(|error| work_error(&spec, error))?;
        let stream_created = timestamp(stream.created);
        let puller = Puller::new(&connection, &spec.stream, &spec.name, spec.batch.max(1)).await;
        let puller = puller.map_err(|_| WorkError::Closed)?;
        Ok(Self { connection, spec, puller, stream_created })
    }

    /// Waits for deliveries and takes all that are here, at most `max`. After a lost connection or a restart of the
    /// server it goes on by itself. Cancel safe.
    pub async fn next_batch(&mut self, max: usize) -> Result<Vec<Delivery>, WorkError> {
        let mut batch = Vec::new();
        while batch.is_empty() {
            let first = match self.puller.next().await {
                Pulled::Message(message) => message,
                Pulled::Broken => continue,
                Pulled::NoResponders => {
                    self.still_there().await?;
                    continue;
                }
                Pulled::Deleted => return Err(WorkError::Deleted(self.spec.name.clone())),
                Pulled::Refused(reason) => {
                    return Err(WorkError::Refused { name: self.spec.name.clone(), reason });
                }
                Pulled::Closed => return Err(WorkError::Closed),
            };
            batch.extend(self.delivery(first));
            while batch.len() < max {
                let Some(message) = self.puller.next_ready() else { break };
                batch.extend(self.delivery(message));
            }
        }
        Ok(batch)
    }

    /// Settles what this took.
    pub fn settler(&self) -> Settler {
        Settler { client: self.connection.client.clone(), timeout: self.connection.timeout }
    }

    /// Gives back what was taken in advance, so that others have it at once. The last thing before the end; what the
    /// server sends in this very moment comes to others after `ack_wait`.
    pub async fn release(mut self) {
        let settler = self.settler();
        self.connection.barrier().await;
        // First: what is given back to a consumer that still asks is sent to it again.
        self.puller.close().await;
        while let Some(message) = self.puller.next_ready() {
            let Some(delivery) = self.delivery(message) else { continue };
            if settler.settle(&delivery.token, Settle::Nak(Duration::ZERO)).await.is_err() {
                break;
            }
        }
        self.connection.barrier().await;
    }

    /// A message that is none of JetStream's cannot be settled, so it is none.
    fn delivery(&self, message: Message) -> Option<Delivery> {
        let message = JetStreamMessage { context: self.connection.jetstream.clone(), message };
        let info = message.info().ok()?;
        let (sequence, stored_at) = (info.stream_sequence, timestamp(info.published));
        let delivered = u64::try_from(info.delivered).unwrap_or(1);
        let message = message.message;
        Some(Delivery {
            token: Token::new(message.reply?.into_string()),
            stream_created: self.stream_created,
            delivered,
            stored: Stored {
                subject: message.subject.into_string(),
                headers: message.headers.as_ref().map(headers).unwrap_or_default(),
                payload: message.payload,
                sequence,
                stored_at,
            },
        })
    }

    /// Whether the consumer is only not ready.
    async fn still_there(&self) -> Result<(), WorkError> {
        match info(&self.connection, &self.spec).await {
            Err(error) if error.is(CONSUMER_NOT_FOUND) || error.is(STREAM_NOT_FOUND) => {
                Err(WorkError::Deleted(self.spec.name.clone()))
            }
            // No answer: the server is away, and comes back.
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

impl Settler {
    /// Says what became of a delivery. It is on its way when this returns; [`Connection::barrier`] tells when it arrived.
    pub async fn settle(&self, token: &Token, settle: Settle) -> Result<(), SettleError> {
        let word = match settle {
            Settle::Ack => "+ACK".to_owned(),
            Settle::Nak(delay) if delay.is_zero() => "-NAK".to_owned(),
            Settle::Nak(delay) => format!("-NAK {}", json!({ "delay": nanos(delay) })),
            Settle::Term(reason) => format!("+TERM {}", one_line(&reason, REASON_BYTES_MAX)),
        };
        self.say(token, word).await
    }

    /// Says that a delivery is still being worked on: its `ack_wait` begins anew. Every third of it.
    pub async fn progress(&self, token: &Token) -> Result<(), SettleError> {
        self.say(token, "+WPI".to_owned()).await
    }

    async fn say(&self, token: &Token, word: String) -> Result<(), SettleError> {
        let saying = self.client.publish(token.as_str().to_owned(), word.into());
        match tokio::time::timeout(self.timeout, saying).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(SettleError),
        }
    }
}

/// Without line breaks, and cut at a character.
pub(super) fn one_line(text: &str, bytes_max: usize) -> String {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

async fn info(connection: &Connection, spec: &WorkSpec) -> Result<Info, ApiError> {
    connection.api(format!("CONSUMER.INFO.{}.{}", spec.stream, spec.name), &json!({})).await
}

/// Makes the consumer, or verifies the one that is there.
async fn ensure(connection: &Connection, spec: &WorkSpec) -> Result<(), WorkError> {
    let found = match info(connection, spec).await {
        Ok(found) => found,
        Err(error) if error.is(CONSUMER_NOT_FOUND) => match create(connection, spec).await {
            Ok(made) => made,
            // Somebody else made it at the same time.
            Err(error) if error.is(CONSUMER_ALREADY_EXISTS) => {
                info(connection, spec).await.map_err(|error| work_error(spec, error))?
            }
            Err(error) => return Err(work_error(spec, error)),
        },
        Err(error) => return Err(work_error(spec, error)),
    };
    let differences =
        differences(&comparable(json!(config(spec))), &comparable(json!(found.config)), &FIELDS);
    if differences.is_empty() {
        return Ok(());
    }
    Err(WorkError::Differs { name: spec.name.clone(), differences })
}

async fn create(connection: &Connection, spec: &WorkSpec) -> Result<Info, ApiError> {
    let config = config(spec);
    let filter = &config.filter_subject;
    let filter = if filter.is_empty() { String::new() } else { format!(".{filter}") };
    let subject = format!("CONSUMER.CREATE.{}.{}{filter}", spec.stream, spec.name);
    let question = json!({ "stream_name": spec.stream, "config": config, "action": "create" });
    connection.api(subject, &question).await
}

fn config(spec: &WorkSpec) -> Config {
    let mut config = Config {
        durable_name: Some(spec.name.clone()),
        name: Some(spec.name.clone()),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        ack_wait: spec.ack_wait,
        // Never given up by the server: past our own bound a message is dead-lettered with its cause.
        max_deliver: -1,
        max_ack_pending: i64::from(spec.ack_pending_max),
        replay_policy: ReplayPolicy::Instant,
        ..Config::default()
    };
    match spec.filters.as_slice() {
        [one] => config.filter_subject.clone_from(one),
        all => config.filter_subjects = all.to_vec(),
    }
    config
}

/// One filter is written in another field than many.
fn comparable(mut config: Value) -> Value {
    if let Some(one) = config["filter_subject"].as_str().filter(|one| !one.is_empty()) {
        config["filter_subjects"] = json!([one]);
    }
    config
}

fn work_error(spec: &WorkSpec, error: ApiError) -> WorkError {
    let name = spec.name.clone();
    match error {
        ApiError::Unavailable(reason) => WorkError::Unavailable { name, reason },
        ApiError::Answered { text, .. } => WorkError::Refused { name, reason: text },
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_bounded_line() {
        assert_eq!(one_line("a\r\nb", 10), "a  b");
        assert_eq!(one_line("aéé", 4), "aé");
    }
}

//! The whole ledger in order, from a place on: what every fold reads.
//!
//! An ordered consumer of our own: without acknowledgements, in the server's memory, made anew from the next place
//! whenever anything may have been lost. Before that it asks whether the stream is still the one it was: a stream that
//! was created anew, went back or lost its beginning is an error, for a fold must not go on over it in silence.

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::Message;
use async_nats::jetstream::consumer::{AckPolicy, Config, DeliverPolicy, Info as ConsumerInfo, ReplayPolicy};
use async_nats::jetstream::message::Message as JetStreamMessage;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use thiserror::Error;

use super::api::STREAM_NOT_FOUND;
use super::connect::Connection;
use super::convert::{headers, timestamp};
use super::ledger::Ledger;
use super::pull::{Pulled, Puller};
use crate::bus::{ReadError, Stored, Tail};
use crate::model::Timestamp;

/// Catching up reads 450,000 messages/s in pulls of this size; they are at most 1 MiB each and 10 KiB as a rule.
const MESSAGES_PER_PULL: usize = 1_000;
/// The server forgets a consumer that nobody pulls from this long.
const INACTIVE_MAX: Duration = Duration::from_mins(1);
/// The wait before the consumer is made again where that failed; doubles to the maximum.
const RETRY_DELAY: Duration = Duration::from_millis(10);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(1);

/// Follows a stream.
pub struct Feed {
    ledger: Ledger,
    connection: Connection,
    stream: String,
    /// The place of the next message; 0: the first there is.
    next: u64,
    created: Option<Timestamp>,
    pending: u64,
    state: State,
    /// Of a batch that ended at an error: what was taken from the consumer before it.
    held: VecDeque<Stored>,
    /// How often the consumer was lost since the last message.
    lost: u32,
}

enum State {
    Closed,
    /// Kept here so that a caller who stops waiting does not begin it again.
    Opening(BoxFuture<'static, Result<Opened, FeedError>>),
    Open(Box<Opened>),
}

struct Opened {
    puller: Puller,
    next: u64,
    created: Timestamp,
    consumer: String,
    /// The consumer's own count: a jump means that a message was lost on the way.
    consumer_sequence: u64,
    pending: u64,
}

/// Why a fold must not go on as if nothing had been.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FeedError {
    /// There is no such stream.
    #[error("the stream `{0}` does not exist\nhint: `homeostat run` creates it")]
    Missing(String),
    /// The stream is another one of the same name. What was folded belongs to the old one.
    #[error(
        "the stream `{stream}` was created anew at {created}; what was folded is of another one\nhint: the fold is rebuilt from the new one"
    )]
    Recreated {
        /// Which.
        stream: String,
        /// When.
        created: Timestamp,
    },
    /// The stream ends before the place we were at: it was restored, or its server lost a part of it.
    #[error(
        "the stream `{stream}` went back to sequence {last}, {next} was expected next\nhint: the fold is rebuilt"
    )]
    WentBack {
        /// Which.
        stream: String,
        /// Its last sequence.
        last: u64,
        /// The place we were at.
        next: u64,
    },
    /// Messages from the place we were at on are gone: load a snapshot, or go on behind them with [`Feed::skip_to`].
    #[error("the stream `{stream}` has no sequence {next} any more, the next one is {found}")]
    Gap {
        /// Which.
        stream: String,
        /// The place we were at.
        next: u64,
        /// The first one there is from there.
        found: u64,
    },
    /// The server says no.
    #[error("the stream `{stream}` cannot be followed: {reason}")]
    Refused {
        /// Which.
        stream: String,
        /// What the server said.
        reason: String,
    },
    /// The connection is closed for good.
    #[error("the connection is closed")]
    Closed,
}

impl Feed {
    pub(super) fn new(
        ledger: Ledger,
        connection: Connection,
        stream: String,
        next: u64,
        created: Option<Timestamp>,
    ) -> Self {
        let (pending, state, held, lost) = (0, State::Closed, VecDeque::new(), 0);
        Self { ledger, connection, stream, next, created, pending, state, held, lost }
    }

    /// Waits for messages and takes all that are here, at most `max`, in order. After a lost connection or a restart of
    /// the server it goes on by itself. Cancel safe.
    pub async fn next_batch(&mut self, max: usize) -> Result<Vec<Stored>, FeedError> {
        while self.held.is_empty() {
            let opened = self.opened().await?;
            match opened.puller.next().await {
                Pulled::Message(message) => self.hold(message, max)?,
                Pulled::Broken => self.state = State::Closed,
                Pulled::NoResponders | Pulled::Deleted => self.lose(),
                Pulled::Refused(reason) => {
                    self.state = State::Closed;
                    return Err(FeedError::Refused { stream: self.stream.clone(), reason });
                }
                Pulled::Closed => return Err(FeedError::Closed),
            }
        }
        let count = self.held.len().min(max);
        Ok(self.held.drain(..count).collect())
    }

    /// Goes on at this place, which is behind a gap or after a snapshot.
    pub fn skip_to(&mut self, sequence: u64) {
        self.next = sequence;
        self.held.clear();
        self.state = State::Closed;
    }

    /// Where the next message is expected; 0 before the first one of a feed from the start.
    pub fn next_sequence(&self) -> u64 {
        self.held.front().map_or(self.next, |stored| stored.sequence)
    }

    /// How many messages of the stream were behind the last one that came, when it came. 0: caught up.
    pub fn pending(&self) -> u64 {
        self.pending + self.held.len() as u64
    }

    /// When the stream was created, once it was found.
    pub const fn created(&self) -> Option<Timestamp> {
        self.created
    }

    fn lose(&mut self) {
        self.state = State::Closed;
        self.lost = self.lost.saturating_add(1);
    }

    async fn opened(&mut self) -> Result<&mut Opened, FeedError> {
        loop {
            match &mut self.state {
                State::Closed => {
                    let opening = open(
                        self.ledger.clone(),
                        self.connection.clone(),
                        self.stream.clone(),
                        self.next,
                        self.created,
                        // The first time at once; again and again means that something is wrong.
                        RETRY_DELAY.saturating_mul(self.lost.saturating_sub(1)).min(RETRY_DELAY_MAX),
                    );
                    self.state = State::Opening(Box::pin(opening));
                }
                State::Opening(opening) => {
                    let opened = opening.as_mut().await;
                    self.state = State::Closed;
                    let opened = opened?;
                    self.created = Some(opened.created);
                    self.next = opened.next;
                    self.pending = opened.pending;
                    self.state = State::Open(Box::new(opened));
                }
                State::Open(_) => break,
            }
        }
        match &mut self.state {
            State::Open(opened) => Ok(opened),
            State::Closed | State::Opening(_) => Err(FeedError::Closed),
        }
    }

    /// Takes this message and those that are here already.
    fn hold(&mut self, message: Message, max: usize) -> Result<(), FeedError> {
        let mut message = Some(message);
        while let Some(here) = message.take() {
            if !self.hold_one(here)? {
                break;
            }
            if self.held.len() < max
                && let State::Open(opened) = &mut self.state
            {
                message = opened.puller.next_ready();
            }
        }
        Ok(())
    }

    /// `false`: not this one, and the consumer is made anew.
    fn hold_one(&mut self, message: Message) -> Result<bool, FeedError> {
        let State::Open(opened) = &mut self.state else { return Ok(false) };
        let message = JetStreamMessage { context: self.connection.jetstream.clone(), message };
        let Ok(info) = message.info() else { return Ok(true) };
        // Of a consumer before this one, whose last messages were still on their way.
        if info.consumer != opened.consumer {
            return Ok(true);
        }
        if info.consumer_sequence != opened.consumer_sequence + 1 {
            self.lose();
            return Ok(false);
        }
        let (sequence, pending, stored_at) = (info.stream_sequence, info.pending, timestamp(info.published));
        if sequence != self.next {
            self.state = State::Closed;
            if !self.held.is_empty() {
                // First what came before the gap; the next call meets it again.
                return Ok(false);
            }
            return Err(FeedError::Gap { stream: self.stream.clone(), next: self.next, found: sequence });
        }
        opened.consumer_sequence += 1;
        self.lost = 0;
        self.next = sequence + 1;
        self.pending = pending;
        let message = message.message;
        self.held.push_back(Stored {
            subject: message.subject.into_string(),
            headers: message.headers.as_ref().map(headers).unwrap_or_default(),
            payload: message.payload,
            sequence,
            stored_at,
        });
        Ok(true)
    }
}

/// Until the consumer is there, or the stream is not the one it was.
async fn open(
    ledger: Ledger,
    connection: Connection,
    stream: String,
    next: u64,
    created: Option<Timestamp>,
    wait: Duration,
) -> Result<Opened, FeedError> {
    tokio::time::sleep(wait).await;
    let mut delay = RETRY_DELAY;
    loop {
        match ledger.tail().await {
            Ok(tail) => {
                let next = checked(&stream, &tail, next, created)?;
                if let Some(opened) = consumer(&connection, &stream, next, tail.created).await? {
                    return Ok(opened);
                }
            }
            Err(ReadError::Refused(reason)) => {
                let missing = reason.contains(&format!("error code {STREAM_NOT_FOUND}"));
                return Err(if missing {
                    FeedError::Missing(stream)
                } else {
                    FeedError::Refused { stream, reason }
                });
            }
            Err(ReadError::Unavailable(reason)) => {
                tracing::warn!(%stream, %reason, "the stream cannot be followed for now");
            }
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(RETRY_DELAY_MAX);
    }
}

/// Where to begin, if the stream is still the one it was.
fn checked(stream: &str, tail: &Tail, next: u64, created: Option<Timestamp>) -> Result<u64, FeedError> {
    let stream = || stream.to_owned();
    if created.is_some_and(|created| created != tail.created) {
        return Err(FeedError::Recreated { stream: stream(), created: tail.created });
    }
    if next == 0 {
        return Ok(tail.first_sequence.max(1));
    }
    if next > tail.last_sequence + 1 {
        return Err(FeedError::WentBack { stream: stream(), last: tail.last_sequence, next });
    }
    if next < tail.first_sequence {
        return Err(FeedError::Gap { stream: stream(), next, found: tail.first_sequence });
    }
    Ok(next)
}

/// `None` where it could not be made for now.
async fn consumer(
    connection: &Connection,
    stream: &str,
    next: u64,
    created: Timestamp,
) -> Result<Option<Opened>, FeedError> {
    let config = Config {
        description: Some("a fold of homeostat".into()),
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: next },
        ack_policy: AckPolicy::None,
        replay_policy: ReplayPolicy::Instant,
        max_deliver: 1,
        inactive_threshold: INACTIVE_MAX,
        num_replicas: 1,
        memory_storage: true,
        ..Config::default()
    };
    let question: Value = json!({ "stream_name": stream, "config": config });
    let made = connection.api::<ConsumerInfo>(format!("CONSUMER.CREATE.{stream}"), &question).await;
    let info = match made {
        Ok(info) => info,
        Err(error) => {
            tracing::warn!(%stream, %error, "a consumer cannot be made for now");
            return Ok(None);
        }
    };
    let puller = Puller::new(connection, stream, &info.name, MESSAGES_PER_PULL).await;
    let puller = puller.map_err(|_| FeedError::Closed)?;
    let pending = info.num_pending;
    Ok(Some(Opened { puller, next, created, consumer: info.name, consumer_sequence: 0, pending }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_is_not_the_one_it_was_is_an_error() {
        let at = Timestamp::from_millis;
        let tail = |first_sequence, last_sequence| Tail { first_sequence, last_sequence, created: at(1) };
        for (tail, next, created, expected) in [
            (tail(0, 0), 0, None, Ok(1)),
            (tail(5, 9), 0, None, Ok(5)),
            (tail(5, 9), 7, Some(at(1)), Ok(7)),
            (tail(5, 9), 10, Some(at(1)), Ok(10)),
            (tail(5, 9), 7, Some(at(2)), Err("Recreated")),
            (tail(5, 9), 11, None, Err("WentBack")),
            (tail(5, 9), 4, None, Err("Gap")),
            (tail(10, 9), 9, None, Err("Gap")),
        ] {
            let found = checked("S", &tail, next, created).map_err(|error| format!("{error:?}"));
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{tail:?} {next}"),
                (Err(found), Err(expected)) => assert!(found.starts_with(expected), "{found}"),
                (found, expected) => panic!("{tail:?} {next}: {found:?}, not {expected:?}"),
            }
        }
    }
}

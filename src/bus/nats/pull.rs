//! Pulling from a consumer, with a request always open, so that a message arrives as soon as it is stored.
//!
//! The client library has a stream of this kind; it is not used, because it tells lost requests from open ones by the
//! number of requests that *anybody* has open, and so may rest for half a minute on a shared consumer after a
//! disconnect. Here a lost connection, a missed heartbeat and an unexpected answer all lead to one thing: a new request
//! under a new inbox, and whatever was owed under the old one is forgotten.

use std::pin::Pin;
use std::time::Duration;

use async_nats::{Message, StatusCode, Subscriber};
use futures::{FutureExt as _, StreamExt as _};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Interval, Sleep};

use super::connect::Connection;
use super::events::Link;

/// A request stays open this long; its end costs one message and is not noticed.
const EXPIRES: Duration = Duration::from_secs(30);
/// A silent server says this often that it is there.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Nothing heard for a heartbeat and a bit: the request is lost.
const SILENCE_MAX: Duration = Duration::from_secs(6);
/// The wait before the next request where the server refused one; doubles to the maximum.
const REFUSED_DELAY: Duration = Duration::from_millis(20);
const REFUSED_DELAY_MAX: Duration = Duration::from_secs(1);

/// Pulls from one consumer.
#[derive(Debug)]
pub(super) struct Puller {
    connection: Connection,
    link: watch::Receiver<Link>,
    subject: String,
    /// Every request has a reply subject of its own below this one, so that answers to forgotten ones are known.
    inbox: String,
    subscriber: Subscriber,
    batch: usize,
    /// What the server still owes us under requests of this `generation`.
    owed: usize,
    generation: u64,
    silence: Interval,
    /// Since the last tick of `silence`; cheaper than to wind it up at each message.
    heard: bool,
    refused_delay: Duration,
    pause: Option<Pin<Box<Sleep>>>,
}

/// What a pull brought.
#[derive(Debug)]
pub(super) enum Pulled {
    /// A message of the stream.
    Message(Message),
    /// Messages may have been lost on the way to us: the connection was lost, or the server went silent. What was
    /// open is forgotten; the next pull asks anew.
    Broken,
    /// Nobody answers for the consumer: the server is not ready, or the consumer is gone. Ask about it.
    NoResponders,
    /// The consumer was deleted.
    Deleted,
    /// The server refuses our requests, and says why.
    Refused(String),
    /// The connection is closed for good.
    Closed,
}

impl Puller {
    /// Pulls up to `batch` messages per request.
    pub(super) async fn new(
        connection: &Connection,
        stream: &str,
        consumer: &str,
        batch: usize,
    ) -> Result<Self, async_nats::SubscribeError> {
        let inbox = connection.client.new_inbox();
        let mut silence = tokio::time::interval(SILENCE_MAX);
        silence.reset();
        Ok(Self {
            link: connection.events.link(),
            subject: format!("{}.CONSUMER.MSG.NEXT.{stream}.{consumer}", connection.api_prefix),
            subscriber: connection.client.subscribe(format!("{inbox}.*")).await?,
            inbox,
            connection: connection.clone(),
            batch,
            owed: 0,
            generation: 0,
            silence,
            heard: false,
            refused_delay: REFUSED_DELAY,
            pause: None,
        })
    }

    /// The next thing that happens. Cancel safe: what was received stays for the next call.
    pub(super) async fn next(&mut self) -> Pulled {
        loop {
            if let Some(pause) = &mut self.pause {
                pause.as_mut().await;
                self.pause = None;
            }
            self.request().await;
            let message = tokio::select! {
                biased;
                message = self.subscriber.next() => message,
                changed = self.link.changed() => {
                    if changed.is_err() {
                        return Pulled::Closed;
                    }
                    self.forget();
                    return Pulled::Broken;
                }
                _ = self.silence.tick() => {
                    self.connection.observe();
                    if std::mem::take(&mut self.heard) {
                        continue;
                    }
                    self.forget();
                    return Pulled::Broken;
                }
            };
            let Some(message) = message else { return Pulled::Closed };
            if let Some(pulled) = self.take(message) {
                return pulled;
            }
        }
    }

    /// A message that is here already.
    pub(super) fn next_ready(&mut self) -> Option<Message> {
        loop {
            let message = self.subscriber.next().now_or_never()??;
            match message.status {
                None | Some(StatusCode::OK) => {
                    self.owed = self.owed.saturating_sub(1);
                    return Some(message);
                }
                // The next wait sees to it; a lost status only makes it ask again earlier.
                Some(_) => drop(self.take(message)),
            }
        }
    }

    /// Asks for nothing more; what was received before is still there.
    pub(super) async fn close(&mut self) {
        // A queue that is full for so long belongs to a connection that is down: nothing comes anyway.
        let _ = tokio::time::timeout(HEARTBEAT, self.subscriber.unsubscribe()).await;
    }

    /// Opens a request where less than half a batch is owed. Cancel safe: a request that was not sent is not counted,
    /// one that was and is not counted only brings more.
    async fn request(&mut self) {
        if self.owed > self.batch / 2 || !self.link.borrow().up {
            return;
        }
        let reply = format!("{}.{}", self.inbox, self.generation);
        let request = json!({
            "batch": self.batch,
            "expires": nanos(EXPIRES),
            "idle_heartbeat": nanos(HEARTBEAT),
        });
        let sent = self.connection.client.publish_with_reply(
            self.subject.clone(),
            reply,
            request.to_string().into(),
        );
        // The queue of the connection is full when it is down for long; the silence is noticed later.
        if let Ok(Ok(())) = tokio::time::timeout(HEARTBEAT, sent).await {
            self.owed += self.batch;
        }
    }

    /// What a message means, or `None` where it only keeps the books.
    fn take(&mut self, message: Message) -> Option<Pulled> {
        self.heard = true;
        let status = match message.status {
            None | Some(StatusCode::OK) => {
                self.owed = self.owed.saturating_sub(1);
                self.refused_delay = REFUSED_DELAY;
                return Some(Pulled::Message(message));
            }
            Some(status) => status,
        };
        let generation = message.subject.rsplit_once('.').and_then(|(_, token)| token.parse().ok());
        if generation != Some(self.generation) || status == StatusCode::IDLE_HEARTBEAT {
            return None;
        }
        let description = message.description.as_deref().unwrap_or_default();
        match status {
            StatusCode::TIMEOUT | StatusCode::NOT_FOUND => {
                let pending =
                    message.headers.as_ref().and_then(|headers| headers.get("Nats-Pending-Messages"));
                let pending = pending.and_then(|text| text.as_str().parse().ok()).unwrap_or(self.batch);
                self.owed = self.owed.saturating_sub(pending);
                None
            }
            StatusCode::NO_RESPONDERS => {
                self.refused();
                Some(Pulled::NoResponders)
            }
            _ if description.eq_ignore_ascii_case("Consumer Deleted") => {
                self.refused();
                Some(Pulled::Deleted)
            }
            // A change of leader, a shutdown, too many open requests: another one later.
            StatusCode::REQUEST_TERMINATED if !description.starts_with("Exceeded MaxRequest") => {
                self.refused();
                None
            }
            _ => {
                self.refused();
                Some(Pulled::Refused(format!("{status} {description}")))
            }
        }
    }

    fn refused(&mut self) {
        self.forget();
        self.pause = Some(Box::pin(tokio::time::sleep(self.refused_delay)));
        self.refused_delay = (self.refused_delay * 2).min(REFUSED_DELAY_MAX);
    }

    fn forget(&mut self) {
        self.owed = 0;
        self.generation += 1;
        self.silence.reset();
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

//! Frames of samples on core NATS: never waited for, never kept, and every loss counted.
//!
//! The client library blocks a publisher for ever once its queue is full and the server away. So a producer puts its
//! frames into an [`Outbox`], which never blocks: when it is full, the oldest frame goes. A [`Pump`] sends what is there.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::{Client, Subscriber};
use futures::stream::SelectAll;
use futures::{FutureExt as _, StreamExt as _};
use thiserror::Error;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::connect::Connection;
use super::convert::{header_map, incoming};
use crate::bus::Incoming;

/// A frame that cannot be handed to the connection in this time waits for the next attempt, while newer ones push
/// from behind.
const PUBLISH_TIMEOUT: Duration = Duration::from_millis(50);
/// At the end, what is left is sent for this long.
const LAST_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the state of the connection is looked at while it is down, beside being told of it.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// A second of frames of 16 KiB at a million samples per second and producer.
const OUTBOX_FRAMES_MAX: usize = 4_096;
/// Whatever the size of the frames.
const OUTBOX_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Where a producer puts its frames. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Outbox {
    shared: Arc<Shared>,
}

/// Sends what is in the outbox.
#[derive(Debug)]
pub struct Pump {
    connection: Connection,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    ring: Mutex<Ring>,
    filled: Notify,
    sent: AtomicU64,
    shed: AtomicU64,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct Ring {
    frames: VecDeque<Incoming>,
    bytes: usize,
}

/// What became of the frames so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxCounts {
    /// Handed to the connection. That is not "arrived": only the sequence numbers of frames tell that.
    pub sent: u64,
    /// Dropped because newer ones came before they could be sent.
    pub shed: u64,
    /// Dropped because they cannot be sent: too large, or a bad subject.
    pub refused: u64,
    /// Still waiting.
    pub waiting: u64,
}

/// An outbox and the pump that empties it.
pub fn outbox(connection: Connection) -> (Outbox, Pump) {
    let shared = Arc::new(Shared::default());
    (Outbox { shared: Arc::clone(&shared) }, Pump { connection, shared })
}

impl Outbox {
    /// Puts a frame in, and says how many older ones had to go for it. Never waits.
    pub fn push(&self, frame: Incoming) -> u64 {
        let shed = self.shared.ring().push(frame);
        self.shared.shed.fetch_add(shed, Ordering::Relaxed);
        self.shared.filled.notify_one();
        shed
    }

    /// What became of the frames so far.
    pub fn counts(&self) -> OutboxCounts {
        OutboxCounts {
            sent: self.shared.sent.load(Ordering::Relaxed),
            shed: self.shared.shed.load(Ordering::Relaxed),
            refused: self.shared.refused.load(Ordering::Relaxed),
            waiting: self.shared.ring().frames.len() as u64,
        }
    }
}

impl Pump {
    /// Sends until it is told to stop; then sends what is left, for two seconds at most.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.shared.filled.notified() => self.send_all(&stop).await,
            }
        }
        // Whatever the time-out leaves is still counted as waiting.
        let _ = tokio::time::timeout(LAST_TIMEOUT, async {
            self.send_all(&CancellationToken::new()).await;
            self.connection.barrier().await;
        })
        .await;
    }

    async fn send_all(&self, stop: &CancellationToken) {
        let mut link = self.connection.events.link();
        while let Some(frame) = self.shared.take() {
            // While the server is away the frames stay in the ring, where the oldest make room.
            if !link.borrow_and_update().up {
                self.shared.put_back(frame);
                tokio::select! {
                    () = stop.cancelled() => return,
                    changed = link.changed() => if changed.is_err() { return },
                    () = tokio::time::sleep(LOOK_INTERVAL) => self.connection.observe(),
                }
                continue;
            }
            let sending = send(&self.connection.client, &frame);
            match tokio::time::timeout(PUBLISH_TIMEOUT, sending).await {
                Ok(true) => self.shared.sent.fetch_add(1, Ordering::Relaxed),
                Ok(false) => self.shared.refused.fetch_add(1, Ordering::Relaxed),
                Err(_) if stop.is_cancelled() => return self.shared.put_back(frame),
                Err(_) => {
                    self.shared.put_back(frame);
                    continue;
                }
            };
        }
    }
}

async fn send(client: &Client, frame: &Incoming) -> bool {
    let (subject, payload) = (frame.subject.clone(), frame.payload.clone());
    let Ok(headers) = header_map(&frame.headers) else { return false };
    if headers.is_empty() {
        client.publish(subject, payload).await.is_ok()
    } else {
        client.publish_with_headers(subject, headers, payload).await.is_ok()
    }
}

impl Shared {
    /// A producer that panicked while it held the ring left it whole.
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Incoming> {
        self.ring().pop()
    }

    fn put_back(&self, frame: Incoming) {
        let shed = self.ring().put_back(frame);
        self.shed.fetch_add(shed, Ordering::Relaxed);
    }
}

impl Ring {
    fn push(&mut self, frame: Incoming) -> u64 {
        self.bytes += frame.payload.len();
        self.frames.push_back(frame);
        let mut shed = 0;
        while self.is_over() && self.pop().is_some() {
            shed += 1;
        }
        shed
    }

    fn pop(&mut self) -> Option<Incoming> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.payload.len();
        Some(frame)
    }

    /// It is the oldest: where there is no room for it, it is the one that goes.
    fn put_back(&mut self, frame: Incoming) -> u64 {
        self.bytes += frame.payload.len();
        self.frames.push_front(frame);
        u64::from(self.is_over() && self.pop().is_some())
    }

    fn is_over(&self) -> bool {
        self.frames.len() > OUTBOX_FRAMES_MAX || self.bytes > OUTBOX_BYTES_MAX
    }
}

/// The frames of some subjects, in the order of each publisher.
#[derive(Debug)]
pub struct Listener {
    subscribers: SelectAll<Subscriber>,
}

/// The subscription could not be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("cannot subscribe to `{subject}`: {reason}")]
pub struct ListenError {
    subject: String,
    reason: String,
}

impl Listener {
    /// Subscribes. Who does not keep up loses the newest frames, once 16,384 of them wait in a subscription.
    pub async fn open(connection: &Connection, subjects: &[String]) -> Result<Self, ListenError> {
        let mut subscribers = SelectAll::new();
        for subject in subjects {
            let subscriber = connection.client.subscribe(subject.clone()).await;
            subscribers.push(
                subscriber
                    .map_err(|error| ListenError { subject: subject.clone(), reason: error.to_string() })?,
            );
        }
        // A frame that is published after this returned is one we get.
        connection.barrier().await;
        Ok(Self { subscribers })
    }

    /// Waits for frames and takes all that are here, at most `max`; `None` when the connection is closed. Goes on by
    /// itself after a lost connection, without what was published in between. Cancel safe.
    pub async fn next_batch(&mut self, max: usize) -> Option<Vec<Incoming>> {
        let mut batch = vec![incoming(self.subscribers.next().await?)];
        while batch.len() < max {
            let Some(Some(message)) = self.subscribers.next().now_or_never() else { break };
            batch.push(incoming(message));
        }
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn frame(number: usize, bytes: usize) -> Incoming {
        let payload = Bytes::from(vec![0; bytes]);
        Incoming { subject: number.to_string(), headers: Vec::new(), payload }
    }

    #[test]
    fn the_oldest_frame_makes_room() {
        let mut ring = Ring::default();
        for number in 0..OUTBOX_FRAMES_MAX {
            assert_eq!(ring.push(frame(number, 1)), 0);
        }
        assert_eq!(ring.push(frame(OUTBOX_FRAMES_MAX, 1)), 1);
        let oldest = ring.pop().unwrap();
        assert_eq!(oldest.subject, "1");
        assert_eq!(ring.put_back(oldest.clone()), 0);
        let newest = ring.push(frame(0, 1));
        assert_eq!(newest, 1);
        assert_eq!(ring.put_back(oldest), 1, "an old frame that does not fit any more is the one that goes");
        assert_eq!((ring.frames.len(), ring.bytes), (OUTBOX_FRAMES_MAX, OUTBOX_FRAMES_MAX));
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mut ring = Ring::default();
        let half = OUTBOX_BYTES_MAX / 2;
        assert_eq!((ring.push(frame(0, half)), ring.push(frame(1, half))), (0, 0));
        assert_eq!(ring.push(frame(2, half)), 1);
        assert_eq!((ring.frames[0].subject.as_str(), ring.bytes), ("1", 2 * half));
    }
}

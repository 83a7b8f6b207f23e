//! What happens to a connection beside its messages: the only place where lost connections, dropped messages and
//! missing permissions show.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use async_nats::{ClientError, Event, ServerError, Statistics};
use tokio::sync::watch;

/// The state of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Whether it is up.
    pub up: bool,
    /// How often it came up; a change means that everything in flight was lost.
    pub connects: u64,
}

/// How often each thing happened since the start, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that came up, the first one included.
    pub connects: u64,
    /// Connections that were lost.
    pub disconnects: u64,
    /// Attempts to reconnect that failed.
    pub failed_reconnects: u64,
    /// Messages that were dropped because we read a subscription too slowly. The client library reports at most 128
    /// at a time, so this is a lower bound: count losses by the sequence numbers of frames.
    pub slow_consumer: u64,
    /// Errors the server told us of.
    pub server_errors: u64,
    /// How often the server said that it will shut down.
    pub lame_duck: u64,
}

/// What happened to one connection; shared by everything that uses it.
#[derive(Debug)]
pub struct Events {
    link: watch::Sender<Link>,
    fatal: watch::Sender<Option<Arc<str>>>,
    disconnects: AtomicU64,
    failed_reconnects: AtomicU64,
    slow_consumer: AtomicU64,
    server_errors: AtomicU64,
    lame_duck: AtomicU64,
    /// The client's own count of connections: it is right even where an event was lost.
    statistics: OnceLock<Arc<Statistics>>,
}

impl Events {
    pub(super) fn new() -> Self {
        Self {
            link: watch::Sender::new(Link::default()),
            fatal: watch::Sender::new(None),
            disconnects: AtomicU64::new(0),
            failed_reconnects: AtomicU64::new(0),
            slow_consumer: AtomicU64::new(0),
            server_errors: AtomicU64::new(0),
            lame_duck: AtomicU64::new(0),
            statistics: OnceLock::new(),
        }
    }

    /// Waits until the connection cannot do what we need (a permission is missing, or it is closed) and says why.
    /// Nothing else tells: a publish without permission looks like one that was lost. Cancel safe.
    pub async fn fatal(&self) -> Arc<str> {
        let mut fatal = self.fatal.subscribe();
        loop {
            if let Some(reason) = self.fatal_now() {
                return reason;
            }
            // The sender is in `self`, so it never ends in an error.
            if fatal.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// As [`Events::fatal`], now.
    pub fn fatal_now(&self) -> Option<Arc<str>> {
        self.fatal.borrow().clone()
    }

    /// The state of the connection, and its changes.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    /// Resolves when an answer to what is handed to the connection now cannot come any more, because the connection it
    /// goes out on is lost. It does not depend on this value, and may be dropped.
    pub(super) fn lost(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut link = self.link.subscribe();
        let now = *link.borrow_and_update();
        // While the connection is down, it goes out on the next one.
        let sent_on = if now.up { now.connects } else { now.connects + 1 };
        async move {
            let gone = |link: &Link| link.connects > sent_on || (link.connects == sent_on && !link.up);
            if link.wait_for(gone).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Everything that was counted.
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            connects: self.link.borrow().connects,
            disconnects: read(&self.disconnects),
            failed_reconnects: read(&self.failed_reconnects),
            slow_consumer: read(&self.slow_consumer),
            server_errors: read(&self.server_errors),
            lame_duck: read(&self.lame_duck),
        }
    }

    /// Where the client counts, once there is one.
    pub(super) fn count_with(&self, statistics: Arc<Statistics>) {
        // Set once per connection; a second time would be the same.
        let _ = self.statistics.set(statistics);
    }

    /// Puts the link right: the client drops events when 128 of them wait, and that may be the one of a reconnect.
    pub(super) fn observe(&self, up: bool) {
        let Some(connects) = self.counted_connects() else { return };
        let seen = Link { up, connects };
        self.link.send_if_modified(|link| {
            let differs = *link != seen && connects >= link.connects;
            if differs {
                *link = seen;
            }
            differs
        });
    }

    fn counted_connects(&self) -> Option<u64> {
        self.statistics.get().map(|statistics| statistics.connects.load(Ordering::Relaxed))
    }

    /// Called by the client library, one event after the other; it must not wait.
    pub(super) fn handle(&self, event: Event) {
        let count = |counter: &AtomicU64| {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        match event {
            Event::Connected => self.link.send_modify(|link| {
                let counted = self.counted_connects().unwrap_or(link.connects + 1);
                *link = Link { up: true, connects: link.connects.max(counted) };
            }),
            Event::Disconnected => {
                count(&self.disconnects);
                self.link.send_modify(|link| link.up = false);
                tracing::warn!("the connection to NATS is lost; reconnecting");
            }
            Event::LameDuckMode => count(&self.lame_duck),
            Event::Draining => {}
            // Also how our own end looks: whoever needs the connection still tells its reason.
            Event::Closed => self.close(),
            Event::SlowConsumer(_) => count(&self.slow_consumer),
            Event::ServerError(error) => {
                count(&self.server_errors);
                self.server_error(&error);
            }
            Event::ClientError(error) => self.client_error(&error),
        }
    }

    fn server_error(&self, error: &ServerError) {
        match error {
            ServerError::SlowConsumer(_) => {
                self.slow_consumer.fetch_add(1, Ordering::Relaxed);
            }
            ServerError::AuthorizationViolation => tracing::warn!("NATS refuses our credentials"),
            ServerError::Other(text) if text.to_lowercase().starts_with("permissions violation") => {
                self.fail(format!("NATS does not permit it: {text}").into());
            }
            ServerError::Other(text) => tracing::warn!(error = %text, "NATS reports an error"),
        }
    }

    fn client_error(&self, error: &ClientError) {
        match error {
            ClientError::Other(_) | ClientError::ServerNotInPool => {
                self.failed_reconnects.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%error, "reconnecting to NATS failed");
            }
            ClientError::MaxReconnects => self.fail("reconnecting was given up".into()),
        }
    }

    fn close(&self) {
        tracing::debug!("the connection to NATS is closed");
        self.fatal.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                *known = Some("the connection is closed".into());
            }
            first
        });
    }

    fn fail(&self, reason: Arc<str>) {
        tracing::error!(%reason, "the connection to NATS cannot be used");
        // The first reason is the cause; those after it follow from it.
        self.fatal.send_if_modified(|fatal| fatal.is_none() && fatal.replace(reason).is_none());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_permission_is_fatal_and_the_first_reason_stays() {
        let events = Events::new();
        events.handle(Event::ServerError(ServerError::Other("stale connection".into())));
        assert_eq!(events.fatal_now(), None);
        events.handle(Event::ServerError(ServerError::Other(
            "Permissions Violation for Publish to \"a\"".into(),
        )));
        events.handle(Event::Closed);
        assert!(events.fatal_now().unwrap().ends_with("Publish to \"a\""));
        assert_eq!(events.counts().server_errors, 2);
    }

    #[test]
    fn each_connection_counts_and_the_link_follows() {
        let events = Events::new();
        let link = events.link();
        events.handle(Event::Connected);
        events.handle(Event::Disconnected);
        assert_eq!(*link.borrow(), Link { up: false, connects: 1 });
        events.handle(Event::Connected);
        assert_eq!(*link.borrow(), Link { up: true, connects: 2 });
        assert_eq!(events.counts(), Counts { connects: 2, disconnects: 1, ..Counts::default() });
    }

    #[test]
    fn an_answer_is_lost_with_the_connection_the_question_went_out_on() {
        let events = Events::new();
        let lost = |question: &mut std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
            futures::FutureExt::now_or_never(question.as_mut()).is_some()
        };
        let mut before: std::pin::Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(events.lost());
        events.handle(Event::Connected);
        assert!(!lost(&mut before));
        let mut up: std::pin::Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(events.lost());
        events.handle(Event::Disconnected);
        let mut down: std::pin::Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(events.lost());
        assert!(lost(&mut before) && lost(&mut up) && !lost(&mut down));
        events.handle(Event::Connected);
        assert!(!lost(&mut down));
        events.handle(Event::Disconnected);
        events.handle(Event::Connected);
        assert!(lost(&mut down));
    }
}

//! Leases: one holder at a time, for as long as it renews, with a number that grows with each holder.
//!
//! They live in a key-value bucket, but not by the client's key-value calls: its `create_with_ttl` drops the time limit
//! over a delete marker, which makes a lease that never ends, its `update` has none, and its reads may come from a
//! replica that is behind. Here every step is one compare-and-set on the key's subject, decided by its leader.
//!
//! The server ends a lease by its own clock. A process that was paused cannot know that, so it trusts a lease only
//! while half of its time has not passed *since the renewal was sent*, and hands its [`Lease::fence`] to whatever it
//! touches.

use std::time::{Duration, Instant};

use bytes::Bytes;
use thiserror::Error;

use super::connect::Connection;
use super::ledger::Ledger;
use super::topology::Names;
use crate::bus::{Outgoing, PublishError, ReadError, Stored};

/// The server counts whole seconds.
const TTL_MIN: Duration = Duration::from_secs(1);
/// A holder is a name.
const HOLDER_BYTES_MAX: usize = 256;
/// What a key is made of; each part becomes a token of a subject.
const KEY_BYTES_MAX: usize = 128;
/// How often a free lease is tried for before it counts as somebody else's: others may be as quick.
const ATTEMPTS_MAX: usize = 3;
/// How long a released key keeps its marker: longer than anybody waits for it.
const RELEASED_TTL: &str = "3600";

/// The leases of a cell. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Leases {
    bucket: Ledger,
    /// `$KV.<bucket>`
    root: String,
}

/// A lease that we hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    key: String,
    holder: String,
    ttl: Duration,
    fence: u64,
    revision: u64,
    sent: Instant,
}

/// Who holds a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// As it called itself.
    pub name: String,
    /// Of its last renewal.
    pub revision: u64,
}

/// What came of trying to acquire a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// We hold it.
    Ours(Lease),
    /// Somebody else does; try again when that ends.
    Held(Holder),
}

/// Why a lease is not ours, or not certainly.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LeaseError {
    /// Somebody else has it, or it ended: stop at once.
    #[error("the lease `{0}` is lost")]
    Lost(String),
    /// No answer: it may have been renewed or not. It is ours until it is not valid any more; try again before.
    #[error("the lease `{key}` cannot be reached: {reason}")]
    Unavailable {
        /// Which.
        key: String,
        /// What the client said.
        reason: String,
    },
    /// The key or the holder cannot be written.
    #[error(
        "`{0}` cannot be the key or the holder of a lease\nhint: a key is letters, digits, `-`, `_`, `/`, `=` and dots between them; a holder one line"
    )]
    Name(String),
}

impl Leases {
    /// The leases that `names` names.
    pub async fn open(connection: Connection, names: &Names) -> Result<Self, ReadError> {
        let bucket = Ledger::of_stream(connection, &format!("KV_{}", names.leases)).await?;
        Ok(Self { bucket, root: format!("$KV.{}", names.leases) })
    }

    /// Takes the lease if it is free. `holder` names this process and no other, not even an earlier run of it. `ttl`
    /// counts in whole seconds, at least one. `now` is the time of the call.
    pub async fn acquire(
        &self,
        key: &str,
        holder: &str,
        ttl: Duration,
        now: Instant,
    ) -> Result<Acquired, LeaseError> {
        checked(key, holder)?;
        let ttl = whole_seconds(ttl);
        let mut attempts = 0;
        loop {
            let last = self.last(key).await?;
            let expected = match &last {
                Some((_, Some(other))) if other.name != holder => return Ok(Acquired::Held(other.clone())),
                Some((sequence, _)) => *sequence,
                None => 0,
            };
            attempts += 1;
            match self.write(key, holder, ttl, expected).await {
                Ok(revision) => {
                    let (key, holder) = (key.to_owned(), holder.to_owned());
                    return Ok(Acquired::Ours(Lease {
                        key,
                        holder,
                        ttl,
                        fence: revision,
                        revision,
                        sent: now,
                    }));
                }
                // Somebody was quicker, or it was us and the answer was lost: look again.
                Err(PublishError::WrongLastSequence { .. } | PublishError::TimedOut)
                    if attempts < ATTEMPTS_MAX => {}
                Err(error) => return Err(unavailable(key, &error)),
            }
        }
    }

    /// Renews a lease, from the time of the call on, which is best [`Lease::renew_at`].
    pub async fn renew(&self, lease: &Lease, now: Instant) -> Result<Lease, LeaseError> {
        let mut expected = lease.revision;
        for _ in 0..ATTEMPTS_MAX {
            match self.write(&lease.key, &lease.holder, lease.ttl, expected).await {
                Ok(revision) => return Ok(Lease { revision, sent: now, ..lease.clone() }),
                Err(PublishError::WrongLastSequence { .. }) => {}
                Err(error) => return Err(unavailable(&lease.key, &error)),
            }
            // Either it is lost, or an earlier renewal of ours was stored and its answer was not.
            match self.last(&lease.key).await? {
                Some((sequence, Some(holder))) if holder.name == lease.holder => expected = sequence,
                _ => break,
            }
        }
        Err(LeaseError::Lost(lease.key.clone()))
    }

    /// Gives a lease up, so that others need not wait for its end.
    pub async fn release(&self, lease: Lease) -> Result<(), LeaseError> {
        let outgoing = Outgoing {
            subject: self.subject(&lease.key),
            headers: vec![("KV-Operation".into(), "DEL".into()), ("Nats-TTL".into(), RELEASED_TTL.into())],
            payload: Bytes::new(),
            id: String::new(),
            expected_last_on_subject: Some(lease.revision),
        };
        match self.bucket.publisher().publish(outgoing).await {
            Ok(_) => Ok(()),
            Err(PublishError::WrongLastSequence { .. }) => Err(LeaseError::Lost(lease.key)),
            Err(error) => Err(unavailable(&lease.key, &error)),
        }
    }

    /// Who holds it, for people. It may be over when you read this: only [`Leases::acquire`] decides.
    pub async fn holder(&self, key: &str) -> Result<Option<Holder>, LeaseError> {
        checked(key, "")?;
        Ok(self.last(key).await?.and_then(|(_, holder)| holder))
    }

    async fn last(&self, key: &str) -> Result<Option<(u64, Option<Holder>)>, LeaseError> {
        let last = self.bucket.last_on(&self.subject(key)).await;
        let last = last.map_err(|error| unavailable(key, &error))?;
        Ok(last.map(|stored| (stored.sequence, holder(&stored))))
    }

    async fn write(
        &self,
        key: &str,
        holder: &str,
        ttl: Duration,
        expected: u64,
    ) -> Result<u64, PublishError> {
        let outgoing = Outgoing {
            subject: self.subject(key),
            headers: vec![("Nats-TTL".into(), ttl.as_secs().to_string())],
            payload: Bytes::copy_from_slice(holder.as_bytes()),
            id: String::new(),
            expected_last_on_subject: Some(expected),
        };
        self.bucket.publisher().publish(outgoing).await.map(|published| published.sequence)
    }

    fn subject(&self, key: &str) -> String {
        format!("{}.{key}", self.root)
    }
}

impl Lease {
    /// What it is a lease of.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Who holds it.
    pub fn holder(&self) -> &str {
        &self.holder
    }

    /// The fencing token: each holder's is greater than that of the one before.
    pub const fn fence(&self) -> u64 {
        self.fence
    }

    /// Until when to act on it: half of its time after its last renewal was sent.
    pub fn valid_until(&self) -> Instant {
        self.sent + self.ttl / 2
    }

    /// Whether to act on it; ask immediately before each effect.
    pub fn is_valid(&self, now: Instant) -> bool {
        now < self.valid_until()
    }

    /// When to renew it: early enough for a second attempt.
    pub fn renew_at(&self) -> Instant {
        self.sent + self.ttl / 4
    }
}

/// The end of a lease is a marker: of ours, of the server's clock, or an empty value.
fn holder(stored: &Stored) -> Option<Holder> {
    let is_marker =
        stored.headers.iter().any(|(name, _)| name == "KV-Operation" || name == "Nats-Marker-Reason");
    let name = std::str::from_utf8(&stored.payload).ok()?;
    (!is_marker && !name.is_empty()).then(|| Holder { name: name.to_owned(), revision: stored.sequence })
}

fn checked(key: &str, holder: &str) -> Result<(), LeaseError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/' | '=' | '.');
    if key.is_empty()
        || key.len() > KEY_BYTES_MAX
        || !key.chars().all(allowed)
        || key.split('.').any(str::is_empty)
    {
        return Err(LeaseError::Name(key.to_owned()));
    }
    if holder.len() > HOLDER_BYTES_MAX || holder.contains(char::is_control) {
        return Err(LeaseError::Name(holder.to_owned()));
    }
    Ok(())
}

fn whole_seconds(ttl: Duration) -> Duration {
    let up = u64::from(ttl.subsec_nanos() > 0);
    Duration::from_secs(ttl.as_secs() + up).max(TTL_MIN)
}

fn unavailable(key: &str, error: &dyn std::error::Error) -> LeaseError {
    LeaseError::Unavailable { key: key.to_owned(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::model::Timestamp;

    #[test]
    fn a_lease_is_trusted_for_half_of_its_time_since_it_was_sent() {
        let sent = Clock::system().instant();
        let (key, holder, ttl) = ("a".to_owned(), "me".to_owned(), Duration::from_secs(10));
        let lease = Lease { key, holder, ttl, fence: 1, revision: 1, sent };
        assert!(lease.is_valid(sent + Duration::from_millis(4_999)));
        assert!(!lease.is_valid(sent + Duration::from_secs(5)));
        assert!(lease.renew_at() < lease.valid_until());
    }

    #[test]
    fn markers_and_empty_values_are_nobody() {
        let stored = |headers: &[(&str, &str)], payload: &'static str| Stored {
            subject: "$KV.B.a".into(),
            headers: headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
            payload: payload.into(),
            sequence: 3,
            stored_at: Timestamp::from_millis(0),
        };
        assert_eq!(
            holder(&stored(&[("Nats-TTL", "5")], "me")),
            Some(Holder { name: "me".into(), revision: 3 })
        );
        assert_eq!(holder(&stored(&[("KV-Operation", "DEL")], "")), None);
        assert_eq!(holder(&stored(&[("Nats-Marker-Reason", "MaxAge")], "")), None);
    }

    #[test]
    fn keys_are_subjects_and_seconds_are_whole() {
        for bad in ["", "a b", "a..b", ".a", "a.", "a*", ">"] {
            assert!(checked(bad, "me").is_err(), "{bad}");
        }
        assert!(checked("monitor.group-1", "host/1").is_ok() && checked("a", "two\nlines").is_err());
        assert_eq!(whole_seconds(Duration::from_millis(10)), Duration::from_secs(1));
        assert_eq!(whole_seconds(Duration::from_millis(1_001)), Duration::from_secs(2));
    }
}

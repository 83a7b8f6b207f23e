//! Which shards of the plans this executor works on: leases, shared evenly among the executors that live.
//!
//! An executor shows that it lives by holding one of a few places; how many are taken tells the others how many shards
//! are each one's share. All of it is advice: what makes a lease safe is that it ends by the holder's own clock before it
//! ends by the server's, and that admission is checked by compare-and-set besides.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::bus::nats::{self, Acquired, LeaseError, Leases};
use crate::clock::Clock;
use crate::engine::Lease;
use crate::engine::execute::SHARDS;

/// How long a lease lasts: the server counts whole seconds, and half of it is left to act on.
pub const LEASE_TTL: Duration = Duration::from_secs(3);
/// How often leases are looked after.
const ROUND: Duration = Duration::from_millis(500);
/// Executors of one cell that can show that they live.
const PLACES: u16 = 32;

/// Keeps leases until it is told to stop, then gives them up.
pub async fn keep(
    leases: Leases,
    holder: Arc<str>,
    clock: Clock,
    owned: watch::Sender<Vec<Lease>>,
    stop: CancellationToken,
) {
    let mut keeper = Keeper { leases, holder, clock, held: BTreeMap::new(), place: None };
    let mut round = tokio::time::interval(ROUND);
    round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = round.tick() => {}
        }
        keeper.round(&owned).await;
    }
    owned.send_replace(Vec::new());
    let KeptAll { leases, held } = keeper.into_held();
    for lease in held {
        // One that cannot be given up ends by itself.
        let _ = leases.release(lease).await;
    }
}

struct Keeper {
    leases: Leases,
    holder: Arc<str>,
    clock: Clock,
    held: BTreeMap<u16, nats::Lease>,
    place: Option<nats::Lease>,
}

struct KeptAll {
    leases: Leases,
    held: Vec<nats::Lease>,
}

impl Keeper {
    async fn round(&mut self, owned: &watch::Sender<Vec<Lease>>) {
        self.renew_all().await;
        self.tell(owned);
        let others = self.take_place_and_count().await;
        let share = usize::from(SHARDS).div_ceil(others + 1);
        while self.held.len() > share {
            if let Some((_, lease)) = self.held.pop_last() {
                self.tell(owned);
                let _ = self.leases.release(lease).await;
            }
        }
        for shard in self.in_my_order() {
            if self.held.len() >= share {
                break;
            }
            if !self.held.contains_key(&shard) {
                let key = format!("executor.shard.{shard}");
                if let Some(lease) = self.acquire(&key).await {
                    self.held.insert(shard, lease);
                    self.tell(owned);
                }
            }
        }
    }

    async fn renew_all(&mut self) {
        let now = self.clock.instant();
        let mut kept = BTreeMap::new();
        for (shard, lease) in std::mem::take(&mut self.held) {
            if let Some(lease) = self.renew(lease, now).await {
                kept.insert(shard, lease);
            }
        }
        self.held = kept;
        if let Some(place) = self.place.take() {
            self.place = self.renew(place, now).await;
        }
    }

    async fn renew(&self, lease: nats::Lease, now: std::time::Instant) -> Option<nats::Lease> {
        if now < lease.renew_at() {
            return Some(lease);
        }
        match self.leases.renew(&lease, self.clock.instant()).await {
            Ok(renewed) => Some(renewed),
            // No answer: it is ours until it ends.
            Err(LeaseError::Unavailable { .. }) if lease.is_valid(self.clock.instant()) => Some(lease),
            Err(error) => {
                tracing::warn!(key = lease.key(), %error, "a lease is lost");
                None
            }
        }
    }

    async fn acquire(&self, key: &str) -> Option<nats::Lease> {
        match self.leases.acquire(key, &self.holder, LEASE_TTL, self.clock.instant()).await {
            Ok(Acquired::Ours(lease)) => Some(lease),
            Ok(Acquired::Held(_)) => None,
            Err(error) => {
                tracing::debug!(key, %error, "a lease cannot be asked for");
                None
            }
        }
    }

    /// Other executors that show that they live.
    async fn take_place_and_count(&mut self) -> usize {
        let mut others = 0;
        for number in 0..PLACES {
            let key = format!("executor.place.{number}");
            match self.leases.holder(&key).await {
                Ok(Some(holder)) if holder.name == self.holder.as_ref() => {}
                Ok(Some(_)) => others += 1,
                // Places are taken from the front: behind the first free one there is nobody, or somebody who will move
                // nobody.
                Ok(None) if self.place.is_none() => {
                    self.place = self.acquire(&key).await;
                    if self.place.is_some() {
                        continue;
                    }
                    others += 1;
                }
                Ok(None) | Err(_) => {
                    if number > u16::try_from(others).unwrap_or(PLACES) + 2 {
                        break;
                    }
                }
            }
        }
        others
    }

    /// Two executors that start together try different shards first.
    fn in_my_order(&self) -> impl Iterator<Item = u16> + use<> {
        let start =
            self.holder.bytes().fold(0_u16, |sum, byte| sum.wrapping_mul(31).wrapping_add(u16::from(byte)));
        (0..SHARDS).map(move |step| start.wrapping_add(step) % SHARDS)
    }

    fn tell(&self, owned: &watch::Sender<Vec<Lease>>) {
        let (now, instant) = (self.clock.now(), self.clock.instant());
        let leases = self.held.iter().map(|(shard, lease)| Lease {
            shard: *shard,
            revision: lease.fence(),
            until: now + lease.valid_until().saturating_duration_since(instant),
        });
        owned.send_replace(leases.collect());
    }

    fn into_held(self) -> KeptAll {
        KeptAll { leases: self.leases, held: self.held.into_values().chain(self.place).collect() }
    }
}

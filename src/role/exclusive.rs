//! One monitor at a time: a second one for the same rules waits for the end of a dead one's lease, or refuses to start.
//! Beside other roles, which have work of their own, it stands by.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::RoleError;
use crate::bus::nats::{Acquired, Lease, LeaseError, Leases};
use crate::clock::Clock;
use crate::model::Role;
use crate::telemetry;

/// The server counts whole seconds; a killed monitor's successor waits at most so long.
const TTL: Duration = Duration::from_secs(3);
/// How long a successor tries: the lease of a dead one has ended by then.
const TRY_FOR: Duration = Duration::from_secs(6);
/// How often it tries.
const TRY_EVERY: Duration = Duration::from_millis(250);
/// How often one that stands by does: a killed one's lease has to end first anyway.
const STAND_BY_EVERY: Duration = Duration::from_secs(1);

/// A lease and where to renew it.
pub(super) struct Held {
    leases: Leases,
    lease: Lease,
}

/// Takes the lease, waiting for a dead holder's to end.
pub(super) async fn take(leases: Leases, key: &str, holder: &str, clock: &Clock) -> Result<Held, RoleError> {
    let begun = clock.instant();
    let mut told = false;
    loop {
        match leases.acquire(key, holder, TTL, clock.instant()).await {
            Ok(Acquired::Ours(lease)) => return Ok(Held { leases, lease }),
            Ok(Acquired::Held(other)) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(
                        key,
                        holder = other.name,
                        "held by another process, waiting for it to end"
                    );
                }
                if clock.instant().saturating_duration_since(begun) > TRY_FOR {
                    return Err(RoleError::Taken { key: key.to_owned(), holder: other.name });
                }
            }
            Err(error) => {
                if clock.instant().saturating_duration_since(begun) > TRY_FOR {
                    return Err(error.into());
                }
            }
        }
        tokio::time::sleep(TRY_EVERY).await;
    }
}

/// Takes the lease, however long another process has it; tells who, once that is not about to end. Cancel safe: a lease
/// that nobody keeps ends by itself.
pub(super) async fn stand_by(
    leases: Leases,
    (role, key): (Role, &'static str),
    holder: Arc<str>,
    clock: Clock,
    held_by: watch::Sender<Option<Arc<str>>>,
) -> Result<Held, RoleError> {
    let begun = clock.instant();
    loop {
        let acquired = leases.acquire(key, &holder, TTL, clock.instant()).await;
        let is_late = clock.instant().saturating_duration_since(begun) > TRY_FOR;
        let stands_by = held_by.borrow().is_some();
        match acquired {
            Ok(Acquired::Ours(lease)) => {
                if stands_by {
                    tracing::info!(key, "nobody else holds it any more: it is taken over");
                    held_by.send_replace(None);
                    telemetry::standing_by(role, false);
                }
                return Ok(Held { leases, lease });
            }
            Ok(Acquired::Held(other)) if is_late => {
                let is_news = held_by.borrow().as_deref() != Some(other.name.as_str());
                if is_news {
                    tracing::info!(key, holder = other.name, "held by another process: stands by");
                    held_by.send_replace(Some(other.name.into()));
                    telemetry::standing_by(role, true);
                }
            }
            Err(error) if is_late && !stands_by => return Err(error.into()),
            Ok(Acquired::Held(_)) | Err(_) => {}
        }
        tokio::time::sleep(if stands_by { STAND_BY_EVERY } else { TRY_EVERY }).await;
    }
}

/// Renews the lease until it is told to stop, then gives it up. A lease that ended while the server could not be reached
/// is taken again, if nobody else has it; the token is cancelled when somebody has.
pub(super) fn keep(
    held: Held,
    clock: Clock,
    stop: CancellationToken,
) -> (impl Future<Output = ()> + Send, CancellationToken) {
    let lost = CancellationToken::new();
    let tell = lost.clone();
    let keeping = async move {
        let Held { leases, mut lease } = held;
        loop {
            let until = lease.renew_at().saturating_duration_since(clock.instant());
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(until.max(Duration::from_millis(50))) => {}
            }
            match leases.renew(&lease, clock.instant()).await {
                Ok(renewed) => lease = renewed,
                // Not told is not lost: nobody else can have it before it ends on the server, which is later than here.
                Err(LeaseError::Unavailable { .. }) => {}
                Err(ended) => match leases.acquire(lease.key(), lease.holder(), TTL, clock.instant()).await {
                    Ok(Acquired::Ours(again)) => {
                        tracing::warn!(%ended, "nobody else had it: it is held again");
                        lease = again;
                    }
                    Err(LeaseError::Unavailable { .. }) => {}
                    Ok(Acquired::Held(other)) => {
                        tracing::error!(%ended, holder = other.name, "another process has taken over");
                        return tell.cancel();
                    }
                    Err(error) => {
                        tracing::error!(%ended, %error, "it cannot be taken again");
                        return tell.cancel();
                    }
                },
            }
        }
        let _ = leases.release(lease).await;
    };
    (keeping, lost)
}

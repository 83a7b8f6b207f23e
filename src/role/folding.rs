//! A kept fold: what the ledger amounts to, in the object store. A start reads it and the records since, not all of them,
//! and what stands open outlives the ledger's own limits.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::RoleError;
use super::process::ProcessError;
use crate::bus::Tail;
use crate::bus::nats::{Connection, Names, ObjectError, Objects};
use crate::engine::fold::{Fold, FoldSnapshot};
use crate::model::Timestamp;
use crate::telemetry;
use crate::wire::EncodeError;
use crate::wire::fold::{self, KeptFold};

/// Its name in the object store.
const FOLD: &str = "fold";
/// How often it is kept (DESIGN §3): the longer, the more a start has to read.
pub const KEPT_EVERY: Duration = Duration::from_mins(10);
/// How often the object store is swept: what is to be found is an hour old.
const SWEPT_EVERY: Duration = Duration::from_hours(1);

/// What is known of the ledger before it is read.
pub(super) async fn known(
    connection: Connection,
    names: &Names,
    tail: &Tail,
) -> Result<Option<Arc<Fold>>, ObjectError> {
    let objects = Objects::open(connection, names).await?;
    let kept = match objects.get(FOLD).await {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(None),
        // Slower, and as good.
        Err(error) => {
            tracing::warn!(%error, "the ledger is read from its beginning");
            return Ok(None);
        }
    };
    let usable = match fold::decode(&kept) {
        Ok(Some(kept)) => usable(kept, tail),
        Ok(None) => Err("another version of the program has kept it"),
        Err(error) => {
            tracing::warn!(%error, "the kept fold cannot be read");
            Err("it is damaged")
        }
    };
    match usable {
        Ok(snapshot) => {
            tracing::info!(applied = snapshot.applied, "goes on from a kept fold of the ledger");
            Ok(Some(Arc::new(Fold::restore(snapshot))))
        }
        Err(cause) => {
            tracing::warn!(cause, "the kept fold is left alone, the ledger is read from its beginning");
            Ok(None)
        }
    }
}

/// What of a kept fold the ledger goes on from.
fn usable(kept: KeptFold, tail: &Tail) -> Result<FoldSnapshot, &'static str> {
    let applied = kept.snapshot.applied;
    if kept.ledger != tail.created {
        return Err("it is of another ledger");
    }
    if applied > tail.last_sequence {
        return Err("the ledger ends before it");
    }
    // What happened in between is not known to anybody: half a story is worse than the end of one.
    if tail.first_sequence > applied + 1 {
        return Err("the ledger has lost records behind it");
    }
    Ok(kept.snapshot)
}

/// Keeps a fold now and then, and the object store tidy. One process of a cell does: two that write one object at once leave
/// the parts of one of them behind.
pub(super) struct Folding {
    out: mpsc::Sender<(Timestamp, FoldSnapshot)>,
    every: Duration,
    last: Option<Timestamp>,
    kept: u64,
}

impl Folding {
    /// Begins to keep what it is shown.
    pub(super) async fn start(
        connection: Connection,
        names: &Names,
        (ledger, every): (Timestamp, Duration),
        tasks: &mut JoinSet<Result<(), ProcessError>>,
        stop: CancellationToken,
    ) -> Result<Self, RoleError> {
        let objects = Objects::open(connection, names).await?;
        let (out, mut shown) = mpsc::channel::<(Timestamp, FoldSnapshot)>(1);
        tasks.spawn(async move {
            let mut swept_at = None;
            loop {
                let (now, snapshot) = tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    Some(shown) = shown.recv() => shown,
                };
                // Before: there may be no room without.
                if swept_at.is_none_or(|at| now.saturating_since(at) >= SWEPT_EVERY) {
                    swept_at = Some(now);
                    sweep(&objects, now).await;
                }
                let writing = move || fold::encode(KeptFold { ledger, snapshot });
                let written = tokio::task::spawn_blocking(writing).await;
                let written = written.map_err(|panic| ProcessError::Panicked(panic.to_string()))?;
                telemetry::fold_kept(keep(&objects, written).await);
            }
        });
        Ok(Self { out, every, last: None, kept: 0 })
    }

    /// Keeps the fold when it is time to and there is news.
    pub(super) fn observe(&mut self, fold: &Fold, now: Timestamp) {
        let last = *self.last.get_or_insert(now);
        if now.saturating_since(last) < self.every || fold.applied() == self.kept {
            return;
        }
        // Full: the last one is still being kept, and the next one is newer anyway.
        if let Ok(room) = self.out.try_reserve() {
            self.last = Some(now);
            self.kept = fold.applied();
            room.send((now, fold.snapshot()));
        }
    }
}

/// Keeps what was written; says what came of it. Not kept is not lost: the ledger has it, and a start takes longer.
async fn keep(objects: &Objects, written: Result<Vec<u8>, EncodeError>) -> &'static str {
    match written {
        Ok(bytes) => match objects.put(FOLD, &bytes).await {
            Ok(()) => "kept",
            Err(error) => {
                tracing::warn!(%error, "a fold of the ledger could not be kept");
                "failed"
            }
        },
        Err(error) => {
            tracing::warn!(%error, "a fold of the ledger could not be written: a start reads the records instead");
            not_written(&error)
        }
    }
}

fn not_written(error: &EncodeError) -> &'static str {
    match error {
        EncodeError::TooMany { .. } => "too_large",
        EncodeError::Empty | EncodeError::Refused(_) => "failed",
    }
}

/// What is not swept now is swept later.
async fn sweep(objects: &Objects, now: Timestamp) {
    match objects.sweep(now).await {
        Ok(0) => {}
        Ok(swept) => {
            tracing::info!(swept, "objects that were never written to their end are taken away");
        }
        Err(error) => tracing::warn!(%error, "the object store could not be swept"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Generation;

    #[test]
    fn a_kept_fold_is_gone_on_from_only_where_the_ledger_does() {
        let at = Timestamp::from_millis;
        let tail = Tail { first_sequence: 10, last_sequence: 20, created: at(5) };
        for (ledger, applied, is_usable) in
            [(5, 15, true), (5, 20, true), (5, 9, true), (5, 8, false), (5, 21, false), (4, 15, false)]
        {
            let snapshot = FoldSnapshot { applied, ..FoldSnapshot::default() };
            let kept = KeptFold { ledger: at(ledger), snapshot };
            assert_eq!(usable(kept, &tail).is_ok(), is_usable, "{applied} of {ledger}");
        }
    }

    #[test]
    fn a_fold_that_is_too_large_is_counted_as_such() {
        let hash = "x".repeat(64 * 1024 * 1024);
        let announced = Some((Generation(1), hash.into()));
        let snapshot = FoldSnapshot { announced, ..FoldSnapshot::default() };
        let refused = fold::encode(KeptFold { ledger: Timestamp::default(), snapshot }).unwrap_err();
        assert_eq!(not_written(&refused), "too_large");
    }
}

//! Follows the ledger into the store, some messages at a time.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::keeping::{Keeping, RETRY_DELAY, Shelf};
use super::{Knowledge, KnowledgeError, explain};
use crate::bus;
use crate::bus::Tail;
use crate::bus::nats::{Feed, FeedError};
use crate::model::{Record, Role};
use crate::role::RoleError;
use crate::role::decoding::{self, Decoded};
use crate::telemetry::{self, Traces};
use crate::wire::Subjects;

/// Messages in one durable change: the knee of the measured curve.
const RECORDS_PER_CHANGE_MAX: usize = 64;
/// How long a message waits for more before it is made durable. A cycle writes ten within some milliseconds, and each
/// change forces files to disk beside the server that does the same: one at a time cost the loop a third of its pace.
const GATHER: Duration = Duration::from_millis(25);
/// How often is looked after the store, whether anything comes or not: whether a question has found damage, and whether
/// the files have grown far beyond what lives in them. A compaction copies what lives, some ten seconds of this role's time
/// for a gigabyte; it is done between two batches, and questions are answered meanwhile.
const LOOK_EVERY: Duration = Duration::from_mins(1);
/// After a compaction that failed: mostly there was no room for the copy.
const COMPACTION_PAUSE: Duration = Duration::from_mins(30);

/// Why the ledger is not followed any further.
pub(super) enum Halted {
    /// The store takes nothing more, and this is why.
    Store(String),
    /// Something that opening the store again does not mend.
    Role(RoleError),
}

impl From<RoleError> for Halted {
    fn from(error: RoleError) -> Self {
        Self::Role(error)
    }
}

impl From<KnowledgeError> for Halted {
    fn from(error: KnowledgeError) -> Self {
        Self::Store(explain(&error))
    }
}

/// From what the store has on, until it is told to stop. A store that takes something is one that works: `delay` begins
/// anew.
pub(super) async fn follow(
    keeping: &Keeping,
    shelf: &Shelf,
    tail: &Tail,
    delay: &mut Duration,
    stop: &CancellationToken,
) -> Result<(), Halted> {
    let Keeping { ledger, subjects, traces, ready, clock, .. } = keeping;
    let applied = shelf.with(Knowledge::applied).map_err(Halted::Store)?;
    // An empty ledger has nothing to wait for, and neither has one that is known to its end.
    if tail.last_sequence <= applied {
        ready.send_replace(true);
    }
    let mut feed = ledger.feed(applied + 1, Some(tail.created));
    let mut look_at = clock.instant() + LOOK_EVERY;
    let mut compact_at = clock.instant();
    loop {
        let stored = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            stored = feed.next_batch(RECORDS_PER_CHANGE_MAX) => Some(stored),
            () = tokio::time::sleep_until(look_at.into()) => None,
        };
        match stored {
            Some(Ok(first)) => {
                let stored = gather(&mut feed, first).await;
                let started = clock.stopwatch();
                let (subjects, traces) = (subjects.clone(), traces.clone());
                on(shelf, move |knowledge| take(knowledge, &subjects, &traces, &stored)).await??;
                telemetry::component_duration(Role::Knowledge, started.elapsed());
                *delay = RETRY_DELAY;
                if feed.pending() == 0 {
                    ready.send_if_modified(|ready| !std::mem::replace(ready, true));
                }
            }
            // What is gone is gone for everybody; the rest is still the ledger.
            Some(Err(FeedError::Gap { next, found, .. })) => {
                tracing::warn!(next, found, "the ledger no longer has what was not read yet");
                feed.skip_to(found);
            }
            Some(Err(error)) => return Err(RoleError::from(error).into()),
            None => {}
        }
        let now = clock.instant();
        if now < look_at {
            continue;
        }
        look_at = now + LOOK_EVERY;
        let is_time = now >= compact_at;
        let looked = on(shelf, move |knowledge| match knowledge.store().refusing() {
            Some(reason) => Err(Halted::Store(reason)),
            None => Ok(is_time && knowledge.tidy()),
        });
        if looked.await?? {
            compact_at = clock.instant() + COMPACTION_PAUSE;
        }
    }
}

/// Works on the store, in a thread of its own.
async fn on<T: Send + 'static>(
    shelf: &Shelf,
    work: impl FnOnce(&Knowledge) -> T + Send + 'static,
) -> Result<T, Halted> {
    let shelf = shelf.clone();
    let done = tokio::task::spawn_blocking(move || shelf.with(work));
    let done = done.await.map_err(|panic| RoleError::Knowledge(panic.to_string()))?;
    done.map_err(Halted::Store)
}

/// What comes within a moment; at once where there is more already. What goes wrong meanwhile goes wrong again at the next
/// look.
async fn gather(feed: &mut Feed, mut stored: Vec<bus::Stored>) -> Vec<bus::Stored> {
    let mut over = std::pin::pin!(tokio::time::sleep(GATHER));
    while feed.pending() == 0 && stored.len() < RECORDS_PER_CHANGE_MAX {
        tokio::select! {
            () = &mut over => break,
            more = feed.next_batch(RECORDS_PER_CHANGE_MAX - stored.len()) => match more {
                Ok(more) => stored.extend(more),
                Err(_) => break,
            },
        }
    }
    stored
}

fn take(
    knowledge: &Knowledge,
    subjects: &Subjects,
    traces: &Traces,
    stored: &[bus::Stored],
) -> Result<(), Halted> {
    let keep = |records: &[Record]| {
        knowledge.remember(records)?;
        records.iter().for_each(|record| traces.tell(record));
        Ok::<(), KnowledgeError>(())
    };
    let mut records = Vec::with_capacity(stored.len());
    for stored in stored {
        match decoding::record(subjects, stored) {
            Decoded::Value(record) => records.push(record),
            Decoded::Malformed(cause) => {
                tracing::error!(sequence = stored.sequence, %cause, "a message of the ledger cannot be read and is not kept");
                telemetry::knowledge_left_out();
                keep(&std::mem::take(&mut records))?;
                knowledge.skip(stored.sequence, stored.stored_at)?;
            }
            Decoded::Newer(cause) => {
                keep(&records)?;
                return Err(RoleError::NewerLedger { sequence: stored.sequence, cause }.into());
            }
        }
    }
    Ok(keep(&records)?)
}

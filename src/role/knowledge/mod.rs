//! The knowledge role: follows the ledger into the store, and answers what is asked about the past.
//!
//! The store is a view that can be thrown away: the ledger is the truth. What was applied is in the same durable change as
//! what it led to, so a crash repeats nothing and forgets nothing.

mod answers;
mod facts;
mod rings;
mod writing;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use answers::Question;

use super::decoding::{self, Decoded};
use super::error::RoleError;
use crate::bus;
use crate::bus::nats::{self, Answer, Connection, FeedError, Ledger, Objects, Refusal, ServiceSpec};
use crate::clock::Clock;
use crate::model::{Record, Timestamp};
use crate::store::{Change, Found, Identity, Options, Store, StoreError, VALUE_BYTES_MAX};
use crate::telemetry;
use crate::wire::{self, Subjects};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The layout of the rows; another one is rebuilt from the ledger.
const SCHEMA: u16 = 3;
/// Messages in one durable change: the knee of the measured curve.
const RECORDS_PER_CHANGE_MAX: usize = 64;
/// How long a message waits for more before it is made durable. A cycle writes ten within some milliseconds, and each
/// change forces files to disk beside the server that does the same: one at a time cost the loop a third of its pace.
const GATHER: Duration = Duration::from_millis(25);

/// How often is looked whether the files have grown far beyond what lives in them. A compaction copies what lives, some
/// ten seconds of this role's time for a gigabyte; it is done between two batches, and questions are answered meanwhile.
const COMPACTION_LOOK: Duration = Duration::from_mins(1);
/// After a compaction that failed: mostly there was no room for the copy.
const COMPACTION_PAUSE: Duration = Duration::from_mins(30);

/// What can be asked, below `<prefix>.v1.kb.`.
const ENDPOINTS: [&str; 6] = ["stats", "incidents", "plans", "explain", "learned", "export"];
/// Questions that are answered at the same time.
const QUESTIONS_AT_ONCE_MAX: usize = 4;
/// The object that an export is put into.
const EXPORT: &str = "export.knowledge";

/// Why knowledge cannot be kept or asked.
#[derive(Debug, thiserror::Error)]
pub enum KnowledgeError {
    /// The store says no.
    #[error("the store cannot be used")]
    Store(#[from] StoreError),
    /// A row cannot be read.
    #[error("a row of the store cannot be read")]
    Row(#[from] wire::DecodeError),
    /// A row cannot be written.
    #[error("a row of the store cannot be written")]
    Encode(#[from] wire::EncodeError),
    /// A row is larger than the store takes.
    #[error("a row of {bytes} bytes, at most {VALUE_BYTES_MAX} are kept")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
}

impl KnowledgeError {
    /// Whether it says something about what was to be kept, and nothing about the store.
    fn is_about_the_record(&self) -> bool {
        match self {
            Self::Row(_) | Self::Encode(_) | Self::TooLarge { .. } => true,
            Self::Store(error) => match error {
                StoreError::Full { .. }
                | StoreError::KeyLength { .. }
                | StoreError::ValueTooLong { .. }
                | StoreError::ChangeTooLarge { .. } => true,
                StoreError::NotAStore { .. }
                | StoreError::Locked { .. }
                | StoreError::TooManyDoubtful { .. }
                | StoreError::System { .. }
                | StoreError::NotStored { .. }
                | StoreError::Refusing { .. }
                | StoreError::IdentityTooLong { .. }
                | StoreError::Damaged { .. }
                | StoreError::Export { .. }
                | StoreError::Import { .. } => false,
            },
        }
    }
}

/// The store, and what may be asked of it.
#[derive(Debug)]
pub struct Knowledge {
    store: Store,
    /// Where the ledger went on when the store was opened.
    rebuilt: bool,
}

impl Knowledge {
    /// Opens the store of this ledger. A store of another ledger, or one that is doubtful, is moved aside and begun anew.
    pub fn open(folder: &Path, ledger_created: Timestamp) -> Result<Self, KnowledgeError> {
        let identity = Identity::new(SCHEMA, &ledger_created.as_millis().to_be_bytes())?;
        let opened = Store::open(folder, &identity, Options::default())?;
        let rebuilt = match opened.found {
            Found::Fresh | Found::Intact { .. } => false,
            Found::MovedAside { doubt, to } => {
                tracing::error!(%doubt, to = %to.display(), "the store was doubtful and is rebuilt from the ledger");
                telemetry::store_rebuilt();
                true
            }
        };
        Ok(Self { store: opened.store, rebuilt })
    }

    /// Begins anew, because the ledger is not the one that the store followed.
    pub fn set_aside(self, reason: &str) -> Result<Self, KnowledgeError> {
        telemetry::store_rebuilt();
        let opened = self.store.set_aside(reason)?;
        Ok(Self { store: opened.store, rebuilt: true })
    }

    /// Whether a doubtful store was moved aside.
    pub fn is_rebuilt(&self) -> bool {
        self.rebuilt
    }

    /// The last record that it knows.
    pub fn applied(&self) -> u64 {
        self.store.applied()
    }

    /// Takes in records, in the order of the ledger, durably: as few changes as they fit into. What cannot be kept of one is
    /// left out, counted and told; what is too many or too old goes.
    pub fn remember(&self, records: &[Record]) -> Result<(), KnowledgeError> {
        let mut writing = writing::Writing::begin(&self.store);
        for record in records {
            if rings::is_full(&self.store) {
                writing.store_piece()?;
                rings::relieve(&self.store)?;
            }
            facts::remember(&mut writing, record)?;
        }
        writing.finish()?;
        match records.last() {
            Some(last) => rings::trim(&self.store, last.stored_at),
            None => Ok(()),
        }
    }

    /// Gives disk space back where that is due; whether it was tried in vain.
    fn tidy(&self) -> bool {
        let due = match self.store.stats() {
            Ok(stats) => stats.compaction_due && stats.refusing.is_none(),
            Err(error) => {
                tracing::warn!(cause = %explain(&error), "the size of the store cannot be told");
                return true;
            }
        };
        if !due {
            return false;
        }
        match self.store.compact() {
            Ok(compacted) => {
                let (before, after) = (compacted.before_bytes, compacted.after_bytes);
                tracing::info!(before, after, "the store was compacted");
                telemetry::store_compacted(true);
                false
            }
            Err(error) => {
                tracing::error!(cause = %explain(&error), "the store cannot be compacted and goes on growing");
                telemetry::store_compacted(false);
                true
            }
        }
    }

    /// Moves the applied sequence over what cannot be read.
    fn skip(&self, sequence: u64, stored_at: Timestamp) -> Result<(), KnowledgeError> {
        self.store.apply(&Change::new(sequence, stored_at))?;
        Ok(())
    }

    /// The store, for export and import.
    pub fn store(&self) -> &Store {
        &self.store
    }
}

/// Follows the ledger into the store until it is told to stop.
pub async fn follow(
    knowledge: Arc<Knowledge>,
    ledger: Ledger,
    created: Timestamp,
    subjects: Subjects,
    ready: watch::Sender<bool>,
    clock: Clock,
    stop: CancellationToken,
) -> Result<(), RoleError> {
    // An empty ledger has nothing to wait for, and neither has one that is known to its end.
    if ledger.tail().await?.last_sequence <= knowledge.applied() {
        ready.send_replace(true);
    }
    let mut feed = ledger.feed(knowledge.applied() + 1, Some(created));
    let mut tidy_at = clock.instant();
    loop {
        let stored = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            stored = feed.next_batch(RECORDS_PER_CHANGE_MAX) => stored,
        };
        let stored = match stored {
            Ok(first) => gather(&mut feed, first).await,
            // What is gone is gone for everybody; the rest is still the ledger.
            Err(FeedError::Gap { next, found, .. }) => {
                tracing::warn!(next, found, "the ledger no longer has what was not read yet");
                feed.skip_to(found);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let started = clock.stopwatch();
        let kept = Arc::clone(&knowledge);
        let subjects = subjects.clone();
        let done = tokio::task::spawn_blocking(move || take(&kept, &subjects, &stored)).await;
        match done {
            Ok(Ok(())) => telemetry::component_duration(crate::model::Role::Knowledge, started.elapsed()),
            Ok(Err(error)) => return Err(error),
            Err(panic) => return Err(RoleError::Knowledge(panic.to_string())),
        }
        if clock.instant() >= tidy_at {
            let kept = Arc::clone(&knowledge);
            let in_vain = tokio::task::spawn_blocking(move || kept.tidy()).await;
            let in_vain = in_vain.map_err(|panic| RoleError::Knowledge(panic.to_string()))?;
            tidy_at = clock.instant() + if in_vain { COMPACTION_PAUSE } else { COMPACTION_LOOK };
        }
        if feed.pending() == 0 {
            ready.send_if_modified(|ready| !std::mem::replace(ready, true));
        }
    }
}

/// What comes within a moment; at once where there is more already. What goes wrong meanwhile goes wrong again at the next
/// look.
async fn gather(feed: &mut nats::Feed, mut stored: Vec<bus::Stored>) -> Vec<bus::Stored> {
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

fn take(knowledge: &Knowledge, subjects: &Subjects, stored: &[bus::Stored]) -> Result<(), RoleError> {
    let failed = |error: KnowledgeError| RoleError::Knowledge(explain(&error));
    let mut records = Vec::with_capacity(stored.len());
    for stored in stored {
        match decoding::record(subjects, stored) {
            Decoded::Value(record) => records.push(record),
            Decoded::Malformed(cause) => {
                tracing::error!(sequence = stored.sequence, %cause, "a message of the ledger cannot be read and is not kept");
                telemetry::knowledge_left_out();
                knowledge.remember(&std::mem::take(&mut records)).map_err(failed)?;
                knowledge.skip(stored.sequence, stored.stored_at).map_err(failed)?;
            }
            Decoded::Newer(cause) => {
                knowledge.remember(&records).map_err(failed)?;
                return Err(RoleError::NewerLedger { sequence: stored.sequence, cause });
            }
        }
    }
    knowledge.remember(&records).map_err(failed)
}

/// The error and its causes in one line.
pub(super) fn explain(error: &dyn std::error::Error) -> String {
    let chain = std::iter::successors(Some(error), |cause| cause.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Answers questions about the past until it is told to stop.
pub(super) async fn serve(
    connection: Connection,
    subjects: Subjects,
    knowledge: Arc<Knowledge>,
    objects: Objects,
    stop: CancellationToken,
) -> Result<(), RoleError> {
    let endpoint = |name: &str| (name.to_owned(), format!("{subjects}.kb.{name}"));
    let spec = ServiceSpec {
        name: "homeostat-kb".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        description: "What the loop remembers".to_owned(),
        queue_group: "kb".to_owned(),
        endpoints: ENDPOINTS.map(endpoint).to_vec(),
        concurrency: QUESTIONS_AT_ONCE_MAX,
    };
    let objects = Arc::new(objects);
    nats::serve(&connection, spec, stop, move |asked| {
        answer(Arc::clone(&knowledge), Arc::clone(&objects), asked)
    })
    .await?;
    Ok(())
}

async fn answer(
    knowledge: Arc<Knowledge>,
    objects: Arc<Objects>,
    asked: nats::Question,
) -> Result<Answer, Refusal> {
    let endpoint = asked.subject.rsplit('.').next().unwrap_or_default().to_owned();
    let failed = |error: &dyn std::error::Error| Refusal { code: 500, status: explain(error) };
    if endpoint == "export" {
        let exported = tokio::task::spawn_blocking(move || {
            let mut out = Vec::new();
            knowledge.store().export(&mut out).map(|_| out)
        });
        let out = exported.await.map_err(|panic| failed(&panic))?.map_err(|error| failed(&error))?;
        objects.put(EXPORT, &out).await.map_err(|error| failed(&error))?;
        return Ok(json(&serde_json::json!({ "object": EXPORT, "bytes": out.len() })));
    }
    let question =
        Question::read(&endpoint, &asked.payload).map_err(|status| Refusal { code: 400, status })?;
    let answered = tokio::task::spawn_blocking(move || knowledge.answer(&question));
    match answered.await.map_err(|panic| failed(&panic))?.map_err(|error| failed(&error))? {
        Some(value) => Ok(json(&value)),
        None => Err(Refusal { code: 404, status: "nothing is known under this id".to_owned() }),
    }
}

fn json(value: &serde_json::Value) -> Answer {
    let headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    Answer { headers, payload: value.to_string().into() }
}

#[cfg(test)]
mod tests;

//! Configuration of record: bundles are in the object store under their hash, and the ledger says which one holds.

use std::sync::Arc;
use std::time::Duration;

use crate::bus::nats::{Ledger, ObjectError, Objects, Publisher};
use crate::bus::{Outgoing, PublishError, ReadError};
use crate::model::{Basis, Batch, Bundle, Entry, Generation, Role, Timestamp, Topic};
use crate::role::decoding::{self, Decoded};
use crate::wire::{self, Subjects};

/// Other people's bundles that may come in between before it is given up.
const CONFLICTS_MAX: u32 = 5;

/// After it, what holds is said again: well within the age at which the ledger forgets, and that can be made shorter.
const RESTATE_AFTER: Duration = Duration::from_hours(7 * 24);

/// Why a bundle cannot be applied or loaded.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The object store says no.
    #[error("the bundle cannot be kept in the object store")]
    Objects(#[from] ObjectError),
    /// The ledger cannot be read.
    #[error("the ledger cannot be read")]
    Read(#[from] ReadError),
    /// The ledger cannot be written.
    #[error("the bundle cannot be announced in the ledger")]
    Publish(#[from] PublishError),
    /// It cannot be written.
    #[error("the bundle cannot be encoded")]
    Encode(#[from] wire::EncodeError),
    /// It cannot be read.
    #[error("the applied bundle cannot be decoded")]
    Decode(#[from] wire::DecodeError),
    /// The ledger names a bundle that is not there.
    #[error(
        "the ledger names the bundle {0}, and the object store does not have it\nhint: apply the configuration again"
    )]
    Missing(Arc<str>),
    /// The message on `control` cannot be understood.
    #[error("the last message on control cannot be read: {0}")]
    Control(String),
    /// Too many others.
    #[error("others apply configurations at the same time\nhint: agree who does")]
    Contended,
}

/// Where configurations are.
#[derive(Clone)]
pub struct Shelf {
    /// Bundles.
    pub objects: Objects,
    /// Which one holds.
    pub ledger: Ledger,
    /// To say so.
    pub publisher: Publisher,
    /// Names.
    pub subjects: Subjects,
    /// Who we are.
    pub cell: Arc<str>,
    /// Which process.
    pub instance: Arc<str>,
}

/// The last word on `control`.
struct Last {
    sequence: u64,
    stored_at: Timestamp,
    generation: Generation,
    hash: Arc<str>,
}

/// What came of applying.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Its number.
    pub generation: Generation,
    /// Whether it was not applied already.
    pub changed: bool,
}

impl Shelf {
    /// The number and hash of the newest bundle.
    pub async fn announced(&self) -> Result<Option<(Generation, Arc<str>)>, ApplyError> {
        Ok(self.last().await?.map(|last| (last.generation, last.hash)))
    }

    /// The newest bundle.
    pub async fn newest(&self) -> Result<Option<(Generation, Bundle)>, ApplyError> {
        match self.announced().await? {
            Some((generation, hash)) => Ok(Some((generation, self.bundle(&hash).await?))),
            None => Ok(None),
        }
    }

    /// A bundle by its hash.
    pub async fn bundle(&self, hash: &Arc<str>) -> Result<Bundle, ApplyError> {
        let bytes = self.objects.get(&object_name(hash)).await?;
        let bytes = bytes.ok_or_else(|| ApplyError::Missing(Arc::clone(hash)))?;
        Ok(wire::bundle::decode(&bytes)?)
    }

    /// Makes a bundle the cell's configuration, unless it is that already.
    pub async fn apply(&self, bundle: &Bundle, now: Timestamp) -> Result<Applied, ApplyError> {
        for _ in 0..CONFLICTS_MAX {
            let last = self.last().await?;
            if let Some(last) = last.as_ref().filter(|last| last.hash == bundle.hash) {
                return Ok(Applied { generation: last.generation, changed: false });
            }
            let (expected, generation) =
                last.map_or((0, Generation(1)), |last| (last.sequence, Generation(last.generation.0 + 1)));
            self.objects.put(&object_name(&bundle.hash), &wire::bundle::encode(bundle)?).await?;
            let entry = Entry::Applied { generation, hash: Arc::clone(&bundle.hash) };
            match self.publisher.publish(self.message(entry, now, expected)?).await {
                Ok(published) if !published.duplicate => return Ok(Applied { generation, changed: true }),
                // Somebody was quicker, or our own first copy got in: the next round tells.
                Ok(_) | Err(PublishError::WrongLastSequence { .. } | PublishError::TimedOut) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ApplyError::Contended)
    }

    /// Says again which bundle holds where that was said long ago: the ledger forgets, what holds must not be forgotten.
    pub async fn restate(&self, now: Timestamp) -> Result<(), ApplyError> {
        let Some(last) = self.last().await? else { return Ok(()) };
        if now.saturating_since(last.stored_at) < RESTATE_AFTER {
            return Ok(());
        }
        let entry = Entry::Applied { generation: last.generation, hash: last.hash };
        match self.publisher.publish(self.message(entry, now, last.sequence)?).await {
            // Somebody else has said it, or something newer.
            Ok(_) | Err(PublishError::WrongLastSequence { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn last(&self) -> Result<Option<Last>, ApplyError> {
        let Some(stored) = self.ledger.last_on(&self.subjects.ledger(Topic::Control)).await? else {
            return Ok(None);
        };
        match decoding::record(&self.subjects, &stored) {
            Decoded::Value(record) => {
                let applied = record.batch.entries.iter().rev().find_map(|entry| {
                    let Entry::Applied { generation, hash } = entry else { return None };
                    let (generation, hash) = (*generation, Arc::clone(hash));
                    Some(Last { sequence: stored.sequence, stored_at: stored.stored_at, generation, hash })
                });
                applied.map(Some).ok_or_else(|| ApplyError::Control("it applies nothing".to_owned()))
            }
            Decoded::Malformed(cause) | Decoded::Newer(cause) => Err(ApplyError::Control(cause)),
        }
    }

    fn message(&self, entry: Entry, now: Timestamp, expected: u64) -> Result<Outgoing, ApplyError> {
        let batch = Batch {
            id: crate::engine::outbox::message_id(std::slice::from_ref(&entry)),
            role: Role::Knowledge,
            instance: Arc::clone(&self.instance),
            at: now,
            basis: Basis::default(),
            trace: 0,
            entries: vec![entry],
        };
        let message = wire::ledger::message(&self.subjects, &self.cell, Topic::Control, &batch)?;
        Ok(Outgoing {
            subject: message.subject,
            headers: message
                .headers
                .iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            payload: message.payload,
            id: batch.id.to_string(),
            expected_last_on_subject: Some(expected),
        })
    }
}

fn object_name(hash: &str) -> String {
    format!("bundle.{hash}")
}

//! The knowledge role: follows the ledger into the store, and answers what is asked about the past.
//!
//! The store is a view that can be thrown away: the ledger is the truth. What was applied is in the same durable change as
//! what it led to, so a crash repeats nothing and forgets nothing.

mod answers;
mod exporting;
mod facts;
mod following;
mod keeping;
mod rings;
mod serving;
mod writing;

use std::path::Path;

pub use answers::Question;
pub use exporting::{Export, ExportError};
pub(super) use keeping::Keeping;

use crate::model::{Record, Timestamp};
use crate::store::{Change, Found, Identity, Options, Store, StoreError, VALUE_BYTES_MAX};
use crate::telemetry;
use crate::wire;

/// The layout of the rows; another one is rebuilt from the ledger.
const SCHEMA: u16 = 3;

/// Why knowledge cannot be kept or asked.
#[derive(Debug, thiserror::Error)]
pub enum KnowledgeError {
    /// The store says no.
    #[error(transparent)]
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
    /// Whether a doubtful one was moved aside.
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

    /// Writes what is left and lets go of the store.
    fn close(self) {
        self.store.close();
    }

    /// The store, for export and import.
    pub fn store(&self) -> &Store {
        &self.store
    }
}

/// The error and its causes in one line.
pub(super) fn explain(error: &dyn std::error::Error) -> String {
    let chain = std::iter::successors(Some(error), |cause| cause.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests;

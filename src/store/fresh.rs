//! Fills a new generation: the empty one of a new store, a compacted copy, an import.

use std::path::Path;

use super::engine::{Engine, EngineError, Writes};
use super::header::{Header, Totals};
use super::row::HEADER_KEY;

/// sled's memory follows unflushed writes: a million in one go took 1.1 GB.
const ROWS_PER_BATCH: usize = 1_000;

/// A generation that does not count yet.
#[derive(Debug)]
pub(super) struct Fresh {
    engine: Engine,
    batch: Writes,
    totals: Totals,
}

impl Fresh {
    /// In an empty or missing folder.
    pub(super) fn begin(generation: &Path, cache_bytes: u64) -> Result<Self, EngineError> {
        let engine = Engine::open(generation, cache_bytes)?;
        Ok(Self { engine, batch: Writes::new(), totals: Totals::default() })
    }

    /// Adds a row. A key that comes twice makes the totals wrong, which the check before first use finds.
    pub(super) fn push(&mut self, row_key: &[u8], stored: &[u8]) -> Result<(), EngineError> {
        self.totals.add(row_key, stored);
        self.batch.insert(row_key.to_vec(), Some(stored.to_vec()));
        if self.batch.len() >= ROWS_PER_BATCH {
            self.engine.commit(&self.batch)?;
            self.engine.flush()?;
            self.batch.clear();
        }
        Ok(())
    }

    /// What was pushed so far.
    pub(super) const fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Writes the header with the totals of what was pushed, and closes. The folder still has to be synced.
    pub(super) fn finish(mut self, mut header: Header) -> Result<(), EngineError> {
        header.totals = self.totals;
        self.batch.insert(HEADER_KEY.to_vec(), Some(header.encode()));
        self.engine.commit(&self.batch)?;
        self.engine.make_durable()?;
        self.engine.close()
    }
}

//! Changes of any size, written in pieces that the store takes.
//!
//! What follows from many small records is one piece, stored together with the sequence of the last of them. What is larger
//! than a piece is stored piece by piece, its sequence with the last one: after a crash in between the record comes again
//! and writes the same rows. Counts stand in the same piece as the rows they count.

use super::KnowledgeError;
use super::rings::Ring;
use crate::model::Timestamp;
use crate::store::{Change, Store, StoreError, Table};
use crate::telemetry;

/// Rows of one piece: half of what the store takes, and some ten milliseconds of its time.
const PIECE_ROWS_MAX: usize = 2_048;
/// Bytes of one piece: half of what the store takes.
const PIECE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Rows on their way to the store. What it reads is what will be there.
pub(super) struct Writing<'a> {
    store: &'a Store,
    piece: Change,
    /// The last record that is in it whole: its place, and when the ledger stored it.
    reached: Option<(u64, Timestamp)>,
}

impl<'a> Writing<'a> {
    pub(super) fn begin(store: &'a Store) -> Self {
        Self { store, piece: nothing(), reached: None }
    }

    /// The store as it was before the piece at hand.
    pub(super) fn store(&self) -> &'a Store {
        self.store
    }

    /// What is under a key once this is written.
    pub(super) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, KnowledgeError> {
        match self.piece.get(table, key) {
            Some(value) => Ok(value.map(<[u8]>::to_vec)),
            None => Ok(self.store.get(table, key)?),
        }
    }

    pub(super) fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), KnowledgeError> {
        self.make_room(1, key.len() + value.len())?;
        Ok(self.piece.put(table, key, value)?)
    }

    pub(super) fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), KnowledgeError> {
        self.make_room(1, key.len())?;
        Ok(self.piece.delete(table, key)?)
    }

    /// How many there are in a ring once this is written.
    pub(super) fn count(&self, ring: Ring) -> Result<u64, KnowledgeError> {
        let row = self.get(Table::Meta, ring.name().as_bytes())?;
        Ok(row.and_then(|row| <[u8; 8]>::try_from(row).ok()).map_or(0, u64::from_be_bytes))
    }

    /// To be called in the piece that adds the row.
    pub(super) fn count_up(&mut self, ring: Ring) -> Result<(), KnowledgeError> {
        let count = self.count(ring)? + 1;
        self.put(Table::Meta, ring.name().as_bytes(), &count.to_be_bytes())
    }

    /// To be called in the piece that deletes the row.
    pub(super) fn count_down(&mut self, ring: Ring) -> Result<(), KnowledgeError> {
        let count = self.count(ring)?.saturating_sub(1);
        self.put(Table::Meta, ring.name().as_bytes(), &count.to_be_bytes())
    }

    /// What is written next, up to this much, stands in one piece.
    pub(super) fn make_room(&mut self, rows: usize, bytes: usize) -> Result<(), KnowledgeError> {
        let fits = self.piece.len() + rows <= PIECE_ROWS_MAX && self.piece.bytes() + bytes <= PIECE_BYTES_MAX;
        if fits || self.piece.is_empty() { Ok(()) } else { self.store_piece() }
    }

    /// Everything that follows from this record is written.
    pub(super) fn reach(&mut self, sequence: u64, stored_at: Timestamp) {
        self.reached = Some((sequence, stored_at));
    }

    /// Stores what is written so far, for a look at the store that has to see it.
    pub(super) fn store_piece(&mut self) -> Result<(), KnowledgeError> {
        let piece = std::mem::replace(&mut self.piece, nothing());
        let Some((sequence, stored_at)) = self.reached.take() else {
            return if piece.is_empty() { Ok(()) } else { Ok(self.store.tend(&piece)?) };
        };
        match self.store.apply(&piece.leading_to(sequence, stored_at)) {
            Ok(_) => {}
            // Nothing of it can be kept, but the ledger goes on.
            Err(full @ StoreError::Full { .. }) => {
                tracing::error!(sequence, cause = %full, "records of the ledger are not kept");
                telemetry::knowledge_left_out();
                self.store.apply(&Change::new(sequence, stored_at))?;
            }
            Err(error) => return Err(error.into()),
        }
        telemetry::store_committed();
        Ok(())
    }

    /// Stores the last piece.
    pub(super) fn finish(mut self) -> Result<(), KnowledgeError> {
        self.store_piece()
    }
}

fn nothing() -> Change {
    Change::new(0, Timestamp::from_millis(0))
}

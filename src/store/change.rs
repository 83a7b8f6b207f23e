//! What one decision batch of the ledger changes in the store.

use std::collections::BTreeMap;

use super::{KEY_BYTES_MAX, StoreError, Table};
use crate::model::Timestamp;

/// Above this an entry of the ledger is not a record but an attachment; 65 rows of 4 KB each.
pub const VALUE_BYTES_MAX: usize = 256 * 1024;

/// A ledger message carries up to 256 entries, each of a few records and index keys.
pub(super) const RECORDS_PER_CHANGE_MAX: usize = 4_096;

/// One batch is built in memory and written as one piece; sled's memory follows the size of bursts.
pub(super) const CHANGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Puts and deletes that become visible and durable together, with the ledger sequence they bring us to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub(super) applied: u64,
    pub(super) stored_at: Timestamp,
    /// `None` deletes. Ordered, so that the same change writes the same bytes.
    pub(super) writes: BTreeMap<(Table, Vec<u8>), Option<Vec<u8>>>,
    bytes: usize,
}

impl Change {
    /// Nothing yet; `applied` is the last ledger sequence it contains, `stored_at` when the ledger stored that.
    pub const fn new(applied: u64, stored_at: Timestamp) -> Self {
        Self { applied, stored_at, writes: BTreeMap::new(), bytes: 0 }
    }

    /// The same writes for another place in the ledger.
    #[must_use]
    pub fn leading_to(self, applied: u64, stored_at: Timestamp) -> Self {
        Self { applied, stored_at, ..self }
    }

    /// Sets a record; the last word on a key counts.
    pub fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        if value.len() > VALUE_BYTES_MAX {
            return Err(StoreError::ValueTooLong { table, bytes: value.len() });
        }
        self.write(table, key, Some(value.to_vec()))
    }

    /// Removes a record, present or not; the last word on a key counts.
    pub fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        self.write(table, key, None)
    }

    /// What it says of a record: `None` where it says nothing, `Some(None)` where it removes it.
    pub fn get(&self, table: Table, key: &[u8]) -> Option<Option<&[u8]>> {
        // The map is asked by what it owns; changes are looked into rarely.
        self.writes.get(&(table, key.to_vec())).map(Option::as_deref)
    }

    /// Bytes of the keys and values it names.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many records it names.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// Whether it only moves the applied sequence.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    fn write(&mut self, table: Table, key: &[u8], value: Option<Vec<u8>>) -> Result<(), StoreError> {
        check_key(table, key)?;
        let bytes = self.bytes + key.len() + value.as_ref().map_or(0, Vec::len);
        if self.writes.len() == RECORDS_PER_CHANGE_MAX || bytes > CHANGE_BYTES_MAX {
            return Err(StoreError::ChangeTooLarge { records: self.writes.len() + 1, bytes });
        }
        self.bytes = bytes;
        self.writes.insert((table, key.to_vec()), value);
        Ok(())
    }
}

/// Refuses keys that the store could not have written.
pub(super) fn check_key(table: Table, key: &[u8]) -> Result<(), StoreError> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(StoreError::KeyLength { table, bytes: key.len() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp::from_millis(1);

    #[test]
    fn keys_and_values_outside_the_limits_are_refused() {
        let mut change = Change::new(1, AT);
        assert!(matches!(change.put(Table::Plans, b"", b"v"), Err(StoreError::KeyLength { bytes: 0, .. })));
        let long = vec![1; KEY_BYTES_MAX + 1];
        assert!(matches!(change.delete(Table::Plans, &long), Err(StoreError::KeyLength { bytes: 257, .. })));
        let heavy = vec![1; VALUE_BYTES_MAX + 1];
        assert!(matches!(change.put(Table::Plans, b"k", &heavy), Err(StoreError::ValueTooLong { .. })));
        assert!(change.is_empty());
        change.put(Table::Plans, &long[1..], &heavy[1..]).unwrap();
        assert_eq!(change.len(), 1);
    }

    #[test]
    fn a_change_tells_what_it_says() {
        let mut change = Change::new(1, AT);
        change.put(Table::Plans, b"a", b"1").unwrap();
        change.put(Table::Plans, b"b", b"1").unwrap();
        change.delete(Table::Plans, b"a").unwrap();
        change.put(Table::Plans, b"b", b"2").unwrap();
        let change = change.leading_to(2, AT);
        let said = [b"a", b"b", b"c"].map(|key| change.get(Table::Plans, key));
        assert_eq!((change.applied, said), (2, [Some(None), Some(Some(&b"2"[..])), None]));
    }

    #[test]
    fn a_change_is_bounded_in_records_and_in_bytes() {
        let mut change = Change::new(1, AT);
        for n in 0..RECORDS_PER_CHANGE_MAX {
            change.delete(Table::ByTime, &n.to_be_bytes()).unwrap();
        }
        assert!(matches!(change.delete(Table::Plans, b"k"), Err(StoreError::ChangeTooLarge { .. })));

        let mut change = Change::new(1, AT);
        let value = vec![0; VALUE_BYTES_MAX];
        let refused = (0..32_u8).find_map(|n| change.put(Table::Plans, &[n], &value).err());
        assert!(matches!(refused, Some(StoreError::ChangeTooLarge { .. })));
    }
}

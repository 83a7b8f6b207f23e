//! What all tests of the module need: a home that goes away with the test, and changes to apply.

use super::*;
use crate::model::Timestamp;

/// A folder for one store.
pub(super) struct Home {
    root: tempfile::TempDir,
}

impl Home {
    pub(super) fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    pub(super) fn dir(&self) -> std::path::PathBuf {
        self.root.path().join("kb")
    }

    pub(super) fn open(&self) -> Opened {
        self.try_open(b"ledger").unwrap()
    }

    pub(super) fn try_open(&self, ledger: &[u8]) -> Result<Opened, StoreError> {
        let options = Options { cache_bytes: 1 << 20, ballast_bytes: 4_096, ..Options::default() };
        Store::open(&self.dir(), &Identity::new(1, ledger).unwrap(), options)
    }
}

/// A change that puts these records.
pub(super) fn filled(applied: u64, records: &[(Table, &[u8], &[u8])]) -> Change {
    let mut change = Change::new(applied, Timestamp::from_millis(1_000));
    for (table, key, value) in records {
        change.put(*table, key, value).unwrap();
    }
    change
}

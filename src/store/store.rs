//! One writer, many readers, each change durable before it is acknowledged.

use std::fs::File;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::change::{Change, check_key};
use super::engine::{EngineError, Writes};
use super::error::StoreError;
use super::folder::Folder;
use super::header::{Header, Identity};
use super::opening::{self, Options};
use super::row::{self, HEADER_KEY};
use super::table::{KeyRange, Table};
use super::view::{Page, ReadError, View};
use crate::model::Timestamp;

/// Opening reads all of them: 4 million take about ten seconds.
pub(super) const ROWS_MAX: u64 = 4_000_000;
/// Keys and values together; the disk holds up to eight times that before a compaction is due.
pub(super) const BYTES_MAX: u64 = 1 << 30;
/// Four to five times the live bytes is what steady deleting costs in sled's log; nothing is given back.
const DISK_PER_LIVE_BYTE_MAX: u64 = 8;
/// Below this, compacting gains nothing worth a pause.
const COMPACTION_DISK_BYTES_MIN: u64 = 64 * 1024 * 1024;

/// A view of the ledger on disk. All calls block; `apply`, `compact` and `import` take turns, reads do not wait for
/// them but for the moment in which a batch becomes visible.
#[derive(Debug)]
pub struct Store {
    pub(super) folder: Folder,
    /// Keeps others away until it is dropped, after the engine.
    pub(super) lock: File,
    pub(super) options: Options,
    pub(super) identity: Identity,
    /// Held by whoever writes.
    pub(super) writer: Mutex<()>,
    /// Locked for writing only while a batch is applied or a generation replaced.
    pub(super) view: RwLock<View>,
    /// The first failure. Set once; only reopening clears it.
    pub(super) refusal: OnceLock<String>,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It is on disk.
    Now,
    /// Its sequence is not newer than what the store holds: nothing was done.
    Before,
}

/// A store in figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Records in all tables.
    pub records: u64,
    /// Bytes of keys and values, with their headers.
    pub live_bytes: u64,
    /// Bytes of the files.
    pub disk_bytes: u64,
    /// The last ledger sequence; 0 before the first.
    pub applied: u64,
    /// When the ledger stored that.
    pub stored_at: Timestamp,
    /// Folders that were moved aside and still stand.
    pub doubtful: usize,
    /// Whether [`Store::compact`] should be called soon.
    pub compaction_due: bool,
    /// Why writes are refused, if they are.
    pub refusing: Option<String>,
}

impl Store {
    /// Stores a change whole, with its sequence; on return it survives a crash of process or machine.
    pub fn apply(&self, change: &Change) -> Result<Applied, StoreError> {
        let _turn = self.writing()?;
        let before = self.reading().header.clone();
        if change.applied <= before.applied {
            return Ok(Applied::Before);
        }
        self.store(change, before, (change.applied, change.stored_at))?;
        Ok(Applied::Now)
    }

    /// Stores a change whole and leaves the applied sequence where it is: retention, or the first pieces of a record that
    /// is too large for one change. After a crash the record comes again, so all of its pieces have to bear that.
    pub fn tend(&self, change: &Change) -> Result<(), StoreError> {
        let _turn = self.writing()?;
        let before = self.reading().header.clone();
        let place = (before.applied, before.stored_at);
        self.store(change, before, place)
    }

    /// The value of a record.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        check_key(table, key)?;
        let found = self.reading().record(table, key);
        found.map_err(|error| self.distrust(error))
    }

    /// Up to `limit` records of a range in the order of their keys; a page holds at most 10,000 and about 16 MiB.
    pub fn scan(&self, table: Table, range: &KeyRange, limit: usize) -> Result<Page, StoreError> {
        let page = self.reading().page(table, range, limit);
        page.map_err(|error| self.distrust(error))
    }

    /// The last ledger sequence that is stored; 0 before the first.
    pub fn applied(&self) -> u64 {
        self.reading().header.applied
    }

    /// Counts, sizes, and whether anything is the matter. Lists folders, reads no records.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        let view = self.reading();
        let totals = view.header.totals;
        let disk_bytes = self.folder.disk_bytes(view.generation)?;
        let allowed = totals.bytes.saturating_mul(DISK_PER_LIVE_BYTE_MAX).max(COMPACTION_DISK_BYTES_MIN);
        Ok(Stats {
            records: totals.records,
            live_bytes: totals.bytes,
            disk_bytes,
            applied: view.header.applied,
            stored_at: view.header.stored_at,
            doubtful: self.folder.doubtful()?.len(),
            compaction_due: disk_bytes > allowed,
            refusing: self.refusing(),
        })
    }

    /// How full it is: of the rows and of the bytes that it may hold, whichever is nearer to its limit, in thousandths.
    pub fn fullness(&self) -> u64 {
        let totals = self.reading().header.totals;
        let of = |held: u64, max: u64| held.saturating_mul(1_000) / max;
        of(totals.rows, ROWS_MAX).max(of(totals.bytes, BYTES_MAX))
    }

    /// Why it takes no writes, if it takes none.
    pub fn refusing(&self) -> Option<String> {
        self.refusal.get().cloned()
    }

    /// Sets the room aside that reopening on a full disk needs, if that was given back, and makes sure that there is as
    /// much beside it; while that cannot be, reopening gains nothing.
    pub fn keep_room(&self) -> Result<(), StoreError> {
        self.folder.lay_ballast(self.options.ballast_bytes)?;
        self.folder.try_room(self.options.ballast_bytes)
    }

    /// Where it lies.
    #[cfg(test)]
    pub(super) fn dir(&self) -> &std::path::Path {
        self.folder.dir()
    }

    /// Writes what is left and lets go of the files. Everything applied is on disk already.
    pub fn close(self) {
        let Self { folder, lock, view, .. } = self;
        opening::close(&folder, view.into_inner().unwrap_or_else(PoisonError::into_inner).engine);
        drop(lock);
    }

    /// The writer's turn, unless the store refuses writes.
    pub(super) fn writing(&self) -> Result<MutexGuard<'_, ()>, StoreError> {
        let turn = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        match self.refusal.get() {
            Some(reason) => Err(StoreError::Refusing { reason: reason.clone() }),
            None => Ok(turn),
        }
    }

    pub(super) fn reading(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn swapping(&self) -> RwLockWriteGuard<'_, View> {
        self.view.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A read that found damage, or an engine that has failed: what is written from here on could not be trusted either.
    pub(super) fn distrust(&self, error: ReadError) -> StoreError {
        let error = match error {
            ReadError::Engine(EngineError::System(source)) => {
                StoreError::system("read", self.folder.dir())(source)
            }
            error @ (ReadError::Engine(_) | ReadError::Row { .. }) => StoreError::from(error),
        };
        self.refuse(error.to_string());
        error
    }

    pub(super) fn refuse(&self, reason: String) {
        // Whoever writes is told, and tells it once.
        tracing::debug!(dir = %self.folder.dir().display(), reason, "the store takes no writes until it is reopened");
        drop(self.refusal.set(reason));
    }

    /// Stores a change, after which the store is at this place of the ledger.
    fn store(&self, change: &Change, before: Header, place: (u64, Timestamp)) -> Result<(), StoreError> {
        let (mut writes, undo, mut header) = self.plan(change, before)?;
        (header.applied, header.stored_at) = place;
        writes.insert(HEADER_KEY.to_vec(), Some(header.encode()));
        match self.commit(&writes) {
            Ok(()) => {
                self.swapping().header = header;
                Ok(())
            }
            Err(error) => Err(self.fail(change.applied, undo, &error)),
        }
    }

    /// The rows a change writes, what stands there now, and the header with the totals that follow.
    fn plan(&self, change: &Change, mut header: Header) -> Result<(Writes, Writes, Header), StoreError> {
        let view = self.reading();
        let (mut writes, mut undo) = (Writes::new(), Writes::new());
        for ((table, key), value) in &change.writes {
            let old = view.rows_of(*table, key).map_err(|error| self.distrust(error))?;
            let new = value.as_ref().map_or_else(Vec::new, |value| row::split(*table, key, value));
            if old == new {
                continue;
            }
            for (row_key, stored) in old {
                header.totals.remove(&row_key, &stored);
                writes.insert(row_key.clone(), None);
                undo.insert(row_key, Some(stored));
            }
            for (row_key, stored) in new {
                header.totals.add(&row_key, &stored);
                undo.entry(row_key.clone()).or_insert(None);
                writes.insert(row_key, Some(stored));
            }
        }
        let (rows, bytes) = (header.totals.rows, header.totals.bytes);
        let grows = rows > view.header.totals.rows || bytes > view.header.totals.bytes;
        if grows && (rows > ROWS_MAX || bytes > BYTES_MAX) {
            return Err(StoreError::Full { rows, bytes });
        }
        Ok((writes, undo, header))
    }

    /// Visible at once to all readers, then durable.
    fn commit(&self, writes: &Writes) -> Result<(), EngineError> {
        self.swapping().engine.commit(writes)?;
        self.reading().engine.make_durable()
    }

    /// Closes the store for writing and hides what the failed change may have left in memory.
    fn fail(&self, applied: u64, undo: Writes, error: &EngineError) -> StoreError {
        let reason = error.reason();
        self.swapping().undo = undo;
        self.refuse(reason.clone());
        if error.is_full() {
            // Opening needs room, too.
            if let Err(error) = self.folder.remove_ballast() {
                tracing::warn!(%error, "the ballast could not be given back");
            }
        }
        StoreError::NotStored { applied, reason }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::store::Record;
    use crate::store::tests::{Home, filled};

    fn keys(page: &Page) -> Vec<&[u8]> {
        page.records.iter().map(|record| record.key.as_slice()).collect()
    }

    #[test]
    fn a_change_that_comes_again_does_nothing() {
        let home = Home::new();
        let store = home.open().store;
        assert_eq!(store.apply(&filled(3, &[(Table::Plans, b"k", b"first")])).unwrap(), Applied::Now);
        for late in [0, 2, 3] {
            let again = filled(late, &[(Table::Plans, b"k", b"second")]);
            assert_eq!(store.apply(&again).unwrap(), Applied::Before);
        }
        assert_eq!(store.get(Table::Plans, b"k").unwrap(), Some(b"first".to_vec()));
        assert_eq!(store.applied(), 3);
    }

    #[test]
    fn tables_do_not_see_each_other_and_ranges_stay_inside() {
        let home = Home::new();
        let store = home.open().store;
        let long = vec![1; 9_000];
        let records: [(Table, &[u8], &[u8]); 5] = [
            (Table::Incidents, &[0xff, 0xff], b"last of the table before"),
            (Table::Analyses, b"a", b"1"),
            (Table::Analyses, b"ab", &long),
            (Table::Analyses, &[0xff, 0xff], b"2"),
            (Table::Plans, &[0], b"first of the table after"),
        ];
        store.apply(&filled(1, &records)).unwrap();
        let scan = |range: &KeyRange, limit| store.scan(Table::Analyses, range, limit).unwrap();
        assert_eq!(keys(&scan(&KeyRange::all(), 10)), [b"a".as_slice(), b"ab", &[0xff, 0xff]]);
        assert_eq!(keys(&scan(&KeyRange::prefix(b"a"), 10)), [b"a".as_slice(), b"ab"]);
        assert_eq!(keys(&scan(&KeyRange::prefix(&[0xff]), 10)), [[0xff, 0xff]]);
        assert_eq!(keys(&scan(&KeyRange::between(b"ab", b"b"), 10)), [b"ab"]);
        assert_eq!(keys(&scan(&KeyRange::between(b"b", b"a"), 10)), [b""; 0]);
        let first = scan(&KeyRange::all(), 1);
        assert!(first.more);
        let next = scan(&KeyRange::all().after(&first.records[0].key), 1);
        assert_eq!(next.records, [Record { key: b"ab".to_vec(), value: long }]);
        assert!(!scan(&KeyRange::all(), 3).more);
    }

    #[test]
    fn long_values_are_replaced_and_deleted_with_all_their_rows() {
        let home = Home::new();
        let store = home.open().store;
        for (n, len) in [200_000, 10_000, 10, 100_000].into_iter().enumerate() {
            let value = vec![7; len];
            store.apply(&filled(n as u64 + 1, &[(Table::Reports, b"k", &value)])).unwrap();
            assert_eq!(store.get(Table::Reports, b"k").unwrap(), Some(value));
            assert_eq!(store.stats().unwrap().records, 1);
        }
        let mut change = Change::new(9, Timestamp::from_millis(1));
        change.delete(Table::Reports, b"k").unwrap();
        change.delete(Table::Reports, b"never there").unwrap();
        store.apply(&change).unwrap();
        let stats = store.stats().unwrap();
        assert_eq!((stats.records, stats.live_bytes), (0, 0));
    }

    #[test]
    fn after_a_failed_write_reads_answer_as_of_the_change_before_it() {
        let home = Home::new();
        let store = home.open().store;
        let records: [(Table, &[u8], &[u8]); 3] =
            [(Table::Plans, b"b", b"old b"), (Table::Plans, b"d", b"old d"), (Table::Plans, b"e", b"old e")];
        store.apply(&filled(1, &records)).unwrap();
        let mut change = filled(2, &[(Table::Plans, b"a", b"new"), (Table::Plans, b"b", b"new b")]);
        change.put(Table::Plans, b"c", b"new").unwrap();
        change.delete(Table::Plans, b"d").unwrap();
        change.delete(Table::Plans, b"e").unwrap();
        let header = store.reading().header.clone();
        let (mut writes, undo, _) = store.plan(&change, header).unwrap();
        // The engine got through some of it and then failed.
        writes.remove(b"\x05e".as_slice());
        store.swapping().engine.commit(&writes).unwrap();
        let full = EngineError::System(io::ErrorKind::StorageFull.into());
        let error = store.fail(2, undo, &full);
        assert!(matches!(error, StoreError::NotStored { applied: 2, .. }), "{error}");

        let page = store.scan(Table::Plans, &KeyRange::all(), 10).unwrap();
        assert_eq!(keys(&page), [b"b", b"d", b"e"]);
        assert_eq!(page.records[0].value, b"old b");
        assert_eq!(store.get(Table::Plans, b"a").unwrap(), None);
        assert_eq!(store.get(Table::Plans, b"d").unwrap(), Some(b"old d".to_vec()));
        assert_eq!(store.applied(), 1);
        let mut export = Vec::new();
        assert_eq!(store.export(&mut export).unwrap().records, 3);
        assert!(matches!(store.apply(&change), Err(StoreError::Refusing { .. })));
        assert!(matches!(store.compact(), Err(StoreError::Refusing { .. })));
        assert!(!store.dir().join("ballast").exists(), "room to open it again");
    }

    #[test]
    fn a_damaged_record_is_not_served_and_closes_the_store_for_writing() {
        let home = Home::new();
        let store = home.open().store;
        store.apply(&filled(1, &[(Table::Plans, b"k", b"v"), (Table::Plans, b"l", b"w")])).unwrap();
        let garbage = [(b"\x05k".to_vec(), Some(b"garbage".to_vec()))].into();
        store.reading().engine.commit(&garbage).unwrap();
        let error = store.get(Table::Plans, b"k").unwrap_err();
        assert_eq!(error.to_string(), "the store is damaged: a row whose CRC differs at key `k` of `plans`");
        assert!(store.scan(Table::Plans, &KeyRange::all(), 9).is_err());
        assert_eq!(store.get(Table::Plans, b"l").unwrap(), Some(b"w".to_vec()));
        assert!(matches!(store.apply(&filled(2, &[])), Err(StoreError::Refusing { .. })));
    }

    #[test]
    fn what_is_tended_leaves_the_sequence_and_comes_back_after_a_restart() {
        let home = Home::new();
        let store = home.open().store;
        store.apply(&filled(3, &[(Table::Plans, b"k", b"v"), (Table::Plans, b"old", b"v")])).unwrap();
        let mut change = filled(99, &[(Table::Plans, b"k", b"w")]);
        change.delete(Table::Plans, b"old").unwrap();
        store.tend(&change).unwrap();
        assert_eq!((store.applied(), store.stats().unwrap().stored_at.as_millis()), (3, 1_000));
        store.close();
        let opened = home.open();
        assert_eq!(opened.found, crate::store::Found::Intact { applied: 3 });
        assert_eq!(opened.store.get(Table::Plans, b"k").unwrap(), Some(b"w".to_vec()));
        assert_eq!(opened.store.get(Table::Plans, b"old").unwrap(), None);
    }

    #[test]
    fn a_full_store_refuses_to_grow_and_still_shrinks() {
        let home = Home::new();
        let store = home.open().store;
        store.apply(&filled(1, &[(Table::Plans, b"k", b"v")])).unwrap();
        store.swapping().header.totals.rows = ROWS_MAX;
        let refused = store.apply(&filled(2, &[(Table::Plans, b"l", b"v")])).unwrap_err();
        assert!(matches!(refused, StoreError::Full { .. }), "{refused}");
        let mut change = Change::new(2, Timestamp::from_millis(1));
        change.delete(Table::Plans, b"k").unwrap();
        assert_eq!(store.apply(&change).unwrap(), Applied::Now);
    }
}

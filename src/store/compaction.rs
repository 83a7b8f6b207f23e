//! Gives disk space back, which sled never does: copies what lives into a new generation and makes that one count.

use std::mem;
use std::ops::{Bound, ControlFlow};
use std::path::Path;

use super::engine::EngineError;
use super::error::StoreError;
use super::folder;
use super::fresh::Fresh;
use super::header::Header;
use super::opening;
use super::probe::{self, Trouble};
use super::row::HEADER_KEY;
use super::store::Store;
use super::view::View;

/// What a compaction gained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// Bytes of the files before.
    pub before_bytes: u64,
    /// Bytes of the files after.
    pub after_bytes: u64,
}

impl Store {
    /// Copies the store into a new generation, checks the copy, and switches. Writers wait, readers do not. Needs
    /// room for the live bytes a few times over; where there is none, the store stays as it was.
    pub fn compact(&self) -> Result<Compacted, StoreError> {
        let turn = self.writing()?;
        let (header, generation) = (self.reading().header.clone(), self.reading().generation);
        let before_bytes = self.folder.disk_bytes(generation)?;
        self.replace(|fresh, path| {
            self.copy_into(fresh).map_err(|error| Trouble::from(error).into_error(path))?;
            if *fresh.totals() != header.totals {
                return Err(StoreError::Damaged { problem: "the copy differs from the original".to_owned() });
            }
            Ok(header)
        })?;
        let after_bytes = self.folder.disk_bytes(self.reading().generation)?;
        drop(turn);
        Ok(Compacted { before_bytes, after_bytes })
    }

    /// Fills the next generation, opens and checks it, and makes it the one that counts. A crash before the pointer
    /// is replaced leaves the old one, after it the new one; what does not count is removed at the next open.
    ///
    /// The caller holds the writer's turn.
    pub(super) fn replace(
        &self,
        fill: impl FnOnce(&mut Fresh, &Path) -> Result<Header, StoreError>,
    ) -> Result<(), StoreError> {
        let old = self.reading().generation;
        let number = old.wrapping_add(1);
        let path = self.folder.generation(number);
        folder::remove_all(&path)?;
        let view = self.build(&path, number, fill).inspect_err(|_| self.remove_generation(&path))?;
        if let Err(error) = self.folder.point_to(number) {
            opening::close(&self.folder, view.engine);
            self.remove_generation(&path);
            return Err(error);
        }
        let superseded = mem::replace(&mut *self.swapping(), view);
        opening::close(&self.folder, superseded.engine);
        if let Err(error) = self.folder.sync() {
            // After a power cut either generation may count: neither may change until one is chosen by opening.
            self.refuse(error.to_string());
            return Err(error);
        }
        self.remove_generation(&self.folder.generation(old));
        Ok(())
    }

    fn build(
        &self,
        path: &Path,
        number: u32,
        fill: impl FnOnce(&mut Fresh, &Path) -> Result<Header, StoreError>,
    ) -> Result<View, StoreError> {
        let failed = |error: EngineError| Trouble::from(error).into_error(path);
        let mut fresh = Fresh::begin(path, self.options.cache_bytes).map_err(failed)?;
        let header = fill(&mut fresh, path)?;
        fresh.finish(header).map_err(failed)?;
        folder::sync_tree(path)?;
        let opened = probe::open(path, &self.identity, &self.options);
        let (engine, header) = opened.map_err(|trouble| trouble.into_error(path))?;
        Ok(View::new(engine, number, header))
    }

    fn copy_into(&self, fresh: &mut Fresh) -> Result<(), EngineError> {
        let mut failed = None;
        self.reading().walk(Bound::Excluded(HEADER_KEY), Bound::Unbounded, |row_key, stored| match fresh
            .push(row_key, stored)
        {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        })?;
        failed.map_or(Ok(()), Err)
    }

    /// What remains is removed at the next open.
    fn remove_generation(&self, path: &Path) {
        if let Err(error) = folder::remove_all(path) {
            tracing::warn!(dir = %self.folder.dir().display(), %error, "a superseded generation of the store remains");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::{Home, filled};
    use crate::store::{Found, KeyRange, Table};

    #[test]
    fn compaction_keeps_every_record_and_gives_space_back() {
        let home = Home::new();
        let store = home.open().store;
        for applied in 1..=40 {
            let value = vec![u8::try_from(applied).unwrap(); 20_000];
            store
                .apply(&filled(applied, &[(Table::Plans, b"k", &value), (Table::Learned, b"l", b"1")]))
                .unwrap();
        }
        let before = store.scan(Table::Plans, &KeyRange::all(), 10).unwrap();
        let compacted = store.compact().unwrap();
        assert!(compacted.after_bytes < compacted.before_bytes, "{compacted:?}");
        assert_eq!(store.scan(Table::Plans, &KeyRange::all(), 10).unwrap(), before);
        assert_eq!(store.applied(), 40);
        store.apply(&filled(41, &[(Table::Plans, b"n", b"after")])).unwrap();
        store.close();

        let opened = home.open();
        assert_eq!(opened.found, Found::Intact { applied: 41 });
        assert_eq!(opened.store.get(Table::Plans, b"n").unwrap().as_deref(), Some(b"after".as_slice()));
        assert_eq!(opened.store.stats().unwrap().records, 3);
    }

    #[test]
    fn a_copy_that_fails_leaves_the_store_as_it_was() {
        let home = Home::new();
        let store = home.open().store;
        store.apply(&filled(1, &[(Table::Plans, b"k", b"v")])).unwrap();
        let refused = store.replace(|fresh, _| {
            fresh.push(b"\x05x", b"not a row").unwrap();
            Ok(store.reading().header.clone())
        });
        assert!(matches!(refused, Err(StoreError::Damaged { .. })));
        store.apply(&filled(2, &[(Table::Plans, b"l", b"w")])).unwrap();
        assert!(!store.folder.generation(2).exists());
        store.close();
        assert_eq!(home.open().found, Found::Intact { applied: 2 });
    }

    #[test]
    fn a_crash_between_any_two_steps_leaves_one_whole_store() {
        let home = Home::new();
        let store = home.open().store;
        store.apply(&filled(1, &[(Table::Plans, b"k", b"v")])).unwrap();
        // Killed while filling: a generation that does not count, and a pointer half prepared.
        let unfinished = store.folder.generation(2);
        let mut fresh = Fresh::begin(&unfinished, 1 << 20).unwrap();
        fresh.push(b"\x05x", b"torn").unwrap();
        drop(fresh);
        std::fs::write(store.dir().join("CURRENT.next"), "gen-0").unwrap();
        store.close();
        let opened = home.open();
        assert_eq!(opened.found, Found::Intact { applied: 1 });
        assert!(!unfinished.exists());

        // Killed after the switch: the superseded generation still stands.
        opened.store.compact().unwrap();
        let superseded = opened.store.folder.generation(1);
        std::fs::create_dir(&superseded).unwrap();
        std::fs::write(superseded.join("db"), "old").unwrap();
        opened.store.close();
        assert_eq!(home.open().found, Found::Intact { applied: 1 });
        assert!(!superseded.exists());
    }
}

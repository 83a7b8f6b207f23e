//! From a path to a store that can be believed: fresh, intact, or moved aside and begun again.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, RwLock};
use std::thread;
use std::time::Duration;

use super::engine::{Engine, EngineError};
use super::error::{Doubt, StoreError};
use super::folder::{Folder, Pointer};
use super::fresh::Fresh;
use super::header::{Header, Identity};
use super::probe::{self, Trouble};
use super::store::Store;
use super::view::View;

/// How a store uses the machine.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What sled may keep of its pages. It counts serialized bytes: memory is about twice that.
    pub cache_bytes: u64,
    /// Room kept free so that a store on a full disk can be opened again.
    pub ballast_bytes: u64,
    /// How to wait for a dying predecessor's lock.
    pub sleep: fn(Duration),
}

impl Default for Options {
    fn default() -> Self {
        Self { cache_bytes: 64 * 1024 * 1024, ballast_bytes: 16 * 1024 * 1024, sleep: thread::sleep }
    }
}

/// An open store, and what stood there before.
#[derive(Debug)]
pub struct Opened {
    /// Ready to read and, with [`Found::Intact`], at the sequence it was left at.
    pub store: Store,
    /// What the caller has to do first.
    pub found: Found,
}

/// What stood at the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing: fold from the beginning or import.
    Fresh,
    /// A store in which every row is what was written: fold on from here.
    Intact {
        /// The last ledger sequence in it; 0 before the first.
        applied: u64,
    },
    /// A store that was not believed. An empty one was begun: import the last export, then fold on from there.
    MovedAside {
        /// Why.
        doubt: Doubt,
        /// Where it stands now.
        to: PathBuf,
    },
}

impl Store {
    /// Opens the store at `dir`, creates it if nothing stands there, and reads it whole before believing it.
    /// Blocks for as long as that takes: a quarter of a second for 100,000 records.
    pub fn open(dir: &Path, identity: &Identity, options: Options) -> Result<Opened, StoreError> {
        let folder = Folder::new(dir)?;
        let lock = folder.lock(&options.sleep)?;
        let (view, found) = match folder.pointer()? {
            Pointer::Nothing => (create(&folder, 1, identity, &options)?, Found::Fresh),
            Pointer::Broken(problem) => begin_again(&folder, 1, identity, &options, Doubt::Pointer(problem))?,
            Pointer::Generation(number) => believe(&folder, number, identity, &options)?,
        };
        if let Err(error) = folder.remove_other_generations(view.generation) {
            tracing::warn!(dir = %dir.display(), %error, "a superseded generation of the store remains");
        }
        let refusal = OnceLock::new();
        if let Err(error) = folder.lay_ballast(options.ballast_bytes) {
            tracing::debug!(dir = %dir.display(), %error, "no room for the ballast: the store takes no writes");
            drop(refusal.set(format!("no room for the ballast of {} bytes", options.ballast_bytes)));
        }
        let store = Self {
            folder,
            lock,
            options,
            identity: identity.clone(),
            writer: Mutex::new(()),
            view: RwLock::new(view),
            refusal,
        };
        Ok(Opened { store, found })
    }

    /// For a caller with a doubt of its own, for example a ledger that went back: moves the store aside and
    /// begins again.
    pub fn set_aside(self, reason: &str) -> Result<Opened, StoreError> {
        let Self { folder, lock, options, identity, view, .. } = self;
        let view = view.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let number = view.generation;
        close(&folder, view.engine);
        let doubt = Doubt::Caller(reason.to_owned());
        let to = move_aside(&folder, &doubt)?;
        create(&folder, number.wrapping_add(1), &identity, &options)?;
        drop(lock);
        let Opened { store, .. } = Self::open(folder.dir(), &identity, options)?;
        Ok(Opened { store, found: Found::MovedAside { doubt, to } })
    }
}

/// Lets go of an engine that is not needed any more; that it fails is worth a line, no more.
pub(super) fn close(folder: &Folder, engine: Engine) {
    if let Err(error) = engine.close() {
        tracing::warn!(dir = %folder.dir().display(), reason = error.reason(), "the store did not close cleanly");
    }
}

/// Opens the generation that counts, or begins again.
fn believe(
    folder: &Folder,
    number: u32,
    identity: &Identity,
    options: &Options,
) -> Result<(View, Found), StoreError> {
    let path = folder.generation(number);
    let mut opened = probe::open(&path, identity, options);
    if let Err(Trouble::Outside(error)) = &opened {
        // Opening writes, too: what the ballast was kept for.
        if error.is_full() && folder.remove_ballast()? {
            opened = probe::open(&path, identity, options);
        }
    }
    match opened {
        Ok((engine, header)) => {
            let found = Found::Intact { applied: header.applied };
            Ok((View::new(engine, number, header), found))
        }
        Err(Trouble::Doubt(doubt)) => begin_again(folder, number.wrapping_add(1), identity, options, doubt),
        Err(trouble @ Trouble::Outside(_)) => Err(trouble.into_error(folder.dir())),
    }
}

/// Moves the store aside and creates an empty one, whose first generation is `number`: not the old one's, since a
/// thread of the engine that hangs there may still write to files by their old path.
fn begin_again(
    folder: &Folder,
    number: u32,
    identity: &Identity,
    options: &Options,
    doubt: Doubt,
) -> Result<(View, Found), StoreError> {
    let to = move_aside(folder, &doubt)?;
    let view = create(folder, number, identity, options)?;
    Ok((view, Found::MovedAside { doubt, to }))
}

fn move_aside(folder: &Folder, doubt: &Doubt) -> Result<PathBuf, StoreError> {
    let to = folder.move_aside()?;
    tracing::warn!(
        dir = %folder.dir().display(), %doubt, to = %to.display(),
        "the store is doubtful and was moved aside; its contents are rebuilt from the ledger"
    );
    Ok(to)
}

/// Creates an empty store that counts only once all of it is durable.
fn create(folder: &Folder, number: u32, identity: &Identity, options: &Options) -> Result<View, StoreError> {
    let staging = folder.begin_creation(number)?;
    let failed = |error: EngineError| Trouble::from(error).into_error(folder.dir());
    let fresh = Fresh::begin(&staging, options.cache_bytes).map_err(failed)?;
    fresh.finish(Header::empty(identity.clone())).map_err(failed)?;
    folder.end_creation(number)?;
    let opened = probe::open(&folder.generation(number), identity, options);
    let (engine, header) = opened.map_err(|trouble| trouble.into_error(folder.dir()))?;
    Ok(View::new(engine, number, header))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::store::tests::{Home, filled};
    use crate::store::{Applied, Table};

    fn written(home: &Home) {
        let store = home.open().store;
        store.apply(&filled(5, &[(Table::Plans, b"k", b"v")])).unwrap();
        store.close();
    }

    fn assert_begun_again(home: &Home, expect: impl Fn(&Doubt) -> bool) {
        let opened = home.open();
        let Found::MovedAside { doubt, to } = opened.found else { panic!("believed: {:?}", opened.found) };
        assert!(expect(&doubt), "{doubt}");
        assert!(to.is_dir(), "what was doubtful is kept");
        assert_eq!(opened.store.applied(), 0);
        assert_eq!(opened.store.get(Table::Plans, b"k").unwrap(), None);
        assert_eq!(opened.store.apply(&filled(1, &[])).unwrap(), Applied::Now);
        assert_eq!(opened.store.stats().unwrap().doubtful, 1);
    }

    #[test]
    fn a_store_is_fresh_once_and_intact_afterwards() {
        let home = Home::new();
        let opened = home.open();
        assert_eq!(opened.found, Found::Fresh);
        opened.store.close();
        assert_eq!(home.open().found, Found::Intact { applied: 0 });
        written(&home);
        let opened = home.open();
        assert_eq!(opened.found, Found::Intact { applied: 5 });
        assert_eq!(opened.store.get(Table::Plans, b"k").unwrap(), Some(b"v".to_vec()));
    }

    #[test]
    fn a_view_of_another_ledger_or_schema_is_moved_aside() {
        let home = Home::new();
        written(&home);
        let opened = home.try_open(b"created anew").unwrap();
        let Found::MovedAside { doubt, .. } = &opened.found else { panic!("believed: {:?}", opened.found) };
        assert_eq!(*doubt, Doubt::OtherLedger);
        assert_eq!(opened.store.applied(), 0);
    }

    #[test]
    fn a_missing_garbled_or_dangling_pointer_is_not_guessed_at() {
        for contents in [None, Some("gen-1"), Some("gen-000009"), Some("")] {
            let home = Home::new();
            written(&home);
            let pointer = home.dir().join("CURRENT");
            match contents {
                Some(text) => fs::write(&pointer, text).unwrap(),
                None => fs::remove_file(&pointer).unwrap(),
            }
            assert_begun_again(&home, |doubt| matches!(doubt, Doubt::Pointer(_)));
        }
    }

    #[test]
    fn a_row_that_was_added_changed_or_lost_behind_our_back_is_noticed() {
        let tampered: [(&[u8], Option<Vec<u8>>); 3] = [
            (b"\x05k", None),
            (b"\x05k", Some(super::super::row::split(Table::Plans, b"k", b"w").remove(0).1)),
            (b"\x05l", Some(super::super::row::split(Table::Plans, b"l", b"v").remove(0).1)),
        ];
        for (row_key, stored) in tampered {
            let home = Home::new();
            written(&home);
            // The threads of the store before it let go of the lock a moment after it was closed.
            let generation = home.dir().join("gen-000001");
            let engine = crate::store::folder::retry_while_locked(&std::thread::sleep, || {
                Engine::open(&generation, 1 << 20).ok()
            })
            .unwrap();
            engine.commit(&[(row_key.to_vec(), stored)].into()).unwrap();
            engine.make_durable().unwrap();
            engine.close().unwrap();
            assert_begun_again(&home, |doubt| matches!(doubt, Doubt::Totals { .. }));
        }
    }

    #[test]
    fn a_snapshot_that_was_cut_off_by_a_crash_or_a_full_disk_is_no_reason_to_doubt() {
        let home = Home::new();
        written(&home);
        // Its name sorts behind that of the last whole one.
        let unfinished = home.dir().join("gen-000001/snap.FFFFFFFFFFFFFFFF.generating");
        fs::write(&unfinished, b"cut").unwrap();
        let opened = home.open();
        assert_eq!(opened.found, Found::Intact { applied: 5 });
        assert_eq!(opened.store.get(Table::Plans, b"k").unwrap(), Some(b"v".to_vec()));
        assert!(!unfinished.exists());
    }

    #[test]
    fn a_caller_with_a_doubt_of_its_own_begins_again() {
        let home = Home::new();
        written(&home);
        let opened = home.open().store.set_aside("the ledger ends at 3").unwrap();
        let Found::MovedAside { doubt, .. } = &opened.found else { panic!("kept: {:?}", opened.found) };
        assert_eq!(doubt.to_string(), "the ledger ends at 3");
        assert_eq!(opened.store.applied(), 0);
        opened.store.close();
        assert_eq!(home.open().found, Found::Intact { applied: 0 });
    }

    #[test]
    fn folders_of_others_are_left_alone() {
        let home = Home::new();
        fs::create_dir(home.dir()).unwrap();
        fs::write(home.dir().join("letter"), "dear").unwrap();
        assert!(matches!(home.try_open(b"l"), Err(StoreError::NotAStore { .. })));
        assert!(home.dir().join("letter").exists());
        fs::remove_file(home.dir().join("letter")).unwrap();
        assert_eq!(home.open().found, Found::Fresh, "an empty folder is a place to begin");
    }

    #[test]
    fn a_store_cut_off_while_it_was_created_is_created_again() {
        let home = Home::new();
        let half = home.dir().with_file_name("kb.new").join("gen-000001");
        fs::create_dir_all(&half).unwrap();
        fs::write(half.join("db"), "half").unwrap();
        assert_eq!(home.open().found, Found::Fresh);
    }

    #[test]
    fn a_second_opener_waits_and_then_says_who_is_in_the_way() {
        static SLEPT: AtomicU32 = AtomicU32::new(0);
        let home = Home::new();
        let opened = home.open();
        let sleep = |pause: Duration| {
            SLEPT.fetch_add(u32::try_from(pause.as_millis()).unwrap(), Ordering::Relaxed);
        };
        let options = Options { sleep, ..Options::default() };
        let refused = Store::open(&home.dir(), &Identity::new(1, b"ledger").unwrap(), options).unwrap_err();
        assert!(matches!(refused, StoreError::Locked { .. }), "{refused}");
        assert_eq!(SLEPT.load(Ordering::Relaxed), 9_900, "about ten seconds for a dying predecessor");
        drop(opened);
    }

    #[test]
    fn doubtful_folders_do_not_fill_the_disk_unseen() {
        let home = Home::new();
        written(&home);
        for n in 1..=16 {
            fs::create_dir(home.dir().with_file_name(format!("kb.doubtful-{n}"))).unwrap();
        }
        assert!(matches!(home.try_open(b"other"), Err(StoreError::TooManyDoubtful { count: 16, .. })));
        assert_eq!(home.open().found, Found::Intact { applied: 5 });
    }

    #[test]
    fn without_room_for_the_ballast_reads_go_on_and_writes_are_refused() {
        let home = Home::new();
        written(&home);
        fs::remove_file(home.dir().join("ballast")).unwrap();
        // A folder of that name is as much in the way as a full disk.
        fs::create_dir(home.dir().join("ballast")).unwrap();
        let store = home.open().store;
        assert_eq!(store.get(Table::Plans, b"k").unwrap(), Some(b"v".to_vec()));
        let refused = store.apply(&filled(6, &[])).unwrap_err();
        assert!(matches!(refused, StoreError::Refusing { .. }), "{refused}");
        assert!(store.stats().unwrap().refusing.is_some());
        store.close();
        fs::remove_dir(home.dir().join("ballast")).unwrap();
        home.open().store.apply(&filled(6, &[])).unwrap();
    }
}

//! sled 0.34.7 behind five calls: open, read, walk, commit, make durable. Nothing else in the crate names it.
//!
//! The rules that make it safe: one tree, never the default one; small rows; no background flush; each commit is
//! one batch, `flush`, then `fsync` of the log file (`flush` alone is `sync_file_range` on Linux and lost confirmed
//! records in 94 of 99 emulated power cuts); every call is fenced against panics.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::time::Duration;

use super::error;
use super::guard::{self, Escape};

/// The one tree. sled's own export drops or renames the default tree.
const TREE: &[u8] = b"homeostat";
/// sled's log, beside `conf`, `snap.*` and `blobs`.
const LOG_FILE: &str = "db";
/// Dropping flushes and fsyncs what is left; longer, and a thread of the engine has died.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(10);

/// Raw writes of one batch: `None` removes.
pub(super) type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;
/// The beginning or end of a walk.
pub(super) type Edge<'a> = Bound<&'a [u8]>;

/// Why a call of the engine failed.
#[derive(Debug)]
pub(super) enum EngineError {
    /// The operating system refused: no room, no permission, too many files.
    System(io::Error),
    /// The predecessor has not let go of the file yet.
    Locked,
    /// The files are not what was written.
    Damaged(String),
    /// A bug of the engine, or damage that it does not check for.
    Escaped(Escape),
}

impl EngineError {
    /// For logs and for the reason of a refusal.
    pub(super) fn reason(&self) -> String {
        match self {
            Self::System(error) if error::is_full(error) => "there is no room on the disk".to_owned(),
            Self::System(error) => error.to_string(),
            Self::Locked => "the files are locked".to_owned(),
            Self::Damaged(problem) => problem.clone(),
            Self::Escaped(Escape::Panicked(message)) => format!("the engine panicked: {message}"),
            Self::Escaped(Escape::TimedOut) => "the engine did not come back".to_owned(),
        }
    }

    /// Whether freeing space would help.
    pub(super) fn is_full(&self) -> bool {
        match self {
            Self::System(error) => error::is_full(error),
            Self::Locked | Self::Damaged(_) | Self::Escaped(_) => false,
        }
    }
}

impl From<sled::Error> for EngineError {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(error) => from_io(error),
            damage @ (sled::Error::CollectionNotFound(_)
            | sled::Error::Unsupported(_)
            | sled::Error::ReportableBug(_)
            | sled::Error::Corruption { .. }) => Self::Damaged(damage.to_string()),
        }
    }
}

impl From<Escape> for EngineError {
    fn from(escape: Escape) -> Self {
        Self::Escaped(escape)
    }
}

/// sled wraps what it finds in its own files as I/O errors, too. These kinds come from wrong contents; all others
/// are the system's and say nothing about the files.
fn from_io(error: io::Error) -> EngineError {
    if error.kind() == io::ErrorKind::Other && error.to_string().contains("could not acquire lock") {
        return EngineError::Locked;
    }
    let about_contents = matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::InvalidData
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::Other
    );
    if about_contents { EngineError::Damaged(error.to_string()) } else { EngineError::System(error) }
}

/// A snapshot is written under this ending and renamed when it is whole.
const UNFINISHED: &str = ".generating";

/// sled takes what a crash or a full disk left of a snapshot for the newest one, and the files for damaged. It is nothing:
/// the log has all of it.
fn remove_unfinished_snapshots(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(UNFINISHED) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// An open folder of sled.
#[derive(Debug)]
pub(super) struct Engine {
    tree: sled::Tree,
    log: File,
    /// Last: the tree must be gone when it goes. Holds the lock on the log.
    db: sled::Db,
}

impl Engine {
    /// Opens or creates `folder`. May take long and may not return on damaged files: call it [`guard::within`].
    pub(super) fn open(folder: &Path, cache_bytes: u64) -> Result<Self, EngineError> {
        remove_unfinished_snapshots(folder).map_err(EngineError::System)?;
        let config = sled::Config::new().path(folder).cache_capacity(cache_bytes).flush_every_ms(None);
        let db = config.open()?;
        let tree = db.open_tree(TREE)?;
        let log = File::open(folder.join(LOG_FILE)).map_err(EngineError::System)?;
        Ok(Self { tree, log, db })
    }

    /// The value under a raw key.
    pub(super) fn read(&self, row_key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        let found = guard::catch(|| self.tree.get(row_key))??;
        Ok(found.map(|stored| stored.to_vec()))
    }

    /// Shows rows in the order of their keys until `visit` breaks.
    pub(super) fn walk(
        &self,
        from: Edge<'_>,
        to: Edge<'_>,
        mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        let walked = guard::catch(|| {
            for row in self.tree.range::<&[u8], _>((from, to)) {
                let (row_key, stored) = row?;
                if visit(&row_key, &stored).is_break() {
                    break;
                }
            }
            Ok::<(), sled::Error>(())
        });
        Ok(walked??)
    }

    /// Applies all writes or, in the eyes of the next open, none. Not durable yet.
    pub(super) fn commit(&self, writes: &Writes) -> Result<(), EngineError> {
        let mut batch = sled::Batch::default();
        for (row_key, stored) in writes {
            match stored {
                Some(stored) => batch.insert(row_key.as_slice(), stored.as_slice()),
                None => batch.remove(row_key.as_slice()),
            }
        }
        Ok(guard::catch(|| self.tree.apply_batch(batch))??)
    }

    /// Hands what was committed to the operating system; bounds sled's memory in bulk loads.
    pub(super) fn flush(&self) -> Result<(), EngineError> {
        guard::catch(|| self.db.flush())??;
        Ok(())
    }

    /// After this, what was committed survives a power cut.
    pub(super) fn make_durable(&self) -> Result<(), EngineError> {
        self.flush()?;
        self.log.sync_data().map_err(EngineError::System)
    }

    /// Lets go of the files, as far as the engine still can.
    pub(super) fn close(self) -> Result<(), EngineError> {
        Ok(guard::within(CLOSE_TIME_MAX, move || drop(self))?)
    }
}

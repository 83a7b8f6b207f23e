//! Where a store lies, and the steps on folders that must survive a crash between any two of them.
//!
//! ```text
//! <dir>/CURRENT           names the generation that counts, replaced by rename
//! <dir>/gen-000001/       a folder of sled
//! <dir>/ballast           room to reopen on a full disk
//! <dir>/room              for a moment: whether there is as much beside it
//! <dir>.lock              held while the store is open
//! <dir>.new/              a store being created; counts once it is renamed to <dir>
//! <dir>.doubtful-1/       a store that was not believed
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::StoreError;

/// A dying predecessor holds its locks for some milliseconds; a hung one for ever.
const LOCK_TRIES: u32 = 100;
/// Between two tries: together about ten seconds.
pub(super) const LOCK_PAUSE: Duration = Duration::from_millis(100);
/// Each is as large as a store: more, and they fill the disk while nobody looks.
const DOUBTFUL_MAX: usize = 16;

const POINTER: &str = "CURRENT";
const POINTER_NEXT: &str = "CURRENT.next";
const BALLAST: &str = "ballast";
const ROOM: &str = "room";

/// The paths of one store.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    dir: PathBuf,
    parent: PathBuf,
    name: String,
}

/// What stands at the store's path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pointer {
    /// No store yet.
    Nothing,
    /// A store whose pointer is not to be believed, and why.
    Broken(String),
    /// The number of the generation that counts.
    Generation(u32),
}

impl Folder {
    /// Creates the parent folder if needed.
    pub(super) fn new(dir: &Path) -> Result<Self, StoreError> {
        let unusable = |problem| StoreError::NotAStore { dir: dir.to_owned(), problem };
        let name = dir.file_name().ok_or_else(|| unusable("has no name"))?;
        let name = name.to_str().ok_or_else(|| unusable("is not UTF-8"))?.to_owned();
        let parent = match dir.parent() {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            Some(_) | None => PathBuf::from("."),
        };
        fs::create_dir_all(&parent).map_err(StoreError::system("create", &parent))?;
        Ok(Self { dir: dir.to_owned(), parent, name })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The folder of sled of a generation.
    pub(super) fn generation(&self, number: u32) -> PathBuf {
        self.dir.join(generation_name(number))
    }

    /// Takes the lock that keeps other processes and other stores of this process away.
    pub(super) fn lock(&self, sleep: &dyn Fn(Duration)) -> Result<File, StoreError> {
        let path = self.sibling(".lock");
        let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = open.map_err(StoreError::system("open", &path))?;
        let taken = retry_while_locked(sleep, || match file.try_lock() {
            Ok(()) => Some(Ok(())),
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Error(error)) => Some(Err(error)),
        });
        match taken {
            Some(Ok(())) => Ok(file),
            Some(Err(error)) => Err(StoreError::system("lock", &path)(error)),
            None => Err(StoreError::Locked { dir: self.dir.clone() }),
        }
    }

    /// Which generation counts. Refuses a folder that something else lives in.
    pub(super) fn pointer(&self) -> Result<Pointer, StoreError> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Pointer::Nothing),
            Err(error) => return Err(StoreError::system("list", &self.dir)(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(StoreError::system("list", &self.dir))?;
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
        if names.is_empty() {
            return Ok(Pointer::Nothing);
        }
        if !names.iter().any(|name| name == POINTER || generation_number(name).is_some()) {
            let problem = "is not empty and not a store";
            return Err(StoreError::NotAStore { dir: self.dir.clone(), problem });
        }
        self.read_pointer()
    }

    /// The empty place where a store is created before it counts, with the path of its first generation, `number`.
    pub(super) fn begin_creation(&self, number: u32) -> Result<PathBuf, StoreError> {
        let staging = self.sibling(".new");
        remove_all(&staging)?;
        fs::create_dir(&staging).map_err(StoreError::system("create", &staging))?;
        Ok(staging.join(generation_name(number)))
    }

    /// Makes what was created in the place of [`Self::begin_creation`] the store, durably.
    pub(super) fn end_creation(&self, number: u32) -> Result<(), StoreError> {
        let staging = self.sibling(".new");
        write_synced(&staging.join(POINTER), generation_name(number).as_bytes())?;
        sync_tree(&staging)?;
        fs::rename(&staging, &self.dir).map_err(StoreError::system("create", &self.dir))?;
        sync_folder(&self.parent)
    }

    /// Makes `number` count. From here on the old generation must not be written to.
    pub(super) fn point_to(&self, number: u32) -> Result<(), StoreError> {
        let next = self.dir.join(POINTER_NEXT);
        write_synced(&next, generation_name(number).as_bytes())?;
        let pointer = self.dir.join(POINTER);
        fs::rename(&next, &pointer).map_err(StoreError::system("replace", &pointer))
    }

    /// Makes the last rename in the store's folder durable.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        sync_folder(&self.dir)
    }

    /// Removes the generations other than `number`: what was compacted away, or never came to count.
    pub(super) fn remove_other_generations(&self, number: u32) -> Result<(), StoreError> {
        let entries = fs::read_dir(&self.dir).map_err(StoreError::system("list", &self.dir))?;
        for entry in entries {
            let entry = entry.map_err(StoreError::system("list", &self.dir))?;
            let other = generation_number(&entry.file_name().to_string_lossy());
            if other.is_some_and(|other| other != number) {
                remove_all(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Renames the whole store, never deletes it, and says where it stands now.
    pub(super) fn move_aside(&self) -> Result<PathBuf, StoreError> {
        let doubtful = self.doubtful()?;
        if doubtful.len() >= DOUBTFUL_MAX {
            return Err(StoreError::TooManyDoubtful { dir: self.dir.clone(), count: doubtful.len() });
        }
        self.remove_ballast()?;
        let number = doubtful.last().map_or(1, |last| last + 1);
        let aside = self.sibling(&format!(".doubtful-{number}"));
        fs::rename(&self.dir, &aside).map_err(StoreError::system("move aside", &self.dir))?;
        sync_folder(&self.parent)?;
        Ok(aside)
    }

    /// The numbers of the folders moved aside that still stand, in order.
    pub(super) fn doubtful(&self) -> Result<Vec<u64>, StoreError> {
        let prefix = format!("{}.doubtful-", self.name);
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.parent).map_err(StoreError::system("list", &self.parent))? {
            let entry = entry.map_err(StoreError::system("list", &self.parent))?;
            let name = entry.file_name();
            let number: Option<u64> = name.to_str().and_then(|name| name.strip_prefix(&prefix)?.parse().ok());
            numbers.extend(number);
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Fills the ballast file up to `bytes` if it is shorter. Fails where there is no room, leaving none.
    pub(super) fn lay_ballast(&self, bytes: u64) -> Result<(), StoreError> {
        let path = self.dir.join(BALLAST);
        // Left by a crash while it was tried whether there is room.
        drop(fs::remove_file(self.dir.join(ROOM)));
        if fs::metadata(&path).is_ok_and(|found| found.is_file() && found.len() >= bytes) {
            return Ok(());
        }
        fill(&path, bytes).map_err(|error| {
            drop(fs::remove_file(&path));
            StoreError::system("lay ballast in", &path)(error)
        })
    }

    /// Fails where `bytes` more cannot be written.
    pub(super) fn try_room(&self, bytes: u64) -> Result<(), StoreError> {
        let path = self.dir.join(ROOM);
        let filled = fill(&path, bytes);
        drop(fs::remove_file(&path));
        filled.map_err(StoreError::system("find room in", &self.dir))
    }

    /// Gives the ballast's room back; says whether there was any.
    pub(super) fn remove_ballast(&self) -> Result<bool, StoreError> {
        let path = self.dir.join(BALLAST);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::system("remove", &path)(error)),
        }
    }

    /// Bytes that the files of the store occupy by their lengths, without the ballast.
    pub(super) fn disk_bytes(&self, number: u32) -> Result<u64, StoreError> {
        let folder = self.generation(number);
        bytes_under(&folder).map_err(StoreError::system("measure", &folder))
    }

    fn read_pointer(&self) -> Result<Pointer, StoreError> {
        let path = self.dir.join(POINTER);
        let text = match fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Pointer::Broken("`CURRENT` is missing".to_owned()));
            }
            Err(error) => return Err(StoreError::system("read", &path)(error)),
        };
        let Some(number) = generation_number(&text) else {
            return Ok(Pointer::Broken(format!("`CURRENT` says `{}`", text.escape_debug())));
        };
        if !self.generation(number).is_dir() {
            return Ok(Pointer::Broken(format!("`CURRENT` names `{text}`, which is missing")));
        }
        Ok(Pointer::Generation(number))
    }

    fn sibling(&self, suffix: &str) -> PathBuf {
        self.parent.join(format!("{}{suffix}", self.name))
    }
}

/// Calls `attempt` until it says something, sleeping in between, for about ten seconds.
pub(super) fn retry_while_locked<T>(
    sleep: &dyn Fn(Duration),
    mut attempt: impl FnMut() -> Option<T>,
) -> Option<T> {
    for _ in 1..LOCK_TRIES {
        if let Some(answer) = attempt() {
            return Some(answer);
        }
        sleep(LOCK_PAUSE);
    }
    attempt()
}

/// Makes every file and folder under `path` durable, the leaves first.
pub(super) fn sync_tree(path: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(path).map_err(StoreError::system("list", path))? {
        let path = entry.map_err(StoreError::system("list", path))?.path();
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            sync_folder(&path)?;
        }
    }
    sync_folder(path)
}

/// Removes a folder or nothing.
pub(super) fn remove_all(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(StoreError::system("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// `fsync` of a folder (its names) or of a file (its contents).
fn sync_folder(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(StoreError::system("sync", path))
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let written = File::create(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(StoreError::system("write", path))
}

/// Writes bytes that a compressing file system cannot store in less room.
fn fill(path: &Path, mut bytes: u64) -> io::Result<()> {
    let mut file = File::create(path)?;
    let mut noise = blake3::Hasher::new().finalize_xof();
    let mut block = vec![0; 64 * 1024];
    while bytes > 0 {
        noise.fill(&mut block);
        let wanted = usize::try_from(bytes).unwrap_or(usize::MAX).min(block.len());
        file.write_all(&block[..wanted])?;
        bytes -= wanted as u64;
    }
    file.sync_all()
}

fn bytes_under(path: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        bytes += match entry.metadata() {
            Ok(found) if found.is_dir() => bytes_under(&entry.path())?,
            Ok(found) => found.len(),
            // sled replaces its snapshots while we look.
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
    }
    Ok(bytes)
}

fn generation_name(number: u32) -> String {
    format!("gen-{number:06}")
}

/// Strict: a name that we would not have written is not ours.
fn generation_number(name: &str) -> Option<u32> {
    let number = name.strip_prefix("gen-")?.parse().ok()?;
    (generation_name(number) == name).then_some(number)
}

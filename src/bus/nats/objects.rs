//! Large things that are written whole and read whole: bundles and checkpoints, in an object store.
//!
//! An object is its chunks and, written last, what names them. Chunks that nothing names are what a writer has left that
//! did not come to its end; [`Objects::sweep`] takes them away.

use std::collections::BTreeSet;
use std::time::Duration;

use async_nats::jetstream::object_store::{
    GetErrorKind, InfoErrorKind, ObjectInfo, ObjectMetadata, ObjectStore,
};
use async_nats::jetstream::stream::{PurgeError, PurgeResponse, Stream};
use bytes::Bytes;
use futures::TryStreamExt as _;
use thiserror::Error;
use tokio::io::AsyncReadExt as _;

use super::connect::Connection;
use super::convert::timestamp;
use super::topology::Names;
use crate::model::Timestamp;

/// A checkpoint of a monitor with 100,000 series; larger means that something leaks.
pub const OBJECT_BYTES_MAX: usize = 256 * 1024 * 1024;
/// A chunk is a message; two of them fit in any server's limit.
const CHUNK_BYTES: usize = 128 * 1024;
/// Per object: 256 MiB at 10 MB/s.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(30);
/// Names that are listed; there are as many as generations, groups and nodes.
const LISTED_MAX: usize = 10_000;
/// What a chunk takes beside its contents: subject, headers and a record's frame.
const PER_CHUNK_BYTES: u64 = 256;
/// What is kept free of a bucket that is asked for room: bundles and checkpoints are to find some meanwhile, and nothing can
/// be deleted from a bucket without room for the note that says so.
const KEPT_FREE_BYTES: u64 = 64 * 1024;
/// Chunks without a name that are younger may be of a writer at work: it is given up after [`TRANSFER_TIMEOUT`], and the
/// rest is for clocks that differ.
const UNNAMED_FOR: Duration = Duration::from_hours(1);

/// The objects of a cell. Cheap to clone.
#[derive(Clone)]
pub struct Objects {
    connection: Connection,
    store: ObjectStore,
    stream: Stream<()>,
    stream_name: String,
    root: String,
}

/// What is known of an object without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectEntry {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: usize,
    /// When it was written, by the writer's clock.
    pub written_at: Option<Timestamp>,
}

/// Why an object could not be written or read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ObjectError {
    /// It is too large.
    #[error("the object `{name}` has {bytes} bytes, at most {OBJECT_BYTES_MAX} are kept")]
    TooLarge {
        /// Which.
        name: String,
        /// How long it is.
        bytes: usize,
    },
    /// The bucket would be full.
    #[error(
        "the object store has room for {room} bytes and `{name}` needs {bytes}; `nats stream edit {stream} --max-bytes` gives it more"
    )]
    NoRoom {
        /// Which.
        name: String,
        /// What it takes.
        bytes: u64,
        /// What there is.
        room: u64,
        /// The stream that the bucket is.
        stream: String,
    },
    /// It was changed on the way.
    #[error("the object `{0}` is damaged: its length or its digest is not the one it was written with")]
    Damaged(String),
    /// No answer, or not in time.
    #[error("the object `{name}` cannot be reached: {reason}")]
    Unavailable {
        /// Which.
        name: String,
        /// What the client said.
        reason: String,
    },
}

impl Objects {
    /// The object store that `names` names.
    pub async fn open(connection: Connection, names: &Names) -> Result<Self, ObjectError> {
        let unavailable = |error: &dyn std::error::Error| unavailable(&names.objects, error);
        let store = connection.jetstream.get_object_store(&names.objects).await;
        let store = store.map_err(|error| unavailable(&error))?;
        let stream_name = format!("OBJ_{}", names.objects);
        let stream = connection.jetstream.get_stream_no_info(&stream_name).await;
        let stream = stream.map_err(|error| unavailable(&error))?;
        Ok(Self { connection, store, stream, stream_name, root: format!("$O.{}", names.objects) })
    }

    /// Writes an object, in place of one of the same name. Readers see the old one or the new one.
    pub async fn put(&self, name: &str, contents: &[u8]) -> Result<(), ObjectError> {
        if contents.len() > OBJECT_BYTES_MAX {
            return Err(ObjectError::TooLarge { name: name.to_owned(), bytes: contents.len() });
        }
        let metadata = ObjectMetadata {
            name: name.to_owned(),
            chunk_size: Some(CHUNK_BYTES),
            ..ObjectMetadata::default()
        };
        let mut contents = contents;
        let putting = self.store.put(metadata, &mut contents);
        self.timed(name, putting).await?.map(drop).map_err(|error| unavailable(name, &error))
    }

    /// Whether there is room for so many bytes more, in objects whose names begin with `name`. Others may take it meanwhile.
    pub async fn has_room(&self, name: &str, bytes: u64) -> Result<(), ObjectError> {
        let info = self.timed(name, self.stream.get_info()).await?;
        let info = info.map_err(|error| unavailable(name, &error))?;
        // Without a limit of its own it has the account's, which is not told here.
        let Some(limit) = u64::try_from(info.config.max_bytes).ok().filter(|limit| *limit > 0) else {
            return Ok(());
        };
        let room = limit.saturating_sub(info.state.bytes);
        // The client library reads half a chunk at a time after the first.
        let chunks = bytes / (CHUNK_BYTES as u64 / 2) + 1;
        let bytes = bytes + chunks * PER_CHUNK_BYTES + KEPT_FREE_BYTES;
        if bytes <= room {
            return Ok(());
        }
        Err(ObjectError::NoRoom { name: name.to_owned(), bytes, room, stream: self.stream_name.clone() })
    }

    /// Reads an object, if there is one, and checks its digest.
    pub async fn get(&self, name: &str) -> Result<Option<Bytes>, ObjectError> {
        let mut object = match self.timed(name, self.store.get(name)).await? {
            Ok(object) => object,
            Err(error) if error.kind() == GetErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unavailable(name, &error)),
        };
        let bytes = object.info().size;
        if bytes > OBJECT_BYTES_MAX {
            return Err(ObjectError::TooLarge { name: name.to_owned(), bytes });
        }
        let mut contents = Vec::with_capacity(bytes);
        let reading = object.read_to_end(&mut contents);
        match self.timed(name, reading).await? {
            Ok(read) if read == bytes => Ok(Some(contents.into())),
            Ok(_) => Err(ObjectError::Damaged(name.to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                Err(ObjectError::Damaged(name.to_owned()))
            }
            Err(error) => Err(unavailable(name, &error)),
        }
    }

    /// Deletes an object; one that is not there is deleted already.
    pub async fn delete(&self, name: &str) -> Result<(), ObjectError> {
        // The client library fails at an object that was never there.
        let info = match self.timed(name, self.store.info(name)).await? {
            Ok(info) if info.deleted => return Ok(()),
            Ok(info) => info,
            Err(error) if error.kind() == InfoErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(unavailable(name, &error)),
        };
        if self.timed(name, self.store.delete(name)).await?.is_ok() {
            return Ok(());
        }
        // A full bucket has no room for the note that it is deleted, before its chunks are gone.
        self.timed(name, self.purge(&info.nuid)).await?.map_err(|error| unavailable(name, &error))?;
        self.timed(name, self.store.delete(name)).await?.map_err(|error| unavailable(name, &error))
    }

    /// Takes away chunks that no object names and nobody can be about to name any more; says of how many objects. One
    /// process of a cell does, and more do no harm.
    pub async fn sweep(&self, now: Timestamp) -> Result<usize, ObjectError> {
        let swept = self.timed("", self.sweep_unnamed(now)).await?;
        swept.map_err(|reason| ObjectError::Unavailable { name: self.stream_name.clone(), reason })
    }

    async fn sweep_unnamed(&self, now: Timestamp) -> Result<usize, String> {
        // First the chunks: what is named meanwhile is found among the names.
        let chunks = self.subjects("C").await?;
        let names = self.subjects("M").await?;
        if names.len() > LISTED_MAX {
            return Err(format!("more than {LISTED_MAX} objects are not looked through"));
        }
        let infos = self.infos(&names).await?;
        let named: BTreeSet<&str> =
            infos.iter().filter(|info| !info.deleted).map(|info| info.nuid.as_str()).collect();
        let mut swept = 0;
        for subject in chunks.iter().take(LISTED_MAX) {
            let nuid = subject.rsplit('.').next().unwrap_or_default();
            if named.contains(nuid) {
                continue;
            }
            // One that was deleted or replaced meanwhile has none.
            let Ok(last) = self.stream.get_last_raw_message_by_subject(subject).await else { continue };
            if now.saturating_since(timestamp(last.time)) < UNNAMED_FOR {
                continue;
            }
            self.purge(nuid).await.map_err(|error| error.to_string())?;
            swept += 1;
        }
        Ok(swept)
    }

    /// The objects whose names start with `prefix`, by name.
    pub async fn list(&self, prefix: &str) -> Result<Vec<ObjectEntry>, ObjectError> {
        let listing = async {
            let mut infos = self.infos(&self.subjects("M").await?).await?;
            infos.retain(|info| !info.deleted && info.name.starts_with(prefix));
            let entry = |info: ObjectInfo| {
                let written_at = info.modified.map(timestamp);
                ObjectEntry { name: info.name, bytes: info.size, written_at }
            };
            let mut entries: Vec<ObjectEntry> = infos.into_iter().map(entry).collect();
            entries.sort_by(|one, other| one.name.cmp(&other.name));
            Ok(entries)
        };
        let listed: Result<_, String> = self.timed(prefix, listing).await?;
        listed.map_err(|reason| ObjectError::Unavailable { name: prefix.to_owned(), reason })
    }

    /// The subjects of chunks (`C`) or of what names them (`M`).
    async fn subjects(&self, kind: &str) -> Result<Vec<String>, String> {
        let below = format!("{}.{kind}.>", self.root);
        let subjects = self.stream.info_with_subjects(below).await.map_err(|error| error.to_string())?;
        let subjects: Vec<_> = subjects.try_collect().await.map_err(|error| error.to_string())?;
        Ok(subjects.into_iter().map(|(subject, _)| subject).collect())
    }

    /// What names the objects, of the first so many.
    async fn infos(&self, subjects: &[String]) -> Result<Vec<ObjectInfo>, String> {
        let mut infos = Vec::new();
        for subject in subjects.iter().take(LISTED_MAX) {
            let message = self.stream.get_last_raw_message_by_subject(subject).await;
            let message = message.map_err(|error| error.to_string())?;
            infos.push(serde_json::from_slice(&message.payload).map_err(|error| error.to_string())?);
        }
        Ok(infos)
    }

    async fn purge(&self, nuid: &str) -> Result<PurgeResponse, PurgeError> {
        self.stream.purge().filter(format!("{}.C.{nuid}", self.root)).await
    }

    /// At most the transfer time-out, and no longer than the connection: the client library would wait for ever.
    async fn timed<T>(&self, name: &str, work: impl Future<Output = T>) -> Result<T, ObjectError> {
        let answered = tokio::time::timeout(TRANSFER_TIMEOUT, self.connection.answered(work)).await;
        let reason = match answered {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => "the connection was lost".into(),
            Err(_) => format!("no answer within {TRANSFER_TIMEOUT:?}"),
        };
        Err(ObjectError::Unavailable { name: name.to_owned(), reason })
    }
}

fn unavailable(name: &str, error: &dyn std::error::Error) -> ObjectError {
    ObjectError::Unavailable { name: name.to_owned(), reason: error.to_string() }
}

//! Large things that are written whole and read whole: bundles and checkpoints, in an object store.

use std::time::Duration;

use async_nats::jetstream::object_store::{
    GetErrorKind, InfoErrorKind, ObjectInfo, ObjectMetadata, ObjectStore,
};
use async_nats::jetstream::stream::Stream;
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

/// The objects of a cell. Cheap to clone.
#[derive(Clone)]
pub struct Objects {
    connection: Connection,
    store: ObjectStore,
    stream: Stream<()>,
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
        let stream = connection.jetstream.get_stream_no_info(format!("OBJ_{}", names.objects)).await;
        let stream = stream.map_err(|error| unavailable(&error))?;
        Ok(Self { connection, store, stream, root: format!("$O.{}", names.objects) })
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
        match self.timed(name, self.store.info(name)).await? {
            Ok(info) if info.deleted => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == InfoErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(unavailable(name, &error)),
        }
        self.timed(name, self.store.delete(name)).await?.map_err(|error| unavailable(name, &error))
    }

    /// The objects whose names start with `prefix`, by name.
    pub async fn list(&self, prefix: &str) -> Result<Vec<ObjectEntry>, ObjectError> {
        let metadata = format!("{}.M.>", self.root);
        let listing = async {
            let subjects = self.stream.info_with_subjects(metadata).await.map_err(|e| e.to_string())?;
            let subjects: Vec<_> = subjects.try_collect().await.map_err(|e| e.to_string())?;
            let mut entries = Vec::new();
            for (subject, _) in subjects.into_iter().take(LISTED_MAX) {
                let message = self.stream.get_last_raw_message_by_subject(&subject).await;
                let message = message.map_err(|e| e.to_string())?;
                let info: ObjectInfo = serde_json::from_slice(&message.payload).map_err(|e| e.to_string())?;
                if !info.deleted && info.name.starts_with(prefix) {
                    let written_at = info.modified.map(timestamp);
                    entries.push(ObjectEntry { name: info.name, bytes: info.size, written_at });
                }
            }
            entries.sort_by(|one, other| one.name.cmp(&other.name));
            Ok(entries)
        };
        let listed: Result<_, String> = self.timed(prefix, listing).await?;
        listed.map_err(|reason| ObjectError::Unavailable { name: prefix.to_owned(), reason })
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

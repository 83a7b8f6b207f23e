//! An export on its way to whoever asks: in objects of some megabytes, so that neither side holds the whole of it.
//!
//! The objects have the same names each time: what an export leaves behind makes room for the next one, and each part begins
//! with the id of its export, so that two are never taken for one. One that fails leaves nothing behind.

use std::io::{self, Write};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinError;

use super::keeping::Shelf;
use crate::bus::nats::{ObjectError, Objects};
use crate::store::{Copied, StoreError};

/// What is in memory a few times over, on both sides.
const PART_BYTES: usize = 8 * 1024 * 1024;
const ID_BYTES: usize = 16;
/// What the objects' names begin with.
const OBJECT: &str = "export.knowledge";

/// An export that can be read part by part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    id: [u8; ID_BYTES],
    /// How many objects it is in.
    pub parts: u32,
    /// How long it is.
    pub bytes: u64,
    /// How many records it has.
    pub records: u64,
    /// The ledger sequence it is a view of.
    pub applied: u64,
}

/// Why an export cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The object store does not take or give it.
    #[error("the export cannot be carried over the object store")]
    Objects(#[from] ObjectError),
    /// The store cannot be read, or there is none.
    #[error("the store cannot be read: {0}")]
    Store(String),
    /// Another export has been written in its place.
    #[error("part {0} of the export is not there any more\nhint: another export took its place; try again")]
    Replaced(u32),
}

impl Export {
    /// From what the service answered.
    pub fn read(answer: &Value) -> Option<Self> {
        let number = |name: &str| answer[name].as_u64();
        Some(Self {
            id: u128::from_str_radix(answer["id"].as_str()?, 16).ok()?.to_be_bytes(),
            parts: number("parts")?.try_into().ok()?,
            bytes: number("bytes")?,
            records: number("records")?,
            applied: number("applied")?,
        })
    }

    /// What the service answers.
    pub(super) fn told(&self) -> Value {
        json!({
            "id": format!("{:032x}", u128::from_be_bytes(self.id)),
            "parts": self.parts,
            "bytes": self.bytes,
            "records": self.records,
            "applied": self.applied,
        })
    }

    /// The contents of one part, from 1 on.
    pub async fn part(&self, objects: &Objects, number: u32) -> Result<Bytes, ExportError> {
        let object = objects.get(&name(number)).await?;
        match object.filter(|object| object.starts_with(&self.id)) {
            Some(object) => Ok(object.slice(ID_BYTES..)),
            None => Err(ExportError::Replaced(number)),
        }
    }

    /// Makes room where it was; another one is deleted with it.
    pub async fn forget(&self, objects: &Objects) -> Result<(), ExportError> {
        for number in 1..=self.parts {
            objects.delete(&name(number)).await?;
        }
        Ok(())
    }
}

/// Writes the store into objects. Writers wait for it, which is why no other export may be under way.
pub(super) async fn write(id: u128, shelf: Shelf, objects: &Objects) -> Result<Export, ExportError> {
    clear(objects).await?;
    let written = write_parts(id.to_be_bytes(), shelf, objects).await;
    if written.is_err()
        && let Err(error) = clear(objects).await
    {
        tracing::warn!(%error, "parts of an export that failed stay in the object store until the next one");
    }
    written
}

/// Deletes what an export has left.
async fn clear(objects: &Objects) -> Result<(), ObjectError> {
    for left in objects.list(OBJECT).await? {
        objects.delete(&left.name).await?;
    }
    Ok(())
}

async fn write_parts(id: [u8; ID_BYTES], shelf: Shelf, objects: &Objects) -> Result<Export, ExportError> {
    // Read twice: how long it is nobody knows before, and an object store that is full hinders the whole loop.
    let measured = {
        let shelf = shelf.clone();
        tokio::task::spawn_blocking(move || shelf.with(|knowledge| knowledge.store().export(&mut io::sink())))
    };
    let measured = copied(measured.await)?;
    objects.has_room(OBJECT, measured.bytes).await?;
    let (out, mut parts) = mpsc::channel(1);
    let writing = tokio::task::spawn_blocking(move || {
        shelf.with(|knowledge| {
            let mut writer = Parts { id, size: PART_BYTES, part: Vec::new(), out };
            let copied = knowledge.store().export(&mut writer)?;
            writer.send().map_err(|source| StoreError::Export { source })?;
            Ok::<Copied, StoreError>(copied)
        })
    });
    let mut count = 0;
    while let Some(part) = parts.recv().await {
        count += 1;
        // Whoever writes finds nobody any more, and ends.
        objects.put(&name(count), &part).await?;
    }
    let Copied { bytes, records, applied } = copied(writing.await)?;
    Ok(Export { id, parts: count, bytes, records, applied })
}

/// What came of reading the store in a thread of its own.
fn copied(
    read: Result<Result<Result<Copied, StoreError>, String>, JoinError>,
) -> Result<Copied, ExportError> {
    let read = read.map_err(|panic| ExportError::Store(panic.to_string()))?;
    let read = read.map_err(ExportError::Store)?;
    read.map_err(|error| ExportError::Store(super::explain(&error)))
}

fn name(part: u32) -> String {
    format!("{OBJECT}.{part:05}")
}

/// Cuts a stream into parts, and waits for each to be taken before it holds more than one other.
struct Parts {
    id: [u8; ID_BYTES],
    /// Of a part, without the id.
    size: usize,
    part: Vec<u8>,
    out: mpsc::Sender<Vec<u8>>,
}

impl Parts {
    fn send(&mut self) -> io::Result<()> {
        let part = std::mem::take(&mut self.part);
        if part.is_empty() {
            return Ok(());
        }
        self.out.blocking_send(part).map_err(|_| io::Error::other("nobody waits for it any more"))
    }
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.part.is_empty() {
            self.part.reserve_exact(ID_BYTES + self.size);
            self.part.extend_from_slice(&self.id);
        }
        let taken = bytes.len().min(ID_BYTES + self.size - self.part.len());
        self.part.extend_from_slice(&bytes[..taken]);
        if self.part.len() == ID_BYTES + self.size {
            self.send()?;
        }
        Ok(taken)
    }

    /// Nothing: only whole parts are sent.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_of_any_length_comes_out_in_bounded_parts() {
        for length in [1_usize, 9, 10, 11, 100, 101] {
            let (out, mut parts) = mpsc::channel(100);
            let sent: Vec<u8> = (0..length).map(|n| u8::try_from(n).unwrap()).collect();
            let mut writer = Parts { id: [7; ID_BYTES], size: 10, part: Vec::new(), out };
            for piece in sent.chunks(7) {
                writer.write_all(piece).unwrap();
            }
            writer.send().unwrap();
            drop(writer);
            let mut received = Vec::new();
            let mut count = 0;
            while let Ok(part) = parts.try_recv() {
                assert!(part.starts_with(&[7; ID_BYTES]) && part.len() <= ID_BYTES + 10);
                received.extend_from_slice(&part[ID_BYTES..]);
                count += 1;
            }
            assert_eq!((received, count), (sent, length.div_ceil(10)));
        }
    }

    #[test]
    fn what_is_told_of_an_export_reads_back() {
        let export = Export { id: [9; ID_BYTES], parts: 3, bytes: 20_000_000, records: 5, applied: 77 };
        assert_eq!(Export::read(&export.told()), Some(export));
        assert_eq!(Export::read(&json!({ "object": "export.knowledge", "bytes": 1 })), None);
    }
}

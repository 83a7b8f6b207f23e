//! The store as one stream of framed records, independent of the engine: backup, transfer, and the way to another
//! engine.
//!
//! ```text
//! file     header, records in the order of tables and keys, trailer
//! frame    length of the payload (u32), crc32 of the payload (u32), payload
//! header   'H', "homeostat store", format (u16), identity: schema (u16), length (u16), ledger
//! record   'R', table (u8), length of the key (u16), key, value
//! trailer  'T', applied (u64), stored at (i64, ms), records (u64), wrapping sum of the records' hashes (u64)
//! ```
//! Integers are big-endian; a hash is the first eight bytes of BLAKE3 over the payload.

use std::io::{self, BufWriter, Write};
use std::ops::{Bound, ControlFlow};

use super::change::VALUE_BYTES_MAX;
use super::error::StoreError;
use super::header::Header;
use super::row;
use super::store::Store;
use super::table::KEY_BYTES_MAX;
use super::view::{ReadError, View};

/// The layout of the stream.
pub(super) const EXPORT_FORMAT: u16 = 1;
pub(super) const EXPORT_MAGIC: &[u8] = b"homeostat store";
/// The longest payload: a record of the longest key and value.
pub(super) const PAYLOAD_BYTES_MAX: usize = 4 + KEY_BYTES_MAX + VALUE_BYTES_MAX;
/// Above the keys of all tables, below those of parts.
const RECORDS_END: &[u8] = &[0x80];

/// What an export or an import carried over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Records of all tables.
    pub records: u64,
    /// Length of the stream.
    pub bytes: u64,
    /// The ledger sequence it is a view of.
    pub applied: u64,
}

impl Store {
    /// Writes the whole store to `out`, as of one sequence. Writers wait for it to end, readers do not; a store that
    /// refuses writes can still be exported.
    pub fn export(&self, out: &mut dyn Write) -> Result<Copied, StoreError> {
        let _turn = self.writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let exported = write_all(&self.reading(), out);
        exported.map_err(|failure| match failure {
            Failure::Store(error) => self.distrust(error),
            Failure::Out(source) => StoreError::Export { source },
        })
    }
}

/// What frames have carried so far, as a trailer counts it.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) records: u64,
    pub(super) checksum: u64,
}

impl Tally {
    pub(super) fn add(&mut self, payload: &[u8]) {
        self.records += 1;
        self.checksum = self.checksum.wrapping_add(row::hash(&[], payload));
    }
}

enum Failure {
    Store(ReadError),
    Out(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Out(error)
    }
}

fn write_all(view: &View, out: &mut dyn Write) -> Result<Copied, Failure> {
    let mut frames = Frames { out: BufWriter::new(out), bytes: 0 };
    frames.write(&header_payload(&view.header))?;
    let mut tally = Tally::default();
    let mut failed = None;
    let walked = view.walk(Bound::Included(&[1]), Bound::Excluded(RECORDS_END), |row_key, stored| {
        let written = record_payload(view, row_key, stored).and_then(|payload| {
            tally.add(&payload);
            frames.write(&payload).map_err(Failure::Out)
        });
        failed = written.err();
        if failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    walked.map_err(|error| Failure::Store(error.into()))?;
    if let Some(failure) = failed {
        return Err(failure);
    }
    frames.write(&trailer_payload(&view.header, &tally))?;
    frames.out.flush()?;
    Ok(Copied { records: tally.records, bytes: frames.bytes, applied: view.header.applied })
}

struct Frames<W> {
    out: W,
    bytes: u64,
}

impl<W: Write> Frames<W> {
    fn write(&mut self, payload: &[u8]) -> io::Result<()> {
        self.out.write_all(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes())?;
        self.out.write_all(&crc32fast::hash(payload).to_be_bytes())?;
        self.out.write_all(payload)?;
        self.bytes += 8 + payload.len() as u64;
        Ok(())
    }
}

fn header_payload(header: &Header) -> Vec<u8> {
    let mut payload = vec![b'H'];
    payload.extend_from_slice(EXPORT_MAGIC);
    payload.extend_from_slice(&EXPORT_FORMAT.to_be_bytes());
    header.identity.encode(&mut payload);
    payload
}

fn record_payload(view: &View, row_key: &[u8], stored: &[u8]) -> Result<Vec<u8>, Failure> {
    let Some((table, key)) = row::record_of(row_key) else {
        let problem = format!("a row of an unknown table at `{}`", row_key.escape_ascii());
        return Err(Failure::Store(ReadError::Engine(super::engine::EngineError::Damaged(problem))));
    };
    let value = view.value(table, key, stored).map_err(Failure::Store)?;
    let mut payload = vec![b'R', table.byte()];
    payload.extend_from_slice(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_be_bytes());
    payload.extend_from_slice(key);
    payload.extend_from_slice(&value);
    Ok(payload)
}

fn trailer_payload(header: &Header, tally: &Tally) -> Vec<u8> {
    let mut payload = vec![b'T'];
    payload.extend_from_slice(&header.applied.to_be_bytes());
    payload.extend_from_slice(&header.stored_at.as_millis().to_be_bytes());
    payload.extend_from_slice(&tally.records.to_be_bytes());
    payload.extend_from_slice(&tally.checksum.to_be_bytes());
    payload
}

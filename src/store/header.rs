//! The one row that says what the others must add up to. It is written in the same batch as they are.

use super::StoreError;
use super::error::Doubt;
use super::row::{self, take};
use crate::model::Timestamp;

/// The layout of rows, header and folder. A store of another one is rebuilt.
pub(super) const FORMAT: u16 = 1;

const MAGIC: &[u8; 4] = b"HSTO";
const IDENTITY_BYTES_MAX: usize = 256;

/// What a store is a view of. One that differs is not opened but moved aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    schema: u16,
    ledger: Vec<u8>,
}

impl Identity {
    /// `schema` numbers the caller's records and keys; `ledger` tells one incarnation of the stream from another,
    /// for example cell, stream name and creation time.
    pub fn new(schema: u16, ledger: &[u8]) -> Result<Self, StoreError> {
        if ledger.len() > IDENTITY_BYTES_MAX {
            return Err(StoreError::IdentityTooLong { bytes: ledger.len() });
        }
        Ok(Self { schema, ledger: ledger.to_vec() })
    }

    /// Nothing if a view of `self` can be used as a view of `wanted`.
    pub(super) fn doubt(&self, wanted: &Self) -> Option<Doubt> {
        if self.schema != wanted.schema {
            return Some(Doubt::Schema { found: self.schema, wanted: wanted.schema });
        }
        (self.ledger != wanted.ledger).then_some(Doubt::OtherLedger)
    }

    /// Schema, length, ledger.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.schema.to_be_bytes());
        out.extend_from_slice(&u16::try_from(self.ledger.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend_from_slice(&self.ledger);
    }

    /// The identity at the beginning of `bytes`, and what follows it.
    pub(super) fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (schema, rest) = take(bytes)?;
        let (len, rest) = take(rest)?;
        let (ledger, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(len)))?;
        let identity = Self { schema: u16::from_be_bytes(schema), ledger: ledger.to_vec() };
        (ledger.len() <= IDENTITY_BYTES_MAX).then_some((identity, rest))
    }
}

/// What all rows but the header add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Records, whatever their length.
    pub(super) records: u64,
    /// Rows in the tree.
    pub(super) rows: u64,
    /// Bytes of the rows' keys and values.
    pub(super) bytes: u64,
    /// Wrapping sum of [`row::hash`]: it does not depend on the order and can be kept up row by row.
    pub(super) checksum: u64,
}

impl Totals {
    /// With this row.
    pub(super) fn add(&mut self, row_key: &[u8], stored: &[u8]) {
        self.rows += 1;
        self.records += u64::from(is_record(row_key));
        self.bytes += row_bytes(row_key, stored);
        self.checksum = self.checksum.wrapping_add(row::hash(row_key, stored));
    }

    /// Without this row, which was added before.
    pub(super) fn remove(&mut self, row_key: &[u8], stored: &[u8]) {
        self.rows = self.rows.saturating_sub(1);
        self.records = self.records.saturating_sub(u64::from(is_record(row_key)));
        self.bytes = self.bytes.saturating_sub(row_bytes(row_key, stored));
        self.checksum = self.checksum.wrapping_sub(row::hash(row_key, stored));
    }
}

/// The header row, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) identity: Identity,
    /// The last ledger sequence in this view; 0 before the first.
    pub(super) applied: u64,
    /// When the ledger stored that.
    pub(super) stored_at: Timestamp,
    pub(super) totals: Totals,
}

impl Header {
    /// Of a view of nothing.
    pub(super) const fn empty(identity: Identity) -> Self {
        let totals = Totals { records: 0, rows: 0, bytes: 0, checksum: 0 };
        Self { identity, applied: 0, stored_at: Timestamp::from_millis(0), totals }
    }

    /// The value under [`row::HEADER_KEY`]: magic, format, applied, time, totals, identity, CRC of all that.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&FORMAT.to_be_bytes());
        out.extend_from_slice(&self.applied.to_be_bytes());
        out.extend_from_slice(&self.stored_at.as_millis().to_be_bytes());
        for total in [self.totals.records, self.totals.rows, self.totals.bytes, self.totals.checksum] {
            out.extend_from_slice(&total.to_be_bytes());
        }
        self.identity.encode(&mut out);
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_be_bytes());
        out
    }

    /// Reads what [`Self::encode`] wrote; another format is told from damage.
    pub(super) fn decode(stored: &[u8]) -> Result<Self, Doubt> {
        let damaged = || Doubt::Damaged("the header cannot be read".to_owned());
        let (body, crc) = stored.split_last_chunk().ok_or_else(damaged)?;
        let rest = body.strip_prefix(MAGIC).ok_or_else(damaged)?;
        if u32::from_be_bytes(*crc) != crc32fast::hash(body) {
            return Err(Doubt::Damaged("the header's CRC differs".to_owned()));
        }
        let (format, rest) = take(rest).ok_or_else(damaged)?;
        let format = u16::from_be_bytes(format);
        if format != FORMAT {
            return Err(Doubt::Format { found: format });
        }
        Self::decode_body(rest).ok_or_else(damaged)
    }

    fn decode_body(bytes: &[u8]) -> Option<Self> {
        let (applied, rest) = take(bytes)?;
        let (stored_at, rest) = take(rest)?;
        let (records, rest) = take(rest)?;
        let (rows, rest) = take(rest)?;
        let (bytes, rest) = take(rest)?;
        let (checksum, rest) = take(rest)?;
        let (identity, rest) = Identity::decode(rest)?;
        rest.is_empty().then_some(Self {
            identity,
            applied: u64::from_be_bytes(applied),
            stored_at: Timestamp::from_millis(i64::from_be_bytes(stored_at)),
            totals: Totals {
                records: u64::from_be_bytes(records),
                rows: u64::from_be_bytes(rows),
                bytes: u64::from_be_bytes(bytes),
                checksum: u64::from_be_bytes(checksum),
            },
        })
    }
}

fn is_record(row_key: &[u8]) -> bool {
    row::record_of(row_key).is_some()
}

fn row_bytes(row_key: &[u8], stored: &[u8]) -> u64 {
    u64::try_from(row_key.len() + stored.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            identity: Identity::new(3, b"cell/ledger/created").unwrap(),
            applied: 77,
            stored_at: Timestamp::from_millis(-5),
            totals: Totals { records: 1, rows: 2, bytes: 3, checksum: u64::MAX },
        }
    }

    #[test]
    fn a_header_reads_back_and_any_flipped_bit_is_noticed() {
        let stored = header().encode();
        assert_eq!(Header::decode(&stored), Ok(header()));
        for bit in 0..stored.len() * 8 {
            let mut damaged = stored.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(Header::decode(&damaged), Err(Doubt::Damaged(_))), "bit {bit}");
        }
        for end in 0..stored.len() {
            assert!(Header::decode(&stored[..end]).is_err());
        }
    }

    #[test]
    fn another_format_schema_or_ledger_is_named() {
        let mut stored = header().encode();
        stored[5] = 9;
        let end = stored.len() - 4;
        let crc = crc32fast::hash(&stored[..end]).to_be_bytes();
        stored[end..].copy_from_slice(&crc);
        assert_eq!(Header::decode(&stored), Err(Doubt::Format { found: 9 }));

        let ours = Identity::new(3, b"a").unwrap();
        assert_eq!(ours.doubt(&ours), None);
        let other = Identity::new(4, b"a").unwrap();
        assert_eq!(ours.doubt(&other), Some(Doubt::Schema { found: 3, wanted: 4 }));
        assert_eq!(ours.doubt(&Identity::new(3, b"b").unwrap()), Some(Doubt::OtherLedger));
        assert!(Identity::new(3, &[0; 257]).is_err());
    }

    #[test]
    fn totals_do_not_depend_on_the_order_and_undo_exactly() {
        let rows = [(b"\x01a", b"1"), (b"\x01b", b"2"), (b"\x81b", b"3")];
        let (mut forth, mut back) = (Totals::default(), Totals::default());
        for (key, stored) in &rows {
            forth.add(*key, *stored);
        }
        for (key, stored) in rows.iter().rev() {
            back.add(*key, *stored);
        }
        assert_eq!(forth, back);
        assert_eq!((forth.records, forth.rows, forth.bytes), (2, 3, 9));
        for (key, stored) in &rows {
            forth.remove(*key, *stored);
        }
        assert_eq!(forth, Totals::default());
    }
}

//! How records lie in the one tree: as rows, each of at most 4 KB with its own CRC.
//!
//! ```text
//! key    header  00
//!        record  table, key
//!        part    table | 80, key, number from 1 (u16)
//! value  whole   01, crc32, value
//!        head    02, crc32, length (u32), crc32 of the whole value, part 0
//!        part    03, crc32, part
//! ```
//! Integers are big-endian. A row's CRC covers its key and all that follows the CRC.

use super::Table;
use super::change::VALUE_BYTES_MAX;

/// sled 0.34 writes larger values into files of their own, unsynced, and leaks them on overwrite from 128 KB up.
const ROW_VALUE_BYTES_MAX: usize = 4_096;
/// What remains of a row after the longest of the three headers, rounded.
const PART_BYTES: usize = ROW_VALUE_BYTES_MAX - 16;

const TAG_WHOLE: u8 = 1;
const TAG_HEAD: u8 = 2;
const TAG_PART: u8 = 3;
const PART_BIT: u8 = 0x80;

/// Where the header lies: before all tables.
pub(super) const HEADER_KEY: &[u8] = &[0];

/// A key of the tree and the value under it.
pub(super) type RawRow = (Vec<u8>, Vec<u8>);

/// What a row holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Row<'a> {
    /// A record that fits.
    Whole(&'a [u8]),
    /// The beginning of a record that does not.
    Head { bytes: usize, crc: u32, part: &'a [u8] },
    /// A later piece of it.
    Part(&'a [u8]),
}

impl<'a> Row<'a> {
    /// Checks tag and CRC.
    pub(super) fn decode(row_key: &[u8], stored: &'a [u8]) -> Result<Self, &'static str> {
        let (&tag, rest) = stored.split_first().ok_or("an empty row")?;
        let (crc, body) = take_u32(rest).ok_or("a row without a CRC")?;
        if crc != row_crc(row_key, tag, body) {
            return Err("a row whose CRC differs");
        }
        match tag {
            TAG_WHOLE => Ok(Self::Whole(body)),
            TAG_PART => Ok(Self::Part(body)),
            TAG_HEAD => {
                let (bytes, rest) = take_u32(body).ok_or("a head without a length")?;
                let (crc, part) = take_u32(rest).ok_or("a head without a CRC")?;
                let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes <= VALUE_BYTES_MAX);
                Ok(Self::Head { bytes: bytes.ok_or("a head that is too long")?, crc, part })
            }
            _ => Err("a row with an unknown tag"),
        }
    }

    /// Whether it begins a record; later parts lie under other keys.
    pub(super) const fn begins_record(&self) -> bool {
        match self {
            Self::Whole(_) | Self::Head { .. } => true,
            Self::Part(_) => false,
        }
    }
}

/// The key of a record's first row.
pub(super) fn record_key(table: Table, key: &[u8]) -> Vec<u8> {
    let mut row_key = Vec::with_capacity(1 + key.len());
    row_key.push(table.byte());
    row_key.extend_from_slice(key);
    row_key
}

/// The keys of the later rows of a value of `bytes` bytes.
pub(super) fn part_keys(table: Table, key: &[u8], bytes: usize) -> impl Iterator<Item = Vec<u8>> {
    let parts = u16::try_from(bytes.div_ceil(PART_BYTES)).unwrap_or(u16::MAX);
    (1..parts).map(move |number| {
        let mut row_key = record_key(table, key);
        row_key[0] |= PART_BIT;
        row_key.extend_from_slice(&number.to_be_bytes());
        row_key
    })
}

/// The rows of a record: one, or a head and its parts.
pub(super) fn split(table: Table, key: &[u8], value: &[u8]) -> Vec<RawRow> {
    let first = record_key(table, key);
    if value.len() <= PART_BYTES {
        let stored = encode(&first, TAG_WHOLE, value);
        return vec![(first, stored)];
    }
    let mut parts = value.chunks(PART_BYTES);
    let mut head = u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    head.extend_from_slice(&crc32fast::hash(value).to_be_bytes());
    head.extend_from_slice(parts.next().unwrap_or_default());
    let stored = encode(&first, TAG_HEAD, &head);
    let mut rows = vec![(first, stored)];
    for (row_key, part) in part_keys(table, key, value.len()).zip(parts) {
        let stored = encode(&row_key, TAG_PART, part);
        rows.push((row_key, stored));
    }
    rows
}

/// The table and key that a record's first row belongs to; none for parts, the header and unknown tables.
pub(super) fn record_of(row_key: &[u8]) -> Option<(Table, &[u8])> {
    let (&table, key) = row_key.split_first()?;
    Some((Table::from_byte(table)?, key))
}

/// Eight bytes of BLAKE3 over a row. The sum of these over all rows does not depend on their order.
pub(super) fn hash(row_key: &[u8], stored: &[u8]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&u32::try_from(row_key.len()).unwrap_or(u32::MAX).to_be_bytes());
    hasher.update(row_key);
    hasher.update(stored);
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_be_bytes(first)
}

/// The first `N` bytes and what follows them.
pub(super) fn take<const N: usize>(bytes: &[u8]) -> Option<([u8; N], &[u8])> {
    bytes.split_first_chunk().map(|(head, rest)| (*head, rest))
}

fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    take(bytes).map(|(head, rest)| (u32::from_be_bytes(head), rest))
}

fn encode(row_key: &[u8], tag: u8, body: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(5 + body.len());
    stored.push(tag);
    stored.extend_from_slice(&row_crc(row_key, tag, body).to_be_bytes());
    stored.extend_from_slice(body);
    stored
}

fn row_crc(row_key: &[u8], tag: u8, body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(row_key);
    crc.update(&[tag]);
    crc.update(body);
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stay_under_four_kilobytes_and_give_the_value_back() {
        for len in [0, 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES, 2 * PART_BYTES + 1, VALUE_BYTES_MAX] {
            let value: Vec<u8> = (0..len).map(|n| u8::try_from(n % 251).unwrap()).collect();
            let rows = split(Table::Plans, b"key", &value);
            assert!(rows.iter().all(|(_, stored)| stored.len() <= ROW_VALUE_BYTES_MAX));
            let mut joined = Vec::new();
            for (n, (row_key, stored)) in rows.iter().enumerate() {
                let row = Row::decode(row_key, stored).unwrap();
                assert_eq!(row.begins_record(), n == 0);
                match row {
                    Row::Whole(part) | Row::Part(part) | Row::Head { part, .. } => {
                        joined.extend_from_slice(part);
                    }
                }
            }
            assert_eq!(joined, value);
            assert_eq!(part_keys(Table::Plans, b"key", len).count(), rows.len() - 1);
        }
    }

    #[test]
    fn any_flipped_bit_and_any_other_key_is_noticed() {
        let (row_key, stored) = split(Table::Plans, b"key", b"a value").remove(0);
        for bit in 0..stored.len() * 8 {
            let mut damaged = stored.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Row::decode(&row_key, &damaged).is_err(), "bit {bit}");
        }
        assert!(Row::decode(&record_key(Table::Plans, b"kez"), &stored).is_err());
        assert!(Row::decode(&row_key, &stored[..stored.len() - 1]).is_err());
        assert!(Row::decode(&row_key, &[]).is_err());
    }

    #[test]
    fn parts_lie_outside_of_every_table() {
        for table in Table::ALL {
            for row_key in part_keys(table, b"k", VALUE_BYTES_MAX) {
                assert_eq!(record_of(&row_key), None);
            }
        }
        assert_eq!(record_of(HEADER_KEY), None);
        assert_eq!(record_of(&record_key(Table::ByTime, b"k")), Some((Table::ByTime, b"k".as_slice())));
    }
}

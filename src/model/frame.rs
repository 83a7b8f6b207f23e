//! Frames: how samples travel. A frame holds rows of one producer and one bucket; its rows point into a series table.

use std::sync::Arc;

use super::{Labels, Timestamp};

/// A table with eight labels a series stays near 100 KB, well under the server's 1 MiB payload.
pub const SERIES_PER_TABLE_MAX: usize = 512;

/// The name of a series table: a hash of its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableHash(pub u64);

/// Series that rows refer to by index. Immutable: one series more is another table with another hash.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesTable {
    /// Hash of the series in their order.
    pub hash: TableHash,
    /// At most [`SERIES_PER_TABLE_MAX`], each with a metric name.
    pub series: Arc<[Labels]>,
}

impl SeriesTable {
    /// Names the table by its contents.
    pub fn new(series: impl Into<Arc<[Labels]>>) -> Self {
        let series = series.into();
        let mut hasher = blake3::Hasher::new();
        for labels in series.iter() {
            hasher.update(&(labels.len() as u64).to_be_bytes());
            for (name, value) in labels.iter() {
                for text in [name, value] {
                    hasher.update(&(text.len() as u64).to_be_bytes());
                    hasher.update(text.as_bytes());
                }
            }
        }
        let mut bytes = [0_u8; 8];
        bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        Self { hash: TableHash(u64::from_be_bytes(bytes)), series }
    }
}

/// Which part of a scrape a frame is: the scrape is whole when all parts of its time are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrapePart {
    /// From 0.
    pub part: u16,
    /// How many parts the scrape has over all buckets and tables, at least 1.
    pub parts: u16,
}

/// One sample in a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// Index into the series table.
    pub series: u16,
    /// When it was read at its source.
    pub at: Timestamp,
    /// The reading.
    pub value: f64,
}

/// Samples of one producer, one bucket and one series table.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// Who sends; chosen by the producer, stable over its restarts.
    pub producer: Arc<str>,
    /// Grows with each restart of the producer.
    pub epoch: u64,
    /// Grows by one with each frame of this producer, epoch and bucket, so that loss can be counted.
    pub sequence: u64,
    /// The bucket, below the cell's number of buckets.
    pub bucket: u32,
    /// Set where the rows are (part of) one scrape: all share its time.
    pub scrape: Option<ScrapePart>,
    /// The table that the rows refer to.
    pub table: TableHash,
    /// The samples, in the producer's order.
    pub rows: Vec<Row>,
}

/// The bucket of a metric: FNV-1a-32 of its name, modulo the number of buckets. The server's subject mapping
/// `{{partition(n,…)}}` computes the same, so mappings and clients agree.
pub fn bucket_of(metric_name: &str, buckets: u32) -> u32 {
    let hash = metric_name
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash % buckets.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv_matches_its_published_vectors() {
        // http://www.isthe.com/chongo/tech/comp/fnv/: FNV-1a 32 of "", "a" and "foobar".
        for (text, hash) in [("", 0x811c_9dc5_u32), ("a", 0xe40c_292c), ("foobar", 0xbf9c_f968)] {
            assert_eq!(bucket_of(text, u32::MAX), hash % u32::MAX);
        }
    }

    #[test]
    fn a_table_is_named_by_its_contents() {
        let up = Labels::new([("__name__", "up")]).unwrap();
        let down = Labels::new([("__name__", "down")]).unwrap();
        let one = SeriesTable::new(vec![up.clone(), down.clone()]);
        assert_eq!(one.hash, SeriesTable::new(vec![up.clone(), down.clone()]).hash);
        assert_ne!(one.hash, SeriesTable::new(vec![down, up]).hash);
    }
}

//! Series tables on the wire: each text once, and for each series two columns of indexes into the texts, so that 512
//! series with eight labels each are some tens of kilobytes.

use std::sync::Arc;

use bytes::Bytes;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::body;
use super::error::{DecodeError, EncodeError};
use super::msgpack::{self, Limits};
use crate::model::{LABELS_PER_SERIES_MAX, Labels, SERIES_PER_TABLE_MAX, SeriesTable, TableHash};

/// Every label of every series of a full table with two texts of its own: then the last index still fits 16 bits.
const TEXTS_PER_TABLE_MAX: usize = 2 * SERIES_PER_TABLE_MAX * LABELS_PER_SERIES_MAX;

/// What a table, or a frame with a table, may hold. Label names and values are checked against their own limits.
pub(super) const TABLE_LIMITS: Limits = Limits {
    message_bytes: body::MESSAGE_BYTES_MAX,
    text_bytes: 4_096,
    items: TEXTS_PER_TABLE_MAX,
    depth: 8,
};

/// A table as it is written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct TableShape<'a> {
    hash: u64,
    /// Each text of the table, in the order of its first use.
    #[serde(borrow)]
    texts: Vec<&'a str>,
    /// For each series, how many labels it has: one byte.
    #[serde(with = "serde_bytes")]
    sizes: &'a [u8],
    /// For each label, the index of its name: two bytes, little endian.
    #[serde(with = "serde_bytes")]
    names: &'a [u8],
    /// For each label, the index of its value.
    #[serde(with = "serde_bytes")]
    values: &'a [u8],
}

/// The columns of a table that is about to be written.
pub(super) struct TableColumns<'a> {
    hash: TableHash,
    texts: Vec<&'a str>,
    sizes: Vec<u8>,
    names: Vec<u8>,
    values: Vec<u8>,
}

impl<'a> TableColumns<'a> {
    pub(super) fn of(table: &'a SeriesTable) -> Result<Self, EncodeError> {
        let count = table.series.len();
        if count > SERIES_PER_TABLE_MAX {
            return Err(EncodeError::TooMany { what: "series", count, max: SERIES_PER_TABLE_MAX });
        }
        let mut dictionary = Dictionary::default();
        let (mut sizes, mut names, mut values) = (Vec::with_capacity(count), Vec::new(), Vec::new());
        for labels in table.series.iter() {
            if labels.metric_name().is_none() {
                return Err(EncodeError::Refused(format!("series {labels} has no metric name")));
            }
            sizes.push(u8::try_from(labels.len()).map_err(|_| too_many_labels(labels))?);
            for (name, value) in labels.iter() {
                names.extend(dictionary.index_of(name)?.to_le_bytes());
                values.extend(dictionary.index_of(value)?.to_le_bytes());
            }
        }
        Ok(Self { hash: table.hash, texts: dictionary.texts, sizes, names, values })
    }

    pub(super) fn shape(&self) -> TableShape<'_> {
        let Self { hash, texts, sizes, names, values } = self;
        TableShape { hash: hash.0, texts: texts.clone(), sizes, names, values }
    }
}

impl TableShape<'_> {
    pub(super) fn hash(&self) -> TableHash {
        TableHash(self.hash)
    }

    /// Builds the series and names them anew: a table that is not what its hash says is refused.
    pub(super) fn read(&self) -> Result<SeriesTable, DecodeError> {
        let count = self.sizes.len();
        if count > SERIES_PER_TABLE_MAX {
            let cause = format_args!("{count} series, at most {SERIES_PER_TABLE_MAX} are taken");
            return Err(DecodeError::limit(cause).in_field("sizes"));
        }
        let labels: usize = self.sizes.iter().map(|size| usize::from(*size)).sum();
        for (column, name) in [(self.names, "names"), (self.values, "values")] {
            if column.len() != 2 * labels {
                let cause =
                    format_args!("{} bytes, {} expected for {labels} labels", column.len(), 2 * labels);
                return Err(DecodeError::malformed(cause).in_field(name));
            }
        }
        let texts: Vec<Arc<str>> = self.texts.iter().map(|text| Arc::from(*text)).collect();
        let mut start = 0;
        let mut series = Vec::with_capacity(count);
        for (index, size) in self.sizes.iter().enumerate() {
            let end = start + usize::from(*size);
            series.push(
                self.series(&texts, start..end).map_err(|error| error.in_item(index).in_field("series"))?,
            );
            start = end;
        }
        let table = SeriesTable::new(series);
        if table.hash != self.hash() {
            let cause =
                format_args!("the table says {:016x}, its series are {:016x}", self.hash, table.hash.0);
            return Err(DecodeError::malformed(cause).in_field("hash"));
        }
        Ok(table)
    }

    fn series(&self, texts: &[Arc<str>], pairs: std::ops::Range<usize>) -> Result<Labels, DecodeError> {
        let text = |column: &[u8], pair: usize| {
            let index = u16_at(column, pair);
            texts.get(usize::from(index)).map(Arc::clone).ok_or_else(|| {
                DecodeError::malformed(format_args!("text {index} of {} does not exist", texts.len()))
            })
        };
        let pairs: Vec<(Arc<str>, Arc<str>)> = pairs
            .map(|pair| Ok((text(self.names, pair)?, text(self.values, pair)?)))
            .collect::<Result<_, DecodeError>>()?;
        let labels = Labels::new(pairs).map_err(DecodeError::malformed)?;
        if labels.metric_name().is_none() {
            return Err(DecodeError::malformed(format_args!("{labels} has no metric name")));
        }
        Ok(labels)
    }
}

/// Texts by their index. The map's order is never seen.
#[derive(Default)]
struct Dictionary<'a> {
    texts: Vec<&'a str>,
    indexes: FxHashMap<&'a str, u16>,
}

impl<'a> Dictionary<'a> {
    fn index_of(&mut self, text: &'a str) -> Result<u16, EncodeError> {
        if let Some(index) = self.indexes.get(text) {
            return Ok(*index);
        }
        let count = self.texts.len();
        let index = u16::try_from(count).map_err(|_| EncodeError::TooMany {
            what: "texts",
            count: count + 1,
            max: TEXTS_PER_TABLE_MAX,
        })?;
        self.texts.push(text);
        self.indexes.insert(text, index);
        Ok(index)
    }
}

/// The 16 bits at an index that the caller has checked; 0 behind the end.
fn u16_at(column: &[u8], index: usize) -> u16 {
    let (pairs, _) = column.as_chunks::<2>();
    pairs.get(index).map_or(0, |pair| u16::from_le_bytes(*pair))
}

fn too_many_labels(labels: &Labels) -> EncodeError {
    EncodeError::TooMany { what: "labels", count: labels.len(), max: LABELS_PER_SERIES_MAX }
}

/// The answer to a request for a table.
pub fn encode(table: &SeriesTable) -> Result<Bytes, EncodeError> {
    body::encode_within(&TableColumns::of(table)?.shape(), &TABLE_LIMITS).map(Bytes::from)
}

/// A table that came alone.
pub fn decode(payload: &[u8]) -> Result<SeriesTable, DecodeError> {
    msgpack::decode::<TableShape<'_>>(payload, &TABLE_LIMITS)?.read()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(series: usize, labels: usize) -> SeriesTable {
        let series: Vec<Labels> = (0..series)
            .map(|n| {
                let own = (1..labels).map(|l| (format!("label_{l}"), format!("value_{}", (n + l) % 40)));
                Labels::new(own.chain([("__name__".to_owned(), format!("metric_{n}"))])).unwrap()
            })
            .collect();
        SeriesTable::new(series)
    }

    #[test]
    fn a_full_table_is_small_and_reads_back() {
        let table = table(SERIES_PER_TABLE_MAX, 8);
        let bytes = encode(&table).unwrap();
        assert!(bytes.len() < 30_000, "{}", bytes.len());
        assert_eq!(decode(&bytes).unwrap(), table);
    }

    #[test]
    fn a_table_is_checked_against_its_hash() {
        let mut wrong = table(3, 2);
        wrong.hash = TableHash(7);
        let error = decode(&encode(&wrong).unwrap()).unwrap_err();
        assert!(error.to_string().starts_with("`hash`: the table says 0000000000000007"), "{error}");
    }

    #[test]
    fn what_is_no_table_is_refused_with_its_place() {
        let good = table(2, 2);
        let columns = TableColumns::of(&good).unwrap();
        let shape = || columns.shape();
        let cases = [
            (TableShape { texts: vec!["__name__"], ..shape() }, "`series[0]`: text 1 of 1 does not exist"),
            (TableShape { sizes: &[2; 3], ..shape() }, "`names`: 8 bytes, 12 expected for 6 labels"),
            (TableShape { sizes: &[0; 600], ..shape() }, "`sizes`: 600 series, at most 512 are taken"),
            (TableShape { values: &[0], ..shape() }, "`values`: 1 bytes, 8 expected for 4 labels"),
        ];
        for (shape, expected) in cases {
            let bytes = body::encode(&shape).unwrap();
            assert_eq!(decode(&bytes).unwrap_err().to_string(), expected);
        }
        let nameless = SeriesTable::new(vec![Labels::new([("job", "api")]).unwrap()]);
        assert!(encode(&nameless).is_err());
        assert!(encode(&table(SERIES_PER_TABLE_MAX + 1, 1)).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn any_table_reads_back(names in proptest::collection::vec((".{1,20}", "[a-c]{1,3}", ".{0,20}"), 0..20)) {
            let series: Vec<Labels> = names
                .iter()
                .map(|(metric, label, value)| Labels::new([("__name__", metric.as_str()), (label, value)]).unwrap())
                .collect();
            let table = SeriesTable::new(series);
            prop_assert_eq!(decode(&encode(&table).unwrap()).unwrap(), table);
        }
    }
}

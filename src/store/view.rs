//! What readers see: one generation, as of the last change that was stored whole.

use std::ops::{Bound, ControlFlow};

use super::engine::{Edge, Engine, EngineError, Writes};
use super::header::Header;
use super::row::{self, RawRow, Row};
use super::table::{KeyRange, Record};
use super::{StoreError, Table};

/// One answer fits in memory several times, whoever asks.
const PAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// As many records in one answer, however small they are.
const PAGE_RECORDS_MAX: usize = 10_000;

/// Some records of a table, in the order of their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Those that fit.
    pub records: Vec<Record>,
    /// Whether the range goes on: ask again [`KeyRange::after`] the last key.
    pub more: bool,
}

/// An open generation with the header that describes it.
#[derive(Debug)]
pub(super) struct View {
    pub(super) engine: Engine,
    pub(super) generation: u32,
    pub(super) header: Header,
    /// What the rows of a change that failed held before it: sled may have applied any part of it in memory.
    pub(super) undo: Writes,
}

/// Why a record could not be read.
#[derive(Debug)]
pub(super) enum ReadError {
    Engine(EngineError),
    Row { table: Table, key: Vec<u8>, problem: &'static str },
}

impl From<EngineError> for ReadError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<ReadError> for StoreError {
    fn from(error: ReadError) -> Self {
        let problem = match error {
            ReadError::Engine(error) => error.reason(),
            ReadError::Row { table, key, problem } => {
                format!("{problem} at key `{}` of `{table}`", key.escape_ascii())
            }
        };
        Self::Damaged { problem }
    }
}

impl View {
    pub(super) const fn new(engine: Engine, generation: u32, header: Header) -> Self {
        Self { engine, generation, header, undo: Writes::new() }
    }

    /// The value of a record.
    pub(super) fn record(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        match self.row(&row::record_key(table, key))? {
            Some(stored) => self.value(table, key, &stored).map(Some),
            None => Ok(None),
        }
    }

    /// All rows of a record as they are stored; none if there is no such record.
    pub(super) fn rows_of(&self, table: Table, key: &[u8]) -> Result<Vec<RawRow>, ReadError> {
        let first = row::record_key(table, key);
        let Some(stored) = self.row(&first)? else { return Ok(Vec::new()) };
        let bytes = match decode(table, key, &first, &stored)? {
            Row::Head { bytes, .. } => bytes,
            Row::Whole(_) | Row::Part(_) => 0,
        };
        let mut rows = vec![(first, stored)];
        for row_key in row::part_keys(table, key, bytes) {
            let part = self.row(&row_key)?.ok_or_else(|| misfit(table, key, "a part is missing"))?;
            rows.push((row_key, part));
        }
        Ok(rows)
    }

    /// Up to `limit` records of a range, as many as fit in a page.
    pub(super) fn page(&self, table: Table, range: &KeyRange, limit: usize) -> Result<Page, ReadError> {
        let limit = limit.min(PAGE_RECORDS_MAX);
        let (from, to) = raw_range(table, range);
        let (mut rows, mut bytes, mut more) = (Vec::new(), 0, false);
        self.walk(edge(&from), edge(&to), |row_key, stored| {
            if rows.len() == limit || bytes >= PAGE_BYTES_MAX {
                more = true;
                return ControlFlow::Break(());
            }
            bytes += match Row::decode(row_key, stored) {
                Ok(Row::Head { bytes, .. }) => bytes,
                Ok(Row::Whole(_) | Row::Part(_)) | Err(_) => row_key.len() + stored.len(),
            };
            rows.push((row_key.to_vec(), stored.to_vec()));
            ControlFlow::Continue(())
        })?;
        let mut records = Vec::with_capacity(rows.len());
        for (row_key, stored) in rows {
            let value = self.value(table, &row_key[1..], &stored)?;
            records.push(Record { key: row_key[1..].to_vec(), value });
        }
        Ok(Page { records, more })
    }

    /// The value whose first row is `stored`.
    pub(super) fn value(&self, table: Table, key: &[u8], stored: &[u8]) -> Result<Vec<u8>, ReadError> {
        let (bytes, crc, first) = match decode(table, key, &row::record_key(table, key), stored)? {
            Row::Whole(value) => return Ok(value.to_vec()),
            Row::Part(_) => return Err(misfit(table, key, "a part where a record begins")),
            Row::Head { bytes, crc, part } => (bytes, crc, part),
        };
        let mut value = Vec::with_capacity(bytes);
        value.extend_from_slice(first);
        for row_key in row::part_keys(table, key, bytes) {
            let stored = self.row(&row_key)?.ok_or_else(|| misfit(table, key, "a part is missing"))?;
            match decode(table, key, &row_key, &stored)? {
                Row::Part(part) => value.extend_from_slice(part),
                Row::Whole(_) | Row::Head { .. } => {
                    return Err(misfit(table, key, "a record where a part stands"));
                }
            }
        }
        if value.len() != bytes || crc32fast::hash(&value) != crc {
            return Err(misfit(table, key, "the parts do not fit together"));
        }
        Ok(value)
    }

    /// Shows rows in order, with the failed change undone.
    pub(super) fn walk(
        &self,
        from: Edge<'_>,
        to: Edge<'_>,
        mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        if is_empty(from, to) {
            return Ok(());
        }
        let mut undone = self.undo.range::<[u8], _>((from, to)).peekable();
        let mut flow = ControlFlow::Continue(());
        self.engine.walk(from, to, |row_key, stored| {
            while let Some((earlier, old)) = undone.next_if(|(undone, _)| undone.as_slice() < row_key) {
                flow = old.as_ref().map_or(flow, |old| visit(earlier, old));
                flow?;
            }
            flow = match undone.next_if(|(undone, _)| undone.as_slice() == row_key) {
                Some((_, Some(old))) => visit(row_key, old),
                Some((_, None)) => ControlFlow::Continue(()),
                None => visit(row_key, stored),
            };
            flow
        })?;
        for (row_key, old) in undone {
            if flow.is_break() {
                break;
            }
            flow = old.as_ref().map_or(flow, |old| visit(row_key, old));
        }
        Ok(())
    }

    fn row(&self, row_key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        match self.undo.get(row_key) {
            Some(old) => Ok(old.clone()),
            None => self.engine.read(row_key),
        }
    }
}

fn decode<'a>(table: Table, key: &[u8], row_key: &[u8], stored: &'a [u8]) -> Result<Row<'a>, ReadError> {
    Row::decode(row_key, stored).map_err(|problem| misfit(table, key, problem))
}

fn misfit(table: Table, key: &[u8], problem: &'static str) -> ReadError {
    ReadError::Row { table, key: key.to_vec(), problem }
}

/// The raw keys of a table's range; the end of the table is the byte after its own.
fn raw_range(table: Table, range: &KeyRange) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let raw = |key: &Vec<u8>| row::record_key(table, key);
    let from = match &range.from {
        Bound::Unbounded => Bound::Included(vec![table.byte()]),
        Bound::Included(key) => Bound::Included(raw(key)),
        Bound::Excluded(key) => Bound::Excluded(raw(key)),
    };
    let to = match &range.to {
        Bound::Unbounded => Bound::Excluded(vec![table.byte() + 1]),
        Bound::Included(key) => Bound::Included(raw(key)),
        Bound::Excluded(key) => Bound::Excluded(raw(key)),
    };
    (from, to)
}

fn edge(bound: &Bound<Vec<u8>>) -> Edge<'_> {
    bound.as_ref().map(Vec::as_slice)
}

/// Whether no key can lie between; maps panic when asked for such a range.
fn is_empty(from: Edge<'_>, to: Edge<'_>) -> bool {
    match (from, to) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => {
            from >= to
        }
    }
}

//! A chunk: up to [`SERIES_PER_TABLE_MAX`](crate::model::SERIES_PER_TABLE_MAX) series with one table, and their rows.

use std::collections::VecDeque;

use super::framing::{TABLE_REPEAT_PERIOD, TABLES_KEPT_MAX};
use crate::engine::promql::is_stale;
use crate::model::{Labels, Row, ScrapePart, SeriesTable, TableHash, Timestamp};

/// Series of one bucket that share a table, and the rows of theirs that wait.
pub(super) struct Chunk {
    pub(super) bucket: u32,
    pub(super) series: Vec<Labels>,
    /// When frames had been taken last before the newest sample of each; [`Timestamp::MIN`] where that ended it.
    pub(super) used_at: Vec<Timestamp>,
    pub(super) cut: u16,
    /// As it was sent last; a prefix of `series`.
    pub(super) table: Option<SeriesTable>,
    pub(super) table_sent_at: Timestamp,
    /// Complete rows of frames, in order.
    pub(super) closed: VecDeque<Block>,
    /// Rows that wait for more.
    pub(super) open: Vec<Row>,
    pub(super) open_since: Timestamp,
}

/// The rows of one frame.
pub(super) struct Block {
    pub(super) rows: Vec<Row>,
    pub(super) scrape: Option<ScrapePart>,
}

impl Chunk {
    pub(super) fn new(bucket: u32) -> Self {
        Self {
            bucket,
            series: Vec::new(),
            used_at: Vec::new(),
            cut: 0,
            table: None,
            table_sent_at: Timestamp::MIN,
            closed: VecDeque::new(),
            open: Vec::new(),
            open_since: Timestamp::MIN,
        }
    }

    pub(super) fn use_row(&mut self, row: u16, value: f64, taken_at: Timestamp) {
        if let Some(used_at) = self.used_at.get_mut(usize::from(row)) {
            *used_at = if is_stale(value) { Timestamp::MIN } else { taken_at };
        }
    }

    pub(super) fn close_open(&mut self) {
        if !self.open.is_empty() {
            // A chunk is about as busy as it was.
            let next = Vec::with_capacity(self.open.len());
            self.closed.push_back(Block { rows: std::mem::replace(&mut self.open, next), scrape: None });
        }
    }

    /// The name of the table with all series of now, and the table itself if it is new or was not sent for long.
    pub(super) fn table_to_send(
        &mut self,
        now: Timestamp,
        former_tables: &mut VecDeque<SeriesTable>,
    ) -> (TableHash, Option<SeriesTable>) {
        let table = match self.table.take() {
            Some(table) if table.series.len() == self.series.len() => {
                let is_fresh = now.saturating_since(self.table_sent_at) < TABLE_REPEAT_PERIOD;
                let hash = table.hash;
                if is_fresh {
                    self.table = Some(table);
                    return (hash, None);
                }
                table
            }
            former => {
                keep_former(former_tables, former);
                SeriesTable::new(self.series.as_slice())
            }
        };
        self.table_sent_at = now;
        self.table = Some(table.clone());
        (table.hash, Some(table))
    }
}

/// So that it can still be asked for.
pub(super) fn keep_former(former_tables: &mut VecDeque<SeriesTable>, former: Option<SeriesTable>) {
    if former.is_some() && former_tables.len() >= TABLES_KEPT_MAX {
        former_tables.pop_front();
    }
    former_tables.extend(former);
}

//! Frames as a producer sends them, with the moment and the table in our hand.

use std::sync::Arc;

use super::BenchError;
use crate::bus::Incoming;
use crate::model::{Frame, Labels, Row, SERIES_PER_TABLE_MAX, ScrapePart, SeriesTable, Timestamp, bucket_of};
use crate::wire::{self, Subjects};

/// One producer's series, with their tables and the numbers of the next frames.
pub(super) struct Source {
    subjects: Subjects,
    cell: Arc<str>,
    producer: Arc<str>,
    epoch: u64,
    /// By bucket.
    sequences: Vec<u64>,
    tables: Vec<(u32, SeriesTable)>,
}

/// Where frames go.
#[derive(Clone, Copy)]
pub(super) struct Destination<'a> {
    pub(super) subjects: &'a Subjects,
    pub(super) cell: &'a str,
    pub(super) buckets: u32,
}

impl Source {
    /// The series of each metric come in tables of so many, in the order they are given.
    pub(super) fn new(
        to: Destination<'_>,
        producer: &str,
        now: Timestamp,
        metrics: &[Vec<Labels>],
        rows_per_table: usize,
    ) -> Self {
        let mut tables = Vec::new();
        for series in metrics {
            let metric = series.first().and_then(Labels::metric_name).unwrap_or_default();
            let bucket = bucket_of(metric, to.buckets);
            let chunks = series.chunks(rows_per_table.clamp(1, SERIES_PER_TABLE_MAX));
            tables.extend(chunks.map(|chunk| (bucket, SeriesTable::new(chunk))));
        }
        Self {
            subjects: to.subjects.clone(),
            cell: to.cell.into(),
            producer: producer.into(),
            epoch: u64::try_from(now.as_millis()).unwrap_or(0),
            sequences: vec![0; to.buckets as usize],
            tables,
        }
    }

    /// How many tables there are.
    pub(super) fn tables(&self) -> usize {
        self.tables.len()
    }

    /// All series at one value, with their tables: what a receiver has to know before the rest.
    pub(super) fn introduce(&mut self, at: Timestamp, value: f64) -> Result<Vec<Incoming>, BenchError> {
        (0..self.tables.len()).map(|table| self.whole(table, (at, None), true, |_| value)).collect()
    }

    /// Samples of some rows of a table, all of one value.
    pub(super) fn some(
        &mut self,
        table: usize,
        rows: impl Iterator<Item = usize>,
        at: Timestamp,
        value: f64,
    ) -> Result<Incoming, BenchError> {
        self.frame(table, rows.map(|row| sample(row, at, value)).collect(), None, false)
    }

    /// A sample of each series of a table.
    pub(super) fn whole(
        &mut self,
        table: usize,
        (at, scrape): (Timestamp, Option<ScrapePart>),
        with_table: bool,
        value: impl Fn(usize) -> f64,
    ) -> Result<Incoming, BenchError> {
        let count = self.tables.get(table).map_or(0, |(_, table)| table.series.len());
        let rows = (0..count).map(|row| sample(row, at, value(row))).collect();
        self.frame(table, rows, scrape, with_table)
    }

    fn frame(
        &mut self,
        table: usize,
        rows: Vec<Row>,
        scrape: Option<ScrapePart>,
        with_table: bool,
    ) -> Result<Incoming, BenchError> {
        let known = self.tables.get(table);
        let (bucket, table) = known.ok_or_else(|| BenchError::Invalid("there is no such table".into()))?;
        let sequence = &mut self.sequences[*bucket as usize];
        let frame = Frame {
            producer: Arc::clone(&self.producer),
            epoch: self.epoch,
            sequence: *sequence,
            bucket: *bucket,
            scrape,
            table: table.hash,
            rows,
        };
        *sequence += 1;
        let message = wire::frame::message(&self.subjects, &self.cell, &frame, with_table.then_some(table))?;
        let headers = message.headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        Ok(Incoming { subject: message.subject, headers: headers.collect(), payload: message.payload })
    }
}

fn sample(row: usize, at: Timestamp, value: f64) -> Row {
    Row { series: u16::try_from(row).unwrap_or(u16::MAX), at, value }
}

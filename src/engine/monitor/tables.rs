//! Series tables, and the frames that wait for one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::counters::Counters;
use super::producers::ProducerId;
use crate::engine::{Ask, Step};
use crate::model::{Frame, Labels, SeriesTable, TableHash, Timestamp};

/// Sixteen tables for each of 500 producers; a table that was not used for longest makes room.
const TABLES_MAX: usize = 8_192;
/// Texts and places of all tables: a full table is some 100 KB, and one that carries data in its labels up to 4 MiB.
const TABLE_BYTES_MAX: usize = 512 * 1024 * 1024;
/// A table that no frame used for this long is forgotten; its producer sends it again with the next frame that does.
const TABLE_UNUSED_MAX: Duration = Duration::from_hours(1);
/// How often is looked for those.
const FORGETTING_PERIOD: Duration = Duration::from_mins(1);
/// Two seconds of a busy cell, 24 MiB of rows; the oldest frames are dropped first.
const SAMPLES_WAITING_MAX: usize = 1 << 20;
/// Frames that wait, however small they are.
const FRAMES_WAITING_MAX: usize = 16_384;
/// Producers send their tables every 10 s; whose table did not come in three of those is not there any more.
const TABLE_WAIT: Duration = Duration::from_secs(30);
/// At most one question a second for each table: the answer is 100 KB.
const ASK_PAUSE: Duration = Duration::from_secs(1);

/// The series was refused: there were too many.
pub(super) const REFUSED: u32 = u32::MAX;
/// The series was forgotten since the table came, because it had no samples: its place may be another's now.
pub(super) const FORGOTTEN: u32 = u32::MAX - 1;

/// A table whose series have places.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) series: Arc<[Labels]>,
    /// Where its rows lead: the places of the series in the monitor, or one of the two above.
    pub(super) places: Vec<u32>,
    used_at: Timestamp,
    bytes: usize,
}

/// A frame that waits for its table.
#[derive(Clone, Debug, PartialEq)]
pub struct WaitingFrame {
    /// The frame.
    pub frame: Frame,
    /// When it came.
    pub since: Timestamp,
}

#[derive(Clone, Debug)]
struct Asked {
    producer: Arc<str>,
    again_at: Timestamp,
    frames: usize,
}

/// All tables, known and asked for.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// Walked only where the order is made up for.
    known: FxHashMap<TableHash, Table>,
    bytes: usize,
    looked_at: Option<Timestamp>,
    waiting: VecDeque<(ProducerId, WaitingFrame)>,
    samples_waiting: usize,
    asked: BTreeMap<TableHash, Asked>,
}

impl Tables {
    /// The table of a frame.
    pub(super) fn get_mut(&mut self, hash: TableHash, now: Timestamp) -> Option<&mut Table> {
        let table = self.known.get_mut(&hash)?;
        table.used_at = now;
        Some(table)
    }

    pub(super) fn knows(&self, hash: TableHash) -> bool {
        self.known.contains_key(&hash)
    }

    pub(super) fn insert(
        &mut self,
        table: &SeriesTable,
        places: Vec<u32>,
        now: Timestamp,
        counters: &mut Counters,
    ) {
        let bytes = bytes_of(&table.series);
        self.forget_unused(now, counters);
        while self.known.len() >= TABLES_MAX
            || (self.bytes + bytes > TABLE_BYTES_MAX && !self.known.is_empty())
        {
            let oldest = self.known.iter().map(|(hash, table)| (table.used_at, *hash)).min();
            let Some((_, hash)) = oldest else { break };
            self.remove(hash, counters);
        }
        let table_of = Table { series: Arc::clone(&table.series), places, used_at: now, bytes };
        self.bytes += bytes;
        if let Some(former) = self.known.insert(table.hash, table_of) {
            self.bytes -= former.bytes;
        }
    }

    fn forget_unused(&mut self, now: Timestamp, counters: &mut Counters) {
        let looked_at = *self.looked_at.get_or_insert(now);
        if now.saturating_since(looked_at) < FORGETTING_PERIOD {
            return;
        }
        self.looked_at = Some(now);
        let is_unused = |table: &Table| now.saturating_since(table.used_at) >= TABLE_UNUSED_MAX;
        let unused: Vec<_> =
            self.known.iter().filter(|(_, table)| is_unused(table)).map(|(hash, _)| *hash).collect();
        for hash in unused {
            self.remove(hash, counters);
        }
    }

    fn remove(&mut self, hash: TableHash, counters: &mut Counters) {
        if let Some(table) = self.known.remove(&hash) {
            self.bytes -= table.bytes;
            counters.tables_forgotten += 1;
        }
    }

    /// Series that are not used any more lead nowhere from here on.
    pub(super) fn forget(&mut self, is_used: impl Fn(u32) -> bool) {
        for place in self.known.values_mut().flat_map(|table| &mut table.places) {
            if *place < FORGOTTEN && !is_used(*place) {
                *place = FORGOTTEN;
            }
        }
    }

    /// Every table by its name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (TableHash, &Table)> {
        let mut tables: Vec<_> = self.known.iter().map(|(hash, table)| (*hash, table)).collect();
        tables.sort_unstable_by_key(|(hash, _)| *hash);
        tables.into_iter()
    }

    /// Keeps a frame until its table comes, and asks for the table.
    pub(super) fn wait(
        &mut self,
        producer: ProducerId,
        waiting: WaitingFrame,
        now: Timestamp,
        counters: &mut Counters,
    ) {
        let frame = &waiting.frame;
        let asked = self.asked.entry(frame.table).or_insert_with(|| Asked {
            producer: Arc::clone(&frame.producer),
            again_at: now,
            frames: 0,
        });
        asked.frames += 1;
        self.samples_waiting += frame.rows.len();
        self.waiting.push_back((producer, waiting));
        while self.samples_waiting > SAMPLES_WAITING_MAX || self.waiting.len() > FRAMES_WAITING_MAX {
            self.drop_oldest(counters);
        }
    }

    /// The frames that waited for a table, in the order they came.
    pub(super) fn arrived(&mut self, hash: TableHash) -> Vec<(ProducerId, Frame)> {
        if self.asked.remove(&hash).is_none() {
            return Vec::new();
        }
        let mut arrived = Vec::new();
        let mut rest = VecDeque::with_capacity(self.waiting.len());
        for (producer, waiting) in self.waiting.drain(..) {
            if waiting.frame.table == hash {
                self.samples_waiting -= waiting.frame.rows.len();
                arrived.push((producer, waiting.frame));
            } else {
                rest.push_back((producer, waiting));
            }
        }
        self.waiting = rest;
        arrived
    }

    /// Drops what has waited too long and asks for the rest.
    pub(super) fn tick(&mut self, now: Timestamp, step: &mut Step, counters: &mut Counters) {
        while self.waiting.front().is_some_and(|(_, first)| now.saturating_since(first.since) >= TABLE_WAIT) {
            self.drop_oldest(counters);
        }
        for (hash, asked) in &mut self.asked {
            if asked.again_at <= now {
                asked.again_at = now + ASK_PAUSE;
                step.ask.push(Ask::Table { producer: Arc::clone(&asked.producer), table: *hash });
            }
            step.wake_no_later_than(asked.again_at);
        }
    }

    /// How many tables are asked for.
    pub(super) fn missing(&self) -> usize {
        self.asked.len()
    }

    /// The frames that wait, oldest first.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &WaitingFrame> {
        self.waiting.iter().map(|(_, waiting)| waiting)
    }

    fn drop_oldest(&mut self, counters: &mut Counters) {
        let Some((_, first)) = self.waiting.pop_front() else { return };
        counters.frames_dropped += 1;
        self.samples_waiting -= first.frame.rows.len();
        if let Some(asked) = self.asked.get_mut(&first.frame.table) {
            asked.frames -= 1;
            if asked.frames == 0 {
                self.asked.remove(&first.frame.table);
            }
        }
    }
}

/// About what a table takes of memory: its texts, and two counted pointers for each label.
fn bytes_of(series: &[Labels]) -> usize {
    const BYTES_PER_LABEL: usize = 64;
    let of_label = |(name, value): (&str, &str)| name.len() + value.len() + BYTES_PER_LABEL;
    series.iter().map(|labels| labels.iter().map(of_label).sum::<usize>()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{METRIC_NAME, Row};

    fn table(number: usize, value: &str) -> SeriesTable {
        let pairs = [(METRIC_NAME, "up".to_owned()), ("n", number.to_string()), ("v", value.to_owned())];
        SeriesTable::new(vec![Labels::new(pairs).unwrap()])
    }

    #[test]
    fn a_table_that_nobody_used_for_an_hour_is_forgotten() {
        let (mut tables, mut counters) = (Tables::default(), Counters::default());
        let at = |minutes: i64| Timestamp::from_millis(minutes * 60_000);
        let (old, used) = (table(1, "a"), table(2, "a"));
        tables.insert(&old, vec![1], at(0), &mut counters);
        tables.insert(&used, vec![2], at(0), &mut counters);
        tables.get_mut(used.hash, at(59)).unwrap();
        tables.insert(&table(3, "a"), vec![3], at(60), &mut counters);
        assert!(!tables.knows(old.hash) && tables.knows(used.hash));
        assert_eq!((tables.known.len(), counters.tables_forgotten), (2, 1));
        assert_eq!(tables.bytes, tables.known.values().map(|table| table.bytes).sum::<usize>());
    }

    #[test]
    fn tables_are_bounded_by_what_they_take_of_memory() {
        let (mut tables, mut counters) = (Tables::default(), Counters::default());
        // As if nearly all of the room were taken.
        tables.bytes = TABLE_BYTES_MAX - 3_000;
        let heavy = "v".repeat(1_000);
        for n in 0..5 {
            let now = Timestamp::from_millis(i64::try_from(n).unwrap());
            tables.insert(&table(n, &heavy), vec![0], now, &mut counters);
        }
        assert_eq!((tables.known.len(), counters.tables_forgotten), (2, 3));
        assert!(tables.knows(table(4, &heavy).hash) && tables.bytes <= TABLE_BYTES_MAX);
    }

    fn waiting(table: u64, rows: usize, since: i64) -> WaitingFrame {
        let row = Row { series: 0, at: Timestamp::from_millis(since), value: 0.0 };
        WaitingFrame {
            frame: Frame {
                producer: "p".into(),
                epoch: 0,
                sequence: 0,
                bucket: 0,
                scrape: None,
                table: TableHash(table),
                rows: vec![row; rows],
            },
            since: Timestamp::from_millis(since),
        }
    }

    #[test]
    fn a_table_is_asked_for_at_most_once_a_second_and_not_for_ever() {
        let (mut tables, mut counters) = (Tables::default(), Counters::default());
        let mut asked = Vec::new();
        for at in (0..35_000).step_by(100) {
            let now = Timestamp::from_millis(at);
            if at < 5_000 {
                tables.wait(ProducerId(1), waiting(7, 1, at), now, &mut counters);
            }
            let mut step = Step::default();
            tables.tick(now, &mut step, &mut counters);
            if !step.ask.is_empty() {
                asked.push(at);
            }
        }
        let expected: Vec<i64> = (0..=34_000).step_by(1_000).collect();
        assert_eq!(asked, expected);
        let mut step = Step::default();
        tables.tick(Timestamp::from_millis(35_000), &mut step, &mut counters);
        assert_eq!((counters.frames_dropped, step.ask.len(), tables.missing()), (50, 0, 0));
    }

    #[test]
    fn too_many_samples_push_the_oldest_frames_out() {
        let (mut tables, mut counters) = (Tables::default(), Counters::default());
        let now = Timestamp::from_millis(0);
        for table in 0..5 {
            tables.wait(ProducerId(1), waiting(table, SAMPLES_WAITING_MAX / 4, 0), now, &mut counters);
        }
        assert_eq!((counters.frames_dropped, tables.missing()), (1, 4));
        assert_eq!(tables.arrived(TableHash(0)), []);
        assert_eq!(tables.arrived(TableHash(3)).len(), 1);
        assert_eq!(tables.missing(), 3);
    }
}

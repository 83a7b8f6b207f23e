//! Samples into frames: which bucket, which series table, which row, and when a frame has waited long enough.
//!
//! Pure: the time is an argument, and the same calls give the same frames. Each series has a place: its bucket (by
//! metric name), a chunk of that bucket with at most [`SERIES_PER_TABLE_MAX`] series, and a row in the chunk. A chunk's
//! table is named by its contents, so a chunk that gains a series has a new table with an old prefix, and rows that wait
//! refer to the new one as well as to the old.
//!
//! A series that ended (its last sample was a stale marker) or that nobody sent for an hour is forgotten. Rows of a table
//! never change their meaning, so this is done by the chunk: one with enough of the forgotten is given up, and the living
//! find a new place with their next sample.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::chunk::{Block, Chunk, keep_former};
use super::{Refusal, Refusals};
use crate::model::{
    Frame, Labels, Row, SERIES_PER_TABLE_MAX, Sample, ScrapePart, SeriesTable, TableHash, Timestamp,
    bucket_of,
};

/// Rows that need not wait for more: about 6 KiB, where the cost of a message has become small beside its rows.
const FRAME_ROWS_READY: usize = 500;
/// Rows of a frame: about 13 KiB; larger messages are slower for each byte.
const FRAME_ROWS_MAX: usize = 1_000;
/// A row waits no longer for company; part of the time from a breach to its cure.
pub(super) const FRAME_AGE_MAX: Duration = Duration::from_millis(50);
/// A table is sent again this often, so that a receiver that starts late or missed one waits no longer.
pub(super) const TABLE_REPEAT_PERIOD: Duration = Duration::from_secs(10);
/// Series of one producer: about 200 MB at eight labels each. More are usually data that leaked into labels.
pub const SERIES_MAX: usize = 1_000_000;
/// A series that was not sent for this long is forgotten; scrapes come every few seconds, the rarest jobs within the hour.
const UNUSED_MAX: Duration = Duration::from_hours(1);
/// How often is looked for series to forget: a pass over all of them takes some milliseconds.
const FORGETTING_PERIOD: Duration = Duration::from_mins(1);
/// A chunk is given up when one in this many of its series is to be forgotten: the others cost a new table.
const FORGOTTEN_SHARE: usize = 4;
/// Rows that wait to be taken: 24 MB, a fifth of a second of the fastest source we measured.
pub const ROWS_WAITING_MAX: usize = 1_000_000;
/// Former tables that can still be asked for: those of frames that may still be on their way or in a capture.
pub(super) const TABLES_KEPT_MAX: usize = 256;

/// Where a series has its place; valid for the framer that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SeriesRef {
    chunk: u32,
    row: u16,
    /// Which of the chunks that stood in this place.
    cut: u16,
}

/// Collects the samples of one producer and gives them back in frames.
pub struct Framer {
    producer: Arc<str>,
    epoch: u64,
    buckets: u32,
    series_max: usize,
    /// Looked up, never iterated, as are the next two.
    places: HashMap<Labels, SeriesRef>,
    /// The same by the labels' address, which a clone of them keeps theirs alone. Hashing the text of eight labels
    /// takes longer than everything else that is done for a row.
    places_by_address: FxHashMap<usize, (Labels, SeriesRef)>,
    bucket_states: FxHashMap<u32, BucketState>,
    chunks: Vec<Chunk>,
    /// Places of chunks that were given up.
    free: Vec<u32>,
    forgotten_at: Timestamp,
    /// Chunks in which rows wait.
    active: Vec<u32>,
    rows_waiting: usize,
    former_tables: VecDeque<SeriesTable>,
    /// When frames were taken last: rows that come now are at most as old.
    taken_at: Timestamp,
    refusals: Refusals,
}

#[derive(Default)]
struct BucketState {
    /// Of the next frame.
    sequence: u64,
    /// The last chunk, the only one that may have room.
    last_chunk: Option<u32>,
}

impl Framer {
    /// For a producer with a stable name, an epoch that grows with each of its starts, and the cell's buckets.
    pub fn new(producer: impl Into<Arc<str>>, epoch: u64, buckets: u32) -> Self {
        Self {
            producer: producer.into(),
            epoch,
            buckets: buckets.max(1),
            series_max: SERIES_MAX,
            places: HashMap::new(),
            places_by_address: FxHashMap::default(),
            bucket_states: FxHashMap::default(),
            chunks: Vec::new(),
            free: Vec::new(),
            forgotten_at: Timestamp::MIN,
            active: Vec::new(),
            rows_waiting: 0,
            former_tables: VecDeque::new(),
            taken_at: Timestamp::MIN,
            refusals: Refusals::default(),
        }
    }

    /// With a lower limit than [`SERIES_MAX`].
    #[must_use]
    #[cfg(test)]
    fn with_series_max(mut self, series_max: usize) -> Self {
        self.series_max = series_max.min(SERIES_MAX);
        self
    }

    /// The place of a series, given to it now if it is new. For callers that keep it and then use
    /// [`Self::push_ref`].
    pub fn series_ref(&mut self, series: &Labels) -> Result<SeriesRef, Refusal> {
        self.place(series).inspect_err(|refusal| self.refusals.count(*refusal))
    }

    /// Takes one sample.
    pub fn push(&mut self, sample: &Sample) -> Result<(), Refusal> {
        let series = self.series_ref(&sample.series)?;
        self.push_ref(series, sample.at, sample.value)
    }

    /// Takes one sample of a series whose place is known.
    pub fn push_ref(&mut self, series: SeriesRef, at: Timestamp, value: f64) -> Result<(), Refusal> {
        let chunk = self.chunks.get_mut(series.chunk as usize);
        let is_there =
            |chunk: &&mut Chunk| chunk.cut == series.cut && usize::from(series.row) < chunk.series.len();
        let Some(chunk) = chunk.filter(is_there) else {
            self.refusals.count(Refusal::UnknownSeries);
            return Err(Refusal::UnknownSeries);
        };
        if self.rows_waiting >= ROWS_WAITING_MAX {
            self.refusals.count(Refusal::TooManyRows);
            return Err(Refusal::TooManyRows);
        }
        if chunk.open.is_empty() {
            chunk.open_since = self.taken_at;
            if chunk.closed.is_empty() {
                self.active.push(series.chunk);
            }
        }
        chunk.use_row(series.row, value, self.taken_at);
        chunk.open.push(Row { series: series.row, at, value });
        self.rows_waiting += 1;
        if chunk.open.len() == FRAME_ROWS_MAX {
            chunk.close_open();
        }
        Ok(())
    }

    /// Takes one scrape whole: its samples travel in frames of their own that are numbered as its parts. Samples with
    /// another time than the scrape's (the source gave them one) are taken as by [`Self::push`]. Gives how many were
    /// refused.
    pub fn push_scrape(&mut self, at: Timestamp, samples: &[Sample]) -> usize {
        let mut refused = 0;
        let mut rows_by_chunk: BTreeMap<u32, Vec<Row>> = BTreeMap::new();
        for sample in samples {
            if sample.at != at {
                refused += usize::from(self.push(sample).is_err());
                continue;
            }
            match self.series_ref(&sample.series) {
                Err(_) => refused += 1,
                Ok(_) if self.rows_waiting >= ROWS_WAITING_MAX => {
                    self.refusals.count(Refusal::TooManyRows);
                    refused += 1;
                }
                Ok(place) => {
                    self.rows_waiting += 1;
                    self.chunks[place.chunk as usize].use_row(place.row, sample.value, self.taken_at);
                    let row = Row { series: place.row, at, value: sample.value };
                    rows_by_chunk.entry(place.chunk).or_default().push(row);
                }
            }
        }
        let count = rows_by_chunk.values().map(|rows| rows.len().div_ceil(FRAME_ROWS_MAX)).sum::<usize>();
        // More parts than can be numbered need some 65,000 buckets in use; then the rows travel as ordinary ones.
        let parts = u16::try_from(count).ok();
        let mut numbers = 0_u16..;
        for (index, rows) in rows_by_chunk {
            let chunk = &mut self.chunks[index as usize];
            if chunk.open.is_empty() && chunk.closed.is_empty() {
                self.active.push(index);
            }
            chunk.close_open();
            for rows in rows.chunks(FRAME_ROWS_MAX) {
                let scrape = parts.zip(numbers.next()).map(|(parts, part)| ScrapePart { part, parts });
                chunk.closed.push_back(Block { rows: rows.to_vec(), scrape });
            }
        }
        refused
    }

    /// Makes all that waits ready, however little and young it is.
    pub fn flush(&mut self) {
        for index in &self.active {
            self.chunks[*index as usize].close_open();
        }
    }

    /// The frames that are full enough or old enough, each with its table where the receiver may not have it.
    pub fn take_ready(&mut self, now: Timestamp) -> Vec<(Frame, Option<SeriesTable>)> {
        if self.taken_at == Timestamp::MIN {
            // What was pushed before could not be told the time.
            self.chunks.iter_mut().for_each(|chunk| chunk.used_at.fill(now));
            self.forgotten_at = now;
        }
        let mut ready = Vec::new();
        let mut active = std::mem::take(&mut self.active);
        // Rows come in any order of chunks; frames leave in the order in which the chunks were made.
        active.sort_unstable();
        for index in active {
            let chunk = &mut self.chunks[index as usize];
            if chunk.open.len() >= FRAME_ROWS_READY || now.saturating_since(chunk.open_since) >= FRAME_AGE_MAX
            {
                chunk.close_open();
            }
            if !chunk.closed.is_empty() {
                self.take_closed(index, now, &mut ready);
            }
            if !self.chunks[index as usize].open.is_empty() {
                self.active.push(index);
            }
        }
        self.taken_at = now;
        if now.saturating_since(self.forgotten_at) >= FORGETTING_PERIOD {
            self.forgotten_at = now;
            self.forget_unused(now, &mut ready);
        }
        ready
    }

    /// When [`Self::take_ready`] has something to give: at once (a time that has passed), later, or not before a push.
    #[cfg(test)]
    fn due(&self) -> Option<Timestamp> {
        self.active
            .iter()
            .map(|index| {
                let chunk = &self.chunks[*index as usize];
                let is_ready = !chunk.closed.is_empty() || chunk.open.len() >= FRAME_ROWS_READY;
                if is_ready { self.taken_at } else { chunk.open_since + FRAME_AGE_MAX }
            })
            .min()
    }

    /// A table that was sent: a current one, or one of the last 256 before.
    pub fn table(&self, hash: TableHash) -> Option<&SeriesTable> {
        let current = self.chunks.iter().filter_map(|chunk| chunk.table.as_ref());
        current.chain(&self.former_tables).find(|table| table.hash == hash)
    }

    /// How many series have a place.
    #[cfg(test)]
    fn series_count(&self) -> usize {
        self.places.len()
    }

    /// How many rows wait to be taken.
    #[cfg(test)]
    fn rows_waiting(&self) -> usize {
        self.rows_waiting
    }

    /// How many samples were refused so far.
    pub fn refusals(&self) -> Refusals {
        self.refusals
    }

    fn take_closed(&mut self, index: u32, now: Timestamp, ready: &mut Vec<(Frame, Option<SeriesTable>)>) {
        let chunk = &mut self.chunks[index as usize];
        let (hash, mut table) = chunk.table_to_send(now, &mut self.former_tables);
        let state = self.bucket_states.entry(chunk.bucket).or_default();
        for block in chunk.closed.drain(..) {
            self.rows_waiting -= block.rows.len();
            let frame = Frame {
                producer: Arc::clone(&self.producer),
                epoch: self.epoch,
                sequence: state.sequence,
                bucket: chunk.bucket,
                scrape: block.scrape,
                table: hash,
                rows: block.rows,
            };
            state.sequence += 1;
            ready.push((frame, table.take()));
        }
    }

    /// Gives up the chunks in which enough series are to be forgotten; where there is no room for new ones, all in which
    /// one is.
    fn forget_unused(&mut self, now: Timestamp, ready: &mut Vec<(Frame, Option<SeriesTable>)>) {
        let is_full = self.places.len() >= self.series_max;
        let mut given_up = false;
        for (index, number) in (0..self.chunks.len()).zip(0_u32..) {
            let chunk = &mut self.chunks[index];
            let unused =
                chunk.used_at.iter().filter(|used| now.saturating_since(**used) >= UNUSED_MAX).count();
            if unused == 0 || (!is_full && unused * FORGOTTEN_SHARE < chunk.series.len()) {
                continue;
            }
            // Rows that wait still name its series.
            chunk.close_open();
            if !chunk.closed.is_empty() {
                self.take_closed(number, now, ready);
            }
            self.give_up(index, number);
            given_up = true;
        }
        if given_up {
            self.active.retain(|index| !self.chunks[*index as usize].series.is_empty());
            self.places_by_address.clear();
        }
    }

    fn give_up(&mut self, index: usize, number: u32) {
        let chunk = &mut self.chunks[index];
        let next = Chunk { cut: chunk.cut.wrapping_add(1), ..Chunk::new(chunk.bucket) };
        let former = std::mem::replace(chunk, next);
        for series in &former.series {
            self.places.remove(series);
        }
        keep_former(&mut self.former_tables, former.table);
        let state = self.bucket_states.entry(former.bucket).or_default();
        state.last_chunk = state.last_chunk.filter(|last| *last != number);
        self.free.push(number);
    }

    fn place(&mut self, series: &Labels) -> Result<SeriesRef, Refusal> {
        let address = series.address();
        if let Some((_, place)) = self.places_by_address.get(&address) {
            return Ok(*place);
        }
        let place = match self.places.get(series) {
            Some(place) => *place,
            None => self.add(series)?,
        };
        // A caller that makes its labels anew for each sample would fill it with sets that nobody holds any more.
        if self.places_by_address.len() >= 2 * self.places.len() {
            self.places_by_address.clear();
        }
        self.places_by_address.insert(address, (series.clone(), place));
        Ok(place)
    }

    fn add(&mut self, series: &Labels) -> Result<SeriesRef, Refusal> {
        let metric = series.metric_name().ok_or(Refusal::NoMetric)?;
        if self.places.len() >= self.series_max {
            return Err(Refusal::TooManySeries);
        }
        let bucket = bucket_of(metric, self.buckets);
        let state = self.bucket_states.entry(bucket).or_default();
        let has_room = |index: &u32| self.chunks[*index as usize].series.len() < SERIES_PER_TABLE_MAX;
        let index = if let Some(index) = state.last_chunk.filter(has_room) {
            index
        } else {
            let index = if let Some(free) = self.free.pop() {
                self.chunks[free as usize].bucket = bucket;
                free
            } else {
                // At most one chunk for each series, of which there are fewer than 2^32.
                let index = u32::try_from(self.chunks.len()).map_err(|_| Refusal::TooManySeries)?;
                self.chunks.push(Chunk::new(bucket));
                index
            };
            state.last_chunk = Some(index);
            index
        };
        let chunk = &mut self.chunks[index as usize];
        let row = u16::try_from(chunk.series.len()).map_err(|_| Refusal::TooManySeries)?;
        chunk.series.push(series.clone());
        chunk.used_at.push(self.taken_at);
        let place = SeriesRef { chunk: index, row, cut: chunk.cut };
        self.places.insert(series.clone(), place);
        Ok(place)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::engine::promql::STALE;
    use crate::model::METRIC_NAME;

    use super::*;

    const BUCKETS: u32 = 8;

    fn framer() -> Framer {
        Framer::new("test", 3, BUCKETS)
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn series(metric: &str, instance: usize) -> Labels {
        Labels::new([(METRIC_NAME, metric), ("instance", &instance.to_string())]).unwrap()
    }

    fn sample(metric: &str, instance: usize, millis: i64) -> Sample {
        Sample { series: series(metric, instance), at: at(millis), value: instance as f64 }
    }

    fn sizes(frames: &[(Frame, Option<SeriesTable>)]) -> Vec<(usize, bool)> {
        frames.iter().map(|(frame, table)| (frame.rows.len(), table.is_some())).collect()
    }

    #[test]
    fn a_frame_leaves_when_it_is_full_enough_or_old_enough() {
        let mut framer = framer();
        assert_eq!((framer.take_ready(at(0)), framer.due()), (vec![], None));
        framer.push(&sample("up", 0, 0)).unwrap();
        assert_eq!(framer.due(), Some(at(50)));
        assert_eq!(framer.take_ready(at(49)), []);
        assert_eq!(sizes(&framer.take_ready(at(50))), [(1, true)]);

        let up = framer.series_ref(&series("up", 0)).unwrap();
        for millis in (0..).take(FRAME_ROWS_MAX + FRAME_ROWS_READY - 1) {
            framer.push_ref(up, at(millis), 1.0).unwrap();
        }
        assert_eq!(sizes(&framer.take_ready(at(60))), [(FRAME_ROWS_MAX, false)]);
        assert_eq!(framer.due(), Some(at(100)));
        framer.push_ref(up, at(9_999), 1.0).unwrap();
        assert_eq!(framer.due(), Some(at(60)));
        assert_eq!(sizes(&framer.take_ready(at(61))), [(FRAME_ROWS_READY, false)]);
        assert_eq!((framer.due(), framer.rows_waiting()), (None, 0));
    }

    #[test]
    fn series_that_ended_or_that_nobody_sends_are_forgotten_and_the_others_go_on() {
        let mut framer = framer().with_series_max(100);
        framer.take_ready(at(0));
        let kept = framer.series_ref(&series("up", 0)).unwrap();
        for hour in 1..=20_i64 {
            // Each hour other processes, some of which tell of their end; one lives on.
            for pid in 0..40_usize {
                let instance = usize::try_from(hour).unwrap() * 1_000 + pid;
                framer.push(&sample("up", instance, hour)).unwrap();
                if pid < 20 {
                    let ended = Sample { value: STALE, ..sample("up", instance, hour + 1) };
                    framer.push(&ended).unwrap();
                }
            }
            framer.push(&sample("up", 0, hour)).unwrap();
            framer.flush();
            let mut tables = BTreeMap::new();
            for (frame, table) in framer.take_ready(at(hour * 3_600_000)) {
                tables.extend(table.map(|table| (table.hash, table)));
                let table = tables.get(&frame.table).or_else(|| framer.table(frame.table)).unwrap();
                assert!(frame.rows.iter().all(|row| usize::from(row.series) < table.series.len()));
            }
            assert!(framer.series_count() <= 81, "{} series in hour {hour}", framer.series_count());
        }
        assert_eq!((framer.refusals(), framer.rows_waiting()), (Refusals::default(), 0));
        assert!(framer.chunks.len() <= 2, "places of chunks are used again");
        // A reference from before its chunk was given up names nobody else's series.
        assert_eq!(framer.push_ref(kept, at(1), 1.0), Err(Refusal::UnknownSeries));
        assert!(framer.series_ref(&series("up", 0)).is_ok());
    }

    #[test]
    fn flush_leaves_nothing_behind() {
        let mut framer = framer();
        framer.take_ready(at(0));
        framer.push(&sample("up", 0, 0)).unwrap();
        framer.flush();
        assert_eq!(sizes(&framer.take_ready(at(0))), [(1, true)]);
    }

    #[test]
    fn a_new_series_renames_its_table_and_the_former_one_can_be_asked_for() {
        let mut framer = framer();
        let mut hashes = Vec::new();
        for instance in 0..TABLES_KEPT_MAX + 2 {
            framer.push(&sample("up", instance, 0)).unwrap();
            framer.flush();
            let [(frame, Some(table))] = &framer.take_ready(at(0))[..] else {
                panic!("one frame with a table")
            };
            assert_eq!((frame.table, table.series.len()), (table.hash, instance + 1));
            hashes.push(table.hash);
        }
        assert_eq!(framer.table(hashes[0]), None);
        for (place, hash) in hashes.iter().enumerate().skip(1) {
            assert_eq!(framer.table(*hash).map(|table| table.series.len()), Some(place + 1));
        }
    }

    #[test]
    fn a_table_is_repeated_every_ten_seconds_and_is_never_larger_than_it_may_be() {
        let mut framer = framer();
        let instances = SERIES_PER_TABLE_MAX + 1;
        let mut sent = |millis: i64| {
            for instance in 0..instances {
                framer.push(&sample("up", instance, millis)).unwrap();
            }
            framer.flush();
            let taken = framer.take_ready(at(millis));
            let sizes = taken.iter().map(|(_, table)| table.as_ref().map(|table| table.series.len()));
            sizes.collect::<Vec<_>>()
        };
        assert_eq!(sent(0), [Some(SERIES_PER_TABLE_MAX), Some(1)]);
        assert_eq!(sent(9_999), [None, None]);
        assert_eq!(sent(10_000), [Some(SERIES_PER_TABLE_MAX), Some(1)]);
    }

    #[test]
    fn a_scrape_is_told_whole_by_its_parts() {
        let mut framer = framer();
        framer.take_ready(at(0));
        framer.push(&sample("before", 0, 1)).unwrap();
        let samples: Vec<Sample> = ["a", "b", "c", "before"]
            .into_iter()
            .flat_map(|metric| (0..400).map(move |instance| sample(metric, instance, 5)))
            .chain([sample("a", 0, 4)])
            .collect();
        assert_eq!(framer.push_scrape(at(5), &samples), 0);
        let taken = framer.take_ready(at(10));
        let parts: Vec<ScrapePart> = taken.iter().filter_map(|(frame, _)| frame.scrape).collect();
        let expected = u16::try_from(parts.len()).unwrap();
        assert!(expected >= 4);
        assert_eq!(parts, (0..expected).map(|part| ScrapePart { part, parts: expected }).collect::<Vec<_>>());
        let in_scrape = taken.iter().filter(|(frame, _)| frame.scrape.is_some());
        assert_eq!(in_scrape.map(|(frame, _)| frame.rows.len()).sum::<usize>(), 1_600);
        // What was pushed before leaves before, in the same chunk; a sample with its own time is no part.
        let outside: Vec<Timestamp> = taken
            .iter()
            .filter(|(frame, _)| frame.scrape.is_none())
            .flat_map(|(frame, _)| frame.rows.iter().map(|row| row.at))
            .collect();
        assert_eq!((outside.as_slice(), framer.rows_waiting()), (&[at(1), at(4)][..], 0));
    }

    #[test]
    fn what_cannot_be_taken_is_refused_and_counted() {
        let mut framer = framer().with_series_max(1);
        let nameless = Sample { series: Labels::empty(), at: at(0), value: 0.0 };
        assert_eq!(framer.push(&nameless), Err(Refusal::NoMetric));
        framer.push(&sample("up", 0, 0)).unwrap();
        assert_eq!(framer.push(&sample("up", 1, 0)), Err(Refusal::TooManySeries));
        assert_eq!(framer.push_scrape(at(0), &[nameless, sample("up", 1, 0), sample("up", 0, 0)]), 2);
        let foreign = SeriesRef { chunk: 0, row: 1, cut: 0 };
        assert_eq!(framer.push_ref(foreign, at(0), 0.0), Err(Refusal::UnknownSeries));
        let expected = Refusals { no_metric: 2, too_many_series: 2, unknown_series: 1, too_many_rows: 0 };
        assert_eq!((framer.refusals(), framer.series_count()), (expected, 1));
    }

    #[test]
    fn rows_that_nobody_takes_are_bounded() {
        let mut framer = framer();
        let up = framer.series_ref(&series("up", 0)).unwrap();
        for _ in 0..ROWS_WAITING_MAX {
            framer.push_ref(up, at(0), 0.0).unwrap();
        }
        assert_eq!(framer.push_ref(up, at(0), 0.0), Err(Refusal::TooManyRows));
        assert_eq!(framer.push_scrape(at(0), &[sample("up", 0, 0)]), 1);
        assert_eq!(framer.refusals().too_many_rows, 2);
        assert_eq!(framer.take_ready(at(0)).len(), ROWS_WAITING_MAX / FRAME_ROWS_MAX);
        assert_eq!(framer.push_ref(up, at(0), 0.0), Ok(()));
    }

    #[test]
    fn labels_made_anew_each_time_find_their_place() {
        let mut framer = framer();
        let place = framer.series_ref(&series("up", 0)).unwrap();
        for _ in 0..1_000 {
            assert_eq!(framer.series_ref(&series("up", 0)), Ok(place));
        }
        assert!(framer.places_by_address.len() <= 2);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(Vec<(u8, u16)>),
        Scrape(Vec<(u8, u16)>),
        Take(u16),
        Flush,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let places = || prop::collection::vec((0_u8..3, 0_u16..700), 0..900);
        let step = prop_oneof![
            places().prop_map(Step::Push),
            places().prop_map(Step::Scrape),
            (0_u16..6_000).prop_map(Step::Take),
            Just(Step::Flush),
        ];
        prop::collection::vec(step, 0..8)
    }

    /// Runs the steps and gives what was pushed, in order, and the frames.
    fn run(steps: &[Step]) -> (Vec<Sample>, Vec<(Frame, Option<SeriesTable>)>) {
        let (mut framer, mut now, mut count) = (framer(), 0_i64, 0_u32);
        let (mut pushed, mut taken) = (Vec::new(), Vec::new());
        let mut make = |places: &[(u8, u16)], now: i64| -> Vec<Sample> {
            let sample = |(metric, instance): &(u8, u16)| {
                count += 1;
                let series = series(&format!("m{metric}"), usize::from(*instance));
                Sample { series, at: at(now), value: f64::from(count) }
            };
            places.iter().map(sample).collect()
        };
        for step in steps {
            match step {
                Step::Push(places) => {
                    let samples = make(places, now);
                    for sample in &samples {
                        framer.push(sample).unwrap();
                    }
                    pushed.extend(samples);
                }
                Step::Scrape(places) => {
                    let samples = make(places, now);
                    assert_eq!(framer.push_scrape(at(now), &samples), 0);
                    pushed.extend(samples);
                }
                Step::Take(later) => {
                    now += i64::from(*later);
                    taken.extend(framer.take_ready(at(now)));
                }
                Step::Flush => framer.flush(),
            }
        }
        framer.flush();
        taken.extend(framer.take_ready(at(now)));
        assert_eq!((framer.rows_waiting(), framer.due()), (0, None));
        (pushed, taken)
    }

    /// The samples of the frames as a receiver resolves them that knows only the tables sent along.
    fn receive(frames: &[(Frame, Option<SeriesTable>)]) -> Vec<Sample> {
        let mut tables = HashMap::new();
        let mut samples = Vec::new();
        for (frame, table) in frames {
            if let Some(table) = table {
                tables.insert(table.hash, Arc::clone(&table.series));
            }
            let series = &tables[&frame.table];
            for row in &frame.rows {
                let series = series[usize::from(row.series)].clone();
                assert_eq!(frame.bucket, bucket_of(series.metric_name().unwrap(), BUCKETS));
                samples.push(Sample { series, at: row.at, value: row.value });
            }
        }
        samples
    }

    fn by_series(mut samples: Vec<Sample>) -> Vec<Sample> {
        samples.sort_by(|one, other| one.series.cmp(&other.series));
        samples
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn each_sample_comes_out_once_with_its_series_and_in_its_order(steps in steps()) {
            let (pushed, taken) = run(&steps);
            prop_assert_eq!(by_series(receive(&taken)), by_series(pushed));
        }

        #[test]
        fn frames_keep_their_limits_and_count_without_gaps(steps in steps()) {
            let (_, taken) = run(&steps);
            let mut next = HashMap::new();
            for (frame, table) in &taken {
                prop_assert!((1..=FRAME_ROWS_MAX).contains(&frame.rows.len()));
                prop_assert!(table.as_ref().is_none_or(|table| table.series.len() <= SERIES_PER_TABLE_MAX));
                let sequence = next.entry(frame.bucket).or_insert(0);
                prop_assert_eq!(frame.sequence, *sequence);
                *sequence += 1;
            }
        }

        #[test]
        fn parts_are_numbered_from_none_to_all_and_share_a_time(steps in steps()) {
            let (_, taken) = run(&steps);
            let mut open: Vec<(ScrapePart, Timestamp)> = Vec::new();
            for (frame, _) in &taken {
                let Some(scrape) = frame.scrape else { continue };
                prop_assert!(frame.rows.iter().all(|row| row.at == frame.rows[0].at));
                open.push((scrape, frame.rows[0].at));
            }
            open.sort_by_key(|(scrape, at)| (*at, scrape.parts, scrape.part));
            for (scrape, at) in &open {
                let twins = open.iter().filter(|(other, then)| then == at && other.parts == scrape.parts);
                prop_assert_eq!(twins.count() % usize::from(scrape.parts), 0);
                prop_assert!(scrape.part < scrape.parts);
            }
        }

        #[test]
        fn the_same_calls_give_the_same_frames(steps in steps()) {
            prop_assert_eq!(run(&steps), run(&steps));
        }

        #[test]
        fn any_batching_gives_the_same_samples(
            places in prop::collection::vec((0_u8..3, 0_u16..700), 0..1_500),
            cuts in prop::collection::vec((1_usize..800, 0_u16..100), 1..8),
        ) {
            let whole = run(&[Step::Push(places.clone())]).1;
            let mut steps = Vec::new();
            let mut rest = places.as_slice();
            for (size, pause) in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (head, tail) = rest.split_at((*size).min(rest.len()));
                steps.extend([Step::Push(head.to_vec()), Step::Take(*pause)]);
                rest = tail;
            }
            let values = |frames: &[(Frame, Option<SeriesTable>)]| {
                let samples = by_series(receive(frames));
                samples.into_iter().map(|sample| (sample.series, sample.value.to_bits())).collect::<Vec<_>>()
            };
            prop_assert_eq!(values(&run(&steps).1), values(&whole));
        }
    }
}

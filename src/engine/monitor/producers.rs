//! Producers: what was lost or repeated on the way from each, how late its samples come, how far its clock is off.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::model::{Frame, Row, Timestamp};

/// Producers keep their names over restarts, so this is machines, not processes; above it, frames are refused.
pub(super) const PRODUCERS_MAX: usize = 4_096;
/// A producer that was silent this long makes room for another one where there are too many.
const PRODUCER_IDLE: Duration = Duration::from_mins(15);
/// How far back a late frame is told from a repeated one, in frames of its lane.
const REORDERED_MAX: u64 = 128;
/// A clock further off than this is a report, and its data verifies nothing.
const SKEW_MAX: Duration = Duration::from_secs(2);
/// A clock this close is in order again: below the limit, so that the mark does not flicker.
const SKEW_SETTLED: Duration = Duration::from_secs(1);
/// The weight of the newest measurement: TCP's smoothing of round trips (RFC 6298).
const SMOOTHING: f64 = 1.0 / 8.0;

/// A producer's place; nobody's place is [`ProducerId::NOBODY`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ProducerId(pub(super) u32);

impl ProducerId {
    /// For what no producer has sent: its clock is ours.
    pub(super) const NOBODY: Self = Self(0);

    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// The frames of one producer in one bucket: numbered without gaps within an epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Lane {
    /// Grows with each restart of the producer.
    pub epoch: u64,
    /// The first sequence that was seen of this epoch: what came before was never missed.
    pub first: u64,
    /// The highest one.
    pub high: u64,
    /// Bit *n* says whether `high − n` was seen.
    pub seen: u128,
    /// The newest sample.
    pub watermark: Timestamp,
}

/// What a frame is, going by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// New. `lost` frames are missing before it.
    Fresh {
        lost: u64,
        /// Whether the lane was restored and the frames since the checkpoint are not whole.
        broken: bool,
    },
    /// New, and one of those that were counted as lost.
    Late,
    /// Seen before, or so far behind that it cannot be told.
    Duplicate,
    /// Of an epoch that is over.
    OlderEpoch,
}

/// How late the samples of a producer come, in milliseconds: arrival − `at`, smoothed. One measurement per instant, so
/// that it does not matter how samples are spread over frames.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Delay {
    /// Of the newest sample of each instant: network and clock.
    pub skew_ms: f64,
    /// Of the oldest one: that, and how long the producer collects. Deadlines wait this long.
    pub lag_ms: f64,
}

/// What came in the instant that is not over yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measurement {
    /// The instant.
    pub now: Timestamp,
    /// The oldest sample that came.
    pub oldest: Timestamp,
    /// The newest one.
    pub newest: Timestamp,
}

/// One producer.
#[derive(Clone, Debug, PartialEq)]
pub struct Producer {
    /// Its name.
    pub name: Arc<str>,
    /// How late its samples come; `None` before the first instant is over.
    pub delay: Option<Delay>,
    /// The instant that is not over.
    pub instant: Option<Measurement>,
    /// Whether its clock is marked as wrong.
    pub skewed: bool,
    /// How many of its frames are missing.
    pub lost: u64,
    /// When it was last heard.
    pub heard_at: Timestamp,
    /// By bucket.
    pub lanes: BTreeMap<u32, Lane>,
}

/// All producers.
#[derive(Debug)]
pub(super) struct Producers {
    known: Vec<Producer>,
    /// Looked up only, never walked.
    by_name: FxHashMap<Arc<str>, ProducerId>,
    /// Those with a measurement that is not folded in.
    measured: Vec<ProducerId>,
    /// Producers and buckets of a checkpoint that nothing was heard of since: what they say first tells whether the
    /// frames since then are whole.
    unheard: BTreeSet<(ProducerId, u32)>,
}

/// A producer's clock was found wrong.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Skewed {
    pub(super) producer: Arc<str>,
    pub(super) skew_ms: f64,
}

impl Producers {
    pub(super) fn new() -> Self {
        Self {
            known: vec![Producer::new("".into())],
            by_name: FxHashMap::default(),
            measured: Vec::new(),
            unheard: BTreeSet::new(),
        }
    }

    /// The producers of a checkpoint, in their order.
    pub(super) fn restore(producers: Vec<Producer>) -> Self {
        let mut all = Self::new();
        for producer in producers {
            let id = ProducerId(u32::try_from(all.known.len()).unwrap_or(u32::MAX));
            all.unheard.extend(producer.lanes.keys().map(|bucket| (id, *bucket)));
            if producer.instant.is_some() {
                all.measured.push(id);
            }
            all.by_name.insert(Arc::clone(&producer.name), id);
            all.known.push(producer);
        }
        all
    }

    /// Everyone, nobody not among them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Producer> {
        self.known.iter().skip(1)
    }

    pub(super) fn get(&self, id: ProducerId) -> &Producer {
        // Ids are only given out here; nobody's place is always there.
        self.known.get(id.index()).unwrap_or(&self.known[0])
    }

    pub(super) fn id_of(&self, name: &str) -> Option<ProducerId> {
        self.by_name.get(name).copied()
    }

    /// The producer of a frame; `None` where there are too many.
    pub(super) fn intern(&mut self, name: &Arc<str>, now: Timestamp) -> Option<ProducerId> {
        if let Some(id) = self.by_name.get(name) {
            return Some(*id);
        }
        let place = if self.known.len() <= PRODUCERS_MAX {
            self.known.push(Producer::new(Arc::clone(name)));
            self.known.len() - 1
        } else {
            let idle = (1..self.known.len()).min_by_key(|place| (self.known[*place].heard_at, *place))?;
            if now.saturating_since(self.known[idle].heard_at) < PRODUCER_IDLE {
                return None;
            }
            self.by_name.remove(&self.known[idle].name);
            self.known[idle] = Producer::new(Arc::clone(name));
            idle
        };
        let id = ProducerId(u32::try_from(place).ok()?);
        self.by_name.insert(Arc::clone(name), id);
        Some(id)
    }

    /// Places a frame among those of its lane.
    pub(super) fn arrive(&mut self, id: ProducerId, frame: &Frame, now: Timestamp) -> Arrival {
        let Some(producer) = self.known.get_mut(id.index()) else { return Arrival::Duplicate };
        producer.heard_at = now;
        let lane = producer.lanes.entry(frame.bucket).or_insert_with(|| Lane::starting(frame));
        let mut arrival = lane.arrive(frame);
        if let Arrival::Fresh { lost, broken } = &mut arrival {
            *broken = self.unheard.remove(&(id, frame.bucket)) && *lost > 0;
        }
        match arrival {
            Arrival::Fresh { lost, .. } => producer.lost = producer.lost.saturating_add(lost),
            Arrival::Late => producer.lost = producer.lost.saturating_sub(1),
            Arrival::Duplicate | Arrival::OlderEpoch => {}
        }
        arrival
    }

    /// Notes when the samples of a fresh frame were read; returns the newest of them.
    pub(super) fn measure(&mut self, id: ProducerId, frame: &Frame, now: Timestamp) -> Option<Timestamp> {
        let producer = self.known.get_mut(id.index())?;
        let (oldest, newest) = span_of(&frame.rows)?;
        if let Some(lane) = producer.lanes.get_mut(&frame.bucket) {
            lane.watermark = lane.watermark.max(newest);
        }
        match &mut producer.instant {
            Some(instant) if instant.now == now => {
                instant.oldest = instant.oldest.min(oldest);
                instant.newest = instant.newest.max(newest);
            }
            instant => {
                *instant = Some(Measurement { now, oldest, newest });
                self.measured.push(id);
            }
        }
        Some(newest)
    }

    /// Takes in what was measured in instants before `now`; returns whose clock was found wrong just now.
    pub(super) fn begin(&mut self, now: Timestamp) -> Vec<Skewed> {
        let mut skewed = Vec::new();
        let mut kept = Vec::new();
        for id in std::mem::take(&mut self.measured) {
            let Some(producer) = self.known.get_mut(id.index()) else { continue };
            match producer.instant {
                Some(instant) if instant.now < now => skewed.extend(producer.fold_in(instant)),
                Some(_) => kept.push(id),
                None => {}
            }
        }
        self.measured = kept;
        skewed.sort_by(|one, other| one.producer.cmp(&other.producer));
        skewed
    }

    /// How long after `at` it is safe to say that a producer's samples of that time are here.
    pub(super) fn lag(&self, id: ProducerId) -> i64 {
        self.get(id).delay.map_or(0, Delay::lag)
    }

    /// The lags that will hold when the instant is over, of those that were heard in it.
    pub(super) fn coming_lags(&self) -> impl Iterator<Item = (ProducerId, i64)> {
        self.measured.iter().filter_map(|id| {
            let producer = self.get(*id);
            Some((*id, Delay::after(producer.delay, producer.instant?).lag()))
        })
    }

    /// The longest lag of all when this instant is over.
    pub(super) fn longest_coming_lag(&self) -> i64 {
        let coming: BTreeMap<u32, i64> = self.coming_lags().map(|(id, lag)| (id.0, lag)).collect();
        let known = (0..self.known.len()).filter_map(|place| u32::try_from(place).ok());
        let lag = |place: u32| coming.get(&place).copied().unwrap_or_else(|| self.lag(ProducerId(place)));
        known.map(lag).max().unwrap_or(0)
    }

    /// The longest lag of all.
    pub(super) fn longest_lag(&self) -> i64 {
        (0..self.known.len())
            .filter_map(|place| u32::try_from(place).ok())
            .map(|place| self.lag(ProducerId(place)))
            .max()
            .unwrap_or(0)
    }
}

/// The times of the oldest and the newest row.
fn span_of(rows: &[Row]) -> Option<(Timestamp, Timestamp)> {
    let first = rows.first()?.at;
    Some(rows.iter().fold((first, first), |(oldest, newest), row| (oldest.min(row.at), newest.max(row.at))))
}

impl Producer {
    fn new(name: Arc<str>) -> Self {
        Self {
            name,
            delay: None,
            instant: None,
            skewed: false,
            lost: 0,
            heard_at: Timestamp::MIN,
            lanes: BTreeMap::new(),
        }
    }

    fn fold_in(&mut self, instant: Measurement) -> Option<Skewed> {
        self.instant = None;
        let delay = Delay::after(self.delay, instant);
        self.delay = Some(delay);
        let off = delay.skew_ms.abs();
        if !self.skewed && off > SKEW_MAX.as_millis() as f64 {
            self.skewed = true;
            return Some(Skewed { producer: Arc::clone(&self.name), skew_ms: delay.skew_ms });
        }
        if self.skewed && off < SKEW_SETTLED.as_millis() as f64 {
            self.skewed = false;
        }
        None
    }
}

impl Delay {
    /// What is known after one more instant.
    fn after(known: Option<Self>, instant: Measurement) -> Self {
        let since = |at: Timestamp| instant.now.as_millis().saturating_sub(at.as_millis()) as f64;
        let (skew, lag) = (since(instant.newest), since(instant.oldest));
        let mut delay = known.unwrap_or(Self { skew_ms: skew, lag_ms: lag });
        delay.skew_ms += (skew - delay.skew_ms) * SMOOTHING;
        delay.lag_ms += (lag - delay.lag_ms) * SMOOTHING;
        delay
    }

    #[expect(clippy::cast_possible_truncation, reason = "saturates, and time in milliseconds fits")]
    fn lag(self) -> i64 {
        self.lag_ms.ceil() as i64
    }
}

impl Lane {
    fn starting(frame: &Frame) -> Self {
        Self {
            epoch: frame.epoch,
            first: frame.sequence,
            high: frame.sequence,
            seen: 0,
            watermark: Timestamp::MIN,
        }
    }

    fn arrive(&mut self, frame: &Frame) -> Arrival {
        if frame.epoch < self.epoch {
            return Arrival::OlderEpoch;
        }
        if frame.epoch > self.epoch {
            *self = Self { watermark: self.watermark, ..Self::starting(frame) };
        }
        if let Some(ahead) = frame.sequence.checked_sub(self.high).filter(|ahead| *ahead > 0) {
            self.high = frame.sequence;
            self.seen = u32::try_from(ahead).ok().and_then(|by| self.seen.checked_shl(by)).unwrap_or(0) | 1;
            return Arrival::Fresh { lost: ahead - 1, broken: false };
        }
        let behind = self.high - frame.sequence;
        if behind >= REORDERED_MAX || self.seen >> behind & 1 == 1 {
            return Arrival::Duplicate;
        }
        self.seen |= 1 << behind;
        if frame.sequence <= self.first {
            self.first = frame.sequence;
            return Arrival::Fresh { lost: 0, broken: false };
        }
        Arrival::Late
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TableHash;

    fn frame(epoch: u64, sequence: u64, at: &[i64]) -> Frame {
        Frame {
            producer: "p".into(),
            epoch,
            sequence,
            bucket: 0,
            scrape: None,
            table: TableHash(1),
            rows: at
                .iter()
                .map(|at| Row { series: 0, at: Timestamp::from_millis(*at), value: 1.0 })
                .collect(),
        }
    }

    fn fresh(lost: u64) -> Arrival {
        Arrival::Fresh { lost, broken: false }
    }

    #[test]
    fn gaps_are_counted_repeats_are_not_taken_and_late_frames_are() {
        let mut producers = Producers::new();
        let now = Timestamp::from_millis(0);
        let id = producers.intern(&"p".into(), now).unwrap();
        let cases = [
            (1, 10, fresh(0)),
            (1, 11, fresh(0)),
            (1, 11, Arrival::Duplicate),
            (1, 14, fresh(2)),
            (1, 12, Arrival::Late),
            (1, 12, Arrival::Duplicate),
            (1, 9, fresh(0)),
            (1, 10, Arrival::Duplicate),
            (1, 13, Arrival::Late),
            (1, 300, fresh(285)),
            (1, 299, Arrival::Late),
            (1, 100, Arrival::Duplicate),
            (2, 0, fresh(0)),
            (1, 301, Arrival::OlderEpoch),
            (2, u64::MAX, fresh(u64::MAX - 1)),
        ];
        for (epoch, sequence, expected) in cases {
            assert_eq!(
                producers.arrive(id, &frame(epoch, sequence, &[]), now),
                expected,
                "{epoch}/{sequence}"
            );
        }
    }

    #[test]
    fn a_restored_lane_tells_whether_the_tail_is_whole() {
        for (next, broken) in [(11, false), (13, true)] {
            let mut producers = Producers::new();
            let now = Timestamp::from_millis(0);
            let id = producers.intern(&"p".into(), now).unwrap();
            producers.arrive(id, &frame(1, 10, &[]), now);
            let mut producers = Producers::restore(producers.iter().cloned().collect());
            let id = producers.id_of("p").unwrap();
            let arrival = producers.arrive(id, &frame(1, next, &[]), now);
            assert_eq!(arrival, Arrival::Fresh { lost: next - 11, broken });
            assert_eq!(producers.arrive(id, &frame(1, next + 2, &[]), now), fresh(1));
        }
    }

    #[test]
    fn an_instant_is_measured_once_however_many_frames_it_had() {
        let run = |frames: &[&[i64]]| {
            let mut producers = Producers::new();
            for now in [1_000_i64, 2_000] {
                let now = Timestamp::from_millis(now);
                producers.begin(now);
                let id = producers.intern(&"p".into(), now).unwrap();
                for rows in frames {
                    producers.measure(id, &frame(1, 1, rows), now);
                }
            }
            producers.begin(Timestamp::from_millis(2_001));
            producers.iter().next().unwrap().delay
        };
        assert_eq!(run(&[&[900, 950, 990]]), run(&[&[900], &[990], &[950]]));
        assert_eq!(run(&[&[1_000]]), Some(Delay { skew_ms: 125.0, lag_ms: 125.0 }));
    }

    #[test]
    fn a_wrong_clock_is_told_once_until_it_was_right_again() {
        let mut producers = Producers::new();
        let mut told = Vec::new();
        for step in 0..60_i64 {
            let now = Timestamp::from_millis(step * 1_000);
            if !producers.begin(now).is_empty() {
                told.push(step);
            }
            let id = producers.intern(&"p".into(), now).unwrap();
            let off = if (10..30).contains(&step) || step >= 50 { 5_000 } else { 0 };
            producers.measure(id, &frame(1, 1, &[step * 1_000 + off]), now);
        }
        // Four measurements 5 s ahead make 2.07 s, and it is in the step after them that they are known.
        assert_eq!(told, [14, 54]);
    }

    #[test]
    fn a_silent_producer_makes_room_and_a_busy_one_does_not() {
        let mut producers = Producers::new();
        let start = Timestamp::from_millis(0);
        for number in 0..PRODUCERS_MAX {
            let id = producers.intern(&format!("p{number}").into(), start).unwrap();
            producers.arrive(id, &frame(1, 1, &[]), start + Duration::from_millis(number as u64));
        }
        assert_eq!(producers.intern(&"one more".into(), start), None);
        let id = producers.intern(&"one more".into(), start + PRODUCER_IDLE).unwrap();
        assert_eq!(producers.get(id).name.as_ref(), "one more");
        assert_eq!(producers.id_of("p0"), None);
    }
}

//! One series' samples: a buffer in time order, trimmed when it is full and not at every sample.

use crate::model::Timestamp;

/// The value that says "the series ends here": Prometheus' stale marker, a NaN with a payload of its own.
pub const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);
/// First allocation of a buffer, in samples: two cache lines.
const CAPACITY_MIN: usize = 8;

/// Whether a value is the stale marker. Every other NaN is a reading.
#[inline]
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE.to_bits()
}

/// What `place_late` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Late {
    /// There is a sample of this time with this value.
    Same,
    /// There is a sample of this time with another value.
    Other,
    /// There is none; it belongs before this one.
    Before(usize),
}

/// The samples of one series, oldest first, one per point in time. Hot data only: an append touches this and the
/// end of the buffer, nothing else.
#[derive(Debug, Default)]
pub(super) struct Series {
    samples: Vec<(Timestamp, f64)>,
    /// How far back the samples are needed.
    pub keep_millis: i64,
    /// How many of the samples are stale markers: windows of a series without any need not be filtered.
    stale: u32,
    /// Distinguishes the series that used this slot one after the other.
    pub generation: u32,
}

impl Series {
    /// A series without samples.
    pub(super) fn new(generation: u32) -> Self {
        Self { generation, ..Self::default() }
    }

    pub(super) fn samples(&self) -> &[(Timestamp, f64)] {
        &self.samples
    }

    pub(super) fn newest(&self) -> Option<Timestamp> {
        self.samples.last().map(|&(at, _)| at)
    }

    pub(super) fn capacity(&self) -> usize {
        self.samples.capacity()
    }

    pub(super) fn is_full(&self) -> bool {
        self.samples.len() == self.samples.capacity()
    }

    pub(super) fn has_stale(&self) -> bool {
        self.stale > 0
    }

    /// The caller has made sure that it is newer than the newest and that there is room.
    #[inline]
    pub(super) fn push(&mut self, at: Timestamp, value: f64) {
        self.stale += u32::from(is_stale(value));
        self.samples.push((at, value));
    }

    /// Where a sample that is not the newest belongs.
    pub(super) fn place_late(&self, at: Timestamp, value: f64) -> Late {
        match self.samples.binary_search_by_key(&at, |&(known, _)| known) {
            Ok(index) if same(self.samples[index].1, value) => Late::Same,
            Ok(_) => Late::Other,
            Err(index) => Late::Before(index),
        }
    }

    pub(super) fn insert(&mut self, index: usize, at: Timestamp, value: f64) {
        self.stale += u32::from(is_stale(value));
        self.samples.insert(index.min(self.samples.len()), (at, value));
    }

    /// Drops the samples up to and including `cut`.
    pub(super) fn trim(&mut self, cut: i64) {
        let old = self.samples.partition_point(|&(at, _)| at.as_millis() <= cut);
        self.drop_oldest(old);
    }

    /// The newest of the dropped.
    pub(super) fn drop_oldest(&mut self, count: usize) -> Option<Timestamp> {
        let dropped = self.samples.drain(..count.min(self.samples.len()));
        let (mut stale, mut newest) = (0, None);
        for (at, value) in dropped {
            stale += u32::from(is_stale(value));
            newest = Some(at);
        }
        self.stale -= stale;
        newest
    }

    /// The capacity it should have where it is to take more samples: enough spare that the next trimming, which
    /// moves all samples, is paid for by as many appends as a quarter of them.
    pub(super) fn wanted_capacity(&self) -> usize {
        let len = self.samples.len();
        if self.samples.capacity() - len > len / 4 {
            self.samples.capacity()
        } else {
            (len + len / 2).max(CAPACITY_MIN)
        }
    }

    pub(super) fn grow(&mut self, capacity: usize) {
        self.samples.reserve_exact(capacity.saturating_sub(self.samples.len()));
    }

    /// Gives back what a busier past has left over.
    pub(super) fn shrink(&mut self) {
        let len = self.samples.len();
        if self.samples.capacity() > CAPACITY_MIN.max(2 * len) {
            self.samples.shrink_to(len + len / 2);
        }
    }

    /// The newest sample, with its time in milliseconds, not after `reference` and less than `lookback_millis` before it, unless it is a marker.
    #[inline]
    pub(super) fn latest_at(&self, reference: i64, lookback_millis: i64) -> Option<(i64, f64)> {
        let &(mut at, mut value) = self.samples.last()?;
        if at.as_millis() > reference {
            let after = self.samples.partition_point(|&(at, _)| at.as_millis() <= reference);
            (at, value) = *self.samples.get(after.checked_sub(1)?)?;
        }
        let is_recent = at.as_millis() > reference.saturating_sub(lookback_millis);
        (is_recent && !is_stale(value)).then_some((at.as_millis(), value))
    }

    /// The samples after `after` up to and including `until`.
    pub(super) fn window(&self, after: i64, until: i64) -> &[(Timestamp, f64)] {
        let end = match self.samples.last() {
            Some((newest, _)) if newest.as_millis() <= until => self.samples.len(),
            _ => self.samples.partition_point(|&(at, _)| at.as_millis() <= until),
        };
        let start = self.samples[..end].partition_point(|&(at, _)| at.as_millis() <= after);
        &self.samples[start..end]
    }
}

/// Equal as readings: both zeros are one value, and so are all NaNs with the same bits.
#[expect(clippy::float_cmp, reason = "a duplicate is the very same reading")]
fn same(one: f64, other: f64) -> bool {
    one == other || one.to_bits() == other.to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn series(samples: &[(i64, f64)]) -> Series {
        let mut series = Series::default();
        for &(millis, value) in samples {
            series.push(at(millis), value);
        }
        series
    }

    #[test]
    fn a_window_is_open_on_the_left() {
        let series = series(&[(10, 1.0), (20, 2.0), (30, 3.0)]);
        assert_eq!(series.window(10, 30), [(at(20), 2.0), (at(30), 3.0)]);
        assert_eq!(series.window(9, 29), [(at(10), 1.0), (at(20), 2.0)]);
        assert_eq!(series.window(30, 10), []);
    }

    #[test]
    fn the_latest_is_not_older_than_the_lookback_and_not_a_marker() {
        let mut series = series(&[(10, 1.0), (20, 2.0)]);
        assert_eq!(series.latest_at(9, 100), None);
        assert_eq!(series.latest_at(19, 100), Some((10, 1.0)));
        assert_eq!(series.latest_at(119, 100), Some((20, 2.0)));
        assert_eq!(series.latest_at(120, 100), None);
        series.push(at(30), STALE);
        assert_eq!(series.latest_at(31, 100), None);
        assert_eq!(series.latest_at(29, 100), Some((20, 2.0)));
    }

    #[test]
    fn markers_are_counted_in_and_out() {
        let mut series = series(&[(10, STALE), (20, 2.0)]);
        series.insert(1, at(15), STALE);
        assert!(series.has_stale());
        assert_eq!(series.drop_oldest(2), Some(at(15)));
        assert!(!series.has_stale());
        assert_eq!(series.samples(), [(at(20), 2.0)]);
    }

    #[test]
    fn an_ordinary_nan_is_not_the_marker() {
        assert!(!is_stale(f64::NAN));
        assert!(is_stale(STALE));
        assert_eq!(series(&[(1, f64::NAN)]).place_late(at(1), f64::NAN), Late::Same);
        assert_eq!(series(&[(1, f64::NAN)]).place_late(at(1), STALE), Late::Other);
    }
}

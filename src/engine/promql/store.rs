//! The series that expressions read: bounded, in memory, in event time.

use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::model::{Labels, Timestamp};

use super::Expr;
use super::expr::LOOKBACK;
use super::index::{Index, Slot};
use super::matcher::Selector;
use super::series::{Late, Series, is_stale};

/// What a store holds at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many series there may be. The default is a quarter of a million: at 1 KiB a series with its labels and
    /// its places in the index, 256 MiB.
    pub series: usize,
    /// For how many samples there may be room; 16 bytes each. The default is 512 MiB, the five minutes of the
    /// lookback at ten seconds for a million series.
    pub samples: usize,
    /// How far behind its series' newest sample a sample may come and still be put in its place.
    pub lateness: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { series: 250_000, samples: 32 << 20, lateness: Duration::from_secs(5) }
    }
}

/// A series in a store. It stays the same as long as the series lives and is not used again for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesId {
    pub(super) slot: Slot,
    generation: u32,
}

/// What became of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is the series' newest.
    Stored,
    /// It was put in its place among newer ones.
    StoredLate,
    /// The series has a sample of this time with this value.
    Duplicate,
    /// The series has a sample of this time with another value, which stays: the first one wins.
    Conflict,
    /// It is further behind than the allowed lateness.
    TooOld,
    /// The store is full, and the series has no room of its own.
    Full,
    /// The series has been forgotten: ask for it by its labels again.
    Forgotten,
}

/// What a store has done since it was made. All only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Samples stored as the newest of their series.
    pub stored: u64,
    /// Samples put among newer ones.
    pub stored_late: u64,
    /// Samples that were there.
    pub duplicates: u64,
    /// Samples that were there with another value.
    pub conflicts: u64,
    /// Samples behind the allowed lateness.
    pub too_old: u64,
    /// Samples refused because the store was full.
    pub refused: u64,
    /// Samples of forgotten series.
    pub forgotten: u64,
    /// Samples dropped before their time because the store was full.
    pub evicted: u64,
    /// Series refused because there were too many.
    pub series_refused: u64,
    /// Series forgotten because they had no samples any more.
    pub series_forgotten: u64,
}

/// The store has as many series as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no more than {limit} series are kept")]
pub struct StoreFull {
    /// How many that is.
    pub limit: usize,
}

/// The samples of many series, for as long as expressions look back.
///
/// Appending costs no hashing and no search: a series' id is asked for once. Old samples go when a series needs
/// room, so that the cost per sample does not depend on how many are kept. Two stores that were told the same in
/// another order hold the same and give the same answers, to the bit.
#[derive(Debug)]
pub struct SeriesStore {
    limits: Limits,
    series: Vec<Series>,
    /// The labels of `series`, beside them: an append does not touch them. `None` is a free slot.
    names: Vec<Option<Labels>>,
    /// Slots without a sample yet, which the next call of `forget_idle` spares.
    is_fresh: Vec<bool>,
    free: Vec<Slot>,
    /// Never walked, so that the order of a hash map does not show.
    by_labels: FxHashMap<Labels, Slot>,
    index: Index,
    keep: Duration,
    keep_by_metric: FxHashMap<Box<str>, Duration>,
    /// Samples there is room for.
    room: usize,
    counters: Counters,
    evicted_until: Option<Timestamp>,
}

impl SeriesStore {
    /// An empty store that keeps samples for the lookback, until told otherwise.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            series: Vec::new(),
            names: Vec::new(),
            is_fresh: Vec::new(),
            free: Vec::new(),
            by_labels: FxHashMap::default(),
            index: Index::default(),
            keep: LOOKBACK,
            keep_by_metric: FxHashMap::default(),
            room: 0,
            counters: Counters::default(),
            evicted_until: None,
        }
    }

    /// The series with these labels, new where there was none.
    pub fn series(&mut self, labels: &Labels) -> Result<SeriesId, StoreFull> {
        if let Some(&slot) = self.by_labels.get(labels) {
            return Ok(self.id(slot));
        }
        if self.by_labels.len() >= self.limits.series {
            self.counters.series_refused += 1;
            return Err(StoreFull { limit: self.limits.series });
        }
        let slot = self.free_slot().ok_or(StoreFull { limit: Slot::MAX as usize })?;
        let index = slot as usize;
        self.series[index].keep_millis = self.keep_millis(labels);
        self.names[index] = Some(labels.clone());
        self.is_fresh[index] = true;
        self.by_labels.insert(labels.clone(), slot);
        self.index.insert(slot, &self.names);
        Ok(self.id(slot))
    }

    /// Adds a sample. The value may be the stale marker; every other NaN is kept as one and the same NaN.
    #[inline]
    pub fn append(&mut self, id: SeriesId, at: Timestamp, value: f64) -> Appended {
        let slot = id.slot as usize;
        let Some(series) = self.series.get_mut(slot).filter(|series| series.generation == id.generation)
        else {
            self.counters.forgotten += 1;
            return Appended::Forgotten;
        };
        let value = if value.is_nan() && !is_stale(value) { f64::NAN } else { value };
        if series.newest().is_some_and(|newest| at <= newest) {
            return self.append_late(slot, at, value);
        }
        if series.is_full() && !self.make_room(slot, at) {
            return Appended::Full;
        }
        self.series[slot].push(at, value);
        self.counters.stored += 1;
        Appended::Stored
    }

    /// Keeps what an expression reads ready, and its samples for as long as the expression looks back.
    pub fn watch(&mut self, expr: &Expr) {
        for read in expr.reads() {
            self.index.watch(read.selector, &self.names);
            match read.selector.metric_names() {
                Some(metrics) => metrics.iter().for_each(|metric| self.retain_metric(metric, read.window)),
                None => self.retain(read.window),
            }
        }
    }

    /// Forgets what [`watch`](Self::watch) was told, for a new set of rules; the samples stay until they are
    /// trimmed.
    pub fn unwatch_all(&mut self) {
        self.index.unwatch_all();
        self.keep = LOOKBACK;
        self.keep_by_metric.clear();
        self.apply_retention();
    }

    /// Keeps samples of all metrics for at least this long behind their series' newest.
    pub fn retain(&mut self, window: Duration) {
        if window > self.keep {
            self.keep = window;
            self.apply_retention();
        }
    }

    /// Keeps samples of one metric for at least this long behind their series' newest.
    pub fn retain_metric(&mut self, metric: &str, window: Duration) {
        let known = self.keep_by_metric.get(metric).copied().unwrap_or(self.keep);
        if window > known {
            self.keep_by_metric.insert(metric.into(), window);
            for &slot in self.index.of_metric(metric) {
                self.series[slot as usize].keep_millis = millis(window.max(self.keep));
            }
        }
    }

    /// Drops what is out of retention at `now`, and series that have nothing left, of which it returns the number.
    /// A series that was asked for and has no sample yet is spared once. Costs a look at every series.
    pub fn forget_idle(&mut self, now: Timestamp) -> usize {
        let lateness = millis(self.limits.lateness);
        let mut gone = vec![false; self.series.len()];
        let mut count = 0;
        for (slot, series) in
            self.series.iter_mut().enumerate().filter(|(slot, _)| self.names[*slot].is_some())
        {
            let before = series.capacity();
            series.trim(cut(now, series.keep_millis, lateness));
            series.shrink();
            self.room = self.room - before + series.capacity();
            let was_fresh = std::mem::take(&mut self.is_fresh[slot]);
            gone[slot] = series.samples().is_empty() && !was_fresh;
            count += usize::from(gone[slot]);
        }
        if count > 0 {
            self.forget(&gone);
        }
        count
    }

    /// Takes over a series of an export, as if its samples came in now.
    pub fn import(&mut self, labels: &Labels, samples: &[(Timestamp, f64)]) -> Result<SeriesId, StoreFull> {
        let id = self.series(labels)?;
        for &(at, value) in samples {
            self.append(id, at, value);
        }
        Ok(id)
    }

    /// All series with their samples, in the order of metrics and labels. Series without samples are left out.
    pub fn export(&self) -> impl Iterator<Item = (&Labels, &[(Timestamp, f64)])> {
        self.index.all().filter_map(|slot| {
            let samples = self.series[slot as usize].samples();
            self.names[slot as usize].as_ref().filter(|_| !samples.is_empty()).map(|labels| (labels, samples))
        })
    }

    /// The labels of a series; `None` once it is forgotten.
    pub fn labels(&self, id: SeriesId) -> Option<&Labels> {
        self.is_live(id).then(|| self.labels_at(id.slot)).flatten()
    }

    /// The samples of a series after `after` up to and including `until`, oldest first, stale markers included.
    pub fn samples(&self, id: SeriesId, after: Timestamp, until: Timestamp) -> &[(Timestamp, f64)] {
        if !self.is_live(id) {
            return &[];
        }
        self.series[id.slot as usize].window(after.as_millis(), until.as_millis())
    }

    /// The series a selector means, in the order of their labels.
    pub fn select(&self, selector: &Selector) -> impl Iterator<Item = SeriesId> {
        self.index.select(selector, &self.names).into_owned().into_iter().map(|slot| self.id(slot))
    }

    /// How many series there are.
    pub fn len(&self) -> usize {
        self.by_labels.len()
    }

    /// Whether there are no series.
    pub fn is_empty(&self) -> bool {
        self.by_labels.is_empty()
    }

    /// For how many samples there is room, of [`Limits::samples`].
    pub fn room(&self) -> usize {
        self.room
    }

    /// What it has done so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The newest sample that was dropped because the store was full: a window that begins before it may be
    /// incomplete.
    pub fn evicted_until(&self) -> Option<Timestamp> {
        self.evicted_until
    }

    pub(super) fn slots(&self, selector: &Selector) -> std::borrow::Cow<'_, [Slot]> {
        self.index.select(selector, &self.names)
    }

    /// Whether labels that go with the metric's name are in use, of which an expression's text says nothing.
    pub(super) fn has_type_labels(&self) -> bool {
        ["__type__", "__unit__"].iter().any(|label| self.index.has_label(label))
    }

    pub(super) fn labels_at(&self, slot: Slot) -> Option<&Labels> {
        self.names.get(slot as usize).and_then(Option::as_ref)
    }

    pub(super) fn series_at(&self, slot: Slot) -> Option<&Series> {
        self.series.get(slot as usize)
    }

    pub(super) fn is_live(&self, id: SeriesId) -> bool {
        self.series.get(id.slot as usize).is_some_and(|series| series.generation == id.generation)
    }

    fn id(&self, slot: Slot) -> SeriesId {
        SeriesId { slot, generation: self.series[slot as usize].generation }
    }

    fn free_slot(&mut self) -> Option<Slot> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        let slot = Slot::try_from(self.series.len()).ok()?;
        self.series.push(Series::new(0));
        self.names.push(None);
        self.is_fresh.push(false);
        Some(slot)
    }

    #[cold]
    fn append_late(&mut self, slot: usize, at: Timestamp, value: f64) -> Appended {
        let series = &self.series[slot];
        let behind = series.newest().map_or(Duration::ZERO, |newest| newest.saturating_since(at));
        match series.place_late(at, value) {
            Late::Same => {
                self.counters.duplicates += 1;
                Appended::Duplicate
            }
            Late::Other => {
                self.counters.conflicts += 1;
                Appended::Conflict
            }
            Late::Before(_) if behind > self.limits.lateness => {
                self.counters.too_old += 1;
                Appended::TooOld
            }
            Late::Before(_) => self.insert(slot, at, value),
        }
    }

    fn insert(&mut self, slot: usize, at: Timestamp, value: f64) -> Appended {
        let newest = self.series[slot].newest().unwrap_or(at);
        if self.series[slot].is_full() && !self.make_room(slot, newest) {
            return Appended::Full;
        }
        let series = &mut self.series[slot];
        // Making room moves the places.
        let Late::Before(index) = series.place_late(at, value) else { return Appended::Duplicate };
        series.insert(index, at, value);
        self.counters.stored_late += 1;
        Appended::StoredLate
    }

    /// Makes room for a sample in a full series: by trimming, by growing, or, where the store is full, by dropping
    /// the oldest quarter of the series before its time.
    #[cold]
    fn make_room(&mut self, slot: usize, newest: Timestamp) -> bool {
        let lateness = millis(self.limits.lateness);
        let series = &mut self.series[slot];
        series.trim(cut(newest, series.keep_millis, lateness));
        let (capacity, wanted) = (series.capacity(), series.wanted_capacity());
        if wanted > capacity && self.room - capacity + wanted <= self.limits.samples {
            series.grow(wanted);
            self.room = self.room - capacity + series.capacity();
        }
        if series.is_full() {
            let quarter = series.samples().len().div_ceil(4);
            let dropped = series.drop_oldest(quarter);
            self.counters.evicted += quarter as u64;
            self.evicted_until = self.evicted_until.max(dropped);
        }
        let has_room = !series.is_full();
        self.counters.refused += u64::from(!has_room);
        has_room
    }

    fn forget(&mut self, gone: &[bool]) {
        self.index.remove(|slot| gone[slot as usize]);
        for slot in (0..gone.len()).filter(|&slot| gone[slot]) {
            let generation = self.series[slot].generation.wrapping_add(1);
            self.room -= self.series[slot].capacity();
            self.series[slot] = Series::new(generation);
            if let Some(labels) = self.names[slot].take() {
                self.by_labels.remove(&labels);
            }
            self.free.extend(Slot::try_from(slot));
            self.counters.series_forgotten += 1;
        }
    }

    fn apply_retention(&mut self) {
        for slot in 0..self.series.len() {
            if let Some(labels) = &self.names[slot] {
                self.series[slot].keep_millis = self.keep_millis(labels);
            }
        }
    }

    fn keep_millis(&self, labels: &Labels) -> i64 {
        let of_metric = labels.metric_name().and_then(|metric| self.keep_by_metric.get(metric));
        millis(of_metric.map_or(self.keep, |&keep| keep.max(self.keep)))
    }
}

/// The newest time whose samples are not needed any more.
fn cut(newest: Timestamp, keep_millis: i64, lateness_millis: i64) -> i64 {
    newest.as_millis().saturating_sub(keep_millis).saturating_sub(lateness_millis)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::new(pairs.iter().copied()).unwrap()
    }

    fn up(job: &str) -> Labels {
        labels(&[("__name__", "up"), ("job", job)])
    }

    fn selected(store: &SeriesStore, text: &str) -> Vec<String> {
        let expr = Expr::parse(text).unwrap();
        let read = expr.reads().next().unwrap();
        store.select(read.selector).map(|id| store.labels(id).unwrap().to_string()).collect()
    }

    #[test]
    fn each_sample_is_told_what_became_of_it() {
        let mut store = SeriesStore::new(Limits::default());
        let id = store.series(&up("a")).unwrap();
        let cases = [
            (10, 1.0, Appended::Stored),
            (10, 1.0, Appended::Duplicate),
            (10, 2.0, Appended::Conflict),
            (14, 3.0, Appended::Stored),
            (9, 4.0, Appended::StoredLate),
            (9, 4.0, Appended::Duplicate),
            (8, 5.0, Appended::TooOld),
            (15, f64::NAN, Appended::Stored),
            (15, -f64::NAN, Appended::Duplicate),
            (15, crate::engine::promql::STALE, Appended::Conflict),
        ];
        for (seconds, value, expected) in cases {
            assert_eq!(store.append(id, at(seconds), value), expected, "{value} at {seconds}");
        }
        let times: Vec<_> = store.samples(id, at(0), at(99)).iter().map(|(at, _)| *at).collect();
        assert_eq!(times, [at(9), at(10), at(14), at(15)]);
        assert_eq!(store.samples(id, at(0), at(10))[1], (at(10), 1.0));
        let expected = Counters {
            stored: 3,
            stored_late: 1,
            duplicates: 3,
            conflicts: 2,
            too_old: 1,
            ..Counters::default()
        };
        assert_eq!(store.counters(), expected);
    }

    #[test]
    fn samples_are_kept_for_the_window_and_not_much_longer() {
        let mut store = SeriesStore::new(Limits::default());
        store.watch(&Expr::parse("rate(up[10m]) > 0").unwrap());
        let id = store.series(&up("a")).unwrap();
        for seconds in 0..100_000 {
            store.append(id, at(seconds), 1.0);
            let newest = store.samples(id, at(seconds - 605), at(seconds)).len();
            assert_eq!(newest, usize::try_from(seconds + 1).unwrap().min(605));
        }
        assert!(store.room() < 605 * 2, "{}", store.room());
        assert_eq!(store.evicted_until(), None);
    }

    #[test]
    fn retention_is_by_metric_where_the_metric_is_named() {
        let mut store = SeriesStore::new(Limits::default());
        let (long, short) = (labels(&[("__name__", "long")]), labels(&[("__name__", "short")]));
        let ids = [&long, &short].map(|labels| store.series(labels).unwrap());
        store.watch(&Expr::parse("increase(long[1h])").unwrap());
        for id in ids {
            for seconds in 0..10_000 {
                store.append(id, at(seconds), 0.0);
            }
        }
        let kept = ids.map(|id| store.samples(id, at(-1), at(10_000)).len());
        assert!(kept[0] >= 3_600 && kept[1] < 700, "{kept:?}");
        store.watch(&Expr::parse("increase({job=\"a\"}[2h])").unwrap());
        for seconds in 10_000..20_000 {
            store.append(ids[1], at(seconds), 0.0);
        }
        assert!(store.samples(ids[1], at(0), at(20_000)).len() >= 7_200);
    }

    #[test]
    fn a_full_store_drops_what_is_oldest_and_says_so() {
        let mut store = SeriesStore::new(Limits { samples: 100, ..Limits::default() });
        let ids: Vec<_> = (0..20).map(|n| store.series(&up(&n.to_string())).unwrap()).collect();
        let mut refused = 0;
        for seconds in 0..50 {
            for &id in &ids {
                refused += u64::from(store.append(id, at(seconds), 0.0) == Appended::Full);
            }
        }
        assert!(store.room() <= 100, "{}", store.room());
        let counters = store.counters();
        assert!(counters.evicted > 0 && refused > 0);
        assert_eq!(counters.refused, refused);
        assert!(store.evicted_until().is_some_and(|until| until > at(30)));
        assert_eq!(store.samples(ids[0], at(48), at(49)).len(), 1);
    }

    #[test]
    fn too_many_series_are_refused_and_the_others_go_on() {
        let mut store = SeriesStore::new(Limits { series: 2, ..Limits::default() });
        let first = store.series(&up("a")).unwrap();
        store.series(&up("b")).unwrap();
        assert_eq!(store.series(&up("c")), Err(StoreFull { limit: 2 }));
        assert_eq!(store.series(&up("a")), Ok(first));
        assert_eq!(store.append(first, at(1), 1.0), Appended::Stored);
        assert_eq!(store.counters().series_refused, 1);
    }

    #[test]
    fn an_idle_series_is_forgotten_and_its_id_is_not_used_again() {
        let mut store = SeriesStore::new(Limits::default());
        let [old, new] = ["old", "new"].map(|job| store.series(&up(job)).unwrap());
        store.append(old, at(0), 1.0);
        assert_eq!(store.forget_idle(at(304)), 0);
        // `new` has had its first chance by now.
        assert_eq!(store.forget_idle(at(306)), 2);
        assert!(store.is_empty() && store.room() == 0);
        let other = store.series(&up("other")).unwrap();
        assert!(other != old && other != new);
        assert_eq!(store.append(old, at(400), 1.0), Appended::Forgotten);
        assert_eq!((store.labels(old), store.samples(old, at(0), at(999))), (None, [].as_slice()));
        assert_eq!(store.labels(other), Some(&up("other")));
        assert_eq!(selected(&store, "up"), ["up{job=\"other\"}"]);
    }

    #[test]
    fn selectors_find_series_by_every_kind_of_matcher() {
        let mut store = SeriesStore::new(Limits::default());
        for job in ["c", "a", "b"] {
            store.series(&up(job)).unwrap();
        }
        store.series(&labels(&[("__name__", "down"), ("job", "a")])).unwrap();
        store.series(&labels(&[("job", "a"), ("Zone", "1")])).unwrap();
        let (a, b, c) = ("up{job=\"a\"}", "up{job=\"b\"}", "up{job=\"c\"}");
        let cases = [
            ("up", vec![a, b, c]),
            ("up{job=\"b\"}", vec![b]),
            ("up{job!=\"b\"}", vec![a, c]),
            ("up{job=~\"a|c|x\"}", vec![a, c]),
            ("up{job=~\"[bc]\"}", vec![b, c]),
            ("up{job!~\"a|b\"}", vec![c]),
            ("up{zone=\"\"}", vec![a, b, c]),
            ("up{zone!=\"\"}", vec![]),
            ("{__name__=~\"up|down\", job=\"a\"}", vec!["down{job=\"a\"}", a]),
            ("{job=\"a\"}", vec!["{Zone=\"1\",job=\"a\"}", "down{job=\"a\"}", a]),
            ("{__name__=~\".+n\"}", vec!["down{job=\"a\"}"]),
            ("{__name__!=\"up\", Zone=\"\", job!=\"\"}", vec!["down{job=\"a\"}"]),
            ("missing", vec![]),
        ];
        for (text, expected) in &cases {
            assert_eq!(selected(&store, text), *expected, "{text}");
        }
        // The same, kept ready, and with a series that comes later.
        cases.iter().for_each(|(text, _)| store.watch(&Expr::parse(text).unwrap()));
        for (text, expected) in &cases {
            assert_eq!(selected(&store, text), *expected, "{text}");
        }
        store.series(&up("bb")).unwrap();
        assert_eq!(selected(&store, "up{job!=\"b\"}"), [a, "up{job=\"bb\"}", c]);
        store.unwatch_all();
        assert_eq!(selected(&store, "up{job!=\"b\"}"), [a, "up{job=\"bb\"}", c]);
    }

    #[test]
    fn an_export_is_in_order_and_reads_back() {
        let mut store = SeriesStore::new(Limits::default());
        for job in ["c", "a", "empty", "b"] {
            let id = store.series(&up(job)).unwrap();
            for seconds in (0..5).filter(|_| job != "empty") {
                store.append(id, at(seconds), seconds as f64);
            }
        }
        let exported: Vec<_> =
            store.export().map(|(labels, samples)| (labels.clone(), samples.to_vec())).collect();
        assert_eq!(
            exported.iter().map(|(labels, _)| labels).collect::<Vec<_>>(),
            [&up("a"), &up("b"), &up("c")]
        );
        let mut copy = SeriesStore::new(Limits::default());
        for (labels, samples) in &exported {
            copy.import(labels, samples).unwrap();
        }
        assert!(copy.export().eq(store.export()));
    }
}

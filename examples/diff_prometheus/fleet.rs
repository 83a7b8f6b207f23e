//! Random series: what a few jobs would export if much went wrong at once.
//!
//! All times are whole seconds, so that a fleet can be written as a `load` of a PromQL script. The values of most
//! metrics are integers or fractions of powers of two: their sums are the same in any order of adding up.

use fastrand::Rng;
use homeostat::engine::promql::{Limits, STALE, SeriesStore, is_stale};
use homeostat::model::{Labels, Timestamp};

/// How long the series are, in seconds: less than what Prometheus' head takes without a compaction.
pub(crate) const SPAN_SECONDS: i64 = 3_600;

/// Values of the label `zone`, the missing one included.
pub(crate) const ZONES: [&str; 6] = ["", "eu-1", "zürich", "東京", "a\"b\\c", "x y"];
/// Values of the label `job`.
pub(crate) const JOBS: [&str; 3] = ["api", "web", "db"];
/// Values of the label `instance`.
pub(crate) const INSTANCES: [&str; 4] = ["a", "b", "c10", "c9"];
/// Upper bounds of the buckets of a histogram.
const BOUNDS: [&str; 6] = ["0.1", "0.5", "1", "2.5", "10", "+Inf"];

/// One series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Series {
    pub labels: Labels,
    /// Seconds and values, oldest first.
    pub samples: Vec<(i64, f64)>,
}

/// Series in the order of their labels, no two with the same.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fleet(pub Vec<Series>);

impl Fleet {
    /// A new one.
    pub(crate) fn random(rng: &mut Rng) -> Self {
        let mut series = Vec::new();
        for job in JOBS {
            for instance in INSTANCES.into_iter().filter(|_| rng.u8(..4) > 0).collect::<Vec<_>>() {
                let zone = choose(rng, &ZONES);
                let target = [("job", job), ("instance", instance), ("zone", zone)];
                instance_series(rng, &target, &mut series);
            }
            let of_job = [("job", job)];
            let wave = if rng.bool() { Wave::Constant(8.0) } else { Wave::Steps };
            series.push(random_series(rng, "limit", &of_job, wave));
            series.push(random_series(rng, "once", &of_job, Wave::Once));
            histogram(rng, "broken", &of_job, true, &mut series);
        }
        series.retain(|series| !series.samples.is_empty());
        series.sort_by(|one, other| one.labels.cmp(&other.labels));
        series.dedup_by(|one, other| one.labels == other.labels);
        Self(series)
    }

    /// A store with these samples.
    pub(crate) fn store(&self) -> SeriesStore {
        let mut store = SeriesStore::new(Limits::default());
        store.retain(std::time::Duration::from_hours(24));
        for series in &self.0 {
            // A fleet has a few hundred series of a few labels: far below every limit.
            let Ok(id) = store.series(&series.labels) else { continue };
            for &(at, value) in &series.samples {
                store.append(id, Timestamp::from_millis(at * 1_000), value);
            }
        }
        store
    }

    /// How many samples there are, stale markers not counted.
    pub(crate) fn samples(&self) -> usize {
        self.0.iter().flat_map(|series| &series.samples).filter(|(_, value)| !is_stale(*value)).count()
    }
}

/// How the values of a series move.
#[derive(Clone, Copy)]
enum Wave {
    /// Up by integers, back to zero now and then.
    Counter(f64),
    /// Up by odd fractions.
    FractionalCounter,
    /// A walk over integers.
    Steps,
    /// A walk over quarters, around zero.
    Quarters,
    /// Any fraction.
    Fractions,
    /// Very large, very small, and what cancels out.
    Magnitudes,
    /// NaN, both infinities, zero; a negative zero becomes zero on its way, as protobuf leaves zeros out.
    Oddities,
    Constant(f64),
    Flapping,
    /// A single sample.
    Once,
}

fn instance_series(rng: &mut Rng, target: &[(&str, &str)], series: &mut Vec<Series>) {
    let without_zone = &target[..2];
    let counter = if rng.u8(..5) == 0 { Wave::Counter(1e12) } else { Wave::Counter(20.0) };
    series.push(random_series(rng, "requests_total", target, counter));
    series.push(random_series(rng, "errors_total", target, Wave::Counter(3.0)));
    series.push(random_series(rng, "cpu_seconds_total", without_zone, Wave::FractionalCounter));
    series.push(random_series(rng, "queue_length", without_zone, Wave::Steps));
    series.push(random_series(rng, "balance", target, Wave::Quarters));
    series.push(random_series(rng, "temperature", target, Wave::Fractions));
    series.push(random_series(rng, "up", without_zone, Wave::Flapping));
    let version = choose(rng, &["1.9", "1.10", "2.0"]);
    let info = [without_zone, &[("version", version)]].concat();
    series.push(random_series(rng, "build_info", &info, Wave::Constant(1.0)));
    if rng.bool() {
        let kind = [without_zone, &[("kind", choose(rng, &["x", "y"]))]].concat();
        series.push(random_series(rng, "magnitude", &kind, Wave::Magnitudes));
        series.push(random_series(rng, "odd", &kind, Wave::Oddities));
    }
    if rng.bool() {
        histogram(rng, "latency_seconds", without_zone, false, series);
    }
}

fn random_series(rng: &mut Rng, metric: &str, labels: &[(&str, &str)], wave: Wave) -> Series {
    let times = times(rng);
    let mut last = match wave {
        Wave::Counter(step) => (rng.f64() * step).floor(),
        Wave::Steps => f64::from(rng.i8(-5..20)),
        Wave::FractionalCounter
        | Wave::Quarters
        | Wave::Fractions
        | Wave::Magnitudes
        | Wave::Oddities
        | Wave::Constant(_)
        | Wave::Flapping
        | Wave::Once => f64::from(rng.i8(..)) / 4.0,
    };
    let mut samples = Vec::with_capacity(times.len());
    for (at, is_end) in times {
        if is_end {
            samples.push((at, STALE));
            continue;
        }
        last = wave.next(rng, last);
        samples.push((at, last));
    }
    if let Wave::Once = wave {
        let only = rng.usize(..samples.len().max(1));
        samples = samples.get(only).copied().into_iter().collect();
    }
    Series { labels: named(metric, labels), samples }
}

/// When a series has samples, and where a stale marker instead: at a steady pace with some jitter, some scrapes that
/// failed, some outages.
fn times(rng: &mut Rng) -> Vec<(i64, bool)> {
    let interval = choose(rng, &[15, 30, 60]);
    let jitter = if rng.u8(..3) == 0 { 3 } else { 0 };
    let mut at = rng.i64(0..interval);
    let (first, last) = if rng.u8(..6) == 0 { (1_200, 2_400) } else { (0, SPAN_SECONDS - jitter) };
    let mut times = Vec::new();
    while at <= last {
        let next = at + interval;
        if at >= first {
            match rng.u8(..100) {
                0 => {
                    times.push((at, true));
                    at += rng.i64(60..900);
                    continue;
                }
                1 => {
                    at += rng.i64(60..900);
                    continue;
                }
                2..6 => {}
                _ => times.push((at + rng.i64(0..=jitter), false)),
            }
        }
        at = next;
    }
    times
}

impl Wave {
    fn next(self, rng: &mut Rng, last: f64) -> f64 {
        match self {
            Self::Counter(_) | Self::FractionalCounter if rng.u8(..40) == 0 => f64::from(rng.u8(..3)),
            Self::Counter(_) if rng.u8(..5) == 0 => last,
            Self::Counter(step) => last + (rng.f64() * step).floor(),
            Self::FractionalCounter => last + rng.f64(),
            Self::Steps if rng.bool() => last,
            Self::Steps => last + f64::from(rng.i8(-3..=3)),
            Self::Quarters => last + f64::from(rng.i8(-9..=9)) / 4.0,
            Self::Fractions => 20.0 + rng.f64() * 10.0,
            Self::Magnitudes => {
                let extremes = [1e300, -1e300, 1e-300, 1e16, -1e16, 1.0, 3.0, 1.797e308];
                choose(rng, &extremes)
            }
            Self::Oddities => {
                let oddities = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, 1.0, -2.0, 7.5];
                choose(rng, &oddities)
            }
            Self::Constant(value) => value,
            Self::Flapping => f64::from(u8::from(rng.u8(..5) > 0)),
            Self::Once => f64::from(rng.u8(..)),
        }
    }
}

/// The buckets, the sum and the count of a classic histogram; a broken one has buckets that cannot be.
fn histogram(
    rng: &mut Rng,
    metric: &str,
    labels: &[(&str, &str)],
    is_broken: bool,
    series: &mut Vec<Series>,
) {
    let times = times(rng);
    let mut bounds: Vec<&str> = BOUNDS.to_vec();
    if is_broken {
        match rng.u8(..4) {
            0 => bounds.truncate(BOUNDS.len() - 1),
            1 => bounds.push("much"),
            2 => bounds = vec!["-1", "0", "+Inf"],
            _ => bounds.insert(0, "0.10"),
        }
    }
    let mut counts = vec![0.0; bounds.len()];
    let mut buckets = vec![Vec::new(); bounds.len()];
    for &(at, is_end) in &times {
        let mut seen = 0.0;
        for (count, samples) in counts.iter_mut().zip(&mut buckets) {
            seen += f64::from(rng.u8(..8));
            *count += seen;
            if is_broken && rng.u8(..30) == 0 {
                *count = choose(rng, &[0.0, 1.0, *count, f64::NAN, 1e9]);
            }
            samples.push((at, if is_end { STALE } else { *count }));
        }
    }
    for (bound, samples) in bounds.iter().zip(buckets) {
        let labels = [labels, &[("le", *bound)]].concat();
        series.push(Series { labels: named(&format!("{metric}_bucket"), &labels), samples });
    }
    series.push(random_series(rng, &format!("{metric}_sum"), labels, Wave::FractionalCounter));
    series.push(random_series(rng, &format!("{metric}_count"), labels, Wave::Counter(20.0)));
}

fn named(metric: &str, labels: &[(&str, &str)]) -> Labels {
    let pairs = labels.iter().copied().chain([("__name__", metric)]);
    Labels::new(pairs).unwrap_or_else(|_| Labels::empty())
}

/// One of several.
pub(crate) fn choose<T: Copy>(rng: &mut Rng, all: &[T]) -> T {
    all[rng.usize(..all.len())]
}

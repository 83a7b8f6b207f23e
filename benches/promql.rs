//! What storing a sample and evaluating a rule cost.
//!
//! Ten thousand series with eight labels each, in ten metrics; a scrape is one sample of each of them.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use homeostat::engine::promql::{Expr, Limits, Scope, SeriesId, SeriesStore};
use homeostat::model::{Labels, Timestamp};

const SERIES: usize = 10_000;
const METRICS: usize = 10;
const STEP_MILLIS: i64 = 1_000;

/// The program's: what is measured is what runs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

struct World {
    store: SeriesStore,
    ids: Vec<SeriesId>,
    now: i64,
}

impl World {
    /// With so many scrapes behind it.
    fn new(scrapes: usize) -> Self {
        let mut store = SeriesStore::new(Limits::default());
        let ids = (0..SERIES).map(|index| store.series(&labels(index)).expect("room")).collect();
        let mut world = Self { store, ids, now: 0 };
        for _ in 0..scrapes {
            world.scrape();
        }
        world
    }

    fn scrape(&mut self) {
        self.now += STEP_MILLIS;
        let at = self.at();
        for (index, &id) in self.ids.iter().enumerate() {
            self.store.append(id, at, (self.now + i64::try_from(index).unwrap_or(0)) as f64);
        }
    }

    fn at(&self) -> Timestamp {
        Timestamp::from_millis(self.now)
    }
}

fn labels(index: usize) -> Labels {
    let pairs = [
        ("__name__", format!("metric_{}", index % METRICS)),
        ("cluster", "production".into()),
        ("datacenter", format!("dc{}", index % 3)),
        ("instance", format!("10.0.{}.{}:9100", index / 250, index % 250)),
        ("job", format!("job{}", index / METRICS % 20)),
        ("namespace", format!("team{}", index % 17)),
        ("pod", format!("pod-{index}")),
        ("version", "1.2.3".into()),
    ];
    Labels::new(pairs).expect("labels")
}

fn expr(text: &str) -> Expr {
    Expr::parse(text).expect(text)
}

/// Ten rules, one of each metric; the shapes are those of the public rule collections.
fn rules() -> Vec<Expr> {
    [
        "metric_0 > 1e12",
        "metric_1 < 0",
        "metric_2{job=\"job3\"} > 1e12",
        "metric_3 == 0",
        "sum by (job) (metric_4) > 1e18",
        "avg by (datacenter) (metric_5) > 1e18",
        "max(metric_6) > 1e18",
        "metric_7 / 1e3 > 1e12",
        "metric_8{job=~\"job1|job2\"} > 1e12",
        "metric_9 != 0 and metric_9 > 1e12",
    ]
    .map(expr)
    .into()
}

/// One sample, with the trimming it causes: five minutes of samples a second are kept.
#[divan::bench(min_time = 1)]
fn append(bencher: Bencher<'_, '_>) {
    let mut world = World::new(600);
    bencher.counter(ItemsCount::new(SERIES)).bench_local(|| world.scrape());
}

/// The direct path: a sample against a number.
#[divan::bench]
fn threshold_holds(bencher: Bencher<'_, '_>) {
    let threshold = expr("metric_0 > 500").as_threshold().expect("a threshold");
    let values: Vec<f64> = (0..1_000).map(f64::from).collect();
    bencher
        .counter(ItemsCount::new(values.len()))
        .bench(|| black_box(&values).iter().filter(|&&value| threshold.holds(value)).count());
}

/// An expression over the thousand series of its metric.
#[divan::bench(args = [
    "metric_0 > 1e12",
    "metric_0{job=\"job3\"} > 1e12",
    "metric_0 / 1e3 > 1e12",
    "sum(metric_0) > 1e18",
    "sum by (job) (metric_0) > 1e18",
    "sum without (pod, instance) (metric_0) > 1e18",
    "metric_0 / metric_0 > 2",
    "rate(metric_0[5m]) > 1e12",
    "avg_over_time(metric_0[5m]) > 1e12",
    "quantile_over_time(0.9, metric_0[5m]) > 1e12",
    "max_over_time(rate(metric_0[1m])[5m:1m]) > 1e12",
    "max_over_time((sum by (job) (metric_0))[5m:1m]) > 1e18",
    "topk(3, metric_0)",
    "label_replace(metric_0, \"team\", \"$1\", \"namespace\", \"team(.*)\")",
])]
fn evaluate(bencher: Bencher<'_, '_>, text: &str) {
    let expr = expr(text);
    let mut world = World::new(310);
    world.store.watch(&expr);
    let at = world.at();
    bencher
        .counter(ItemsCount::new(SERIES / METRICS))
        .bench(|| expr.eval(&world.store, at, Scope::All).expect("a value"));
}

/// A monitor's work for one scrape: ten thousand samples stored, ten rules evaluated.
#[divan::bench(min_time = 2)]
fn scrape_with_ten_rules(bencher: Bencher<'_, '_>) {
    let rules = rules();
    let mut world = World::new(600);
    rules.iter().for_each(|rule| world.store.watch(rule));
    bencher.counter(ItemsCount::new(SERIES)).bench_local(|| {
        world.scrape();
        let at = world.at();
        for rule in &rules {
            black_box(rule.eval(&world.store, at, Scope::All).expect("a value"));
        }
    });
}

/// Reading a rule's expression.
#[divan::bench]
fn parse(bencher: Bencher<'_, '_>) {
    let text = "(sum by (job) (rate(http_requests_total{code=~\"5..\"}[5m])) \
                / sum by (job) (rate(http_requests_total[5m]))) > 0.05";
    bencher.bench(|| Expr::parse(black_box(text)).expect("an expression"));
}

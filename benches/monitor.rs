//! How fast a monitor takes samples in: decoded frames of 500 rows, 10,000 series with 8 labels, 10 rules.
//!
//! `cargo bench --bench monitor`; the figure is items (samples) per second on one core.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use homeostat::engine::monitor::Monitor;
use homeostat::engine::{Configuration, Core, Input};
use homeostat::model::{
    Frame, Generation, Gives, Labels, Row, Rule, RuleGroup, RuleName, ScrapePart, SeriesTable, Timestamp,
};

/// Series of a metric.
const SERIES: usize = 1_000;
const METRICS: usize = 10;
const ROWS: usize = 500;
/// Scrapes in one measurement.
const SCRAPES: usize = 10;
const SAMPLES: usize = SERIES * METRICS * SCRAPES;

/// The program's: what is measured is what runs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

/// Eight thresholds, half of them with `for`, a rate and a sum; nothing fires, as on most days.
#[divan::bench(sample_count = 30)]
fn scrapes(bencher: Bencher) {
    run(bencher, &Load::rules(), true, 0);
}

/// The same samples, not marked as parts of scrapes.
#[divan::bench(sample_count = 30)]
fn loose_samples(bencher: Bencher) {
    run(bencher, &Load::rules(), false, 0);
}

/// The same with one series in a hundred above its threshold.
#[divan::bench(sample_count = 30)]
fn scrapes_with_violations(bencher: Bencher) {
    run(bencher, &Load::rules(), true, 100);
}

/// Windows, but no rules that look at them.
#[divan::bench(sample_count = 30)]
fn scrapes_without_rules(bencher: Bencher) {
    run(bencher, &[], true, 0);
}

fn run(bencher: Bencher, rules: &[(String, u64)], is_scrape: bool, every: usize) {
    let load = RefCell::new(Load::new(rules, is_scrape, every));
    bencher
        .counter(ItemsCount::new(SAMPLES))
        .with_inputs(|| load.borrow_mut().frames())
        .bench_local_values(|frames| load.borrow_mut().feed(frames));
}

/// A monitor and the samples for it.
struct Load {
    monitor: Monitor,
    tables: Vec<SeriesTable>,
    is_scrape: bool,
    /// One series in so many is above its threshold; 0 for none.
    every: usize,
    at: Timestamp,
    sequence: u64,
}

impl Load {
    fn rules() -> Vec<(String, u64)> {
        let thresholds = (0..8).map(|metric| (format!("metric_{metric}_value > 1000"), metric % 2 * 60));
        let rest = [
            ("rate(metric_8_total[1m]) > 1000".to_string(), 60),
            ("sum by (service) (metric_9_value) > 1000000".to_string(), 60),
        ];
        thresholds.chain(rest).collect()
    }

    fn new(rules: &[(String, u64)], is_scrape: bool, every: usize) -> Self {
        let mut monitor = Monitor::new("cell".into(), "bench".into(), configuration(rules));
        let tables: Vec<SeriesTable> = tables();
        let at = Timestamp::from_millis(1_700_000_000_000);
        for table in &tables {
            black_box(monitor.handle(at, Input::Table(table.clone())));
        }
        let mut load = Self { monitor, tables, is_scrape, every, at, sequence: 0 };
        // Ten minutes of samples: the windows are full, buffers have their size.
        for _ in 0..40 {
            let frames = load.frames();
            load.feed(frames);
        }
        load
    }

    /// The frames of some scrapes, one every 15 s.
    fn frames(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        for _ in 0..SCRAPES {
            self.at = self.at + Duration::from_secs(15);
            for (part, table) in (0..).zip(&self.tables) {
                self.sequence += 1;
                let parts = u16::try_from(self.tables.len()).unwrap_or(u16::MAX);
                let rows = (0..ROWS).zip(0..).map(|(row, series)| {
                    let is_high = self.every > 0 && row % self.every == 0;
                    let value = if is_high { 2_000.0 } else { (row % 100) as f64 };
                    Row { series, at: self.at, value }
                });
                frames.push(Frame {
                    producer: "bench".into(),
                    epoch: 1,
                    sequence: self.sequence,
                    bucket: 0,
                    scrape: self.is_scrape.then_some(ScrapePart { part, parts }),
                    table: table.hash,
                    rows: rows.collect(),
                });
            }
        }
        frames
    }

    fn feed(&mut self, frames: Vec<Frame>) {
        for frame in frames {
            let now = frame.rows.first().map_or(self.at, |row| row.at) + Duration::from_millis(5);
            black_box(self.monitor.handle(now, Input::Frame(frame)));
        }
    }
}

fn tables() -> Vec<SeriesTable> {
    let series: Vec<Labels> = (0..METRICS)
        .flat_map(|metric| {
            let kind = if metric == 8 { "total" } else { "value" };
            (0..SERIES).map(move |series| {
                let pairs = [
                    ("__name__", format!("metric_{metric}_{kind}")),
                    ("cluster", "eu-west-1".to_string()),
                    ("namespace", format!("team-{}", series % 20)),
                    ("service", format!("service-{}", series % 50)),
                    ("pod", format!("service-{}-{series:05}", series % 50)),
                    ("instance", format!("10.0.{}.{}:9100", series / 250, series % 250)),
                    ("job", "pods".to_string()),
                    ("version", "1.2.3".to_string()),
                ];
                Labels::new(pairs).expect("labels within all limits")
            })
        })
        .collect();
    series.chunks(ROWS).map(|chunk| SeriesTable::new(chunk.to_vec())).collect()
}

fn configuration(rules: &[(String, u64)]) -> Arc<Configuration> {
    let rules = rules.iter().enumerate().map(|(number, (expr, hold))| Rule {
        name: RuleName { group: "bench".into(), alert: format!("Rule{number}").into() },
        gives: Gives::Violations,
        expr: expr.as_str().into(),
        hold: Duration::from_secs(*hold),
        keep_firing: Duration::ZERO,
        labels: Vec::new(),
        annotations: Vec::new(),
    });
    let group = RuleGroup {
        name: "bench".into(),
        file: "bench.yaml".into(),
        interval: None,
        pulse: Duration::from_mins(1),
        rules: rules.collect(),
    };
    Arc::new(Configuration { generation: Generation(1), groups: vec![group], ..Configuration::default() })
}

//! How many samples one monitor takes in, decoded, windowed and evaluated, for each second of its CPU time.
//!
//! The monitor is a process of its own (`run --roles monitor`), so its CPU time, as the system counts it, is its alone:
//! reading from the server, decoding, windows, rules, its own part of the ledger. Ten thousand series with eight labels
//! come in scrapes of twenty frames with 500 rows, a scrape every 15 s of event time, as fast as the monitor takes
//! them. Scrapes come in *windows*: near the end of each, one series of each of eight metrics breaches its threshold, and
//! the violations in the ledger say that the window was taken in. So few windows are under way that no queue overflows;
//! what the monitor says it has stored is compared with what was sent at the end.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::BenchError;
use super::child::Monitor;
use super::error::soon;
use super::frames::{Destination, Source};
use crate::bus::nats::{
    self, Connection, Feed, Ledger, Outbox, PrivateServer, Purpose, ServerOptions, Settings, Topology,
};
use crate::clock::Clock;
use crate::model::{Entry, Labels, METRIC_NAME, Phase, ScrapePart, Timestamp, bucket_of};
use crate::role::read_record;
use crate::wire::Subjects;

/// Metrics, each with a rule of its own.
const METRICS: usize = 10;
/// The first of them have thresholds; then comes a rate, then a sum.
const THRESHOLDS: usize = 8;
/// Series of a metric.
const SERIES: usize = 1_000;
/// Rows of a frame, and series of a table.
const ROWS: usize = 500;
/// Scrapes of a window.
const SCRAPES: usize = 20;
const SAMPLES_PER_WINDOW: usize = SCRAPES * METRICS * SERIES;
/// Between two scrapes, in event time.
const INTERVAL: Duration = Duration::from_secs(15);
/// Scrapes for which a threshold with a `for` of a minute has to be breached.
const HELD_SCRAPES: usize = 5;
/// Above every threshold.
const BREACH: f64 = 2_000.0;
/// Windows under way: at most 320 frames of all in one subscription, which holds 16,384.
const WINDOWS_UNDER_WAY: usize = 4;
/// Before the measurement: an hour of samples, so that the monitor's windows are full.
const WARM_UP_WINDOWS: usize = 12;
/// The samples' times begin so long ago: the fastest monitor takes in a few hours of them in a second.
const AGO: Duration = Duration::from_hours(24 * 30);
/// How often tables are sent again, as producers do.
const TABLES_EVERY: Duration = Duration::from_secs(10);
/// How long a window may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// What to measure.
#[derive(Clone, Debug)]
pub struct IngestOptions {
    /// The private server to start.
    pub server: ServerOptions,
    /// The program to run the monitor with: this one.
    pub program: PathBuf,
    /// Where the monitor's configuration and files are put.
    pub folder: PathBuf,
    /// How long to measure.
    pub duration: Duration,
}

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub struct IngestFigures {
    /// Samples taken in.
    pub samples: u64,
    /// In how long.
    pub elapsed: Duration,
    /// The monitor's CPU time, user and system.
    pub cpu: Duration,
}

impl IngestFigures {
    /// By the clock on the wall, with the server and the sender beside it on the same machine.
    pub fn samples_per_second(&self) -> f64 {
        self.samples as f64 / self.elapsed.as_secs_f64()
    }

    /// By the monitor's CPU time.
    pub fn samples_per_cpu_second(&self) -> f64 {
        self.samples as f64 / self.cpu.as_secs_f64()
    }
}

/// Measures.
pub async fn run(options: &IngestOptions, clock: &Clock) -> Result<IngestFigures, BenchError> {
    let mut server = PrivateServer::start(options.server.clone()).await?;
    let measured = measure(options, &server, clock).await;
    server.stop().await;
    measured
}

async fn measure(
    options: &IngestOptions,
    server: &PrivateServer,
    clock: &Clock,
) -> Result<IngestFigures, BenchError> {
    // The same as the monitor's own: `run` verifies what is there.
    let topology = Topology::new("homeostat", "default")?;
    let settings = Settings::new(&server.url())?;
    let services = Connection::open(&settings, Purpose::Services).await?;
    topology.ensure(&services).await?;
    let samples = Connection::open(&settings, Purpose::Samples).await?;
    let (outbox, pump) = nats::outbox(samples);
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(pump.run(stop.clone()));
    let configuration = options.folder.join("configuration");
    let wrote = write_rules(&configuration);
    wrote.map_err(|source| BenchError::Io { what: "the rules cannot be written", source })?;
    let mut monitor =
        Monitor::start(&options.program, &server.url(), &configuration, &options.folder).await?;
    let subjects = Subjects::new(&topology.prefix)?;
    let ledger = Ledger::open(services, &topology.names()).await?;
    let mut sender = Sender {
        source: source(&subjects, &topology, clock.now())?,
        outbox,
        feed: ledger.feed(1, None),
        subjects,
        at: Timestamp::from_millis(clock.now().as_millis() - i64::try_from(AGO.as_millis()).unwrap_or(0)),
        under_way: VecDeque::new(),
        sent: 0,
        fired: 0,
        tables_sent: None,
        clock: clock.clone(),
    };
    let measured = sender.measure(&mut monitor, options.duration).await;
    monitor.end().await;
    stop.cancel();
    while tasks.join_next().await.is_some() {}
    measured
}

fn write_rules(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder.join("rules"))?;
    std::fs::write(folder.join("rules/bench.yaml"), rules())
}

/// Eight thresholds, half of them with `for`, a rate and a sum, one for each metric.
fn rules() -> String {
    let mut text = "groups:\n  - name: bench\n    rules:\n".to_owned();
    for metric in 0..METRICS {
        let name = metric_name(metric);
        let expr = match metric {
            8 => format!("rate({name}[1m]) > 1000"),
            9 => format!("sum by (service) ({name}) > 1000000"),
            _ => format!("{name} > 1000"),
        };
        let hold = if is_held(metric) { "1m" } else { "0s" };
        let _ = writeln!(text, "      - alert: Rule{metric}\n        expr: {expr}\n        for: {hold}");
    }
    text
}

const fn is_held(metric: usize) -> bool {
    metric % 2 == 1
}

/// Names that lie in all of eight buckets.
fn metric_name(metric: usize) -> String {
    let bucket = u32::try_from(metric % THRESHOLDS).unwrap_or(0);
    let kind = if metric == 8 { "total" } else { "value" };
    let names = (0_u32..).map(|number| format!("bench_{metric}_{number}_{kind}"));
    names.take(10_000).find(|name| bucket_of(name, 8) == bucket).unwrap_or_default()
}

fn source(subjects: &Subjects, topology: &Topology, now: Timestamp) -> Result<Source, BenchError> {
    let mut metrics = Vec::new();
    for metric in 0..METRICS {
        let name = metric_name(metric);
        let series = (0..SERIES).map(|series| {
            Labels::new([
                (METRIC_NAME, name.clone()),
                ("cluster", "eu-west-1".to_owned()),
                ("namespace", format!("team-{}", series % 20)),
                ("service", format!("service-{}", series % 50)),
                ("pod", format!("service-{}-{series:05}", series % 50)),
                ("instance", format!("10.0.{}.{}:9100", series / 250, series % 250)),
                ("job", "pods".to_owned()),
                ("version", "1.2.3".to_owned()),
            ])
        });
        metrics.push(series.collect::<Result<Vec<_>, _>>()?);
    }
    let to = Destination { subjects, cell: &topology.cell, buckets: u32::from(topology.buckets) };
    Ok(Source::new(to, "bench", now, &metrics, ROWS))
}

/// Sends windows, and hears of those that were taken in.
struct Sender {
    source: Source,
    outbox: Outbox,
    feed: Feed,
    subjects: Subjects,
    /// The time of the last scrape.
    at: Timestamp,
    /// How many violations there are when each window under way was taken in.
    under_way: VecDeque<usize>,
    sent: usize,
    fired: usize,
    tables_sent: Option<Timestamp>,
    clock: Clock,
}

impl Sender {
    async fn measure(
        &mut self,
        monitor: &mut Monitor,
        duration: Duration,
    ) -> Result<IngestFigures, BenchError> {
        let warm = self.clock.stopwatch();
        self.windows(|sender| sender.sent < WARM_UP_WINDOWS).await?;
        tracing::info!(took = ?warm.elapsed(), "warmed up");
        let (before, cpu_before) = (self.sent, monitor.cpu()?);
        let stopwatch = self.clock.stopwatch();
        self.windows(|_| stopwatch.elapsed() < duration).await?;
        let (elapsed, cpu) = (stopwatch.elapsed(), monitor.cpu()?.saturating_sub(cpu_before));
        let samples = ((self.sent - before) * SAMPLES_PER_WINDOW) as u64;
        let total = (self.sent * SAMPLES_PER_WINDOW) as u64;
        let stored = soon("the monitor's count", PATIENCE, monitor.stored(total, &self.clock)).await??;
        if stored > total as f64 {
            return Err(BenchError::Invalid(format!("{total} samples were sent and {stored} taken in")));
        }
        Ok(IngestFigures { samples, elapsed, cpu })
    }

    /// Sends windows while `more` says so, and waits until the last of them was taken in.
    async fn windows(&mut self, more: impl Fn(&Self) -> bool) -> Result<(), BenchError> {
        loop {
            let wants = more(self);
            if !wants && self.under_way.is_empty() {
                return Ok(());
            }
            if wants && self.under_way.len() < WINDOWS_UNDER_WAY {
                self.send_window()?;
            } else {
                soon("a window", PATIENCE, self.hear()).await??;
            }
        }
    }

    fn send_window(&mut self) -> Result<(), BenchError> {
        let now = self.clock.now();
        let is_due = self.tables_sent.is_none_or(|sent| now.saturating_since(sent) >= TABLES_EVERY);
        if is_due {
            self.tables_sent = Some(now);
        }
        for scrape in 0..SCRAPES {
            self.at = self.at + INTERVAL;
            let parts = u16::try_from(self.source.tables()).unwrap_or(u16::MAX);
            for (table, part) in (0..self.source.tables()).zip(0..) {
                let breaches = breaches(table, scrape);
                let value = |row: usize| if row == 0 && breaches { BREACH } else { (row % 100) as f64 };
                let scrape_part = Some(ScrapePart { part, parts });
                let at = (self.at, scrape_part);
                self.outbox.push(self.source.whole(table, at, is_due && scrape == 0, value)?);
            }
        }
        self.sent += 1;
        self.under_way.push_back(self.sent * THRESHOLDS);
        Ok(())
    }

    /// Waits for more violations, and tells which windows are over.
    async fn hear(&mut self) -> Result<(), BenchError> {
        for stored in self.feed.next_batch(64).await? {
            let Some(record) = read_record(&self.subjects, &stored) else { continue };
            let violations = record.batch.entries.iter().filter_map(Entry::as_violation);
            self.fired += violations.filter(|violation| violation.phase == Phase::Firing).count();
        }
        while self.under_way.front().is_some_and(|fired| *fired <= self.fired) {
            self.under_way.pop_front();
        }
        Ok(())
    }
}

/// Whether the first series of a table is above its threshold: so that all rules fire in the last scrape of a window.
const fn breaches(table: usize, scrape: usize) -> bool {
    let (metric, is_first) = (table / (SERIES / ROWS), table.is_multiple_of(SERIES / ROWS));
    let scrapes = if is_held(metric) { HELD_SCRAPES } else { 1 };
    is_first && metric < THRESHOLDS && scrape + scrapes >= SCRAPES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::model::{Bundle, BundleFile, Generation};

    #[test]
    fn every_rule_is_one_of_ours_and_all_buckets_are_used() {
        let text: std::sync::Arc<str> = rules().into();
        let loaded =
            config::load(&Bundle::new(vec![BundleFile { path: "rules/b.yaml".into(), text }]), Generation(1));
        assert!(loaded.refused.is_empty(), "{:?}", loaded.refused);
        let rules = loaded.configuration.groups.iter().map(|group| group.rules.len()).sum::<usize>();
        let buckets: std::collections::BTreeSet<u32> =
            (0..METRICS).map(|metric| bucket_of(&metric_name(metric), 8)).collect();
        assert_eq!((rules, buckets.len()), (METRICS, 8));
    }

    #[test]
    fn a_window_has_a_breach_of_each_threshold() {
        let breached = |scrape| (0..METRICS * SERIES / ROWS).filter(|table| breaches(*table, scrape)).count();
        assert_eq!((breached(0), breached(SCRAPES - HELD_SCRAPES), breached(SCRAPES - 1)), (0, 4, 8));
    }
}

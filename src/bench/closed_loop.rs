//! How long the loop takes from a sample that breaches to the effect that answers it, on a real server.
//!
//! The roles run in this process as `dev` runs them, on a private server with file storage. Each round is about a service
//! of its own, so that no cooldown and no open incident stands in its way: one sample above a threshold is put into a
//! producer's outbox, and the clock stops when the message of a `nats_publish` action is here. A calm sample follows,
//! the plan is verified and released, and after a pause the next round begins.
//!
//! Blocks of rounds alternate with blocks of the [floor](super::floor), so that both meet the same machine.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::error::soon;
use super::floor::Floor;
use super::frames::{Destination, Source};
use super::{BenchError, Quantiles, quantiles};
use crate::bus::Incoming;
use crate::bus::nats::{
    self, Connection, Ledger, Limits, Listener, Outbox, PrivateServer, Purpose, ServerOptions, Settings,
    Topology,
};
use crate::clock::Clock;
use crate::model::{Bundle, BundleFile, Labels, METRIC_NAME, Role, Timestamp};
use crate::role::process::{KEPT_EVERY, Process, ProcessError, ProcessSettings};
use crate::telemetry::Traces;
use crate::wire::Subjects;

/// Rounds of a block.
const BLOCK: u32 = 25;
/// Rounds before the measurement: connections, caches and the allocator are warm, leases are held.
const WARM_UP: u32 = 25;
/// Between an effect and the calm sample, and between that and the next round: what follows an effect (outcome, verdict,
/// release, end of the incident) is over by then, also where each message is forced to disk.
const PAUSE: Duration = Duration::from_millis(15);
/// Services of one table; small, as a table of one producer on one host is.
const SERVICES_PER_TABLE: usize = 64;
/// A round that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at whether the roles are ready.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How often background violations begin and end.
const LOAD_TICK: Duration = Duration::from_millis(50);
/// Ticks that a background violation lasts.
const LOAD_LASTS: usize = 10;
/// Ticks after which the same series may breach again.
const LOAD_PERIOD: usize = 20;
/// Services that the background violations are spread over.
const LOAD_SERVICES: usize = 50;

const RULES: &str = "\
groups:
  - name: bench
    rules:
      - alert: LoadHigh
        expr: bench_load > 50
        labels: { severity: critical }
      - alert: BackgroundHigh
        expr: bench_background > 50
        labels: { severity: info }
";
const PLAYBOOK: &str = "\
playbook: relieve
answers:
  - cause: symptom:LoadHigh
settle: 0s
steps:
  - name: relieve
    nats_publish:
      subject: bench.effect.{{ $labels.service }}
      body: now
    timeout: 5s
    idempotency: key
verify:
  expr: bench_load{service=\"{{ $labels.service }}\"} < 50
  settle: 0s
  within: 5s
  evaluations: 1
";
const CHARTER: &str = "\
mode: auto
armed: [relieve]
concurrent_plans_max: 1000000
actions_per_hour_max: 1000000
cooldown: 0s
storm_violations: 1000000
";
const ANALYSIS: &str = "scope_labels: [service]\n";

/// What to measure.
#[derive(Clone, Debug)]
pub struct LoopOptions {
    /// The private server to start.
    pub server: ServerOptions,
    /// Rounds to measure.
    pub rounds: u32,
    /// Whether to measure the floor too.
    pub floor: bool,
    /// Violations that begin in each second beside.
    pub load: u32,
}

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub struct LoopFigures {
    /// The same way with empty handlers.
    pub floor: Option<Quantiles>,
    /// The loop.
    pub closed_loop: Quantiles,
}

/// Measures.
pub async fn run(options: &LoopOptions, clock: &Clock) -> Result<LoopFigures, BenchError> {
    let mut server = PrivateServer::start(options.server.clone()).await?;
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let settings = Settings::new(&server.url())?;
    let measured = async {
        let mut probe = Probe::open(&settings, options, clock, &mut tasks, &stop).await?;
        tokio::select! {
            measured = probe.measure(&settings, options, &stop) => measured,
            ended = first_failure(&mut tasks) => Err(ended),
        }
    };
    let measured = measured.await;
    stop.cancel();
    while tasks.join_next().await.is_some() {}
    server.stop().await;
    measured
}

/// Waits until one of the tasks fails.
async fn first_failure(tasks: &mut JoinSet<Result<(), BenchError>>) -> BenchError {
    match tasks.join_next().await {
        Some(Ok(Err(error))) => error,
        Some(Ok(Ok(())) | Err(_)) | None => BenchError::Ended("a part of the loop"),
    }
}

/// Small enough for a private server, and otherwise as everywhere.
pub(super) fn topology(prefix: &str) -> Result<Topology, BenchError> {
    const MIB: i64 = 1024 * 1024;
    let mut topology = Topology::new(prefix, "bench")?;
    let small = |limits: Limits| Limits { bytes: 256 * MIB, ..limits };
    topology.ledger = small(topology.ledger);
    topology.intake = small(topology.intake);
    topology.samples = small(topology.samples);
    topology.dead_letters = small(topology.dead_letters);
    topology.object_bytes = 256 * MIB;
    Ok(topology)
}

/// Who sends samples and waits for effects.
struct Probe {
    source: Source,
    outbox: Outbox,
    effects: Listener,
    ledger: Ledger,
    /// The service of the next round: its table and its row.
    next: usize,
    clock: Clock,
}

impl Probe {
    async fn open(
        settings: &Settings,
        options: &LoopOptions,
        clock: &Clock,
        tasks: &mut JoinSet<Result<(), BenchError>>,
        stop: &CancellationToken,
    ) -> Result<Self, BenchError> {
        let topology = topology("homeostat")?;
        let ready = start_roles(settings, &topology, &options.server, clock, tasks, stop).await?;
        let samples = Connection::open(settings, Purpose::Samples).await?;
        let services = Connection::open(settings, Purpose::Services).await?;
        let (outbox, pump) = nats::outbox(samples.clone());
        let pump = pump.run(stop.clone());
        tasks.spawn(async move {
            pump.await;
            Ok(())
        });
        let effects = Listener::open(&services, &["bench.effect.>".to_owned()]).await?;
        let subjects = Subjects::new(&topology.prefix)?;
        let to =
            Destination { subjects: &subjects, cell: &topology.cell, buckets: u32::from(topology.buckets) };
        let count = (options.rounds + WARM_UP) as usize;
        let series = services_of("bench_load", count)?;
        let mut source = Source::new(to, "bench-probe", clock.now(), &[series], SERVICES_PER_TABLE);
        soon("the readiness of the roles", PATIENCE, ready).await??;
        for frame in source.introduce(clock.now(), 0.0)? {
            outbox.push(frame);
        }
        if options.load > 0 {
            let load = Load::new(to, options.load, clock)?;
            tasks.spawn(load.run(outbox.clone(), clock.clone(), stop.clone()));
        }
        let ledger = Ledger::open(services, &topology.names()).await?;
        Ok(Self { source, outbox, effects, ledger, next: 0, clock: clock.clone() })
    }

    async fn measure(
        &mut self,
        settings: &Settings,
        options: &LoopOptions,
        stop: &CancellationToken,
    ) -> Result<LoopFigures, BenchError> {
        // Two samples of one series at the same time are a conflict.
        tokio::time::sleep(PAUSE).await;
        self.block(WARM_UP).await?;
        let mut floor = None;
        if options.floor {
            let frame = self.source.some(0, std::iter::once(0), self.clock.now(), 0.0)?;
            self.outbox.push(frame.clone());
            floor = Some(Floor::open(settings, (&self.ledger, frame), &self.clock, stop).await?);
        }
        if let Some(floor) = &mut floor {
            floor.block(WARM_UP, PAUSE).await?;
        }
        let (mut loops, mut floors) = (Vec::new(), Vec::new());
        let mut left = options.rounds;
        while left > 0 {
            let rounds = left.min(BLOCK);
            left -= rounds;
            loops.extend(self.block(rounds).await?);
            if let Some(floor) = &mut floor {
                floors.extend(floor.block(rounds, PAUSE).await?);
            }
        }
        if let Some(floor) = floor {
            floor.close().await;
        }
        let closed_loop = quantiles(loops).ok_or_else(|| BenchError::Invalid("no rounds".into()))?;
        Ok(LoopFigures { floor: quantiles(floors), closed_loop })
    }

    /// Rounds, one after the other.
    async fn block(&mut self, rounds: u32) -> Result<Vec<Duration>, BenchError> {
        let mut times = Vec::new();
        for _ in 0..rounds {
            times.push(self.round().await?);
        }
        Ok(times)
    }

    async fn round(&mut self) -> Result<Duration, BenchError> {
        let (table, row) = (self.next / SERVICES_PER_TABLE, self.next % SERVICES_PER_TABLE);
        let effect = format!("bench.effect.s{}", self.next);
        self.next += 1;
        let breach = self.source.some(table, std::iter::once(row), self.clock.now(), 100.0)?;
        let took = timed(&self.outbox, breach, &mut self.effects, &effect, &self.clock).await?;
        tokio::time::sleep(PAUSE).await;
        self.outbox.push(self.source.some(table, std::iter::once(row), self.clock.now(), 0.0)?);
        tokio::time::sleep(PAUSE).await;
        Ok(took)
    }
}

/// The time from handing a frame to the producer's outbox to the arrival of an effect.
pub(super) async fn timed(
    outbox: &Outbox,
    frame: Incoming,
    effects: &mut Listener,
    effect: &str,
    clock: &Clock,
) -> Result<Duration, BenchError> {
    let stopwatch = clock.stopwatch();
    outbox.push(frame);
    let waiting = async {
        loop {
            let batch = effects.next_batch(64).await.ok_or(BenchError::Ended("the connection"))?;
            if batch.iter().any(|message| message.subject == effect) {
                return Ok(stopwatch.elapsed());
            }
        }
    };
    soon("an effect", PATIENCE, waiting).await?
}

fn services_of(metric: &str, count: usize) -> Result<Vec<Labels>, BenchError> {
    let series = (0..count).map(|service| {
        Ok(Labels::new([(METRIC_NAME, metric.to_owned()), ("service", format!("s{service}"))])?)
    });
    series.collect()
}

/// Starts all roles; the future waits until they have caught up and the configuration holds.
async fn start_roles(
    settings: &Settings,
    topology: &Topology,
    server: &ServerOptions,
    clock: &Clock,
    tasks: &mut JoinSet<Result<(), BenchError>>,
    stop: &CancellationToken,
) -> Result<impl Future<Output = Result<(), BenchError>> + use<>, BenchError> {
    let process = ProcessSettings {
        bus: settings.clone(),
        topology: topology.clone(),
        roles: Role::ALL.to_vec(),
        instance: "bench".to_owned(),
        data: server.folder.join("data"),
        traces: Traces::default(),
        fold_kept_every: KEPT_EVERY,
    };
    let process = Process::open(process, clock.clone()).await?;
    let files = [
        ("rules/bench.yaml", RULES),
        ("playbooks/relieve.yaml", PLAYBOOK),
        ("charter.yaml", CHARTER),
        ("analysis.yaml", ANALYSIS),
    ];
    let files = files.map(|(path, text)| BundleFile { path: path.into(), text: text.into() });
    process.shelf().await?.apply(&Bundle::new(files.to_vec()), clock.now()).await?;
    let (ready_out, ready) = tokio::sync::oneshot::channel();
    let running = process.run(move |readiness| drop(ready_out.send(readiness)), stop.clone());
    tasks.spawn(async move { running.await.map_err(|error: ProcessError| error.into()) });
    Ok(async move {
        let readiness = ready.await.map_err(|_| BenchError::Ended("the roles"))?;
        while !readiness.missing().is_empty() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    })
}

/// Violations that come and go beside: so many begin in each second, as many end, spread over fifty services.
struct Load {
    source: Source,
    /// Series that breach in one tick.
    per_tick: usize,
}

impl Load {
    fn new(to: Destination<'_>, per_second: u32, clock: &Clock) -> Result<Self, BenchError> {
        let per_tick = (per_second as usize / LOAD_PERIOD).clamp(1, 512);
        let series = (0..per_tick * LOAD_PERIOD).map(|number| {
            let service = number % LOAD_SERVICES.min(per_tick);
            Ok(Labels::new([
                (METRIC_NAME, "bench_background".to_owned()),
                ("service", format!("background-{service}")),
                ("pod", format!("p{number}")),
            ])?)
        });
        let series = series.collect::<Result<Vec<_>, BenchError>>()?;
        Ok(Self { source: Source::new(to, "bench-load", clock.now(), &[series], per_tick), per_tick })
    }

    async fn run(mut self, outbox: Outbox, clock: Clock, stop: CancellationToken) -> Result<(), BenchError> {
        let mut introduced: Option<Timestamp> = None;
        let mut every = tokio::time::interval(LOAD_TICK);
        for tick in 0_usize.. {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = every.tick() => {}
            }
            let now = clock.now();
            if introduced.is_none() {
                introduced = Some(now);
                for frame in self.source.introduce(now, 0.0)? {
                    outbox.push(frame);
                }
                continue;
            }
            let (high, low) = (tick % LOAD_PERIOD, (tick + LOAD_PERIOD - LOAD_LASTS) % LOAD_PERIOD);
            outbox.push(self.source.some(high, 0..self.per_tick, now, 100.0)?);
            outbox.push(self.source.some(low, 0..self.per_tick, now, 0.0)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::model::Generation;

    #[test]
    fn the_configuration_is_whole() {
        let files = [
            ("rules/bench.yaml", RULES),
            ("playbooks/relieve.yaml", PLAYBOOK),
            ("charter.yaml", CHARTER),
            ("analysis.yaml", ANALYSIS),
        ];
        let files = files.map(|(path, text)| BundleFile { path: path.into(), text: text.into() });
        let loaded = config::load(&Bundle::new(files.to_vec()), Generation(1));
        assert!(loaded.refused.is_empty(), "{:?}", loaded.refused);
        assert_eq!(loaded.configuration.playbooks.len(), 1);
        assert_eq!(loaded.configuration.scope_labels, [std::sync::Arc::from("service")]);
    }
}

//! `demo`: a real process fails, and the loop finds it, heals it and checks that it helped.
//!
//! A private server, all roles, a small worker under a supervisor that listens on NATS. First act: the worker leaks memory
//! and is restarted. Second act: its index is lost; the first remedy does not help, is undone, and the next one does.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::exit::{Failure, Outcome, outside, usage};
use super::output::Format;
use super::signals::Signals;
use super::{Context, args, output, printed, run};
use crate::bus::nats::{
    self, Answer, Connection, Feed, Ledger, Purpose, Question, Refusal, ServiceSpec, Settings, SyncInterval,
    Topology,
};
use crate::clock::Clock;
use crate::demo::{Fault, Supervisor, SupervisorOptions, worker};
use crate::model::{
    Admission, Bundle, BundleFile, Entry, Phase, PlanEnd, PlanId, Record, Role, Sample, Timestamp,
    VerdictKind,
};
use crate::producer::Producer;
use crate::role::process::{KEPT_EVERY, Process, ProcessSettings, Readiness};
use crate::role::read_record;
use crate::telemetry::Traces;
use crate::wire::Subjects;

/// The configuration that the demo applies, as it is in the repository.
const CONFIGURATION: [(&str, &str); 7] = [
    ("analysis.yaml", include_str!("../../deploy/demo/analysis.yaml")),
    ("charter.yaml", include_str!("../../deploy/demo/charter.yaml")),
    ("causes/worker.yaml", include_str!("../../deploy/demo/causes/worker.yaml")),
    ("playbooks/raise-cache.yaml", include_str!("../../deploy/demo/playbooks/raise-cache.yaml")),
    ("playbooks/restart-worker.yaml", include_str!("../../deploy/demo/playbooks/restart-worker.yaml")),
    (
        "playbooks/restart-worker-index.yaml",
        include_str!("../../deploy/demo/playbooks/restart-worker-index.yaml"),
    ),
    ("rules/worker.yaml", include_str!("../../deploy/demo/rules/worker.yaml")),
];
/// The worker's name.
const WORKER: &str = "w1";
/// How long the roles have to be ready, and an act to be told.
const PATIENCE: Duration = Duration::from_mins(1);
/// What the worker is watched for before it fails.
const QUIET: Duration = Duration::from_secs(3);
/// Readings that wait to be published.
const READINGS_QUEUED_MAX: usize = 256;

/// Runs the worker; started by its supervisor, not by people.
pub(super) fn worker(arguments: Vec<String>) -> Outcome {
    let options = worker::Options::from_arguments(arguments).map_err(usage)?;
    let clock = Clock::system();
    let (now, stopwatch) = (clock.clone(), clock.stopwatch());
    let time =
        worker::Time { now: Arc::new(move || now.now()), elapsed: Arc::new(move || stopwatch.elapsed()) };
    let orders = std::io::BufReader::new(std::io::stdin());
    worker::run(&options, &time, orders, std::io::stdout()).map(drop).map_err(outside)
}

/// Shows both acts; done only if both ended as told.
pub(super) async fn demo(args: args::Demo, context: &Context) -> Outcome {
    if context.format != Format::Table {
        return Err(usage(anyhow::anyhow!("the demo is a story, and is told in words\nhint: leave -o out")));
    }
    let folder = match &args.data {
        Some(folder) => folder.clone(),
        None => run::temporary_folder(context).map_err(outside)?,
    };
    let mut signals = Signals::listen();
    let told = tokio::select! {
        told = demo_in(&folder, &args, context) => told,
        () = signals.told_to_stop() => Err(Failure::Finding),
    };
    if args.data.is_none() {
        let _ = std::fs::remove_dir_all(&folder);
    }
    // A story that nobody heard to its end was not told.
    match told {
        Err(Failure::Unread) => Err(Failure::Finding),
        told => told,
    }
}

fn say(text: impl Display) -> Outcome {
    output::line(text).or_else(printed)
}

async fn demo_in(folder: &Path, args: &args::Demo, context: &Context) -> Outcome {
    let binary = args.nats_server.clone();
    let mut server =
        run::private_server(binary, &folder.join("nats"), SyncInterval::Default, context).await?;
    say(format_args!("A private nats-server runs on {}, and all roles of the loop on it.", server.url()))?;
    let settings = Settings::new(&server.url()).map_err(outside)?;
    let stop = CancellationToken::new();
    let mut tasks: JoinSet<Result<(), Failure>> = JoinSet::new();
    let readiness = start_roles(folder, &settings, context, &mut tasks, &stop).await?;
    let stage = Stage::set(&settings, context, &mut tasks, &stop).await?;
    let told = tokio::select! {
        told = stage.tell(readiness, context) => told,
        Some(ended) = tasks.join_next() => match ended {
            Ok(Err(failure)) => Err(failure),
            Ok(Ok(())) => Err(outside(anyhow::anyhow!("a part of the demo ended before its story"))),
            Err(panic) => Err(outside(panic)),
        },
    };
    stop.cancel();
    while tasks.join_next().await.is_some() {}
    server.stop().await;
    told
}

async fn start_roles(
    folder: &Path,
    settings: &Settings,
    context: &Context,
    tasks: &mut JoinSet<Result<(), Failure>>,
    stop: &CancellationToken,
) -> Result<Readiness, Failure> {
    let process = ProcessSettings {
        bus: settings.clone(),
        topology: run::small(Topology::new("homeostat", "demo").map_err(outside)?),
        roles: Role::ALL.to_vec(),
        instance: "demo".to_owned(),
        data: folder.to_owned(),
        traces: Traces::default(),
        fold_kept_every: KEPT_EVERY,
    };
    let process = Process::open(process, context.clock.clone()).await.map_err(outside)?;
    let files = CONFIGURATION.map(|(path, text)| BundleFile { path: path.into(), text: text.into() });
    let shelf = process.shelf().await.map_err(outside)?;
    shelf.apply(&Bundle::new(files.to_vec()), context.clock.now()).await.map_err(outside)?;
    let (ready_out, ready) = tokio::sync::oneshot::channel();
    let running = process.run(move |readiness| drop(ready_out.send(readiness)), stop.clone());
    tasks.spawn(async move { running.await.map_err(outside) });
    let started = async {
        tokio::select! {
            readiness = ready => readiness.map_err(outside),
            Some(ended) = tasks.join_next() => Err(match ended {
                Ok(Err(failure)) => failure,
                Ok(Ok(())) | Err(_) => outside(anyhow::anyhow!("the roles ended before they began")),
            }),
        }
    };
    tokio::time::timeout(PATIENCE, started).await.map_err(outside)?
}

/// What the story is told with.
struct Stage {
    supervisor: Arc<Supervisor>,
    feed: Feed,
    subjects: Subjects,
}

impl Stage {
    async fn set(
        settings: &Settings,
        context: &Context,
        tasks: &mut JoinSet<Result<(), Failure>>,
        stop: &CancellationToken,
    ) -> Result<Self, Failure> {
        let subjects = Subjects::new("homeostat").map_err(outside)?;
        let topology = Topology::new("homeostat", "demo").map_err(outside)?;
        let services = Connection::open(settings, Purpose::Services).await.map_err(outside)?;
        let samples = Connection::open(settings, Purpose::Samples).await.map_err(outside)?;
        let producer = Producer::open(samples, subjects.clone(), "demo", "demo", context.clock.clone());
        let producer = producer.await.map_err(outside)?;
        let (readings_in, readings) = mpsc::channel(READINGS_QUEUED_MAX);
        tasks.spawn(publish(producer, readings, stop.clone()));
        let options = SupervisorOptions {
            name: WORKER.into(),
            program: std::env::current_exe().map_err(outside)?,
            arguments: vec!["demo-worker".to_owned()],
            worker: worker::Options::default(),
        };
        // A reading that finds the queue full is one of forty a second.
        let sink = Arc::new(move |samples| drop(readings_in.try_send(samples)));
        let clock = context.clock.clone();
        let supervisor =
            Supervisor::start(options, sink, Arc::new(move || clock.now())).await.map_err(outside)?;
        let supervisor = Arc::new(supervisor);
        tasks.spawn(supervise(services.clone(), Arc::clone(&supervisor), stop.clone()));
        let ledger = Ledger::open(services, &topology.names()).await.map_err(outside)?;
        Ok(Self { supervisor, feed: ledger.feed(1, None), subjects })
    }

    async fn tell(mut self, readiness: Readiness, context: &Context) -> Outcome {
        let waiting = async {
            while !readiness.missing().is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.map_err(outside)?;
        say(format_args!(
            "The worker {WORKER} runs under a supervisor that listens on NATS. All is well for a moment."
        ))?;
        tokio::time::sleep(QUIET).await;
        let first =
            self.act("Act one: the worker begins to leak memory.", Fault::Leak, Script::ONE, context).await?;
        tokio::time::sleep(QUIET * 2).await;
        let second =
            self.act("Act two: the worker loses its index.", Fault::LostIndex, Script::TWO, context).await?;
        if first && second {
            return say("\nBoth acts ended as told: found, healed, verified on fresh samples.");
        }
        say("\nThe story did not end as it should.")?;
        Err(Failure::Finding)
    }

    /// Lets the worker fail and tells what the loop makes of it; whether it went by the script.
    async fn act(
        &mut self,
        title: &str,
        fault: Fault,
        script: Script,
        context: &Context,
    ) -> Result<bool, Failure> {
        say(format_args!("\n{title}"))?;
        let begun = context.clock.now();
        self.supervisor.inject(fault).await.map_err(|error| outside(anyhow::anyhow!(error)))?;
        let mut progress = Progress::new(script);
        let following = async {
            while !progress.is_done() {
                for stored in self.feed.next_batch(64).await.map_err(outside)? {
                    let record = read_record(&self.subjects, &stored);
                    if let Some(record) = record.filter(|record| record.stored_at >= begun) {
                        progress.take(&record, begun)?;
                    }
                }
            }
            Ok(())
        };
        if let Ok(done) = tokio::time::timeout(PATIENCE, following).await {
            return done.map(|()| progress.is_as_told());
        }
        say("  nothing more happens")?;
        Ok(false)
    }
}

/// How an act should go: the verdicts of its plans, in order.
#[derive(Clone, Copy)]
struct Script(&'static [(&'static str, VerdictKind)]);

impl Script {
    const ONE: Self = Self(&[("restart-worker", VerdictKind::Verified)]);
    const TWO: Self =
        Self(&[("raise-cache", VerdictKind::Ineffective), ("restart-worker-index", VerdictKind::Verified)]);
}

struct Progress {
    script: Script,
    verdicts: Vec<(String, VerdictKind)>,
    verified: Option<PlanId>,
    undone: u32,
    released: bool,
}

impl Progress {
    fn new(script: Script) -> Self {
        Self { script, verdicts: Vec::new(), verified: None, undone: 0, released: false }
    }

    fn is_done(&self) -> bool {
        self.released
    }

    fn is_as_told(&self) -> bool {
        let told = self.verdicts.iter().map(|(playbook, kind)| (playbook.as_str(), *kind));
        let undone = self.script.0.iter().filter(|(_, kind)| *kind != VerdictKind::Verified).count();
        told.eq(self.script.0.iter().copied()) && self.undone as usize == undone
    }

    fn take(&mut self, record: &Record, begun: Timestamp) -> Outcome {
        let after = record.stored_at.saturating_since(begun).as_millis();
        for entry in &record.batch.entries {
            if let Some(line) = self.line(entry) {
                say(format_args!("  {after:>6} ms  {line}"))?;
            }
        }
        Ok(())
    }

    /// What an entry adds to the story, for people.
    fn line(&mut self, entry: &Entry) -> Option<String> {
        match entry {
            Entry::Violation(violation) if violation.phase == Phase::Firing => {
                Some(format!("found      {} ({})", violation.rule.alert, violation.severity))
            }
            Entry::Violation(violation) => Some(format!("over       {}", violation.rule.alert)),
            Entry::Analysis(analysis) => {
                let cause = analysis.causes.first()?;
                Some(format!("diagnosed  {} with confidence {:.2}", cause.name, cause.confidence.as_f64()))
            }
            Entry::Plan(plan) => Some(format!("planned    {} against {}", plan.playbook, plan.cause)),
            Entry::Admission(Admission::Intent(intent)) if intent.undo => {
                Some("undoing    what did not help".to_owned())
            }
            Entry::Admission(Admission::Intent(intent)) => Some(format!("acting     {}", intent.playbook)),
            Entry::Outcome(outcome) => Some(format!("done       {}", outcome.result.as_str())),
            Entry::Verdict(verdict) => {
                self.verdicts.push((verdict.playbook.to_string(), verdict.kind));
                if verdict.kind == VerdictKind::Verified {
                    self.verified = Some(verdict.plan);
                }
                Some(format!("verdict    {}: {}", verdict.kind.as_str(), verdict.reason))
            }
            Entry::Admission(Admission::Release(release)) => {
                self.undone += u32::from(release.end == PlanEnd::Undone);
                self.released |= release.end == PlanEnd::Verified;
                Some(format!("released   {}", release.end.as_str()))
            }
            Entry::Report(report) => Some(format!("report     {}: {}", report.reason.as_str(), report.text)),
            Entry::Admission(
                Admission::Halt { .. } | Admission::Resume { .. } | Admission::Charter { .. },
            )
            | Entry::Incident(_)
            | Entry::Change(_)
            | Entry::Applied { .. } => None,
        }
    }
}

/// Publishes the worker's readings, each moment as one scrape.
async fn publish(
    mut producer: Producer,
    mut readings: mpsc::Receiver<Vec<Sample>>,
    stop: CancellationToken,
) -> Result<(), Failure> {
    loop {
        tokio::select! {
            () = stop.cancelled() => return producer.close().await.map(drop).map_err(outside),
            Some(samples) = readings.recv() => {
                if let Some(at) = samples.first().map(|sample| sample.at) {
                    producer.push_scrape(at, &samples).await.map_err(outside)?;
                }
            }
        }
    }
}

/// Answers on the supervisor's subjects.
async fn supervise(
    connection: Connection,
    supervisor: Arc<Supervisor>,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let endpoint = |verb: &str| (verb.to_owned(), format!("demo.supervisor.{WORKER}.{verb}"));
    let spec = ServiceSpec {
        name: "demo-supervisor".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        description: "Restarts the demo's worker and sets its settings".to_owned(),
        queue_group: "supervisor".to_owned(),
        endpoints: ["restart", "set", "status"].map(endpoint).to_vec(),
        concurrency: 4,
    };
    let answer = move |question: Question| ask(Arc::clone(&supervisor), question);
    nats::serve(&connection, spec, stop, answer).await.map_err(outside)
}

async fn ask(supervisor: Arc<Supervisor>, question: Question) -> Result<Answer, Refusal> {
    let verb = question.subject.rsplit('.').next().unwrap_or_default().to_owned();
    let header = |wanted: &str| {
        let found = question.headers.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.clone())
    };
    let key = header(crate::actuator::KEY_HEADER);
    let fence = header(crate::actuator::FENCE_HEADER).and_then(|fence| fence.parse().ok());
    match supervisor.handle(&verb, &question.payload, key.as_deref(), fence).await {
        Ok(answer) => Ok(Answer { headers: Vec::new(), payload: answer.into() }),
        Err(status) => Err(Refusal { code: 409, status }),
    }
}

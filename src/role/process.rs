//! A process of the loop: connections, streams, and the roles it was told to run, each a task of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::applying::{ApplyError, Shelf};
use super::knowledge::Keeping;
use super::live::{self, ACK_WAIT, Sampled, Wiring};
use super::loading::Loading;
use super::reading::Reader;
use super::sampling::Questions;
use super::{BusMessenger, RoleError, aside, exclusive, sampling, shards};
use crate::actuator::Actuator;
use crate::bus::Tail;
use crate::bus::nats::{
    Connection, Connections, DeadLetters, Leases, Ledger, Names, Objects, Publisher, Settings, Topology,
    Work, WorkSpec,
};
use crate::clock::Clock;
use crate::engine::analyze::Analyzer;
use crate::engine::execute::Executor;
use crate::engine::monitor::Monitor;
use crate::engine::plan::Planner;
use crate::engine::{Configuration, Lease};
use crate::model::{Generation, MessageId, Role, Timestamp, Topic};
use crate::telemetry;
use crate::wire::Subjects;

/// Deliveries of one shared queue that may be unsettled at once, over all its processes.
pub(crate) const ACK_PENDING_MAX: u32 = 4_096;
/// Deliveries that one process takes in advance; a killed one keeps them for the acknowledgement wait.
pub(crate) const TAKEN_IN_ADVANCE: usize = 256;
/// Batches of frames between the subscription and the monitor: behind it the subscription fills, and then counts losses.
pub(crate) const FRAME_BATCHES_QUEUED_MAX: usize = 64;
/// Tables that are being asked for.
const TABLE_QUESTIONS_MAX: usize = 64;

/// What a process is told.
#[derive(Clone, Debug)]
pub struct ProcessSettings {
    /// How to reach the bus.
    pub bus: Settings,
    /// Streams and subjects.
    pub topology: Topology,
    /// Which roles to run.
    pub roles: Vec<Role>,
    /// This process's name; made unique for each start.
    pub instance: String,
    /// Where the knowledge role keeps its store.
    pub data: PathBuf,
}

/// Why a process cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The bus cannot be reached.
    #[error(transparent)]
    Connect(#[from] crate::bus::nats::ConnectError),
    /// The streams are not as they should be.
    #[error("the streams of the cell cannot be used")]
    Topology(#[from] crate::bus::nats::TopologyError),
    /// A stream cannot be read.
    #[error("the streams of the cell cannot be read")]
    Read(#[from] crate::bus::ReadError),
    /// The object store cannot be used.
    #[error("the object store cannot be used")]
    Objects(#[from] crate::bus::nats::ObjectError),
    /// The configuration cannot be loaded.
    #[error("the applied configuration cannot be loaded")]
    Apply(#[from] ApplyError),
    /// A role ended.
    #[error("the {role} cannot go on")]
    Role {
        /// Which.
        role: Role,
        /// Why.
        #[source]
        source: RoleError,
    },
    /// The prefix is none.
    #[error("the prefix cannot be used")]
    Subjects(#[from] crate::wire::subject::SubjectError),
    /// A permission is missing, or the connection was closed.
    #[error("the bus refuses us: {0}")]
    Refused(Arc<str>),
    /// A task of ours panicked: a bug.
    #[error("a task ended unexpectedly: {0}")]
    Panicked(String),
}

/// A process that is connected and whose streams are there, before its roles run.
pub struct Process {
    settings: ProcessSettings,
    connections: Connections,
    names: Names,
    subjects: Subjects,
    instance: Arc<str>,
    clock: Clock,
    loading: Loading,
    reader: Reader,
    readiness: Vec<(Role, watch::Receiver<bool>)>,
    /// Why knowledge cannot be kept, as long as that is so.
    hindrance: watch::Sender<Option<Arc<str>>>,
}

/// What a server of readiness needs to know; cheap to clone.
#[derive(Clone)]
pub struct Readiness {
    roles: Vec<(Role, watch::Receiver<bool>)>,
    configuration: watch::Receiver<Arc<Configuration>>,
    announced: watch::Receiver<Generation>,
    hindrance: watch::Receiver<Option<Arc<str>>>,
}

impl Readiness {
    /// What is not ready; nothing where all is.
    pub fn missing(&self) -> Vec<String> {
        let mut missing: Vec<String> = Vec::new();
        for (role, ready) in &self.roles {
            if !*ready.borrow() {
                missing.push(format!("{role} has not caught up with the ledger"));
            }
        }
        missing.extend(self.hindrance.borrow().iter().map(ToString::to_string));
        let (loaded, announced) = (self.configuration.borrow().generation, *self.announced.borrow());
        if loaded < announced {
            missing.push(format!("configuration {announced} is applied and {loaded} is loaded"));
        }
        missing
    }
}

impl Process {
    /// Connects, creates or verifies the streams, loads the configuration that is applied.
    pub async fn open(settings: ProcessSettings, clock: Clock) -> Result<Self, ProcessError> {
        let connections = Connections::open(&settings.bus).await?;
        for created in settings.topology.ensure(&connections.services).await? {
            tracing::info!(stream = %created, "created");
        }
        let names = settings.topology.names();
        let subjects = Subjects::new(&settings.topology.prefix)?;
        // Fresh with each start: what an earlier run was admitted for is somebody else's.
        let start =
            MessageId::of(&[&settings.instance.as_str(), &clock.now(), &u64::from(std::process::id())]);
        let instance = format!("{}-{}", settings.instance, &start.to_string()[3..11]).into();
        let mut process = Self {
            reader: Reader::new(subjects.clone()),
            settings,
            connections,
            names,
            subjects,
            instance,
            clock,
            loading: Loading::default(),
            readiness: Vec::new(),
            hindrance: watch::Sender::new(None),
        };
        process.readiness = process
            .settings
            .roles
            .iter()
            .map(|role| (*role, watch::Sender::new(false).subscribe()))
            .collect();
        Ok(process)
    }

    /// Where configurations are.
    pub async fn shelf(&self) -> Result<Shelf, ProcessError> {
        let services = self.connections.services.clone();
        Ok(Shelf {
            objects: Objects::open(services.clone(), &self.names).await?,
            ledger: Ledger::open(services.clone(), &self.names).await?,
            publisher: Publisher::new(services, &self.names.ledger),
            subjects: self.subjects.clone(),
            cell: self.settings.topology.cell.as_str().into(),
            instance: Arc::clone(&self.instance),
        })
    }

    /// This process's name.
    pub fn instance(&self) -> &Arc<str> {
        &self.instance
    }

    /// What time it is here.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Runs the roles until `stop`, or until one of them cannot go on. `started` gets the readiness when they run.
    pub async fn run(
        mut self,
        started: impl FnOnce(Readiness) + Send,
        stop: CancellationToken,
    ) -> Result<(), ProcessError> {
        let shelf = self.shelf().await?;
        self.loading.newest(&shelf).await?;
        let mut tasks: JoinSet<Result<(), ProcessError>> = JoinSet::new();
        let roles = self.settings.roles.clone();
        self.readiness.clear();
        // Roles are cancelled by this one, which is also cancelled when one of them fails.
        let roles_stop = stop.child_token();
        for role in roles {
            // A monitor may be waiting for the lease of another one.
            tokio::select! {
                () = roles_stop.cancelled() => break,
                started = self.start(role, &mut tasks, &roles_stop) => started?,
            }
        }
        let (services, topology) = (self.connections.services.clone(), self.settings.topology.clone());
        let keeping = sampling::keep_stream(services, topology, roles_stop.clone());
        tasks.spawn(async move {
            keeping.await;
            Ok(())
        });
        let keeping = self.loading.clone().keep(shelf, self.clock.clone(), roles_stop.clone());
        tasks.spawn(async move {
            keeping.await;
            Ok(())
        });
        for (connection, name) in [
            (self.connections.samples.clone(), "samples"),
            (self.connections.decisions.clone(), "decisions"),
            (self.connections.services.clone(), "services"),
        ] {
            tasks.spawn(watch_connection(connection, name, roles_stop.clone()));
        }
        started(Readiness {
            roles: self.readiness.clone(),
            configuration: self.loading.configuration(),
            announced: self.loading.announced(),
            hindrance: self.hindrance.subscribe(),
        });
        let mut first = Ok(());
        while let Some(ended) = tasks.join_next().await {
            let ended = ended.unwrap_or_else(|panic| Err(ProcessError::Panicked(panic.to_string())));
            if first.is_ok() {
                first = ended;
            }
            // Whoever ends ends all: half a process would look alive.
            roles_stop.cancel();
        }
        for connection in [&self.connections.decisions, &self.connections.services] {
            connection.barrier().await;
        }
        first
    }

    async fn start(
        &mut self,
        role: Role,
        tasks: &mut JoinSet<Result<(), ProcessError>>,
        stop: &CancellationToken,
    ) -> Result<(), ProcessError> {
        let ready = watch::Sender::new(false);
        self.readiness.push((role, ready.subscribe()));
        let failed = move |source| ProcessError::Role { role, source };
        let configuration = self.loading.loaded();
        let instance = Arc::clone(&self.instance);
        let stop = stop.clone();
        match role {
            Role::Analyzer => {
                let filters = vec![format!("{}.violations.*", self.subjects)];
                let wiring = self.wiring(role, Some(filters), ready).await?;
                let core = Analyzer::new(instance, configuration);
                let loading = self.loading.clone();
                tasks.spawn(async move {
                    let observe = move |core: &mut Analyzer, _| loading.announced_in(core.fold());
                    live::run(core, wiring, observe, stop).await.map_err(failed)
                });
            }
            Role::Planner => {
                let filters =
                    vec![format!("{}.analyses.*", self.subjects), self.subjects.ledger(Topic::Admission)];
                let wiring = self.wiring(role, Some(filters), ready).await?;
                let core = Planner::new(instance, configuration);
                let loading = self.loading.clone();
                tasks.spawn(async move {
                    let observe = move |core: &mut Planner, _| loading.announced_in(core.fold());
                    live::run(core, wiring, observe, stop).await.map_err(failed)
                });
            }
            Role::Executor => self.start_executor(tasks, ready, stop).await?,
            Role::Monitor => self.start_monitor(tasks, ready, stop).await?,
            Role::Knowledge => self.start_knowledge(tasks, ready, stop).await?,
        }
        Ok(())
    }

    async fn start_executor(
        &mut self,
        tasks: &mut JoinSet<Result<(), ProcessError>>,
        ready: watch::Sender<bool>,
        stop: CancellationToken,
    ) -> Result<(), ProcessError> {
        let role = Role::Executor;
        let mut wiring = self.wiring(role, None, ready).await?;
        let control = vec![self.subjects.intake_control_all()];
        wiring.intake = Some(self.work(role, &self.names.control, format!("{role}-control"), control).await?);
        let (owned, leases) = watch::channel(Vec::<Lease>::new());
        wiring.leases = Some(leases);
        let clock = self.clock.clone();
        let giving_up = CancellationToken::new();
        wiring.actuator = Some(Arc::new(Actuator::new(
            Arc::new(BusMessenger(self.connections.services.clone())),
            &self.settings.topology.prefix,
            Arc::new(move || clock.now()),
            giving_up.clone(),
        )));
        wiring.giving_up = Some(giving_up);
        let keeping = shards::keep(
            Leases::open(self.connections.services.clone(), &self.names).await?,
            Arc::clone(&self.instance),
            self.clock.clone(),
            owned,
            stop.clone(),
        );
        tasks.spawn(async move {
            keeping.await;
            Ok(())
        });
        // Unpredictable enough: a nonce tells two runs of two processes apart, it keeps no secret.
        let seed =
            MessageId::of(&[&self.instance.as_ref(), &self.clock.now(), &u64::from(std::process::id())]);
        let core = Executor::new(Arc::clone(&self.instance), self.loading.loaded(), seed.as_u128());
        let loading = self.loading.clone();
        let mut cycles = super::cycles::Cycles::default();
        tasks.spawn(async move {
            let observe = move |core: &mut Executor, _| {
                loading.announced_in(core.fold());
                cycles.observe(core.fold());
            };
            let done = live::run(core, wiring, observe, stop).await;
            done.map_err(|source| ProcessError::Role { role, source })
        });
        Ok(())
    }

    async fn start_monitor(
        &mut self,
        tasks: &mut JoinSet<Result<(), ProcessError>>,
        ready: watch::Sender<bool>,
        stop: CancellationToken,
    ) -> Result<(), ProcessError> {
        let role = Role::Monitor;
        let failed = move |source| ProcessError::Role { role, source };
        let leases = Leases::open(self.connections.services.clone(), &self.names).await?;
        let held = exclusive::take(leases, "monitor", &self.instance, &self.clock).await.map_err(failed)?;
        // From now on: restoring may take longer than the lease lasts.
        let (keeping, lost) = exclusive::keep(held, self.clock.clone(), stop.clone());
        tasks.spawn(async move {
            keeping.await;
            Ok(())
        });
        let mut wiring = self.wiring(role, None, ready).await?;
        let subjects = vec![self.subjects.intake_violations(), self.subjects.intake_changes()];
        wiring.intake = Some(self.work(role, &self.names.intake, format!("{role}-intake"), subjects).await?);
        let (frames_in, arrivals) = mpsc::channel(FRAME_BATCHES_QUEUED_MAX);
        let (tables, asked) = mpsc::channel(TABLE_QUESTIONS_MAX);
        let (questions, under_way) = mpsc::channel(1);
        wiring.tables = Some(tables);
        let sampling = sampling::Sampling {
            samples: self.connections.samples.clone(),
            services: self.connections.services.clone(),
            names: self.names.clone(),
            subjects: self.subjects.clone(),
            buckets: u32::from(self.settings.topology.buckets),
        };
        let cell: Arc<str> = self.settings.topology.cell.as_str().into();
        let configuration = self.loading.loaded();
        let restored = tokio::select! {
            restored = sampling.restore(&cell, &configuration, &mut wiring, &self.instance) => restored,
            () = lost.cancelled() => Err(RoleError::LeaseLost("monitor".to_owned())),
            () = stop.cancelled() => return Ok(()),
        };
        let restored = restored.map_err(failed)?;
        let sampling::Restored { core, steps, frames: listener, observed } = restored;
        wiring.first_steps = steps;
        wiring.sampled = Some(Sampled { arrivals, questions, observed });
        let saving = sampling::Saving::start(&sampling, tasks, stop.clone()).await.map_err(failed)?;
        let pumping =
            sampling.pump(listener, frames_in, Questions { tables: asked, under_way }, stop.clone());
        tasks.spawn(async move { pumping.await.map_err(failed) });
        let loading = self.loading.clone();
        tasks.spawn(async move {
            let mut saving = saving;
            let observe = move |core: &mut Monitor, now: Timestamp| {
                loading.announced_in(core.fold());
                saving.observe(core, now);
            };
            tokio::select! {
                done = live::run(core, wiring, observe, stop) => done.map_err(failed),
                () = lost.cancelled() => Err(failed(RoleError::LeaseLost("monitor".to_owned()))),
            }
        });
        Ok(())
    }

    async fn start_knowledge(
        &mut self,
        tasks: &mut JoinSet<Result<(), ProcessError>>,
        ready: watch::Sender<bool>,
        stop: CancellationToken,
    ) -> Result<(), ProcessError> {
        let role = Role::Knowledge;
        let failed = move |source| ProcessError::Role { role, source };
        let keeping = Keeping {
            folder: self.settings.data.join("knowledge"),
            ledger: Ledger::open(self.connections.decisions.clone(), &self.names).await?,
            objects: Objects::open(self.connections.services.clone(), &self.names).await?,
            services: self.connections.services.clone(),
            subjects: self.subjects.clone(),
            instance: Arc::clone(&self.instance),
            clock: self.clock.clone(),
            traces: self.settings.traces.clone(),
            ready,
            hindrance: self.hindrance.clone(),
        };
        let running = aside::run("knowledge", move || keeping.run(stop));
        tasks.spawn(async move {
            let ended = running.await;
            ended.map_err(|error| ProcessError::Panicked(format!("{role}: {error}")))?.map_err(failed)
        });
        Ok(())
    }

    async fn wiring(
        &self,
        role: Role,
        filters: Option<Vec<String>>,
        ready: watch::Sender<bool>,
    ) -> Result<Wiring, ProcessError> {
        let connection = self.connections.decisions.clone();
        let ledger = Ledger::open(connection.clone(), &self.names).await?;
        let work = match filters {
            Some(filters) => {
                Some(self.work(role, &self.names.ledger, role.as_str().to_owned(), filters).await?)
            }
            None => None,
        };
        Ok(Wiring {
            role,
            cell: self.settings.topology.cell.as_str().into(),
            subjects: self.subjects.clone(),
            reader: self.reader.clone(),
            publisher: Publisher::new(connection.clone(), &self.names.ledger),
            feed: ledger.feed(0, None),
            ledger,
            work,
            intake: None,
            sampled: None,
            tables: None,
            leases: None,
            first_steps: Vec::new(),
            configuration: self.loading.configuration(),
            actuator: None,
            giving_up: None,
            dead_letters: Box::new({
                let names = self.names.clone();
                move |settler| DeadLetters::new(connection.clone(), &names, settler)
            }),
            ready,
            clock: self.clock.clone(),
        })
    }

    async fn work(
        &self,
        role: Role,
        stream: &str,
        name: String,
        filters: Vec<String>,
    ) -> Result<Work, ProcessError> {
        let spec = WorkSpec {
            stream: stream.to_owned(),
            name,
            filters,
            ack_wait: ACK_WAIT,
            ack_pending_max: ACK_PENDING_MAX,
            batch: TAKEN_IN_ADVANCE,
        };
        let opened = Work::open(self.connections.decisions.clone(), spec).await;
        opened.map_err(|error| ProcessError::Role { role, source: error.into() })
    }
}

/// Hands on what the connection counts, and ends where the bus refuses us: nothing else would tell.
async fn watch_connection(
    connection: Connection,
    name: &'static str,
    stop: CancellationToken,
) -> Result<(), ProcessError> {
    let events = Arc::clone(connection.events());
    let mut every = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            reason = events.fatal() => return Err(ProcessError::Refused(reason)),
            _ = every.tick() => {
                let counts = events.counts();
                telemetry::connection_counts(name, counts.connects, counts.slow_consumer);
            }
        }
    }
}

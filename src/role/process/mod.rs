//! A process of the loop: connections, streams, and the roles it was told to run, each a task of its own.

mod readiness;
mod starting;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use self::readiness::Readiness;
pub(crate) use self::starting::{ACK_PENDING_MAX, FRAME_BATCHES_QUEUED_MAX, TAKEN_IN_ADVANCE};
use self::starting::{StandingBy, turn};
use super::applying::{ApplyError, Shelf};
pub use super::folding::KEPT_EVERY;
use super::loading::Loading;
use super::reading::Reader;
use super::{RoleError, sampling};
use crate::bus::nats::{Connection, Connections, Ledger, Names, Objects, Publisher, Settings, Topology};
use crate::clock::Clock;
use crate::model::{MessageId, Role};
use crate::telemetry::{self, Traces};
use crate::wire::Subjects;

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
    /// Where traces are sent to.
    pub traces: Traces,
    /// How often what the ledger amounts to is kept, so that a start need not read all of it.
    pub fold_kept_every: Duration,
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
    /// Who runs the monitor, as long as ours stands by.
    monitor_elsewhere: watch::Sender<Option<Arc<str>>>,
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
            monitor_elsewhere: watch::Sender::new(None),
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
        let mut standing_by = None;
        for role in roles {
            // A monitor may have to wait for the lease of another one. Alone it refuses to; others have work of their own.
            if role == Role::Monitor && self.settings.roles.len() > 1 {
                standing_by = Some(self.stand_by().await?);
                continue;
            }
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
            monitor_elsewhere: self.monitor_elsewhere.subscribe(),
        });
        let ended = self.until_ended(tasks, standing_by, &roles_stop).await;
        for connection in [&self.connections.decisions, &self.connections.services] {
            connection.barrier().await;
        }
        ended
    }

    /// Waits until all tasks have ended, and begins what stands by when its turn comes; returns how the first one ended.
    async fn until_ended(
        &mut self,
        mut tasks: JoinSet<Result<(), ProcessError>>,
        mut standing_by: Option<StandingBy>,
        roles_stop: &CancellationToken,
    ) -> Result<(), ProcessError> {
        let mut first = Ok(());
        loop {
            let ended = tokio::select! {
                ended = tasks.join_next() => match ended {
                    Some(ended) => {
                        ended.unwrap_or_else(|panic| Err(ProcessError::Panicked(panic.to_string())))
                    }
                    None => return first,
                },
                taken = turn(&mut standing_by), if !roles_stop.is_cancelled() => {
                    match self.take_over(taken, &mut tasks, roles_stop).await {
                        Ok(()) => continue,
                        Err(error) => Err(error),
                    }
                }
            };
            if first.is_ok() {
                first = ended;
            }
            // Whoever ends ends all: half a process would look alive.
            roles_stop.cancel();
        }
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

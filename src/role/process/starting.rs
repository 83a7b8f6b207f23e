//! How each role is put to work: its core, what it is connected to, and the tasks beside it.

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Process, ProcessError};
use crate::actuator::Actuator;
use crate::bus::nats::{DeadLetters, Leases, Ledger, Objects, Publisher, Work, WorkSpec};
use crate::engine::Lease;
use crate::engine::analyze::Analyzer;
use crate::engine::execute::Executor;
use crate::engine::monitor::Monitor;
use crate::engine::plan::Planner;
use crate::model::{MessageId, Role, Timestamp, Topic};
use crate::role::cycles::Cycles;
use crate::role::exclusive::{self, Held};
use crate::role::folding::{self, Folding};
use crate::role::knowledge::Keeping;
use crate::role::live::{self, ACK_WAIT, Sampled, Wiring};
use crate::role::sampling::{self, Questions};
use crate::role::{BusMessenger, RoleError, aside, shards};

/// Deliveries of one shared queue that may be unsettled at once, over all its processes.
pub(crate) const ACK_PENDING_MAX: u32 = 4_096;
/// Deliveries that one process takes in advance; a killed one keeps them for the acknowledgement wait.
pub(crate) const TAKEN_IN_ADVANCE: usize = 256;
/// Batches of frames between the subscription and the monitor: behind it the subscription fills, and then counts losses.
pub(crate) const FRAME_BATCHES_QUEUED_MAX: usize = 64;
/// Tables that are being asked for.
const TABLE_QUESTIONS_MAX: usize = 64;

/// Who runs the monitor of the cell.
const MONITOR_LEASE: &str = "monitor";

/// A monitor that waits for its turn.
pub(super) struct StandingBy {
    ready: watch::Sender<bool>,
    held: BoxFuture<'static, Result<Held, RoleError>>,
}

/// Waits for the turn of what stands by. Cancel safe.
pub(super) async fn turn(
    standing_by: &mut Option<StandingBy>,
) -> (watch::Sender<bool>, Result<Held, RoleError>) {
    let Some(waiting) = standing_by else { return std::future::pending().await };
    let held = (&mut waiting.held).await;
    let ready = waiting.ready.clone();
    *standing_by = None;
    (ready, held)
}

impl Process {
    pub(super) async fn start(
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
            Role::Monitor => {
                let leases = Leases::open(self.connections.services.clone(), &self.names).await?;
                let held = exclusive::take(leases, MONITOR_LEASE, &self.instance, &self.clock).await;
                self.start_monitor(held.map_err(failed)?, tasks, ready, stop).await?;
            }
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
        let mut cycles = Cycles::default();
        let (ledger, every) = (wiring.ledger.tail().await?.created, self.settings.fold_kept_every);
        let services = self.connections.services.clone();
        let folding = Folding::start(services, &self.names, (ledger, every), tasks, stop.clone());
        let mut folding = folding.await.map_err(|source| ProcessError::Role { role, source })?;
        tasks.spawn(async move {
            let observe = move |core: &mut Executor, now| {
                loading.announced_in(core.fold());
                cycles.observe(core.fold());
                if core.is_first(now) {
                    folding.observe(core.fold(), now);
                }
            };
            let done = live::run(core, wiring, observe, stop).await;
            done.map_err(|source| ProcessError::Role { role, source })
        });
        Ok(())
    }

    /// Waits for the monitor's lease beside the other roles, however long another process has it.
    pub(super) async fn stand_by(&mut self) -> Result<StandingBy, ProcessError> {
        let ready = watch::Sender::new(false);
        self.readiness.push((Role::Monitor, ready.subscribe()));
        let leases = Leases::open(self.connections.services.clone(), &self.names).await?;
        let (holder, elsewhere) = (Arc::clone(&self.instance), self.monitor_elsewhere.clone());
        let what = (Role::Monitor, MONITOR_LEASE);
        let held = exclusive::stand_by(leases, what, holder, self.clock.clone(), elsewhere);
        Ok(StandingBy { ready, held: Box::pin(held) })
    }

    /// Begins what has stood by.
    pub(super) async fn take_over(
        &mut self,
        (ready, held): (watch::Sender<bool>, Result<Held, RoleError>),
        tasks: &mut JoinSet<Result<(), ProcessError>>,
        stop: &CancellationToken,
    ) -> Result<(), ProcessError> {
        let held = held.map_err(|source| ProcessError::Role { role: Role::Monitor, source })?;
        self.start_monitor(held, tasks, ready, stop.clone()).await
    }

    async fn start_monitor(
        &mut self,
        held: Held,
        tasks: &mut JoinSet<Result<(), ProcessError>>,
        ready: watch::Sender<bool>,
        stop: CancellationToken,
    ) -> Result<(), ProcessError> {
        let role = Role::Monitor;
        let failed = move |source| ProcessError::Role { role, source };
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
            () = lost.cancelled() => Err(RoleError::LeaseLost(MONITOR_LEASE.to_owned())),
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
                () = lost.cancelled() => Err(failed(RoleError::LeaseLost(MONITOR_LEASE.to_owned()))),
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
        let known =
            folding::known(self.connections.services.clone(), &self.names, &ledger.tail().await?).await?;
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
            feed: ledger.feed(known.as_ref().map_or(0, |known| known.applied() + 1), None),
            known,
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

//! The live runner: one loop runs any role. Wait → decide → publish → settle last.
//!
//! Everything that can happen to a role is one [`Input`]; it is waited for in one place and handled one at a time. The
//! loop itself decides nothing. What a step wants is done by `carrying_out`, what came from a shared queue is kept by
//! `deliveries`, what time it is for a core that takes samples is said by `observed`, the end is `draining`.

mod carrying_out;
mod deliveries;
mod draining;
mod observed;
mod wiring;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::deliveries::InHand;
use self::observed::Observed;
pub(super) use self::observed::{Arrival, Sampled};
pub use self::wiring::Wiring;
use super::catching_up::catch_up;
use super::error::RoleError;
use crate::bus;
use crate::bus::nats::{Settler, Work};
use crate::engine::{Core, Input, Token};
use crate::model::Timestamp;
use crate::telemetry;

/// Records and deliveries that are taken at once: more only delays the first of them.
pub(crate) const TAKEN_AT_ONCE_MAX: usize = 256;
/// Acknowledgement wait of the shared queues: also the pause before another process gets what a killed one had in hand.
pub const ACK_WAIT: Duration = Duration::from_secs(5);
/// How often the server is told that what is in hand is being worked on.
const PROGRESS_EVERY: Duration = Duration::from_millis(1_500);

type Answers = FuturesUnordered<BoxFuture<'static, Input>>;

/// A role at work.
struct Live<C, O> {
    core: C,
    observe: O,
    /// Of a role that takes samples.
    observed: Option<Observed>,
    wiring: Wiring,
    answers: Answers,
    acts: JoinSet<()>,
    tokens: BTreeMap<Token, InHand>,
    last_token: u64,
    wake_at: Option<Timestamp>,
    is_draining: bool,
    /// When the attempts that were started have ended.
    acting_until: Timestamp,
}

/// What the loop woke up for.
enum Woken {
    Input(Input),
    Records(Vec<bus::Stored>),
    Work(Vec<bus::Delivery>, Settler),
    Arrival(Arrival),
    Deadline,
    Progress,
    Stop,
}

/// Runs a role until it is told to stop, and finishes what is under way. `observe` is called after each step, and now and then
/// without one.
pub async fn run<C: Core, O: FnMut(&mut C, Timestamp)>(
    core: C,
    wiring: Wiring,
    observe: O,
    stop: CancellationToken,
) -> Result<(), RoleError> {
    let observed = wiring.sampled.as_ref().map(|sampled| Observed::new(sampled.observed, wiring.clock.now()));
    let live = Live {
        core,
        observe,
        observed,
        wiring,
        answers: FuturesUnordered::new(),
        acts: JoinSet::new(),
        tokens: BTreeMap::new(),
        last_token: 0,
        wake_at: None,
        is_draining: false,
        acting_until: Timestamp::MIN,
    };
    live.run(stop).await
}

impl<C: Core, O: FnMut(&mut C, Timestamp)> Live<C, O> {
    async fn run(mut self, stop: CancellationToken) -> Result<(), RoleError> {
        let Wiring { ledger, feed, known, reader, clock, .. } = &mut self.wiring;
        // Samples that wait to be taken in are before what is later than the last that was.
        let told = self.observed.as_ref().map(Observed::told);
        let now = || told.unwrap_or_else(|| clock.now());
        let caught_up = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            steps = catch_up(&mut self.core, known.take(), ledger, feed, reader, now) => steps?,
        };
        self.wiring.ready.send_replace(true);
        let first_steps = std::mem::take(&mut self.wiring.first_steps);
        for step in first_steps.into_iter().chain(caught_up) {
            let now = self.now();
            self.carry_out(now, step).await;
        }
        let configuration = self.wiring.configuration.borrow_and_update().clone();
        self.give(Input::Configuration(configuration)).await;
        let mut progress = tokio::time::interval(PROGRESS_EVERY);
        progress.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            match self.wait(&mut progress, &stop).await? {
                Woken::Input(input) => self.give(input).await,
                Woken::Records(stored) => self.take_records(&stored).await?,
                Woken::Work(deliveries, settler) => self.take_work(deliveries, &settler).await,
                Woken::Arrival(arrival) => self.arrive(arrival).await,
                Woken::Deadline => self.let_time_pass().await,
                Woken::Progress => {
                    self.tell_progress().await;
                    // Who only looks at what was counted looks in quiet times too.
                    let now = self.now();
                    (self.observe)(&mut self.core, now);
                }
                Woken::Stop => break,
            }
        }
        self.drain().await;
        Ok(())
    }

    /// Waits for whatever comes first. Each branch is cancel safe: what a branch has taken it has returned.
    async fn wait(
        &mut self,
        progress: &mut tokio::time::Interval,
        stop: &CancellationToken,
    ) -> Result<Woken, RoleError> {
        let now = self.wiring.clock.now();
        let wake_at = self.observed.as_ref().and_then(Observed::waits_until).or(self.wake_at);
        let deadline = wake_at.map(|at| at.saturating_since(now));
        let wiring = &mut self.wiring;
        tokio::select! {
            biased;
            () = stop.cancelled() => Ok(Woken::Stop),
            // First what comes seldom: behind a flood it would not come at all.
            _ = progress.tick() => Ok(Woken::Progress),
            configuration = next_change(Some(&mut wiring.configuration)) => {
                Ok(Woken::Input(Input::Configuration(configuration)))
            }
            leases = next_change(wiring.leases.as_mut()) => Ok(Woken::Input(Input::Leases(leases))),
            () = sleep(deadline) => Ok(Woken::Deadline),
            Some(input) = self.answers.next(), if !self.answers.is_empty() => Ok(Woken::Input(input)),
            records = wiring.feed.next_batch(TAKEN_AT_ONCE_MAX) => Ok(Woken::Records(records?)),
            work = next_work(wiring.work.as_mut()) => work.map(|(work, settler)| Woken::Work(work, settler)),
            work = next_work(wiring.intake.as_mut()) => work.map(|(work, settler)| Woken::Work(work, settler)),
            arrival = next_arrival(wiring.sampled.as_mut()) => Ok(Woken::Arrival(arrival)),
        }
    }

    async fn give(&mut self, input: Input) {
        let now = self.now();
        self.give_at(now, input).await;
    }

    async fn give_at(&mut self, now: Timestamp, input: Input) {
        let timed = matches!(input, Input::Work(_) | Input::Frame(_));
        let started = timed.then(|| self.wiring.clock.stopwatch());
        let step = self.core.handle(now, input);
        if let Some(started) = started {
            telemetry::component_duration(self.wiring.role, started.elapsed());
        }
        self.carry_out(now, step).await;
    }

    /// What time it is for the core: for one that takes samples, no later than they are taken in.
    fn now(&mut self) -> Timestamp {
        let now = self.wiring.clock.now();
        let (Some(observed), Some(sampled)) = (&mut self.observed, &self.wiring.sampled) else { return now };
        observed.now(now, self.wake_at, |asked_at| sampled.look(asked_at))
    }

    /// Lets deadlines pass, unless there may be samples that come before them.
    async fn let_time_pass(&mut self) {
        let wall = self.wiring.clock.now();
        let given_up = self.observed.as_mut().and_then(|observed| observed.give_up_waiting(wall));
        let now = given_up.unwrap_or_else(|| self.now());
        if self.observed.as_ref().is_none_or(|observed| !observed.is_waiting()) {
            self.tick(now).await;
        }
    }

    async fn tick(&mut self, now: Timestamp) {
        self.wake_at = None;
        let step = self.core.tick(now);
        self.carry_out(now, step).await;
    }

    async fn arrive(&mut self, arrival: Arrival) {
        let now = self.now();
        match arrival {
            Arrival::Some(inputs) => {
                for input in inputs {
                    let wall = self.wiring.clock.now();
                    // All of them are here: no deadline passes between one and the next, unless they have queued up.
                    let at =
                        self.observed.as_mut().map_or(now, |observed| observed.taken_in(&input, now, wall));
                    self.give_at(at, input).await;
                }
            }
            Arrival::AllUntil(until) => {
                if let Some(observed) = &mut self.observed {
                    let now = observed.all_until(until);
                    self.tick(now).await;
                }
            }
        }
    }

    async fn take_records(&mut self, stored: &[bus::Stored]) -> Result<(), RoleError> {
        let records = self.wiring.reader.records(stored).inspect_err(|_| {
            self.wiring.ready.send_replace(false);
        })?;
        self.give(Input::Ledger(records)).await;
        Ok(())
    }
}

/// Cancel safe.
async fn next_work(work: Option<&mut Work>) -> Result<(Vec<bus::Delivery>, Settler), RoleError> {
    match work {
        Some(work) => {
            let batch = work.next_batch(TAKEN_AT_ONCE_MAX).await?;
            Ok((batch, work.settler()))
        }
        None => std::future::pending().await,
    }
}

/// Cancel safe.
async fn next_arrival(sampled: Option<&mut Sampled>) -> Arrival {
    match sampled {
        Some(sampled) => match sampled.arrivals.recv().await {
            Some(arrival) => arrival,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

/// Cancel safe.
async fn next_change<T: Clone>(watched: Option<&mut watch::Receiver<T>>) -> T {
    match watched {
        Some(watched) => match watched.changed().await {
            Ok(()) => watched.borrow_and_update().clone(),
            Err(_) => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

async fn sleep(after: Option<Duration>) {
    match after {
        Some(after) => tokio::time::sleep(after).await,
        None => std::future::pending().await,
    }
}

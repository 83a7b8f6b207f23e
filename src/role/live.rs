//! The live runner: one loop runs any role. Wait → decide → publish → settle last.
//!
//! Everything that can happen to a role is one [`Input`]; it is waited for in one place and handled one at a time. The
//! loop itself decides nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::catching_up::catch_up;
use super::decoding::Decoded;
use super::error::RoleError;
use super::reading::Reader;
use crate::actuator::{Actuator, Circumstances, SHUTTING_DOWN};
use crate::bus::nats::{DeadLetters, Feed, Ledger, Publisher, Settler, Work};
use crate::bus::{self, Outgoing, PublishError, Settle};
use crate::clock::Clock;
use crate::engine::core::Unanswered;
use crate::engine::{
    Act, Acted, Ask, Configuration, Core, Delivery, Done, Emit, Input, Lease, Published, Step, Ticket, Token,
};
use crate::model::{Charter, MessageId, Outcome, OutcomeResult, Role, Timestamp};
use crate::telemetry;
use crate::wire::{self, Subjects};

/// Records and deliveries that are taken at once: more only delays the first of them.
pub(crate) const TAKEN_AT_ONCE_MAX: usize = 256;
/// Acknowledgement wait of the shared queues: also the pause before another process gets what a killed one had in hand.
pub const ACK_WAIT: Duration = Duration::from_secs(5);
/// How often the server is told that what is in hand is being worked on.
const PROGRESS_EVERY: Duration = Duration::from_millis(1_500);
/// How long a role that is told to stop may take to finish what is under way.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// How long it may take where attempts are under way, each of which ends by its own time-out: less than the half minute that
/// the systemd unit leaves before it kills.
const DRAIN_ATTEMPTS_MAX: Duration = Duration::from_secs(25);
/// What an attempt may take beyond its time-out, for clearing away.
const CLEARING_AWAY: Duration = Duration::from_secs(1);
/// How long before the end of the drain attempts are given up, so that how they ended is still written down.
const GIVE_UP_BEFORE: Duration = Duration::from_secs(2);
/// After it a delivery of a newer version than ours is tried again.
const NEWER_VERSION_PAUSE: Duration = Duration::from_secs(5);
/// Deliveries of a newer version that were tried for this often are put aside: ten minutes.
const NEWER_VERSION_TRIES_MAX: u64 = 120;

/// What a role is connected to.
pub struct Wiring {
    /// Which role.
    pub role: Role,
    /// Names the cell in `ce-source`.
    pub cell: Arc<str>,
    /// Subject names.
    pub subjects: Subjects,
    /// Decodes what is read of the ledger, once for all roles of the process.
    pub(super) reader: Reader,
    /// Writes the ledger.
    pub publisher: Publisher,
    /// Reads it.
    pub ledger: Ledger,
    /// Follows it.
    pub feed: Feed,
    /// Work that is shared with other processes of the role.
    pub work: Option<Work>,
    /// What comes from outside.
    pub intake: Option<Work>,
    /// Samples and series tables.
    pub frames: Option<mpsc::Receiver<Vec<Input>>>,
    /// Asks a producer for a series table.
    pub tables: Option<mpsc::Sender<Ask>>,
    /// The shards that this process holds.
    pub leases: Option<watch::Receiver<Vec<Lease>>>,
    /// What to decide by.
    pub configuration: watch::Receiver<Arc<Configuration>>,
    /// Carries out attempts.
    pub actuator: Option<Arc<Actuator>>,
    /// Cancelled when attempts under way are not waited for any longer: it is what the actuator's shutdown was made of.
    pub giving_up: Option<CancellationToken>,
    /// What the core wanted before it came here.
    pub first_steps: Vec<Step>,
    /// Where what cannot be processed goes, by who settles it.
    pub dead_letters: Box<dyn Fn(Settler) -> DeadLetters + Send + Sync>,
    /// Told when the role has caught up with the ledger, and when it cannot work.
    pub ready: watch::Sender<bool>,
    /// What time it is.
    pub clock: Clock,
}

type Answers = FuturesUnordered<BoxFuture<'static, Input>>;

/// A role at work.
struct Live<C, O> {
    core: C,
    observe: O,
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

/// A delivery that is not settled.
struct InHand {
    delivery: bus::Delivery,
    settler: Settler,
}

/// What the loop woke up for.
enum Woken {
    Input(Input),
    Records(Vec<bus::Stored>),
    Work(Vec<bus::Delivery>, Settler),
    Frames(Vec<Input>),
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
    let live = Live {
        core,
        observe,
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
        let Wiring { ledger, feed, reader, clock, .. } = &mut self.wiring;
        let caught_up = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            steps = catch_up(&mut self.core, ledger, feed, reader, || clock.now()) => steps?,
        };
        self.wiring.ready.send_replace(true);
        let first_steps = std::mem::take(&mut self.wiring.first_steps);
        for step in first_steps.into_iter().chain(caught_up) {
            self.carry_out(self.wiring.clock.now(), step).await;
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
                Woken::Frames(inputs) => {
                    // All of them are here: no deadline passes between one and the next.
                    let now = self.wiring.clock.now();
                    for input in inputs {
                        self.give_at(now, input).await;
                    }
                }
                Woken::Deadline => {
                    self.wake_at = None;
                    let now = self.wiring.clock.now();
                    let step = self.core.tick(now);
                    self.carry_out(now, step).await;
                }
                Woken::Progress => {
                    self.tell_progress().await;
                    // Who only looks at what was counted looks in quiet times too.
                    (self.observe)(&mut self.core, self.wiring.clock.now());
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
        let deadline = self.wake_at.map(|at| at.saturating_since(self.wiring.clock.now()));
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
            frames = next_frames(wiring.frames.as_mut()) => Ok(Woken::Frames(frames)),
        }
    }

    async fn give(&mut self, input: Input) {
        self.give_at(self.wiring.clock.now(), input).await;
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

    async fn take_records(&mut self, stored: &[bus::Stored]) -> Result<(), RoleError> {
        let records = self.wiring.reader.records(stored).inspect_err(|_| {
            self.wiring.ready.send_replace(false);
        })?;
        self.give(Input::Ledger(records)).await;
        Ok(())
    }

    async fn take_work(&mut self, deliveries: Vec<bus::Delivery>, settler: &Settler) {
        let mut work = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            match self.wiring.reader.work(self.wiring.role, &delivery) {
                Decoded::Value(Some(decoded)) => {
                    self.last_token += 1;
                    let token = Token(self.last_token);
                    work.push(Delivery { token, delivered: delivery.delivered, work: decoded });
                    self.tokens.insert(token, InHand { delivery, settler: settler.clone() });
                }
                Decoded::Value(None) => settle(settler, &delivery, Settle::Ack).await,
                Decoded::Malformed(cause) => self.bury(settler, &delivery, &cause).await,
                Decoded::Newer(cause) if delivery.delivered >= NEWER_VERSION_TRIES_MAX => {
                    self.bury(settler, &delivery, &cause).await;
                }
                Decoded::Newer(cause) => {
                    tracing::warn!(sequence = delivery.stored.sequence, %cause, "a newer version wrote this; it is left for one");
                    settle(settler, &delivery, Settle::Nak(NEWER_VERSION_PAUSE)).await;
                }
            }
        }
        if !work.is_empty() {
            self.give(Input::Work(work)).await;
        }
    }

    /// Carries out a step in its order: publish, ask, settle.
    async fn carry_out(&mut self, now: Timestamp, step: Step) {
        let mut is_stuck = false;
        for emit in step.emit {
            // One that could not be handed to the connection has waited for all of them: they are tried again.
            let answer = if is_stuck {
                answer(emit.ticket, Published::TimedOut)
            } else {
                self.publish(emit, &mut is_stuck).await
            };
            self.answers.push(answer);
        }
        for ask in step.ask {
            self.ask(ask);
        }
        for (token, done) in step.done {
            if let Some(in_hand) = self.tokens.remove(&token) {
                match done {
                    Done::Ack => settle(&in_hand.settler, &in_hand.delivery, Settle::Ack).await,
                    Done::Nak(delay) => {
                        settle(&in_hand.settler, &in_hand.delivery, Settle::Nak(delay)).await;
                    }
                    Done::Dead(cause) => self.bury(&in_hand.settler, &in_hand.delivery, &cause).await,
                }
            }
        }
        if let Some(at) = step.wake_at {
            self.wake_at = Some(self.wake_at.map_or(at, |known| known.min(at)));
        }
        (self.observe)(&mut self.core, now);
    }

    /// Hands a batch to the connection, in order; its answer comes later.
    async fn publish(&mut self, emit: Emit, is_stuck: &mut bool) -> BoxFuture<'static, Input> {
        let Emit { ticket, topic, batch, expected_last } = emit;
        telemetry::decided(&batch);
        let message = match wire::ledger::message(&self.wiring.subjects, &self.wiring.cell, topic, &batch) {
            Ok(message) => message,
            Err(cause) => {
                tracing::error!(%topic, %cause, "a decision cannot be written");
                return answer(ticket, Published::Refused);
            }
        };
        let outgoing = Outgoing {
            subject: message.subject,
            headers: message
                .headers
                .iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            payload: message.payload,
            id: batch.id.to_string(),
            expected_last_on_subject: expected_last,
        };
        match self.wiring.publisher.send(outgoing).await {
            Ok(sent) => Box::pin(async move {
                let result = published(sent.await);
                telemetry::published(topic, result);
                Input::Published { ticket, result }
            }),
            Err(error) => {
                *is_stuck = matches!(error, PublishError::Unavailable(_));
                answer(ticket, published(Err(error)))
            }
        }
    }

    fn ask(&mut self, ask: Ask) {
        match ask {
            Ask::ReadBack { ticket, topic, sequence } => {
                let Wiring { ledger, subjects, reader, .. } = &self.wiring;
                let (ledger, subjects, reader) = (ledger.clone(), subjects.clone(), reader.clone());
                self.answers.push(Box::pin(async move {
                    let read = match sequence {
                        Some(sequence) => ledger.get(sequence).await,
                        None => ledger.last_on(&subjects.ledger(topic)).await,
                    };
                    let found = match read {
                        Err(_) => Err(Unanswered),
                        Ok(None) => Ok(None),
                        Ok(Some(stored)) => match reader.record(&stored) {
                            Decoded::Value(record) => Ok(Some(record)),
                            Decoded::Malformed(_) | Decoded::Newer(_) => Err(Unanswered),
                        },
                    };
                    Input::ReadBack { ticket, found }
                }));
            }
            Ask::Act(act) => {
                let acted = self.act(*act);
                self.answers.push(acted);
            }
            Ask::Table { .. } => {
                // Full means that the same tables are being asked for already; the core asks again.
                if let Some(tables) = &self.wiring.tables {
                    let _ = tables.try_send(ask);
                }
            }
        }
    }

    /// Carries out an attempt in a task of its own: its limits of time hold whatever the role waits for meanwhile.
    fn act(&mut self, act: Act) -> BoxFuture<'static, Input> {
        let unfinished = |result, output: &str| {
            let outcome = Outcome { result, output: output.into(), ..act.outcome.clone() };
            Acted { attempt: act.attempt, outcome }
        };
        let Some(actuator) = self.wiring.actuator.clone().filter(|_| !self.is_draining) else {
            let acted = unfinished(OutcomeResult::NotStarted, SHUTTING_DOWN);
            return Box::pin(std::future::ready(Input::Acted(acted)));
        };
        let panicked = unfinished(OutcomeResult::InDoubt, "what carried it out ended unexpectedly");
        let configuration = Arc::clone(&self.wiring.configuration.borrow());
        telemetry::effect_started();
        let ends = self.wiring.clock.now() + act.action.timeout + CLEARING_AWAY;
        self.acting_until = self.acting_until.max(ends);
        let (told, acted) = oneshot::channel();
        while self.acts.try_join_next().is_some() {}
        self.acts.spawn(async move {
            let span = MessageId::of(&[&act.attempt]);
            let trace = wire::envelope::Trace::of(act.outcome.incident.as_u128(), span);
            let traceparent = trace.map(|trace| trace.to_string());
            let Charter { programs, hosts, .. } = &configuration.charter;
            let under = Circumstances { programs, hosts, traceparent: traceparent.as_deref() };
            // Nobody asks any more: the role ended first, and whoever takes over finds the attempt in doubt.
            let _ = told.send(actuator.act(act, under).await);
        });
        Box::pin(async move { Input::Acted(acted.await.unwrap_or(panicked)) })
    }

    /// Puts a delivery where a person can look at it. Where that fails it is left, and comes again.
    async fn bury(&mut self, settler: &Settler, delivery: &bus::Delivery, cause: &str) {
        tracing::error!(subject = %delivery.stored.subject, sequence = delivery.stored.sequence, %cause, "a message cannot be processed and is put aside");
        telemetry::dead_letter(self.wiring.role);
        let letters = (self.wiring.dead_letters)(settler.clone());
        if let Err(error) = letters.bury(self.wiring.role.as_str(), delivery, cause).await {
            tracing::warn!(%error, "it could not be put aside, and comes again");
        }
    }

    async fn tell_progress(&mut self) {
        for in_hand in self.tokens.values() {
            // Not told in time, it comes again, and again is harmless.
            let _ = in_hand.settler.progress(&in_hand.delivery.token).await;
        }
    }

    /// Finishes what is under way, begins nothing new, and gives back what was not begun.
    async fn drain(mut self) {
        self.is_draining = true;
        // An attempt that is given up is in doubt, and nobody may repeat it.
        let acting = self.acting_until.saturating_since(self.wiring.clock.now());
        let limit = acting.clamp(DRAIN_MAX, DRAIN_ATTEMPTS_MAX);
        let giving_up = self.wiring.giving_up.clone();
        let give_up = async {
            tokio::time::sleep(limit.saturating_sub(GIVE_UP_BEFORE)).await;
            if let Some(giving_up) = giving_up {
                giving_up.cancel();
            }
            std::future::pending::<()>().await;
        };
        let finish = async {
            tokio::pin!(give_up);
            loop {
                let input = tokio::select! {
                    input = self.answers.next() => input,
                    () = &mut give_up => None,
                };
                let Some(input) = input else { return };
                let now = self.wiring.clock.now();
                let step = self.core.handle(now, input);
                self.carry_out(now, step).await;
            }
        };
        if tokio::time::timeout(limit, finish).await.is_err() {
            tracing::warn!(role = %self.wiring.role, "stopped with decisions under way; whoever takes over finds them");
        }
        for in_hand in self.tokens.values() {
            settle(&in_hand.settler, &in_hand.delivery, Settle::Nak(Duration::ZERO)).await;
        }
        for work in [self.wiring.work.take(), self.wiring.intake.take()].into_iter().flatten() {
            work.release().await;
        }
    }
}

/// A settlement that does not arrive leaves the delivery out: it comes again, and again is harmless.
async fn settle(settler: &Settler, delivery: &bus::Delivery, word: Settle) {
    if let Err(error) = settler.settle(&delivery.token, word).await {
        tracing::debug!(sequence = delivery.stored.sequence, %error, "a delivery could not be settled");
    }
}

fn answer(ticket: Ticket, result: Published) -> BoxFuture<'static, Input> {
    Box::pin(std::future::ready(Input::Published { ticket, result }))
}

fn published(result: Result<bus::Published, PublishError>) -> Published {
    match result {
        Ok(stored) => Published::Stored { sequence: stored.sequence, duplicate: stored.duplicate },
        Err(PublishError::WrongLastSequence { .. }) => Published::WrongLastSequence,
        // Certain not to be stored, or not certain: both are tried again, or read back.
        Err(PublishError::TimedOut | PublishError::Unavailable(_)) => Published::TimedOut,
        Err(error @ (PublishError::TooLarge(_) | PublishError::Refused(_))) => {
            tracing::error!(%error, "a decision was refused");
            Published::Refused
        }
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
async fn next_frames(frames: Option<&mut mpsc::Receiver<Vec<Input>>>) -> Vec<Input> {
    match frames {
        Some(frames) => match frames.recv().await {
            Some(inputs) => inputs,
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

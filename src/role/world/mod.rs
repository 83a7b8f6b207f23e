//! A world in one thread on virtual time: the ledger in memory, the roles' cores, and weather between them.
//!
//! In calm weather it is the replay: everything arrives at once and in order. In a storm it is the simulation: messages
//! are late, lost, doubled and out of order, processes die and come back. The cores are the ones of production, and so
//! is the order of each step: decide, publish, settle last.

mod member;
mod weather;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

pub use member::MemberId;
pub use weather::{Calm, Hop, Weather};

use member::{Event, Member, Place, Poll, Scheduled, Source, local};

use super::live::ACK_WAIT;
use crate::bus::memory::{Filter, MemoryLedger, Precedence, Queue};
use crate::engine::core::Unanswered;
use crate::engine::{Act, Acted, Ask, Core, Delivery, Done, Input, Intake, Lease, Published, Step, Work};
use crate::model::{OutcomeResult, Timestamp};

/// After it a request without an answer has timed out, as in the live runner.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Deliveries taken from a shared queue at once, as in the live runner.
const WORK_BATCH_MAX: usize = 256;
/// Deliveries a shared queue may have unsettled, as in the live runner.
const ACK_PENDING_MAX: usize = 4_096;

/// Makes the core of a member, anew with each start; the number counts its starts.
pub type MakeCore<'a> = Box<dyn Fn(u64) -> Box<dyn Core + 'a> + 'a>;

/// What the managed resource does when it is called: how the attempt ended, and what it said.
pub type Target<'a> = Box<dyn FnMut(Timestamp, &Act) -> (OutcomeResult, Arc<str>) + 'a>;

/// See the module.
pub struct World<'a, W> {
    now: Timestamp,
    weather: W,
    ledger: MemoryLedger,
    intake: Vec<(Timestamp, Arc<Intake>)>,
    intake_queues: BTreeMap<MemberId, Queue>,
    members: Vec<Member<'a>>,
    /// The next event on top.
    events: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
    target: Target<'a>,
}

impl<'a, W: Weather> World<'a, W> {
    /// An empty world.
    pub fn new(now: Timestamp, weather: W, target: Target<'a>) -> Self {
        Self {
            now,
            weather,
            ledger: MemoryLedger::default(),
            intake: Vec::new(),
            intake_queues: BTreeMap::new(),
            members: Vec::new(),
            events: BinaryHeap::new(),
            scheduled: 0,
            target,
        }
    }

    /// Adds a process; `queue` is the shared queue it takes work from, which is created with its first member.
    pub fn join(
        &mut self,
        queue: Option<(&str, Filter)>,
        takes_intake: Option<fn(&Intake) -> bool>,
        make: MakeCore<'a>,
    ) -> MemberId {
        let id = MemberId(self.members.len());
        let queue = queue.map(|(name, filter)| {
            let name: Arc<str> = name.into();
            self.ledger.create_consumer(&name, filter, Queue::new(ACK_WAIT, ACK_PENDING_MAX));
            name
        });
        if takes_intake.is_some() {
            self.intake_queues.insert(id, Queue::new(ACK_WAIT, ACK_PENDING_MAX));
        }
        let core = Some(make(0));
        self.members.push(Member {
            make,
            core,
            start: 0,
            skew_millis: 0,
            queue,
            takes_intake,
            fed: 0,
            caught_up: false,
            held: Vec::new(),
            tokens: BTreeMap::new(),
            last_token: 0,
            waiting: BTreeSet::new(),
            wake_at: None,
            scheduled: BTreeMap::new(),
        });
        self.poll(id);
        id
    }

    /// Lets the ledger answer as that server does.
    pub fn answer_by(&mut self, precedence: Precedence) {
        self.ledger.answer_by(precedence);
    }

    /// Sets a member's clock off.
    pub fn skew(&mut self, member: MemberId, millis: i64) {
        self.members[member.0].skew_millis = millis;
    }

    /// Gives a member something from outside at a time.
    pub fn give(&mut self, at: Timestamp, member: MemberId, input: Input) {
        let start = self.members[member.0].start;
        self.schedule_outside(at, Event::Give(member, start, Box::new(input)));
    }

    /// Puts something into the intake at a time.
    pub fn take_in(&mut self, at: Timestamp, intake: Intake) {
        self.schedule_outside(at, Event::Intake(Box::new(intake)));
    }

    /// Says which leases a member holds; lost where the member does not live.
    pub fn lease(&mut self, member: MemberId, leases: Vec<Lease>) {
        self.hand(member, Input::Leases(leases));
    }

    /// Ends a process where it stands: all it had in memory is gone.
    pub fn kill(&mut self, member: MemberId) {
        let member = &mut self.members[member.0];
        member.core = None;
        member.start += 1;
        member.tokens.clear();
        member.waiting.clear();
        member.scheduled.clear();
        member.wake_at = None;
        member.fed = 0;
        member.caught_up = false;
        member.held.clear();
    }

    /// Starts a process anew.
    pub fn restart(&mut self, id: MemberId) {
        let member = &mut self.members[id.0];
        member.core = Some((member.make)(member.start));
        self.poll(id);
    }

    /// A member's own time at a time of the world.
    pub fn local(&self, member: MemberId, at: Timestamp) -> Timestamp {
        local(at, self.members[member.0].skew_millis)
    }

    /// Whether a process lives.
    pub fn lives(&self, member: MemberId) -> bool {
        self.members[member.0].core.is_some()
    }

    /// Lets everything happen up to and including a time.
    pub fn run_until(&mut self, until: Timestamp) {
        loop {
            self.schedule_redeliveries();
            let Some(at) = self.next_event().filter(|at| *at <= until) else { break };
            self.now = self.now.max(at);
            if let Some(Reverse(next)) = self.events.pop() {
                self.happen(next.event);
            }
        }
        self.now = self.now.max(until);
    }

    /// When something happens next, if anything does.
    pub fn next_event(&self) -> Option<Timestamp> {
        self.events.peek().map(|Reverse(next)| next.place.at)
    }

    /// The time in this world.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The ledger.
    pub fn ledger(&self) -> &MemoryLedger {
        &self.ledger
    }

    /// Forgets the records up to a place that all members have read: for a world in which no process starts anew.
    pub fn forget(&mut self, told: u64) {
        let read = self.members.iter().map(|member| member.fed).min().unwrap_or(told);
        self.ledger.forget(self.now, read.min(told));
    }

    /// The weather.
    pub fn weather(&mut self) -> &mut W {
        &mut self.weather
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Give(member, start, input) => {
                // Outside does not know that a process was started anew; an answer is for the one that asked.
                let is_sample = matches!(*input, Input::Frame(_) | Input::Table(_));
                if is_sample && self.lives(member) && !self.members[member.0].caught_up {
                    self.members[member.0].held.push(*input);
                } else if is_sample || self.is_start(member, start) {
                    self.hand(member, *input);
                }
            }
            Event::Poll(member, start, poll) => {
                let now = self.now;
                let due = self.members[member.0].scheduled.get(&poll).is_some_and(|at| *at <= now);
                if self.is_start(member, start) && due {
                    self.members[member.0].scheduled.remove(&poll);
                    match poll {
                        Poll::Feed => self.feed(member),
                        Poll::Work => self.work(member),
                    }
                }
            }
            Event::Wake(id, start) => {
                let (now, member) = (self.now, &mut self.members[id.0]);
                if member.start == start && member.wake_at.is_some_and(|at| at <= now) {
                    member.wake_at = None;
                    let local = local(now, member.skew_millis);
                    let step = member.core.as_mut().map(|core| core.tick(local));
                    step.into_iter().for_each(|step| self.perform(id, step));
                }
            }
            Event::Arrive(member, start, emit, answer_lost) => {
                let result = self.ledger.publish(self.now, emit.topic, &emit.batch, emit.expected_last);
                (0..self.members.len()).for_each(|id| self.poll(MemberId(id)));
                if !answer_lost {
                    let delay = self.weather.delay(Hop::Answer);
                    self.schedule(delay, Event::Answer(member, start, emit.ticket, result));
                }
            }
            Event::Answer(member, start, ticket, result) => {
                if self.is_start(member, start) && self.members[member.0].waiting.remove(&ticket) {
                    self.hand(member, Input::Published { ticket, result });
                }
            }
            Event::Settle(member, source, done) => self.settle(member, source, &done),
            Event::Call(member, start, act) => self.call(member, start, &act),
            Event::Intake(intake) => {
                self.intake.push((self.now, Arc::new(*intake)));
                (0..self.members.len()).for_each(|id| self.poll(MemberId(id)));
            }
        }
    }

    fn hand(&mut self, id: MemberId, input: Input) {
        let member = &mut self.members[id.0];
        let local = local(self.now, member.skew_millis);
        if let Some(core) = member.core.as_mut() {
            let step = core.handle(local, input);
            self.perform(id, step);
        }
    }

    fn feed(&mut self, id: MemberId) {
        let records = self.ledger.read_from(self.members[id.0].fed + 1);
        if records.is_empty() {
            self.catch_up(id);
            return;
        }
        let taken = self.weather.take(records.len()).clamp(1, records.len());
        let more = taken < records.len();
        let records = records[..taken].to_vec();
        self.members[id.0].fed += taken as u64;
        let again = self.weather.is_repeated(Hop::Feed).then(|| records.clone());
        self.hand(id, Input::Ledger(records));
        again.into_iter().for_each(|again| self.hand(id, Input::Ledger(again)));
        if more {
            self.poll(id);
        } else {
            self.catch_up(id);
        }
    }

    fn catch_up(&mut self, id: MemberId) {
        if !std::mem::replace(&mut self.members[id.0].caught_up, true) {
            let held = std::mem::take(&mut self.members[id.0].held);
            held.into_iter().for_each(|input| self.hand(id, input));
            self.poll(id);
        }
    }

    fn work(&mut self, id: MemberId) {
        let mut deliveries = Vec::new();
        if let Some(queue) = self.members[id.0].queue.clone() {
            let max = self.weather.take(WORK_BATCH_MAX).clamp(1, WORK_BATCH_MAX);
            for (record, delivered) in self.ledger.pull(self.now, &queue, max) {
                let token = self.members[id.0].token(Source::Ledger(record.sequence));
                deliveries.push(Delivery { token, delivered, work: Work::Record(record) });
            }
        }
        let takes = self.members[id.0].takes_intake.filter(|_| self.members[id.0].caught_up);
        if let (Some(queue), Some(takes)) = (self.intake_queues.get_mut(&id), takes) {
            let intake = &self.intake;
            let at = |sequence: u64| intake.get(usize::try_from(sequence).ok()?.checked_sub(1)?);
            let matches = |sequence| at(sequence).is_some_and(|(_, intake)| takes(intake));
            for (sequence, delivered) in queue.pull(self.now, WORK_BATCH_MAX, intake.len() as u64, matches) {
                let Some((stored_at, intake)) = at(sequence) else { continue };
                let (stored_at, intake) = (*stored_at, Intake::clone(intake));
                let token = self.members[id.0].token(Source::Intake(sequence));
                deliveries.push(Delivery {
                    token,
                    delivered,
                    work: Work::Intake { sequence, stored_at, intake },
                });
            }
        }
        self.repeat_some(id, &mut deliveries);
        if !deliveries.is_empty() {
            self.weather.shuffle(&mut deliveries);
            self.hand(id, Input::Work(deliveries));
            self.poll(id);
        }
    }

    /// Deliveries that come again before they were settled: to settle them twice is harmless.
    fn repeat_some(&mut self, id: MemberId, deliveries: &mut Vec<Delivery>) {
        for place in 0..deliveries.len() {
            let source = self.members[id.0].tokens.get(&deliveries[place].token).copied();
            if let Some(source) = source.filter(|_| self.weather.is_repeated(Hop::Work)) {
                let again = Delivery {
                    token: self.members[id.0].token(source),
                    delivered: deliveries[place].delivered + 1,
                    work: deliveries[place].work.clone(),
                };
                deliveries.push(again);
            }
        }
    }

    /// Carries out a step in its order: publish, ask, settle.
    fn perform(&mut self, id: MemberId, step: Step) {
        let start = self.members[id.0].start;
        for emit in step.emit {
            self.members[id.0].waiting.insert(emit.ticket);
            let (lost, answer_lost) = (self.weather.is_lost(Hop::Publish), self.weather.is_lost(Hop::Answer));
            if lost || answer_lost {
                self.schedule(ANSWER_TIMEOUT, Event::Answer(id, start, emit.ticket, Published::TimedOut));
            }
            if !lost {
                let delay = self.weather.delay(Hop::Publish);
                let again = self.weather.is_repeated(Hop::Publish).then(|| emit.clone());
                self.schedule(delay, Event::Arrive(id, start, Box::new(emit), answer_lost));
                if let Some(again) = again {
                    let delay = delay + self.weather.delay(Hop::Publish);
                    self.schedule(delay, Event::Arrive(id, start, Box::new(again), true));
                }
            }
        }
        for ask in step.ask {
            self.answer(id, start, ask);
        }
        for (token, done) in step.done {
            // A settlement that is lost leaves the delivery out: it comes again.
            let source = self.members[id.0].tokens.remove(&token);
            if let Some(source) = source.filter(|_| !self.weather.is_lost(Hop::Settle)) {
                let delay = self.weather.delay(Hop::Settle);
                if self.weather.is_repeated(Hop::Settle) {
                    let delay = delay + self.weather.delay(Hop::Settle);
                    self.schedule(delay, Event::Settle(id, source, done.clone()));
                }
                self.schedule(delay, Event::Settle(id, source, done));
            }
        }
        if let Some(at) = step.wake_at {
            let member = &mut self.members[id.0];
            let world = local(at, -member.skew_millis);
            debug_assert!(world > self.now, "a core wants to be woken at {world}, and it is {}", self.now);
            let at = world.max(self.now + Duration::from_millis(1));
            if member.wake_at.is_none_or(|known| at < known) {
                member.wake_at = Some(at);
                self.schedule(at.saturating_since(self.now), Event::Wake(id, start));
            }
        }
    }

    fn answer(&mut self, id: MemberId, start: u64, ask: Ask) {
        match ask {
            Ask::ReadBack { ticket, topic, sequence } => {
                let lost = self.weather.is_lost(Hop::Answer);
                let delay = if lost { ANSWER_TIMEOUT } else { self.weather.delay(Hop::Answer) };
                let record = match sequence {
                    Some(sequence) => self.ledger.get(sequence),
                    None => self.ledger.last_on(topic),
                };
                let found = if lost { Err(Unanswered) } else { Ok(record.cloned()) };
                let input = Input::ReadBack { ticket, found };
                self.schedule(delay, Event::Give(id, start, Box::new(input)));
            }
            Ask::Act(act) => {
                let delay = self.weather.delay(Hop::Effect);
                self.schedule(delay, Event::Call(id, start, act));
            }
            // Tables are given by the scenario.
            Ask::Table { .. } => {}
        }
    }

    /// The call of the managed resource, as the actuator makes it: not by a dead process, not without the lease.
    fn call(&mut self, id: MemberId, start: u64, act: &Act) {
        if !self.is_start(id, start) {
            return;
        }
        let local = local(self.now, self.members[id.0].skew_millis);
        let mut outcome = act.outcome.clone();
        outcome.started_at = local;
        outcome.ended_at = local;
        if local >= act.not_after {
            outcome.output = "the lease had ended before the call: not started".into();
        } else {
            (outcome.result, outcome.output) = (self.target)(self.now, act);
        }
        let delay = self.weather.delay(Hop::Effect);
        let input = Input::Acted(Acted { attempt: act.attempt, outcome });
        self.schedule(delay, Event::Give(id, start, Box::new(input)));
    }

    fn settle(&mut self, member: MemberId, source: Source, done: &Done) {
        let now = self.now;
        match source {
            Source::Ledger(sequence) => {
                let queue = self.members[member.0].queue.clone();
                if let Some(queue) = queue.and_then(|name| self.ledger.queue(&name)) {
                    queue.settle(now, sequence, done);
                }
            }
            Source::Intake(sequence) => {
                if let Some(queue) = self.intake_queues.get_mut(&member) {
                    queue.settle(now, sequence, done);
                }
            }
        }
        self.poll(member);
    }

    /// Lets a member look at the feed and its queue, unless it is about to.
    fn poll(&mut self, id: MemberId) {
        let member = &mut self.members[id.0];
        if member.core.is_none() {
            return;
        }
        for (poll, hop) in [(Poll::Feed, Hop::Feed), (Poll::Work, Hop::Work)] {
            let delay = self.weather.delay(hop);
            self.look(id, poll, self.now + delay);
        }
    }

    fn look(&mut self, id: MemberId, poll: Poll, at: Timestamp) {
        let member = &mut self.members[id.0];
        if member.scheduled.get(&poll).is_none_or(|known| at < *known) {
            member.scheduled.insert(poll, at);
            let start = member.start;
            self.schedule(at.saturating_since(self.now), Event::Poll(id, start, poll));
        }
    }

    /// A queue delivers again by itself: whoever lives and takes from it has a look then.
    fn schedule_redeliveries(&mut self) {
        for id in 0..self.members.len() {
            if !self.lives(MemberId(id)) {
                continue;
            }
            let queue = self.members[id].queue.clone();
            let due = queue.and_then(|name| self.ledger.queue(&name)?.next_redelivery());
            let intake = self.intake_queues.get(&MemberId(id)).filter(|_| self.members[id].caught_up);
            let due_intake = intake.and_then(Queue::next_redelivery);
            if let Some(due) = [due, due_intake].into_iter().flatten().min() {
                self.look(MemberId(id), Poll::Work, due.max(self.now));
            }
        }
    }

    fn is_start(&self, member: MemberId, start: u64) -> bool {
        self.members[member.0].start == start && self.lives(member)
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.put(Place { at: self.now + after, inside: true, order: self.scheduled }, event);
    }

    fn schedule_outside(&mut self, at: Timestamp, event: Event) {
        self.put(Place { at: at.max(self.now), inside: false, order: self.scheduled }, event);
    }

    fn put(&mut self, place: Place, event: Event) {
        self.events.push(Reverse(Scheduled { place, event }));
        self.scheduled += 1;
    }
}

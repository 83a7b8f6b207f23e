//! What a core has published and not yet heard of, and the deliveries that wait for it: this is where *ack last* lives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Done, Emit, Published, Step, Ticket, Token, size};
use crate::model::{
    Admission, Basis, Batch, Entry, MessageId, Role, Timestamp, Topic,
    id::{Causal, Causes},
};

/// The first pause before a publish without an answer is sent again; the server's window drops the second copy.
const RETRY_FIRST: Duration = Duration::from_millis(50);
/// The longest such pause.
const RETRY_LONGEST: Duration = Duration::from_secs(2);

/// Publishes of one core that are under way.
#[derive(Debug)]
pub struct Outbox {
    role: Role,
    instance: Arc<str>,
    last_ticket: u64,
    waiting: BTreeMap<Ticket, Waiting>,
    /// Those that are to be sent again, and when.
    unanswered: BTreeSet<(Timestamp, Ticket)>,
    held: BTreeMap<Token, Held>,
}

/// A delivery that is held.
#[derive(Debug, Default)]
struct Held {
    /// How many publishes it waits for.
    waits: usize,
    /// The ledger refused one of them: whatever becomes of the others, it is not acknowledged.
    refused: bool,
}

#[derive(Debug)]
struct Waiting {
    emit: Emit,
    holds: Vec<Token>,
    attempts: u32,
}

/// What an answer means.
#[derive(Debug)]
pub enum Answer {
    /// In the ledger: ours, or for an unconditional publish an equal one.
    Stored {
        /// What was published.
        batch: Arc<Batch>,
        /// Its place.
        sequence: u64,
        /// The deliveries that wait for nothing else: to be acknowledged, unless more is to be done first.
        released: Vec<Token>,
    },
    /// A conditional decision that did not get in, or of which nobody can say whose it is: decide again on newer news.
    Stale {
        /// What was published.
        batch: Arc<Batch>,
        /// Where a message with this id stands, after a `duplicate`. *It* counts, and it may be somebody else's: ids
        /// name what a decision is about, not who took it or from what.
        stored: Option<u64>,
        /// The deliveries that are waiting for a decision again.
        released: Vec<Token>,
    },
    /// The ledger will never take it. What waited for an unconditional publish is put aside; a larger batch has been
    /// halved before, down to one entry.
    Refused {
        /// What was published.
        batch: Arc<Batch>,
        /// The deliveries of a conditional decision, which are waiting for a smaller one.
        released: Vec<Token>,
    },
    /// No answer: it is sent again by itself, unless it is [forgotten](Outbox::forget).
    Unknown,
    /// Nothing follows from it: it belongs to nothing under way, or what was refused has been sent again in halves.
    Nothing,
}

impl Outbox {
    /// Empty.
    pub fn new(role: Role, instance: Arc<str>) -> Self {
        let (waiting, unanswered, held) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        Self { role, instance, last_ticket: 0, waiting, unanswered, held }
    }

    /// A ticket for a question that is no publish.
    pub fn ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        Ticket(self.last_ticket)
    }

    /// Who the core is.
    pub fn instance(&self) -> &Arc<str> {
        &self.instance
    }

    /// Whether a delivery waits for a publish.
    pub fn holds(&self, token: Token) -> bool {
        self.held.contains_key(&token)
    }

    /// Whether nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// What was published and is not known to be in the ledger, in the order it was published.
    pub fn under_way(&self) -> impl Iterator<Item = &Arc<Batch>> {
        self.waiting.values().map(|waiting| &waiting.emit.batch)
    }

    /// Publishes entries of one decision, in messages that are not too large, and holds the deliveries until all of them
    /// are in the ledger. A conditional decision must fit into one message.
    pub fn publish(&mut self, step: &mut Step, decision: Decision<'_>) -> Vec<Ticket> {
        let Decision { now, topic, entries, basis, expected_last, holds } = decision;
        let fitting = size::fitting(&entries);
        if !entries.is_empty() && fitting == entries.len() {
            let batch = self.batch(now, basis, entries);
            return vec![self.send(step, topic, batch, expected_last, holds)];
        }
        let mut tickets = Vec::new();
        let mut rest = entries.into_iter();
        while !rest.as_slice().is_empty() {
            let fitting = size::fitting(rest.as_slice());
            // Each in a list of its own length: they are kept for as long as the ledger is.
            let entries: Vec<Entry> = rest.by_ref().take(fitting).collect();
            let batch = self.batch(now, basis, entries);
            tickets.push(self.send(step, topic, batch, expected_last, holds));
        }
        tickets
    }

    fn batch(&self, now: Timestamp, basis: Basis, entries: Vec<Entry>) -> Batch {
        Batch {
            id: message_id(&entries),
            role: self.role,
            instance: Arc::clone(&self.instance),
            at: now,
            basis,
            trace: entries.first().map_or(0, Entry::trace),
            entries,
        }
    }

    fn send(
        &mut self,
        step: &mut Step,
        topic: Topic,
        batch: Batch,
        expected_last: Option<u64>,
        holds: &[Token],
    ) -> Ticket {
        let ticket = self.ticket();
        let emit = Emit { ticket, topic, batch: Arc::new(batch), expected_last };
        step.emit.push(emit.clone());
        for token in holds {
            self.held.entry(*token).or_default().waits += 1;
        }
        self.waiting.insert(ticket, Waiting { emit, holds: holds.to_vec(), attempts: 1 });
        ticket
    }

    /// Settles deliveries for which nothing (more) has to be published.
    pub fn ack(&self, step: &mut Step, tokens: impl IntoIterator<Item = Token>) {
        step.done.extend(
            tokens.into_iter().filter(|token| !self.held.contains_key(token)).map(|token| (token, Done::Ack)),
        );
    }

    /// Takes in an answer to an unconditional publish: what waited for it is acknowledged.
    pub fn published_and_acked(
        &mut self,
        now: Timestamp,
        step: &mut Step,
        ticket: Ticket,
        result: Published,
    ) {
        if let Answer::Stored { released, .. } = self.published(now, step, ticket, result) {
            self.ack(step, released);
        }
    }

    /// Takes in an answer.
    pub fn published(
        &mut self,
        now: Timestamp,
        step: &mut Step,
        ticket: Ticket,
        result: Published,
    ) -> Answer {
        let Some(waiting) = self.waiting.get_mut(&ticket) else { return Answer::Nothing };
        let batch = Arc::clone(&waiting.emit.batch);
        let is_conditional = waiting.emit.expected_last.is_some();
        match result {
            Published::Stored { sequence, duplicate: true } if is_conditional => {
                Answer::Stale { batch, stored: Some(sequence), released: self.forget(ticket) }
            }
            Published::Stored { sequence, .. } => {
                Answer::Stored { batch, sequence, released: self.finish(step, ticket) }
            }
            Published::WrongLastSequence => {
                Answer::Stale { batch, stored: None, released: self.forget(ticket) }
            }
            Published::Refused if is_conditional => Answer::Refused { batch, released: self.forget(ticket) },
            Published::Refused if batch.entries.len() > 1 => {
                self.halve(step, ticket);
                Answer::Nothing
            }
            // For good: nothing that is sent again will be taken, so whoever waits for it must not wait for ever.
            Published::Refused => {
                for token in waiting.holds.clone() {
                    self.held.entry(token).or_default().refused = true;
                }
                Answer::Refused { batch, released: self.finish(step, ticket) }
            }
            Published::TimedOut => {
                let pause = RETRY_FIRST.saturating_mul(1 << waiting.attempts.min(6)).min(RETRY_LONGEST);
                self.unanswered.insert((now + pause, ticket));
                step.wake_no_later_than(now + pause);
                Answer::Unknown
            }
        }
    }

    /// Sends a batch that was refused again, in halves: it may have been too large, or one entry of it is to blame.
    fn halve(&mut self, step: &mut Step, ticket: Ticket) {
        let Some(Waiting { emit, holds, .. }) = self.waiting.remove(&ticket) else { return };
        let Batch { at, basis, entries, .. } = emit.batch.as_ref();
        let (first, second) = entries.split_at(entries.len() / 2);
        for half in [first, second] {
            let batch = self.batch(*at, *basis, half.to_vec());
            self.send(step, emit.topic, batch, None, &holds);
        }
        // The halves hold what it held.
        for token in &holds {
            if let Some(held) = self.held.get_mut(token) {
                held.waits -= 1;
            }
        }
    }

    /// Gives up a publish without an answer; its fate is found out by other means.
    pub fn forget(&mut self, ticket: Ticket) -> Vec<Token> {
        self.release(ticket).into_iter().map(|(token, _)| token).collect()
    }

    /// A publish is over: returns what waits for nothing else, and puts aside what waited for one that was refused.
    fn finish(&mut self, step: &mut Step, ticket: Ticket) -> Vec<Token> {
        let (refused, released): (Vec<_>, Vec<_>) =
            self.release(ticket).into_iter().partition(|(_, held)| held.refused);
        let dead = || Done::Dead("the ledger refused what was decided about it".into());
        step.done.extend(refused.into_iter().map(|(token, _)| (token, dead())));
        released.into_iter().map(|(token, _)| token).collect()
    }

    fn release(&mut self, ticket: Ticket) -> Vec<(Token, Held)> {
        let Some(waiting) = self.waiting.remove(&ticket) else { return Vec::new() };
        let mut released = Vec::new();
        for token in waiting.holds {
            if let Some(held) = self.held.get_mut(&token) {
                held.waits -= 1;
                if held.waits == 0
                    && let Some(held) = self.held.remove(&token)
                {
                    released.push((token, held));
                }
            }
        }
        released
    }

    /// Sends again what got no answer for long enough.
    pub fn tick(&mut self, now: Timestamp, step: &mut Step) {
        while let Some((at, ticket)) = self.unanswered.first().copied() {
            // What was answered or forgotten meanwhile is not sent again.
            if let Some(waiting) = self.waiting.get_mut(&ticket) {
                if at > now {
                    step.wake_no_later_than(at);
                    return;
                }
                waiting.attempts += 1;
                step.emit.push(waiting.emit.clone());
            }
            self.unanswered.pop_first();
        }
    }
}

/// What is to be published.
#[derive(Debug)]
pub struct Decision<'a> {
    /// When it was decided.
    pub now: Timestamp,
    /// On which topic.
    pub topic: Topic,
    /// What was decided.
    pub entries: Vec<Entry>,
    /// From what.
    pub basis: Basis,
    /// The last sequence on the topic that it was decided on.
    pub expected_last: Option<u64>,
    /// The deliveries that are done when it is in the ledger.
    pub holds: &'a [Token],
}

/// The id of a message: a function of what its entries are about, and of nothing that two deciders could differ in.
pub fn message_id(entries: &[Entry]) -> MessageId {
    MessageId::of(&[&Entries(entries)])
}

/// What each entry is about. The word before it says how long that is, so that no two lists are the same bytes.
struct Entries<'a>(&'a [Entry]);

impl Causal for Entries<'_> {
    fn feed(&self, causes: &mut Causes) {
        let mut about = |parts: &[&dyn Causal]| parts.iter().for_each(|part| part.feed(causes));
        for entry in self.0 {
            match entry {
                Entry::Violation(violation) => {
                    about(&[&"violation", &violation.episode, &u64::from(violation.rev)]);
                }
                Entry::Incident(incident) => {
                    let (rev, phase) = (u64::from(incident.rev), incident.phase.as_str());
                    about(&[&"incident", &incident.id, &rev, &phase]);
                }
                Entry::Analysis(analysis) => about(&[&"analysis", &analysis.id]),
                Entry::Plan(plan) => about(&[&"plan", &plan.id]),
                Entry::Admission(Admission::Intent(intent)) => about(&[&"intent", &intent.attempt]),
                Entry::Admission(Admission::Release(release)) => about(&[&"release", &release.plan]),
                Entry::Admission(Admission::Halt { request, .. }) => about(&[&"halt", request]),
                Entry::Admission(Admission::Resume { request, .. }) => about(&[&"resume", request]),
                Entry::Admission(Admission::Charter { generation }) => about(&[&"charter", &generation.0]),
                Entry::Outcome(outcome) => about(&[&"outcome", &outcome.attempt]),
                Entry::Verdict(verdict) => about(&[&"verdict", &verdict.plan]),
                Entry::Report(report) => about(&[&"report", &report.id]),
                Entry::Change(change) => about(&[&"change", &change.id]),
                Entry::Applied { generation, hash } => {
                    about(&[&"applied", &generation.0, &hash.as_ref()]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Reason, Report, ReportId};

    fn report(name: &str, length: usize) -> Entry {
        Entry::Report(Arc::new(Report {
            id: ReportId::of(&[&name]),
            reason: Reason::Limit,
            text: "x".repeat(length).into(),
            incident: None,
            plan: None,
            at: Timestamp::default(),
        }))
    }

    struct Bench {
        outbox: Outbox,
        step: Step,
    }

    impl Bench {
        fn new() -> Self {
            Self { outbox: Outbox::new(Role::Monitor, "one".into()), step: Step::default() }
        }

        fn publish(&mut self, entries: Vec<Entry>, holds: &[Token]) -> Vec<Ticket> {
            let (now, topic) = (Timestamp::default(), Topic::Reports(Role::Monitor));
            let decision =
                Decision { now, topic, entries, basis: Basis::default(), expected_last: None, holds };
            self.outbox.publish(&mut self.step, decision)
        }

        fn answer(&mut self, ticket: Ticket, result: Published) {
            self.outbox.published_and_acked(Timestamp::default(), &mut self.step, ticket, result);
        }

        fn sent(&mut self) -> Vec<Emit> {
            std::mem::take(&mut self.step.emit)
        }
    }

    const STORED: Published = Published::Stored { sequence: 1, duplicate: false };

    #[test]
    fn a_delivery_of_which_one_publish_was_refused_is_never_acknowledged() {
        for refused_first in [true, false] {
            let mut bench = Bench::new();
            let token = Token(7);
            let mut tickets = bench.publish(vec![report("a", 1)], &[token]);
            tickets.extend(bench.publish(vec![report("b", 1)], &[token]));
            let results =
                if refused_first { [Published::Refused, STORED] } else { [STORED, Published::Refused] };
            for (ticket, result) in tickets.into_iter().zip(results) {
                bench.answer(ticket, result);
            }
            assert!(matches!(bench.step.done.as_slice(), [(Token(7), Done::Dead(_))]), "{:?}", bench.step);
            assert!(bench.outbox.is_empty() && !bench.outbox.holds(token));
        }
    }

    #[test]
    fn a_batch_is_cut_by_bytes_and_a_single_entry_is_never_left_out() {
        let mut bench = Bench::new();
        let large = size::BATCH_BYTES_MAX / 2;
        let entries = vec![report("a", large), report("b", large), report("c", 3 * large), report("d", 1)];
        bench.publish(entries, &[]);
        let sizes: Vec<usize> = bench.sent().iter().map(|emit| emit.batch.entries.len()).collect();
        assert_eq!(sizes, [1, 1, 1, 1]);
        bench.publish((0..300).map(|n: u64| report(&n.to_string(), 10)).collect(), &[]);
        let sizes: Vec<usize> = bench.sent().iter().map(|emit| emit.batch.entries.len()).collect();
        assert_eq!(sizes, [256, 44]);
    }

    #[test]
    fn a_refused_batch_is_halved_until_only_the_entry_to_blame_is_left_out() {
        let mut bench = Bench::new();
        let entries = (0..8).map(|n: u64| report(&n.to_string(), if n == 5 { 2_000 } else { 1 })).collect();
        bench.publish(entries, &[Token(1)]);
        let (mut stored, mut refused) = (0, 0);
        loop {
            let sent = bench.sent();
            if sent.is_empty() {
                break;
            }
            for emit in sent {
                let is_bad = emit.batch.entries.iter().any(|entry| size::estimate(entry) > 2_000);
                stored += if is_bad { 0 } else { emit.batch.entries.len() };
                refused += usize::from(is_bad && emit.batch.entries.len() == 1);
                bench.answer(emit.ticket, if is_bad { Published::Refused } else { STORED });
            }
        }
        assert_eq!((stored, refused), (7, 1));
        assert!(matches!(bench.step.done.as_slice(), [(Token(1), Done::Dead(_))]), "{:?}", bench.step.done);
    }
}

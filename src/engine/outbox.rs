//! What a core has published and not yet heard of, and the deliveries that wait for it: this is where *ack last* lives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Done, Emit, Published, Step, Ticket, Token};
use crate::model::{
    Admission, Basis, Batch, ENTRIES_PER_BATCH_MAX, Entry, MessageId, Role, Timestamp, Topic, id::Causal,
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
    /// How many publishes each held delivery waits for.
    held: BTreeMap<Token, usize>,
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
    /// No answer: it is sent again by itself, unless it is [forgotten](Outbox::forget).
    Unknown {
        /// What was published.
        batch: Arc<Batch>,
    },
    /// The answer belongs to nothing under way.
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

    /// Publishes entries of one decision, in messages of at most [`ENTRIES_PER_BATCH_MAX`], and holds the deliveries
    /// until all of them are in the ledger. A conditional decision must fit into one message.
    pub fn publish(&mut self, step: &mut Step, decision: Decision<'_>) -> Vec<Ticket> {
        let Decision { now, topic, entries, basis, expected_last, holds } = decision;
        let mut tickets = Vec::new();
        let mut rest = entries;
        while !rest.is_empty() {
            let tail = rest.split_off(rest.len().min(ENTRIES_PER_BATCH_MAX));
            let batch = Arc::new(Batch {
                id: message_id(&rest),
                role: self.role,
                instance: Arc::clone(&self.instance),
                at: now,
                basis,
                trace: rest.first().map_or(0, trace_of),
                entries: rest,
            });
            rest = tail;
            let ticket = self.ticket();
            let emit = Emit { ticket, topic, batch, expected_last };
            step.emit.push(emit.clone());
            for token in holds {
                *self.held.entry(*token).or_default() += 1;
            }
            self.waiting.insert(ticket, Waiting { emit, holds: holds.to_vec(), attempts: 1 });
            tickets.push(ticket);
        }
        tickets
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
        match result {
            Published::Stored { sequence, duplicate: true } if waiting.emit.expected_last.is_some() => {
                Answer::Stale { batch, stored: Some(sequence), released: self.forget(ticket) }
            }
            Published::Stored { sequence, .. } => {
                Answer::Stored { batch, sequence, released: self.forget(ticket) }
            }
            Published::WrongLastSequence => {
                Answer::Stale { batch, stored: None, released: self.forget(ticket) }
            }
            // For good: nothing that is sent again will be taken, so whoever waits for it must not wait for ever.
            Published::Refused => {
                for token in self.forget(ticket) {
                    step.done.push((token, Done::Dead("the ledger refused the decision".into())));
                }
                Answer::Unknown { batch }
            }
            Published::TimedOut => {
                let pause = RETRY_FIRST.saturating_mul(1 << waiting.attempts.min(6)).min(RETRY_LONGEST);
                self.unanswered.insert((now + pause, ticket));
                step.wake_no_later_than(now + pause);
                Answer::Unknown { batch }
            }
        }
    }

    /// Gives up a publish without an answer; its fate is found out by other means.
    pub fn forget(&mut self, ticket: Ticket) -> Vec<Token> {
        let Some(waiting) = self.waiting.remove(&ticket) else { return Vec::new() };
        let mut released = Vec::new();
        for token in waiting.holds {
            if let Some(count) = self.held.get_mut(&token) {
                *count -= 1;
                if *count == 0 {
                    self.held.remove(&token);
                    released.push(token);
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
    let mut parts: Vec<u128> = Vec::with_capacity(entries.len());
    for entry in entries {
        let part = match entry {
            Entry::Violation(violation) => {
                MessageId::of(&[&"violation", &violation.episode, &u64::from(violation.rev)])
            }
            Entry::Incident(incident) => MessageId::of(&[
                &"incident",
                &incident.id,
                &u64::from(incident.rev),
                &incident.phase.as_str(),
            ]),
            Entry::Analysis(analysis) => MessageId::of(&[&"analysis", &analysis.id]),
            Entry::Plan(plan) => MessageId::of(&[&"plan", &plan.id]),
            Entry::Admission(Admission::Intent(intent)) => MessageId::of(&[&"intent", &intent.attempt]),
            Entry::Admission(Admission::Release(release)) => MessageId::of(&[&"release", &release.plan]),
            Entry::Admission(Admission::Halt { request, .. }) => MessageId::of(&[&"halt", request]),
            Entry::Admission(Admission::Resume { request, .. }) => MessageId::of(&[&"resume", request]),
            Entry::Admission(Admission::Charter { generation }) => {
                MessageId::of(&[&"charter", &generation.0])
            }
            Entry::Outcome(outcome) => MessageId::of(&[&"outcome", &outcome.attempt]),
            Entry::Verdict(verdict) => MessageId::of(&[&"verdict", &verdict.plan]),
            Entry::Report(report) => MessageId::of(&[&"report", &report.id]),
            Entry::Change(change) => MessageId::of(&[&"change", &change.id]),
            Entry::Applied { generation, hash } => {
                MessageId::of(&[&"applied", &generation.0, &hash.as_ref()])
            }
        };
        parts.push(part.as_u128());
    }
    MessageId::of(&[&Parts(parts)])
}

struct Parts(Vec<u128>);

impl Causal for Parts {
    fn feed(&self, hasher: &mut blake3::Hasher) {
        for part in &self.0 {
            hasher.update(&part.to_be_bytes());
        }
    }
}

/// The trace that an entry belongs to: its violation's episode, or its incident.
fn trace_of(entry: &Entry) -> u128 {
    match entry {
        Entry::Violation(violation) => violation.episode.as_u128(),
        Entry::Incident(incident) => incident.id.as_u128(),
        Entry::Analysis(analysis) => analysis.incident.as_u128(),
        Entry::Plan(plan) => plan.incident.as_u128(),
        Entry::Admission(Admission::Intent(intent)) => intent.incident.as_u128(),
        Entry::Admission(Admission::Release(release)) => release.incident.as_u128(),
        Entry::Outcome(outcome) => outcome.incident.as_u128(),
        Entry::Verdict(verdict) => verdict.incident.as_u128(),
        Entry::Report(report) => report.incident.map_or(0, crate::model::IncidentId::as_u128),
        Entry::Admission(Admission::Halt { .. } | Admission::Resume { .. } | Admission::Charter { .. })
        | Entry::Change(_)
        | Entry::Applied { .. } => 0,
    }
}

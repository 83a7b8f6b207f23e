//! Deadlines in event time: data, not timers. Each belongs to a producer, because it is on that producer's clock that its
//! time comes when no sample brings it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::producers::{ProducerId, Producers};
use crate::model::{PlanId, Timestamp};

/// How long the samples of one moment are waited for (DESIGN §5): the parts of a scrape, and the sample that a deadline
/// would be wrong without.
pub(super) const JOIN_WAIT: Duration = Duration::from_millis(50);

/// What a deadline is for. A target that has no business any more at its time ignores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Target {
    /// The `for`, `keep_firing_for` or last sample of a violation, by its place.
    Live(u32),
    /// The last sample of all series of a rule, by its place.
    Rule(u32),
    /// The end of the time for a verdict.
    Verification(PlanId),
}

/// Deadlines by producer, soonest first.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    /// By the producer's index.
    queues: Vec<BTreeSet<(Timestamp, Target)>>,
    /// A bound on the earliest wall time that something is due at; `None` where nothing waits.
    next: Option<Timestamp>,
}

impl Deadlines {
    /// Adds one; the same one twice is one.
    pub(super) fn add(&mut self, producers: &Producers, producer: ProducerId, at: Timestamp, target: Target) {
        if self.queues.len() <= producer.index() {
            self.queues.resize_with(producer.index() + 1, BTreeSet::new);
        }
        if self.queues[producer.index()].insert((at, target)) {
            let due = wall_of(producers, producer, at);
            self.next = Some(self.next.map_or(due, |next| next.min(due)));
        }
    }

    /// Takes out what is due at `now`, in the order of event time. What is added while that is carried out is due in a
    /// later instant: how the input of one instant is cut must not matter.
    pub(super) fn due(&mut self, producers: &Producers, now: Timestamp) -> Vec<(Timestamp, Target)> {
        if self.next.is_none_or(|next| next > now) {
            // What was heard in the instant before has changed the lags.
            self.next = self.earliest(producers);
            if self.next.is_none_or(|next| next > now) {
                return Vec::new();
            }
        }
        let mut due = Vec::new();
        for (index, queue) in self.queues.iter_mut().enumerate() {
            let producer = ProducerId(u32::try_from(index).unwrap_or(u32::MAX));
            while let Some((at, target)) = queue.first().copied() {
                if wall_of(producers, producer, at) > now {
                    break;
                }
                queue.pop_first();
                due.push((at, target));
            }
        }
        due.sort_unstable();
        due.dedup();
        self.next = self.earliest(producers);
        due
    }

    /// When to look next. What was heard in this instant counts when it is over: a deadline that it brings forward comes
    /// at its time, whether or not there is another reason to look in between.
    pub(super) fn next(&self, producers: &Producers) -> Option<Timestamp> {
        let coming = producers.coming_lags().filter_map(|(id, lag)| {
            let (at, _) = self.queues.get(id.index())?.first()?;
            Some(wall_after(*at, lag))
        });
        self.next.into_iter().chain(coming).min()
    }

    /// Forgets all of a kind: places of rules and violations change with the configuration.
    pub(super) fn retain(&mut self, keep: impl Fn(Target) -> bool) {
        for queue in &mut self.queues {
            queue.retain(|(_, target)| keep(*target));
        }
    }

    fn earliest(&self, producers: &Producers) -> Option<Timestamp> {
        self.queues
            .iter()
            .zip(0_u32..)
            .filter_map(|(queue, index)| {
                queue.first().map(|(at, _)| wall_of(producers, ProducerId(index), *at))
            })
            .min()
    }
}

/// When, on our clock, it is safe to say that a producer's samples up to `at` are here.
pub(super) fn wall_of(producers: &Producers, producer: ProducerId, at: Timestamp) -> Timestamp {
    wall_after(at, producers.lag(producer))
}

fn wall_after(at: Timestamp, lag: i64) -> Timestamp {
    Timestamp::from_millis(at.as_millis().saturating_add(lag.saturating_add(JOIN_WAIT_MS)))
}

/// How far a producer's time has come when nothing is heard: the opposite of [`wall_of`].
pub(super) fn event_time(producers: &Producers, producer: ProducerId, now: Timestamp) -> Timestamp {
    let wait = producers.lag(producer).saturating_add(JOIN_WAIT_MS);
    Timestamp::from_millis(now.as_millis().saturating_sub(wait))
}

#[expect(clippy::cast_possible_truncation, reason = "fifty fits")]
const JOIN_WAIT_MS: i64 = JOIN_WAIT.as_millis() as i64;

//! The course of one episode: pending, firing, resolved, as Prometheus' alerting rules define it. Pure: what was
//! evaluated and when comes in, what it means goes out.

use std::time::Duration;

use crate::model::Timestamp;

/// A rule's durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timing {
    /// `for`.
    pub(super) hold: Duration,
    /// `keep_firing_for`.
    pub(super) keep_firing: Duration,
}

/// Where an episode stands, resolved ones not among them: those are over and forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The expression holds, `for` has not passed.
    Pending,
    /// The violation fires.
    Firing {
        /// When the expression ceased to hold, while `keep_firing_for` keeps it firing.
        kept_since: Option<Timestamp>,
    },
}

/// The course of one episode.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Course {
    /// When the expression began to hold.
    pub since: Timestamp,
    /// Where it stands.
    pub stage: Stage,
    /// The newest revision that was decided: 0 while pending.
    pub rev: u32,
    /// The last value with which the expression held.
    pub value: f64,
    /// When it was last evaluated. Never goes back.
    pub evaluated_at: Timestamp,
}

/// What an evaluation has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing.
    Stays,
    /// It fires from now on.
    Fires,
    /// It was pending and holds no longer.
    Ends,
    /// It fired and holds no longer.
    Resolves,
}

impl Course {
    /// The expression has begun to hold.
    pub(super) fn begin(at: Timestamp, value: f64, timing: Timing) -> (Self, Turn) {
        let mut course = Self { since: at, stage: Stage::Pending, rev: 0, value, evaluated_at: at };
        let turn = course.observe(at, Some(value), timing);
        (course, turn)
    }

    /// An episode that fires already, as the ledger has it.
    pub(super) fn firing(since: Timestamp, rev: u32, at: Timestamp, value: f64) -> Self {
        Self { since, stage: Stage::Firing { kept_since: None }, rev, value, evaluated_at: at }
    }

    /// The expression was evaluated; `held` is its value where it holds.
    pub(super) fn observe(&mut self, at: Timestamp, held: Option<f64>, timing: Timing) -> Turn {
        self.evaluated_at = self.evaluated_at.max(at);
        if let Some(value) = held {
            self.value = value;
        }
        match (self.stage, held) {
            (Stage::Pending, Some(_)) if at.saturating_since(self.since) >= timing.hold => {
                self.stage = Stage::Firing { kept_since: None };
                self.rev += 1;
                Turn::Fires
            }
            (Stage::Pending, Some(_)) => Turn::Stays,
            (Stage::Pending, None) => Turn::Ends,
            (Stage::Firing { .. }, Some(_)) => {
                self.stage = Stage::Firing { kept_since: None };
                Turn::Stays
            }
            (Stage::Firing { kept_since }, None) => {
                let since = kept_since.unwrap_or(at);
                if at.saturating_since(since) < timing.keep_firing {
                    self.stage = Stage::Firing { kept_since: Some(since) };
                    return Turn::Stays;
                }
                self.rev += 1;
                Turn::Resolves
            }
        }
    }

    /// When it has to be evaluated again even if no sample comes. An evaluation that failed at that time is not
    /// repeated: the next sample decides.
    pub(super) fn deadline(&self, timing: Timing) -> Option<Timestamp> {
        let deadline = match self.stage {
            Stage::Pending => Some(self.since + timing.hold),
            Stage::Firing { kept_since } => kept_since.map(|since| since + timing.keep_firing),
        };
        deadline.filter(|at| *at > self.evaluated_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(at: i64) -> Timestamp {
        Timestamp::from_millis(at * 1_000)
    }

    fn run(hold: u64, keep_firing: u64, steps: &[(i64, bool, Turn)]) {
        let timing =
            Timing { hold: Duration::from_secs(hold), keep_firing: Duration::from_secs(keep_firing) };
        let mut course = None;
        for (at, holds, expected) in steps {
            let turn = match &mut course {
                None => {
                    let (begun, turn) = Course::begin(secs(*at), 1.0, timing);
                    course = Some(begun);
                    turn
                }
                Some(course) => course.observe(secs(*at), holds.then_some(2.0), timing),
            };
            assert_eq!(turn, *expected, "at {at}");
        }
    }

    #[test]
    fn without_for_it_fires_at_once() {
        run(0, 0, &[(0, true, Turn::Fires), (1, true, Turn::Stays), (2, false, Turn::Resolves)]);
    }

    #[test]
    fn it_fires_when_for_has_passed_not_before() {
        run(10, 0, &[(0, true, Turn::Stays), (9, true, Turn::Stays), (10, true, Turn::Fires)]);
        run(10, 0, &[(0, true, Turn::Stays), (10, false, Turn::Ends)]);
    }

    #[test]
    fn keep_firing_counts_from_the_first_evaluation_without_result() {
        run(
            0,
            10,
            &[
                (0, true, Turn::Fires),
                (5, false, Turn::Stays),
                (14, false, Turn::Stays),
                (14, true, Turn::Stays),
                (15, false, Turn::Stays),
                (24, false, Turn::Stays),
                (25, false, Turn::Resolves),
            ],
        );
    }

    #[test]
    fn the_deadline_is_the_next_time_that_silence_changes_something() {
        let timing = Timing { hold: Duration::from_secs(10), keep_firing: Duration::from_secs(5) };
        let (mut course, _) = Course::begin(secs(0), 1.0, timing);
        assert_eq!(course.deadline(timing), Some(secs(10)));
        course.observe(secs(10), Some(1.0), timing);
        assert_eq!(course.deadline(timing), None);
        course.observe(secs(11), None, timing);
        assert_eq!(course.deadline(timing), Some(secs(16)));
    }
}

//! Rules evaluated on every sample whose value changes with time alone: a window moves on although no sample comes. At
//! the points of their group's interval they are evaluated for the series that were silent there, so that at each point
//! they have the value that Prometheus has.

use std::sync::Arc;
use std::time::Duration;

use super::deadlines::JOIN_WAIT;
use super::evaluation::{Arrived, Evaluation};
use super::producers::Producers;
use super::rules::Path;
use crate::model::Timestamp;

/// A group that is further behind goes on from there: its series were evaluated at their samples.
const POINTS_PER_STEP_MAX: i64 = 1_000;

/// A group's rules that change with time.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pulse {
    pub(super) group: Arc<str>,
    pub(super) interval: Duration,
    /// Places of the rules, in the group's order.
    pub(super) rules: Vec<u32>,
    /// The next point; `None` before the first instant.
    pub(super) next: Option<Timestamp>,
}

impl Pulse {
    fn step(&self) -> i64 {
        i64::try_from(self.interval.as_millis()).unwrap_or(i64::MAX).max(1)
    }

    /// The first point behind a time.
    fn point_behind(&self, at: Timestamp) -> Timestamp {
        let over = at.as_millis().rem_euclid(self.step());
        Timestamp::from_millis(at.as_millis().saturating_add(self.step() - over))
    }
}

impl Evaluation {
    /// Evaluates at the points that every producer's time has passed.
    pub(super) fn run_pulses(&mut self, producers: &Producers, now: Timestamp) {
        let passed = now - wait(producers);
        let (mut has_passed, mut is_left) = (false, false);
        for place in 0..self.pulses.len() {
            let since = self.observed_since.unwrap_or(now);
            let pulse = &mut self.pulses[place];
            let mut next = pulse.next.unwrap_or_else(|| pulse.point_behind(since));
            let behind = passed.as_millis().saturating_sub(next.as_millis()) / pulse.step();
            if behind > POINTS_PER_STEP_MAX {
                next = pulse.point_behind(passed - pulse.interval);
            }
            let (interval, rules) = (pulse.interval, pulse.rules.clone());
            while next <= passed {
                has_passed = true;
                for rule in &rules {
                    is_left |= self.evaluate_silent(producers, *rule, next);
                }
                next = next + interval;
            }
            self.pulses[place].next = Some(next);
        }
        if has_passed {
            self.pulses_rest = !is_left;
        }
    }

    /// When the next point is passed, unless nothing can change before the next sample.
    pub(super) fn next_pulse(&self, producers: &Producers) -> Option<Timestamp> {
        if self.pulses_rest {
            return None;
        }
        // What was heard in this instant counts when it is over, and may bring the point forward.
        let wait = wait(producers).min(wait_after(producers.longest_coming_lag()));
        self.pulses.iter().filter_map(|pulse| Some(pulse.next? + wait)).min()
    }

    /// Evaluates a rule at a point for what had no sample there, and says whether anything is left that can change. What
    /// has newer samples already was evaluated at those.
    fn evaluate_silent(&mut self, producers: &Producers, rule: u32, point: Timestamp) -> bool {
        let known = &self.rules[rule as usize];
        let after = point - known.window;
        match known.path {
            Path::Joined => {
                let state = &known.state;
                let has_found = !state.violations.is_empty() || !state.recorded.is_empty();
                let is_left = has_found || state.read_at > after || known.expr.reads().next().is_none();
                if is_left && state.evaluated_at < point {
                    self.evaluate_joined(producers, rule, point);
                }
                is_left
            }
            Path::Separable => {
                let series = known.expr.reads().flat_map(|read| self.store.select(read.selector));
                let mut places: Vec<u32> = series.filter_map(|id| self.index.find(id)).collect();
                places.sort_unstable();
                places.dedup();
                let mut is_left = false;
                for place in places {
                    let Some(newest) = self.newest(place).filter(|at| *at > after) else { continue };
                    is_left = true;
                    if newest < point {
                        self.evaluate_silent_one(producers, (rule, place), (newest, point));
                    }
                }
                is_left
            }
            Path::Threshold { .. } | Path::Grid { .. } => false,
        }
    }

    fn evaluate_silent_one(
        &mut self,
        producers: &Producers,
        (rule, place): (u32, u32),
        (newest, point): (Timestamp, Timestamp),
    ) {
        let Some(binding_at) = self.index.binding(place, rule) else { return };
        let violation = self.index.bindings[binding_at].violation;
        if self.lives.get(violation).is_some_and(|live| live.course.evaluated_at >= point) {
            return;
        }
        self.counters.evaluations += 1;
        let held = self.value_of(rule, place, point);
        if held.is_some() || violation != super::index::NONE {
            let from = self.index.entries[place as usize].producer;
            let arrived = Arrived { producers, from, bucket: 0, now: self.now, scrape: None };
            self.observe(arrived, (binding_at, place), (newest, point), held);
        }
    }
}

/// How long after a point every producer's samples up to there are in.
fn wait(producers: &Producers) -> Duration {
    wait_after(producers.longest_lag())
}

fn wait_after(lag: i64) -> Duration {
    Duration::from_millis(u64::try_from(lag).unwrap_or(0)) + JOIN_WAIT
}

//! Rules that read several series: evaluated for all of them at once.

use std::time::Duration;

use super::deadlines::{Target, event_time};
use super::evaluation::{Evaluation, just_before};
use super::live::{Beginning, Source, earliest};
use super::producers::Producers;
use crate::engine::promql::{Element, Scope, Value};
use crate::model::{Gives, Labels, Timestamp};

impl Evaluation {
    /// Evaluates a rule because samples came in; what was due before comes before.
    pub(super) fn evaluate_joined(&mut self, producers: &Producers, rule: u32, at: Timestamp) {
        if rule as usize >= self.rules.len() {
            return;
        }
        // Where the rule was evaluated later already, the samples are seen from there.
        let at = at.max(self.rules[rule as usize].state.evaluated_at);
        self.catch_up(producers, rule, just_before(at));
        self.evaluate_all(producers, rule, at);
        let known = &mut self.rules[rule as usize];
        let expires_at = known.state.read_at.min(at) + known.window;
        // Later, where the evaluation waits for more to be known.
        known.state.expires_at = known.state.expires_at.max(Some(expires_at));
        self.await_expiry(producers, rule);
    }

    /// Evaluates a rule at each of its own deadlines and those of its violations, up to and including `until`.
    pub(super) fn catch_up(&mut self, producers: &Producers, rule: u32, until: Timestamp) {
        loop {
            let known = &self.rules[rule as usize];
            let of_violations = known
                .state
                .violations
                .values()
                .filter_map(|place| self.lives.get(*place)?.course.deadline(known.timing))
                .min();
            let next = earliest(of_violations, known.state.expires_at);
            let Some(at) = next.filter(|next| *next <= until) else { return };
            if known.state.expires_at.is_some_and(|expires_at| expires_at <= at) {
                self.rules[rule as usize].state.expires_at = None;
            }
            self.evaluate_all(producers, rule, at);
        }
    }

    /// The time of a rule's last sample came on the clock of its producer.
    pub(super) fn rule_due(&mut self, producers: &Producers, rule: u32, now: Timestamp) {
        let Some(known) = self.rules.get_mut(rule as usize) else { return };
        known.state.queued = None;
        let until = event_time(producers, known.state.producer, now);
        self.catch_up(producers, rule, until);
        self.await_expiry(producers, rule);
    }

    /// Waits for the time when all that was read is out of the window, where that can change anything.
    pub(super) fn await_expiry(&mut self, producers: &Producers, rule: u32) {
        let known = &mut self.rules[rule as usize];
        let state = &mut known.state;
        let has_found = !state.violations.is_empty() || !state.recorded.is_empty();
        let matters = known.needs_observation || has_found;
        let Some(at) = state.expires_at.filter(|at| matters && *at < Timestamp::MAX) else { return };
        if state.queued.is_none_or(|queued| at < queued) {
            state.queued = Some(at);
            self.deadlines.add(producers, state.producer, at, Target::Rule(rule));
        }
    }

    /// Evaluates a rule for all series.
    pub(super) fn evaluate_all(&mut self, producers: &Producers, rule: u32, at: Timestamp) {
        self.counters.evaluations += 1;
        self.round += 1;
        let known = &mut self.rules[rule as usize];
        known.state.evaluated_at = known.state.evaluated_at.max(at);
        let gives = known.spec.gives;
        let value = known.expr.eval(&self.store, at, Scope::All);
        let elements = match value {
            Ok(_) if !self.is_observed(rule, at) => return self.await_observation(rule, at),
            Ok(Value::Vector(elements)) => elements,
            Ok(Value::Scalar(value)) => vec![Element { labels: Labels::empty(), value }],
            Ok(Value::Text(_)) => return self.skip(rule, at, "its value is a text"),
            Err(error) => return self.skip(rule, at, &error.to_string()),
        };
        if gives == Gives::Samples {
            return self.record(producers, rule, elements, at);
        }
        if !self.recognise(rule, &elements, at) {
            return self.skip(rule, at, "two elements have the labels of one violation");
        }
        for Element { labels, value } in elements {
            self.observe_element(producers, rule, labels, value, at);
        }
        self.observe_absentees(producers, rule, at);
    }

    fn observe_element(
        &mut self,
        producers: &Producers,
        rule: u32,
        element: Labels,
        value: f64,
        at: Timestamp,
    ) {
        let known = &self.rules[rule as usize];
        let (timing, producer) = (known.timing, known.state.producer);
        let place = known.state.by_element.get(&element).copied();
        let contradicted = place.and_then(|place| self.lives.get(place)?.contradicted);
        if let Some(place) = place.filter(|_| contradicted.is_none_or(|over_at| over_at >= at)) {
            let Some(live) = self.lives.get_mut(place) else { return };
            live.seen = self.round;
            live.producer = producer;
            let turn = live.course.observe(at, Some(value), timing);
            self.turn(producers, place, turn, at);
            return;
        }
        if let Some(place) = place {
            // The ledger says that the episode is over: this is another one.
            if let Some(live) = self.lives.get(place) {
                self.episodes.disown(live.episode);
            }
            self.end(place);
        }
        let (source, read_at) = (Source::Element, at);
        self.begin(producers, Beginning { rule, source, element, value, at, read_at, producer });
    }

    /// Violations whose element is not in the value any more.
    fn observe_absentees(&mut self, producers: &Producers, rule: u32, at: Timestamp) {
        let known = &self.rules[rule as usize];
        let (timing, serial) = (known.timing, self.round);
        let absent = known.state.violations.iter();
        let is_absent = |place: u32| self.lives.get(place).is_some_and(|live| live.seen != serial);
        let mut absent: Vec<(Labels, u32)> = absent
            .filter(|(_, place)| is_absent(**place))
            .map(|(labels, place)| (labels.clone(), *place))
            .collect();
        absent.sort_unstable();
        for (_, place) in absent {
            let Some(live) = self.lives.get_mut(place) else { continue };
            let turn = live.course.observe(at, None, timing);
            self.turn(producers, place, turn, at);
        }
    }

    /// An evaluation that failed says nothing: violations stay as they are, as in Prometheus.
    pub(super) fn skip(&mut self, rule: u32, at: Timestamp, cause: &str) {
        self.counters.evaluations_failed += 1;
        self.tell_failure(rule, at, cause);
        self.pass_over(rule, at);
    }

    /// Too little is known to say that there are no samples: violations stay as they are until more is.
    fn await_observation(&mut self, rule: u32, at: Timestamp) {
        let known = &mut self.rules[rule as usize];
        let complete_at = self.observed_since.map(|since| since + known.window);
        known.state.expires_at = complete_at.filter(|complete_at| *complete_at > at);
        self.pass_over(rule, at);
    }

    fn pass_over(&mut self, rule: u32, at: Timestamp) {
        let places: Vec<u32> = self.rules[rule as usize].state.violations.values().copied().collect();
        for place in places {
            if let Some(live) = self.lives.get_mut(place) {
                live.course.evaluated_at = live.course.evaluated_at.max(at);
            }
        }
    }

    /// Whether a rule that can hold without samples may be believed at `at`: it has to be known that there were none.
    fn is_observed(&self, rule: u32, at: Timestamp) -> bool {
        let known = &self.rules[rule as usize];
        let complete_at = self.observed_since.map(|since| since + known.window);
        !known.needs_observation || complete_at.is_some_and(|complete_at| at >= complete_at)
    }

    /// The longest interval between the two newest samples of the series that a violation was read from. Only within the
    /// rule's window: what is older is there or not as memory was needed.
    pub(super) fn sample_interval(&mut self, rule: u32, source: Source, at: Timestamp) -> Duration {
        let known = &self.rules[rule as usize];
        let after = at - known.window;
        let between = |id| match self.store.samples(id, after, at) {
            [.., (before, _), (last, _)] => last.saturating_since(*before),
            [] | [_] => Duration::ZERO,
        };
        match source {
            Source::Series(place) => between(self.index.entries[place as usize].id),
            Source::Gone => Duration::ZERO,
            Source::Element => {
                if known.state.interval.0 == self.round {
                    return known.state.interval.1;
                }
                let ids = known.expr.reads().flat_map(|read| self.store.select(read.selector));
                let longest = ids.map(between).max().unwrap_or(Duration::ZERO);
                self.rules[rule as usize].state.interval = (self.round, longest);
                longest
            }
        }
    }
}

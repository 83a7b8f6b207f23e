//! A new configuration: rules that are the same keep their state, those that are gone end their episodes.

use std::collections::BTreeMap;
use std::time::Duration;

use super::deadlines::{Target, event_time};
use super::evaluation::Evaluation;
use super::grid::Grid;
use super::index::NONE;
use super::live::Source;
use super::phases::Stage;
use super::producers::Producers;
use super::pulse::Pulse;
use super::rules::{Compiled, GridGroup, Path, Rule, RuleKey, compile, place_of};
use super::tables::Tables;
use crate::engine::Configuration;
use crate::model::{Phase, Reason, Timestamp};

impl Evaluation {
    /// Evaluates by other rules from now on.
    pub(super) fn configure(&mut self, producers: &Producers, configuration: &Configuration, now: Timestamp) {
        let Compiled { mut rules, groups, pulses, unusable } = compile(configuration);
        let place_of_key: BTreeMap<RuleKey, u32> =
            rules.iter().zip(0..).map(|(rule, place)| (rule.key.clone(), place)).collect();
        let moved: Vec<Option<u32>> =
            self.rules.iter().map(|old| place_of_key.get(&old.key).copied()).collect();
        self.end_what_is_gone(producers, &moved, now);
        for rule in (0..place_of(self.rules.len())).filter(|rule| moved[*rule as usize].is_none()) {
            self.end_recorded(producers, rule);
        }
        for (old, place) in std::mem::take(&mut self.rules).into_iter().zip(&moved) {
            if let Some(place) = place {
                let state = &mut rules[*place as usize].state;
                *state = old.state;
                (state.queued, state.wanted) = (None, (0, Timestamp::MIN));
            }
        }
        let to = |old: u32| moved.get(old as usize).copied().flatten();
        for (_, live) in self.lives.iter_mut() {
            // What was under a rule that is gone has ended above.
            live.rule = to(live.rule).unwrap_or(NONE);
        }
        self.joins.renumber(to);
        self.deadlines.retain(|target| !matches!(target, Target::Rule(_)));
        self.install(rules, groups);
        self.install_pulses(pulses);
        for rule in (0..place_of(self.rules.len())).filter(|rule| !moved.contains(&Some(*rule))) {
            self.look_back(rule);
        }
        self.await_silence(producers, now);
        for rule in 0..place_of(self.rules.len()) {
            self.await_expiry(producers, rule);
        }
        for rule in unusable {
            let text = format!("rule {} cannot be evaluated: {}", rule.name, rule.cause);
            self.drafts.report(Reason::Refused, &rule.name.to_string(), text, now);
        }
    }

    /// Groups that are the same go on where they are.
    fn install_pulses(&mut self, pulses: Vec<Pulse>) {
        let known = std::mem::take(&mut self.pulses);
        for mut pulse in pulses {
            let same = |known: &&Pulse| known.group == pulse.group && known.interval == pulse.interval;
            pulse.next = known.iter().find(same).and_then(|known| known.next);
            self.pulses.push(pulse);
        }
    }

    /// Puts rules in place and finds which series they read.
    fn install(&mut self, rules: Vec<Rule>, groups: Vec<GridGroup>) {
        self.paths = rules.iter().map(|rule| rule.path).collect();
        self.rules = rules;
        let known = std::mem::take(&mut self.grids);
        for group in groups {
            let same = |grid: &&Grid| grid.group.name == group.name && grid.group.interval == group.interval;
            let mut grid = known.iter().find(same).cloned().unwrap_or_else(|| Grid::new(group.clone()));
            grid.group = group;
            self.grids.push(grid);
        }
        self.store.unwatch_all();
        for rule in &self.rules {
            self.store.watch(&rule.expr);
        }
        self.rebind();
    }

    /// Finds the rules of all series anew, after series were forgotten or rules have changed.
    fn rebind(&mut self) {
        self.index.rebuild(&self.store, &self.rules);
        let mut orphaned = Vec::new();
        for (place, live) in self.lives.iter() {
            let Source::Series(series) = live.source else { continue };
            match self.index.binding(series, live.rule).filter(|_| self.index.is_used(series)) {
                Some(binding) => self.index.bindings[binding].violation = place,
                None => orphaned.push(place),
            }
        }
        for place in orphaned {
            if let Some(live) = self.lives.get_mut(place) {
                live.source = Source::Gone;
            }
        }
    }

    /// Forgets series without samples, up to where every producer's time has come.
    pub(super) fn sweep(&mut self, producers: &Producers, tables: &mut Tables, now: Timestamp) {
        let lag = u64::try_from(producers.longest_lag()).unwrap_or(0);
        if self.store.forget_idle(now - Duration::from_millis(lag)) > 0 {
            self.rebind();
            tables.forget(|place| self.index.is_used(place));
        }
    }

    /// Rules that can hold without samples have to know when the last one was.
    fn look_back(&mut self, rule: u32) {
        let known = &self.rules[rule as usize];
        if !known.needs_observation {
            return;
        }
        let series = known.expr.reads().flat_map(|read| self.store.select(read.selector));
        let newest = series.filter_map(|id| {
            let place = self.index.find(id)?;
            Some((self.newest(place)?, self.index.entries[place as usize].producer))
        });
        if let Some((read_at, producer)) = newest.max() {
            let state = &mut self.rules[rule as usize].state;
            (state.read_at, state.producer) = (read_at, producer);
        }
    }

    /// Rules that can hold without samples wait for the end of their window, from the last sample or from when we began
    /// to look.
    pub(super) fn await_silence(&mut self, producers: &Producers, now: Timestamp) {
        let Some(since) = self.observed_since else { return };
        for rule in 0..place_of(self.rules.len()) {
            let known = &mut self.rules[rule as usize];
            let waits = known.needs_observation && matches!(known.path, Path::Joined);
            if waits && known.state.expires_at.is_none() && known.state.evaluated_at == Timestamp::MIN {
                let begins = known.state.read_at.max(since) + known.window;
                // A rule that is new has nothing to say about the past.
                known.state.expires_at = Some(begins.max(event_time(producers, known.state.producer, now)));
                self.await_expiry(producers, rule);
            }
        }
    }

    fn end_what_is_gone(&mut self, producers: &Producers, moved: &[Option<u32>], now: Timestamp) {
        let is_gone = |rule: u32| moved.get(rule as usize).copied().flatten().is_none();
        let gone: Vec<u32> =
            self.lives.iter().filter(|(_, live)| is_gone(live.rule)).map(|(place, _)| place).collect();
        for place in gone {
            let Some(live) = self.lives.get_mut(place) else { continue };
            match live.course.stage {
                Stage::Pending => self.end(place),
                Stage::Firing { .. } => {
                    let at = event_time(producers, live.producer, now).max(live.course.evaluated_at);
                    live.course.rev += 1;
                    self.draft(place, Phase::Resolved, at);
                    self.end(place);
                }
            }
        }
    }
}

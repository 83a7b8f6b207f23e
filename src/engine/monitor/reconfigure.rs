//! A new configuration, and what is left over from before a restart: rules that are the same keep their state, those that
//! are gone end their episodes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::deadlines::{JOIN_WAIT, Target, event_time};
use super::episodes::Orphan;
use super::evaluation::Evaluation;
use super::grid::Grid;
use super::index::NONE;
use super::live::{Source, earliest};
use super::phases::{Course, Stage};
use super::producers::{ProducerId, Producers};
use super::rules::{Compiled, GridGroup, Path, Rule, RuleKey, compile, place_of};
use super::tables::Tables;
use crate::engine::Configuration;
use crate::model::{Phase, Reason, RuleName, Timestamp, Violation};

/// How long episodes of rules that are not there any more are left alone: the ledger may be half read.
const ORPHAN_PATIENCE: Duration = Duration::from_secs(5);

impl Evaluation {
    /// Evaluates by other rules from now on.
    pub(super) fn configure(&mut self, producers: &Producers, configuration: &Configuration, now: Timestamp) {
        let Compiled { mut rules, groups, unusable } = compile(configuration);
        let place_of_key: BTreeMap<RuleKey, u32> =
            rules.iter().zip(0..).map(|(rule, place)| (rule.key.clone(), place)).collect();
        let moved: Vec<Option<u32>> =
            self.rules.iter().map(|old| place_of_key.get(&old.key).copied()).collect();
        self.end_what_is_gone(producers, &moved, now);
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

    /// Takes in what the ledger says of an episode.
    pub(super) fn learn(&mut self, violation: &Arc<Violation>, stored_at: Timestamp) {
        if self.episodes.learn(violation, stored_at) {
            for rule in self.rules.iter().filter(|rule| rule.spec.name == violation.rule) {
                let place = rule.state.violations.get(&violation.labels);
                if let Some(live) = place.and_then(|place| self.lives.get_mut(*place))
                    && live.episode == violation.episode
                {
                    live.contradicted = Some(violation.at);
                }
            }
        }
        if self.episodes.has_orphans() {
            self.orphans_at = Some(Timestamp::MIN);
        }
    }

    /// Ends the episodes of the ledger that no rule has found again, once that is known for sure.
    pub(super) fn settle_orphans(&mut self, producers: &Producers, now: Timestamp) {
        let (Some(since), Some(at)) = (self.observed_since, self.orphans_at) else { return };
        if at > now {
            return;
        }
        self.orphans_at = None;
        let mut rules: BTreeMap<&RuleName, Vec<u32>> = BTreeMap::new();
        for (rule, place) in self.rules.iter().zip(0..) {
            rules.entry(&rule.spec.name).or_default().push(place);
        }
        let mut found_again = Vec::new();
        let mut over = Vec::new();
        for Orphan { violation: orphan, stored_at } in self.episodes.orphans() {
            let places = rules.get(&orphan.rule).map_or(&[][..], Vec::as_slice);
            let known = || places.iter().filter_map(|place| self.rules.get(*place as usize));
            let live = known().find_map(|rule| rule.state.violations.get(&orphan.labels));
            let found = live.and_then(|place| Some((*place, self.lives.get(*place)?)));
            if found.is_some_and(|(_, live)| live.episode == orphan.episode) {
                // It takes the same course once more, and has not come to where the ledger is.
                self.orphans_at = earliest(self.orphans_at, Some(now + ORPHAN_PATIENCE));
                continue;
            }
            if let Some((place, _)) = found.filter(|(_, live)| live.course.stage == Stage::Pending) {
                found_again.push((place, Arc::clone(orphan)));
                continue;
            }
            let window = known().map(|rule| rule.window).max();
            let complete_at = since + window.map_or(ORPHAN_PATIENCE, |window| window + JOIN_WAIT);
            // After a checkpoint the ledger is ahead of the samples.
            let known_at = complete_at.max(*stored_at + ORPHAN_PATIENCE);
            let is_known = known_at <= now && (self.heard || window.is_none());
            if is_known && self.is_configured {
                over.push(Arc::clone(orphan));
            } else if known_at > now {
                self.orphans_at = earliest(self.orphans_at, Some(known_at));
            }
        }
        for (place, orphan) in found_again {
            self.adopt(place, &orphan);
        }
        for orphan in over {
            let at = event_time(producers, ProducerId::NOBODY, now).max(orphan.at);
            let resolved = Violation { rev: orphan.rev + 1, phase: Phase::Resolved, at, ..(*orphan).clone() };
            self.episodes.decided(&resolved);
            self.drafts.violations.push(resolved);
        }
    }

    fn adopt(&mut self, place: u32, orphan: &Violation) {
        let Some(live) = self.lives.get_mut(place) else { return };
        let at = live.course.evaluated_at;
        if let Some(found) = self.episodes.claim(&orphan.rule, &orphan.labels, at) {
            live.course = Course::firing(found.since, found.rev, at, live.course.value);
            live.episode = found.episode;
        }
    }
}

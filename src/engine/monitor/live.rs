//! Violations that are pending or firing: how they begin, turn and end.

use std::sync::Arc;

use super::deadlines::Target;
use super::evaluation::Evaluation;
use super::index::NONE;
use super::intake::episode_of;
use super::phases::{Course, Stage, Turn};
use super::producers::{ProducerId, Producers};
use super::rules::{Path, place_of, severity_of};
use super::texts::Found;
use crate::model::{EpisodeId, Labels, Phase, Reason, RuleName, Timestamp, Violation};

/// Violations pending or firing at once under one rule. A rule above that tells apart what nobody can look at.
pub(super) const VIOLATIONS_PER_RULE_MAX: usize = 10_000;

/// What a violation's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// One series, by its place: evaluated for it alone.
    Series(u32),
    /// An element of the expression's value over all series.
    Element,
    /// One series that has been forgotten since: it has no value until it comes back.
    Gone,
}

/// A violation that is pending or firing.
#[derive(Clone, Debug)]
pub(super) struct Live {
    pub(super) rule: u32,
    pub(super) source: Source,
    /// The labels of the expression's element; the metric's name may be among them.
    pub(super) element: Labels,
    /// The violation's own labels.
    pub(super) labels: Labels,
    pub(super) episode: EpisodeId,
    pub(super) course: Course,
    /// When the last sample of its series is out of the window.
    pub(super) expires_at: Option<Timestamp>,
    /// On whose clock its deadlines are.
    pub(super) producer: ProducerId,
    /// Its entry in the deadlines.
    pub(super) queued: Option<Timestamp>,
    /// The evaluation over all series that last had its element.
    pub(super) seen: u64,
    /// The ledger says that the episode was over then: we have missed how, and it ends with the next evaluation.
    pub(super) contradicted: Option<Timestamp>,
    /// Since when we have seen it hold ourselves, where it was taken for an episode of the ledger that began before.
    pub(super) held_since: Option<Timestamp>,
}

/// Violations by place.
#[derive(Debug, Default)]
pub(super) struct Lives {
    slots: Vec<Option<Live>>,
    free: Vec<u32>,
}

impl Lives {
    pub(super) fn get(&self, place: u32) -> Option<&Live> {
        self.slots.get(place as usize).and_then(Option::as_ref)
    }

    pub(super) fn get_mut(&mut self, place: u32) -> Option<&mut Live> {
        self.slots.get_mut(place as usize).and_then(Option::as_mut)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Live)> {
        (0..).zip(&self.slots).filter_map(|(place, live)| Some((place, live.as_ref()?)))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Live)> {
        (0..).zip(&mut self.slots).filter_map(|(place, live)| Some((place, live.as_mut()?)))
    }

    pub(super) fn insert(&mut self, live: Live) -> u32 {
        if let Some(place) = self.free.pop() {
            self.slots[place as usize] = Some(live);
            return place;
        }
        self.slots.push(Some(live));
        place_of(self.slots.len() - 1)
    }

    pub(super) fn remove(&mut self, place: u32) -> Option<Live> {
        let live = self.slots.get_mut(place as usize)?.take()?;
        self.free.push(place);
        Some(live)
    }
}

/// An element with which a rule has begun to hold.
#[derive(Clone, Debug)]
pub(super) struct Beginning {
    pub(super) rule: u32,
    pub(super) source: Source,
    pub(super) element: Labels,
    pub(super) value: f64,
    pub(super) at: Timestamp,
    /// The newest sample that was read; from there the element expires.
    pub(super) read_at: Timestamp,
    pub(super) producer: ProducerId,
}

impl Evaluation {
    /// Begins a violation, or finds an episode of the ledger again.
    pub(super) fn begin(&mut self, producers: &Producers, beginning: Beginning) {
        let Beginning { rule, at, value, .. } = beginning;
        let known = &self.rules[rule as usize];
        if known.state.violations.len() >= VIOLATIONS_PER_RULE_MAX {
            return self.refuse_more(rule, at);
        }
        let labels = match known.texts.labels(self.found(&beginning.element, value, at)) {
            Ok(labels) => labels,
            Err(error) => return self.refuse(rule, at, &error.to_string()),
        };
        if let Some(place) = known.state.violations.get(&labels).copied() {
            return match self.lives.get(place) {
                Some(live) if live.source == Source::Gone => self.begin_again(producers, place, &beginning),
                Some(_) | None => self.refuse(rule, at, &format!("two elements have the labels {labels}")),
            };
        }
        let (mut course, mut turn) = Course::begin(at, value, known.timing);
        self.end_what_did_not_hold(rule, &labels, beginning.source, at);
        let known = &self.rules[rule as usize];
        let mut episode = episode_of(&self.cell, &known.spec.name, &labels, at);
        let (mut contradicted, mut held_since) = (None, None);
        if let Some(found) = self.episodes.claim(&known.spec.name, &labels, at) {
            (course, turn) = (Course::firing(found.violation.since, found.rev, at, value), Turn::Stays);
            (episode, contradicted) = (found.violation.episode, found.over_at);
            held_since = Some(at).filter(|_| contradicted.is_none());
        }
        let Beginning { source, element, read_at, producer, .. } = beginning;
        let expires_at = match source {
            Source::Series(_) => Some(read_at + known.window),
            Source::Element | Source::Gone => None,
        };
        let place = self.lives.insert(Live {
            rule,
            source,
            element,
            labels,
            episode,
            course,
            expires_at,
            producer,
            queued: None,
            seen: self.round,
            contradicted,
            held_since,
        });
        self.attach(place);
        self.turn(producers, place, turn, at);
    }

    /// The ledger says that the episode of a violation was over at `over_at`. Where we have seen it hold from later on, the
    /// ledger was half read when the two were taken for one: this is another episode, and has been since then.
    pub(super) fn contradict(&mut self, producers: &Producers, place: u32, over_at: Timestamp) {
        let Some(live) = self.lives.get_mut(place) else { return };
        live.contradicted = Some(over_at);
        let holds = live.course.stage == Stage::Firing { kept_since: None };
        let Some(since) = live.held_since.filter(|since| holds && *since > over_at) else { return };
        let rule = &self.rules[live.rule as usize];
        let (timing, evaluated_at, value) = (rule.timing, live.course.evaluated_at, live.course.value);
        self.episodes.disown(live.episode);
        (live.held_since, live.contradicted) = (None, None);
        live.episode = episode_of(&self.cell, &rule.spec.name, &live.labels, since);
        let (course, mut turn) = Course::begin(since, value, timing);
        live.course = course;
        let mut at = since;
        if turn == Turn::Stays && since + timing.hold <= evaluated_at {
            at = since + timing.hold;
            turn = live.course.observe(at, Some(value), timing);
        }
        live.course.evaluated_at = evaluated_at;
        self.turn(producers, place, turn, at);
    }

    /// A series that was forgotten while its violation was kept firing has come back.
    fn begin_again(&mut self, producers: &Producers, place: u32, beginning: &Beginning) {
        let known = &self.rules[beginning.rule as usize];
        let Some(live) = self.lives.get_mut(place) else { return };
        live.source = beginning.source;
        live.producer = beginning.producer;
        live.expires_at = Some(beginning.read_at + known.window);
        let turn = live.course.observe(beginning.at, Some(beginning.value), known.timing);
        self.attach(place);
        self.turn(producers, place, turn, beginning.at);
    }

    /// Lets a violation be found: by its labels, and by its series or its element.
    pub(super) fn attach(&mut self, place: u32) {
        let Some(live) = self.lives.get(place) else { return };
        let state = &mut self.rules[live.rule as usize].state;
        state.violations.insert(live.labels.clone(), place);
        match live.source {
            Source::Series(series) => {
                if let Some(binding) = self.index.binding(series, live.rule) {
                    self.index.bindings[binding].violation = place;
                }
            }
            Source::Element => {
                state.by_element.insert(live.element.clone(), place);
            }
            Source::Gone => {}
        }
    }

    /// Carries out what an evaluation at `at` has changed.
    pub(super) fn turn(&mut self, producers: &Producers, place: u32, turn: Turn, at: Timestamp) {
        match turn {
            Turn::Stays => self.schedule(producers, place),
            Turn::Fires => {
                self.draft(place, Phase::Firing, at);
                self.schedule(producers, place);
            }
            Turn::Ends => self.end(place),
            Turn::Resolves => {
                self.draft(place, Phase::Resolved, at);
                self.end(place);
            }
        }
    }

    pub(super) fn found<'a>(&'a self, element: &'a Labels, value: f64, at: Timestamp) -> Found<'a> {
        Found { element, value, at, store: &self.store }
    }

    /// Forgets a violation.
    pub(super) fn end(&mut self, place: u32) {
        let Some(live) = self.lives.remove(place) else { return };
        if let Some(rule) = self.rules.get_mut(live.rule as usize) {
            rule.state.violations.remove(&live.labels);
            rule.state.by_element.remove(&live.element);
        }
        let Source::Series(series) = live.source else { return };
        if let Some(binding) = self.index.binding(series, live.rule) {
            self.index.bindings[binding].violation = NONE;
        }
    }

    /// Writes down a revision of an episode, to be published at the end of the step.
    pub(super) fn draft(&mut self, place: u32, phase: Phase, at: Timestamp) {
        let Some(live) = self.lives.get(place) else { return };
        let (source, course) = (live.source, live.course);
        let rule_place = live.rule;
        let sample_interval = self.sample_interval(rule_place, source, at);
        let Some(live) = self.lives.get(place) else { return };
        let rule = &self.rules[rule_place as usize];
        let violation = Violation {
            episode: live.episode,
            rev: course.rev,
            rule: rule.spec.name.clone(),
            severity: severity_of(&live.labels),
            phase,
            labels: live.labels.clone(),
            annotations: rule.texts.annotations(self.found(&live.element, course.value, at)),
            since: course.since,
            at,
            value: course.value,
            sample_interval,
        };
        self.episodes.decided(&violation);
        self.drafts.violations.push(Arc::new(violation));
    }

    /// Makes sure that the next deadline of a violation is waited for. Rules on a grid have none of their own.
    pub(super) fn schedule(&mut self, producers: &Producers, place: u32) {
        let Some(live) = self.lives.get_mut(place) else { return };
        let rule = &self.rules[live.rule as usize];
        if matches!(rule.path, Path::Grid { .. }) {
            return;
        }
        let next = earliest(live.course.deadline(rule.timing), live.expires_at);
        let Some(next) = next.filter(|next| *next < Timestamp::MAX) else { return };
        if live.queued.is_none_or(|queued| next < queued) {
            live.queued = Some(next);
            self.deadlines.add(producers, live.producer, next, Target::Live(place));
        }
    }

    fn refuse_more(&mut self, rule: u32, at: Timestamp) {
        self.counters.violations_refused += 1;
        let known = &mut self.rules[rule as usize];
        if !std::mem::replace(&mut known.state.told_limit, true) {
            let text = format!(
                "rule {} has {VIOLATIONS_PER_RULE_MAX} violations; more are not told apart",
                known.spec.name
            );
            self.drafts.report(Reason::Limit, &known.spec.name.to_string(), text, at);
        }
    }

    fn refuse(&mut self, rule: u32, at: Timestamp, cause: &str) {
        self.counters.violations_refused += 1;
        self.tell_failure(rule, at, cause);
    }

    pub(super) fn tell_failure(&mut self, rule: u32, at: Timestamp, cause: &str) {
        let known = &mut self.rules[rule as usize];
        if !std::mem::replace(&mut known.state.told_failure, true) {
            let text = format!("rule {} cannot be evaluated: {cause}", known.spec.name);
            self.drafts.report(Reason::Refused, &known.spec.name.to_string(), text, at);
        }
    }
}

/// What `why` shows of a violation that is pending or firing.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveViolation<'a> {
    /// The rule.
    pub rule: &'a RuleName,
    /// Its labels.
    pub labels: &'a Labels,
    /// Its episode.
    pub episode: EpisodeId,
    /// Whether it fires.
    pub phase: Phase,
    /// Where it stands.
    pub course: Course,
}

impl Evaluation {
    /// All violations that are pending or firing, in the order of rules and labels.
    pub(super) fn live(&self) -> impl Iterator<Item = LiveViolation<'_>> {
        self.rules.iter().flat_map(|rule| {
            rule.state.sorted().into_iter().filter_map(|place| {
                let live = self.lives.get(place)?;
                let phase = match live.course.stage {
                    Stage::Pending => Phase::Pending,
                    Stage::Firing { .. } => Phase::Firing,
                };
                Some(LiveViolation {
                    rule: &rule.spec.name,
                    labels: &live.labels,
                    episode: live.episode,
                    phase,
                    course: live.course,
                })
            })
        })
    }
}

/// The earlier of two deadlines.
pub(super) fn earliest(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

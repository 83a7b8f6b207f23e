//! Violations that are pending or firing: how they begin, turn and end.

use super::deadlines::Target;
use super::evaluation::Evaluation;
use super::index::NONE;
use super::intake::episode_of;
use super::phases::{Course, Stage, Turn};
use super::producers::{ProducerId, Producers};
use super::rules::{Path, place_of, severity_of};
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
            place
        } else {
            self.slots.push(Some(live));
            place_of(self.slots.len() - 1)
        }
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
    pub(super) fn begin(&mut self, producers: &Producers, beginning: Beginning) -> Option<u32> {
        if let Some(place) = self.begin_again(producers, &beginning) {
            return Some(place);
        }
        let Beginning { rule, source, element, value, at, read_at, producer } = beginning;
        let known = &self.rules[rule as usize];
        if known.state.violations.len() >= VIOLATIONS_PER_RULE_MAX {
            self.counters.violations_refused += 1;
            self.tell_limit(rule, at);
            return None;
        }
        let labels = match known.violation_labels(&element, value) {
            Ok(labels) if !known.state.violations.contains_key(&labels) => labels,
            Ok(labels) => {
                self.counters.violations_refused += 1;
                self.tell_failure(rule, at, &format!("two elements have the labels {labels}"));
                return None;
            }
            Err(error) => {
                self.counters.violations_refused += 1;
                self.tell_failure(rule, at, &error.to_string());
                return None;
            }
        };
        let known = &self.rules[rule as usize];
        let (course, turn, episode) = if let Some(found) = self.episodes.claim(&known.spec.name, &labels, at)
        {
            (Course::firing(found.since, found.rev, at, value), Turn::Stays, found.episode)
        } else {
            let (course, turn) = Course::begin(at, value, known.timing);
            (course, turn, episode_of(&self.cell, &known.spec.name, &labels, at))
        };
        let expires_at = match source {
            Source::Series(_) => Some(read_at + known.window),
            Source::Element | Source::Gone => None,
        };
        let live = Live {
            rule,
            source,
            element: element.clone(),
            labels: labels.clone(),
            episode,
            course,
            expires_at,
            producer,
            queued: None,
            seen: self.evaluation_serial,
            contradicted: None,
        };
        let place = self.lives.insert(live);
        let state = &mut self.rules[rule as usize].state;
        state.violations.insert(labels, place);
        match source {
            Source::Series(series) => {
                if let Some(binding) = self.index.binding(series, rule) {
                    self.index.bindings[binding].violation = place;
                }
            }
            Source::Element => {
                state.by_element.insert(element, place);
            }
            Source::Gone => {}
        }
        self.turn(producers, place, turn, at);
        Some(place)
    }

    /// A series that was forgotten while its violation was kept firing has come back.
    fn begin_again(&mut self, producers: &Producers, beginning: &Beginning) -> Option<u32> {
        let Source::Series(series) = beginning.source else { return None };
        let known = &self.rules[beginning.rule as usize];
        let labels = known.violation_labels(&beginning.element, beginning.value).ok()?;
        let place = *known.state.violations.get(&labels)?;
        let binding = self.index.binding(series, beginning.rule)?;
        let (timing, window) = (known.timing, known.window);
        let live = self.lives.get_mut(place).filter(|live| live.source == Source::Gone)?;
        live.source = beginning.source;
        live.producer = beginning.producer;
        live.expires_at = Some(beginning.read_at + window);
        let turn = live.course.observe(beginning.at, Some(beginning.value), timing);
        self.index.bindings[binding].violation = place;
        self.turn(producers, place, turn, beginning.at);
        Some(place)
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

    /// Forgets a violation.
    pub(super) fn end(&mut self, place: u32) {
        let Some(live) = self.lives.remove(place) else { return };
        if let Some(rule) = self.rules.get_mut(live.rule as usize) {
            rule.state.violations.remove(&live.labels);
            rule.state.by_element.remove(&live.element);
        }
        if let Source::Series(series) = live.source
            && let Some(binding) = self.index.binding(series, live.rule)
        {
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
            annotations: rule.annotations(&live.element, course.value),
            since: course.since,
            at,
            value: course.value,
            sample_interval,
        };
        self.episodes.decided(&violation);
        self.drafts.violations.push(violation);
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

    fn tell_limit(&mut self, rule: u32, at: Timestamp) {
        let known = &mut self.rules[rule as usize];
        if !std::mem::replace(&mut known.state.told_limit, true) {
            let text = format!(
                "rule {} has {VIOLATIONS_PER_RULE_MAX} violations; more are not told apart",
                known.spec.name
            );
            self.drafts.report(Reason::Limit, &known.spec.name.to_string(), text, at);
        }
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
            rule.state.violations.values().filter_map(|place| {
                let live = self.lives.get(*place)?;
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

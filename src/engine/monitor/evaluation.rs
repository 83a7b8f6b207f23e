//! Rules over series: what happens when a sample comes in. The path of a sample has no hash and no allocation: a row
//! leads to the place of its series, the place to the rules that read it.

use std::sync::Arc;

use super::counters::Counters;
use super::deadlines::{Deadlines, event_time};
use super::drafts::Drafts;
use super::episodes::Episodes;
use super::grid::Grid;
use super::index::{Binding, Index, NONE};
use super::joins::{Joins, Reader, ScrapeKey, joined_at};
use super::live::{Beginning, Lives, Source, earliest};
use super::producers::{ProducerId, Producers};
use super::pulse::Pulse;
use super::rules::{Path, Rule, place_of};
use super::tables::{FORGOTTEN, REFUSED, Table};
use crate::engine::promql::{Appended, Expr, Limits, Scope, SeriesStore, Value};
use crate::model::{Frame, Labels, Row, Timestamp};

/// The rules of this monitor, the series they read and what they have found.
#[derive(Debug)]
pub(super) struct Evaluation {
    pub(super) cell: Arc<str>,
    pub(super) store: SeriesStore,
    pub(super) index: Index,
    pub(super) rules: Vec<Rule>,
    /// The paths of the rules, beside them: all that most samples look at.
    pub(super) paths: Vec<Path>,
    pub(super) grids: Vec<Grid>,
    pub(super) pulses: Vec<Pulse>,
    /// Whether nothing is left that changes with time alone: the next sample wakes it.
    pub(super) pulses_rest: bool,
    pub(super) lives: Lives,
    pub(super) deadlines: Deadlines,
    pub(super) joins: Joins,
    pub(super) episodes: Episodes,
    pub(super) drafts: Drafts,
    pub(super) counters: Counters,
    /// Since when it is known what there is and what there is not.
    pub(super) observed_since: Option<Timestamp>,
    /// Whether any samples came since the start.
    pub(super) heard: bool,
    /// Whether there is a configuration to decide by.
    pub(super) is_configured: bool,
    /// When to look after episodes of the ledger that no rule has found again.
    pub(super) orphans_at: Option<Timestamp>,
    pub(super) frame_number: u64,
    /// The instant that was begun last.
    pub(super) now: Timestamp,
    pub(super) round: u64,
    /// Series with a new sample of the same time, for rules that are evaluated for them alone: binding and place.
    batch: Vec<(usize, u32)>,
}

/// Where and when rows come from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrived<'a> {
    pub(super) producers: &'a Producers,
    pub(super) from: ProducerId,
    pub(super) bucket: u32,
    pub(super) now: Timestamp,
    /// The scrape they are a part of.
    pub(super) scrape: Option<ScrapeKey>,
}

impl Arrived<'_> {
    /// When an expression that reads several series is evaluated for a sample.
    pub(super) fn joined_at(&self, at: Timestamp) -> (Timestamp, Option<ScrapeKey>) {
        match self.scrape {
            Some(scrape) if scrape.1 == at => (at, Some(scrape)),
            Some(_) | None => (joined_at(at), None),
        }
    }
}

impl Evaluation {
    pub(super) fn new(cell: Arc<str>) -> Self {
        Self {
            drafts: Drafts::new(Arc::clone(&cell)),
            cell,
            store: SeriesStore::new(Limits::default()),
            index: Index::default(),
            rules: Vec::new(),
            paths: Vec::new(),
            grids: Vec::new(),
            pulses: Vec::new(),
            pulses_rest: false,
            lives: Lives::default(),
            deadlines: Deadlines::default(),
            joins: Joins::default(),
            episodes: Episodes::default(),
            counters: Counters::default(),
            observed_since: None,
            heard: false,
            is_configured: false,
            orphans_at: None,
            frame_number: 0,
            now: Timestamp::MIN,
            round: 0,
            batch: Vec::new(),
        }
    }

    /// Gives each series of a table its place.
    pub(super) fn intern(&mut self, series: &[Labels]) -> Vec<u32> {
        series.iter().map(|labels| self.intern_one(labels)).collect()
    }

    pub(super) fn intern_one(&mut self, labels: &Labels) -> u32 {
        let Ok(id) = self.store.series(labels) else {
            self.counters.series_refused += 1;
            return REFUSED;
        };
        self.index.place(id, labels, &self.rules)
    }

    /// Takes in the rows of a frame, in their order.
    pub(super) fn take_rows(&mut self, arrived: Arrived<'_>, frame: &Frame, table: &mut Table) {
        self.frame_number += 1;
        self.pulses_rest = false;
        let mut batch_at = Timestamp::MIN;
        for row in &frame.rows {
            let place = table.places.get(usize::from(row.series)).copied().unwrap_or(REFUSED);
            if row.at != batch_at {
                self.flush(arrived, batch_at);
                batch_at = row.at;
            }
            let Some(entry) = self.index.entries.get_mut(place as usize) else {
                self.take_strange(arrived, table, *row);
                continue;
            };
            entry.producer = arrived.from;
            match self.store.append(entry.id, row.at, row.value) {
                Appended::Stored => self.take_sample(arrived, place, *row),
                Appended::Duplicate | Appended::Conflict | Appended::TooOld | Appended::Full => {}
                Appended::StoredLate => self.take_late(arrived, place, row.at),
                // Places of forgotten series are taken out of the tables.
                Appended::Forgotten => self.counters.samples_unknown_series += 1,
            }
        }
        self.flush(arrived, batch_at);
    }

    /// The newest sample of a series.
    #[inline]
    fn take_sample(&mut self, arrived: Arrived<'_>, place: u32, row: Row) {
        let entry = self.index.entries[place as usize];
        for binding_at in entry.from as usize..entry.until as usize {
            let binding = self.index.bindings[binding_at];
            match self.paths[binding.rule as usize] {
                Path::Threshold { comparison, bound } => {
                    let held = Path::compare(comparison, bound, row.value);
                    if held.is_some() || binding.violation != NONE {
                        self.observe(arrived, (binding_at, place), (row.at, row.at), held);
                    }
                }
                Path::Separable => self.batch.push((binding_at, place)),
                Path::Joined => self.want(arrived, binding.rule, row.at),
                Path::Grid { group } => {
                    let lane = (arrived.from, arrived.bucket);
                    self.grids[group as usize].touch(self.frame_number, lane, row.at);
                }
            }
        }
    }

    /// A sample behind the newest of its series: only windows can see it, and they are evaluated where they stand.
    #[cold]
    fn take_late(&mut self, arrived: Arrived<'_>, place: u32, at: Timestamp) {
        let entry = self.index.entries[place as usize];
        let newest = self.newest(place).unwrap_or(at);
        for binding_at in entry.from as usize..entry.until as usize {
            let binding = self.index.bindings[binding_at];
            match self.paths[binding.rule as usize] {
                Path::Threshold { .. } | Path::Grid { .. } => {}
                Path::Separable => self.evaluate_one(arrived, (binding_at, place), newest),
                Path::Joined => self.want(arrived, binding.rule, at),
            }
        }
    }

    /// A sample of a series that has no place: it was forgotten since its table came, and is a new one now.
    #[cold]
    fn take_strange(&mut self, arrived: Arrived<'_>, table: &mut Table, row: Row) {
        let index = usize::from(row.series);
        if let (Some(place @ &mut FORGOTTEN), Some(labels)) =
            (table.places.get_mut(index), table.series.get(index))
        {
            *place = self.intern_one(labels);
        }
        let place = table.places.get(index).copied().unwrap_or(REFUSED);
        let Some(entry) = self.index.entries.get_mut(place as usize) else {
            self.counters.samples_unknown_series += 1;
            return;
        };
        entry.producer = arrived.from;
        if self.store.append(entry.id, row.at, row.value) == Appended::Stored {
            self.take_sample(arrived, place, row);
        }
    }

    /// Evaluates what has collected for one time.
    pub(super) fn flush(&mut self, arrived: Arrived<'_>, at: Timestamp) {
        if self.batch.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut self.batch);
        for target in &batch {
            self.evaluate_one(arrived, *target, at);
        }
        self.batch = batch;
        self.batch.clear();
    }

    /// Evaluates a rule for one series alone.
    pub(super) fn evaluate_one(
        &mut self,
        arrived: Arrived<'_>,
        (binding_at, place): (usize, u32),
        at: Timestamp,
    ) {
        let binding = self.index.bindings[binding_at];
        self.counters.evaluations += 1;
        let seen_at = self.seen_at(binding.violation, at);
        let held = self.value_of(binding.rule, place, seen_at);
        if held.is_some() || binding.violation != NONE {
            self.observe(arrived, (binding_at, place), (at, at), held);
        }
    }

    /// Where silence was evaluated at a later time already, a sample is seen from there.
    fn seen_at(&self, violation: u32, at: Timestamp) -> Timestamp {
        self.lives.get(violation).map_or(at, |live| live.course.evaluated_at.max(at))
    }

    /// A rule was evaluated for one series at `at`; its newest sample was read at `read_at`.
    pub(super) fn observe(
        &mut self,
        arrived: Arrived<'_>,
        (binding_at, place): (usize, u32),
        (read_at, at): (Timestamp, Timestamp),
        held: Option<f64>,
    ) {
        let Binding { rule, violation } = self.index.bindings[binding_at];
        let mut at = at;
        if violation != NONE {
            at = self.seen_at(violation, at);
            // What was due before this sample comes before it.
            self.pass_deadlines(arrived.producers, violation, just_before(at));
            self.give_up_if_contradicted(violation, at);
        }
        let violation = self.index.bindings[binding_at].violation;
        let known = &self.rules[rule as usize];
        if let Some(live) = self.lives.get_mut(violation) {
            live.producer = arrived.from;
            live.expires_at = Some(read_at + known.window);
            let turn = live.course.observe(at, held, known.timing);
            self.turn(arrived.producers, violation, turn, at);
            return;
        }
        let Some(value) = held else { return };
        let Some(element) = self.element_of(rule, place, at) else { return };
        let (source, producer) = (Source::Series(place), arrived.from);
        self.begin(arrived.producers, Beginning { rule, source, element, value, at, read_at, producer });
    }

    /// Lets the deadlines of a violation of one series pass, up to and including `until`.
    pub(super) fn pass_deadlines(&mut self, producers: &Producers, violation: u32, until: Timestamp) {
        loop {
            let Some(live) = self.lives.get(violation) else { return };
            let source = live.source;
            let (rule, timing) = (live.rule, self.rules[live.rule as usize].timing);
            let next = earliest(live.course.deadline(timing), live.expires_at);
            let Some(at) = next.filter(|next| *next <= until) else { return };
            self.counters.evaluations += 1;
            let held = match source {
                Source::Series(place) => self.value_of(rule, place, at),
                Source::Element | Source::Gone => None,
            };
            let Some(live) = self.lives.get_mut(violation) else { return };
            if live.expires_at.is_some_and(|expires_at| expires_at <= at) {
                live.expires_at = None;
            }
            let turn = live.course.observe(at, held, timing);
            self.turn(producers, violation, turn, at);
        }
    }

    /// A deadline of a violation came on the clock of its producer.
    pub(super) fn violation_due(&mut self, producers: &Producers, violation: u32, now: Timestamp) {
        let Some(live) = self.lives.get_mut(violation) else { return };
        live.queued = None;
        let (rule, source) = (live.rule, live.source);
        let until = event_time(producers, live.producer, now);
        match source {
            Source::Series(_) | Source::Gone => self.pass_deadlines(producers, violation, until),
            Source::Element => self.catch_up(producers, rule, until),
        }
        self.schedule(producers, violation);
    }

    /// Notes that a rule over several series is to be evaluated.
    #[inline]
    fn want(&mut self, arrived: Arrived<'_>, rule: u32, at: Timestamp) {
        let state = &mut self.rules[rule as usize].state;
        if state.wanted == (self.frame_number, at) {
            return;
        }
        state.wanted = (self.frame_number, at);
        if state.read_at < at {
            state.read_at = at;
            state.producer = arrived.from;
        }
        let (at, scrape) = arrived.joined_at(at);
        self.joins.want(Reader::Rule(rule), at, scrape, arrived.now);
    }

    /// The ledger says that the episode was over before `at`, and we still had it: we have missed its end.
    fn give_up_if_contradicted(&mut self, violation: u32, at: Timestamp) {
        let Some(live) = self.lives.get(violation) else { return };
        if live.contradicted.is_some_and(|over_at| over_at < at) {
            self.episodes.disown(live.episode);
            self.end(violation);
        }
    }

    /// The value of a rule for one series, where it holds.
    pub(super) fn value_of(&self, rule: u32, place: u32, at: Timestamp) -> Option<f64> {
        let id = self.index.entries[place as usize].id;
        self.rules[rule as usize].expr.value_of(&self.store, at, id)
    }

    /// The labels of a rule's element for one series.
    fn element_of(&self, rule: u32, place: u32, at: Timestamp) -> Option<Labels> {
        let id = self.index.entries[place as usize].id;
        let known = &self.rules[rule as usize];
        if let Path::Threshold { .. } = known.path {
            return self.store.labels(id).cloned();
        }
        first_element(&known.expr, &self.store, at, Scope::Only(&[id])).map(|(labels, _)| labels)
    }

    pub(super) fn newest(&self, place: u32) -> Option<Timestamp> {
        let entry = self.index.entries.get(place as usize)?;
        self.store.samples(entry.id, Timestamp::MIN, Timestamp::MAX).last().map(|(at, _)| *at)
    }

    /// The places that are in use.
    pub(super) fn places(&self) -> impl Iterator<Item = u32> {
        (0..place_of(self.index.entries.len())).filter(|place| self.index.is_used(*place))
    }
}

/// The first element of an expression's value, in the order of labels.
pub(super) fn first_element(
    expr: &Expr,
    store: &SeriesStore,
    at: Timestamp,
    scope: Scope<'_>,
) -> Option<(Labels, f64)> {
    match expr.eval(store, at, scope).ok()? {
        Value::Vector(elements) => elements.into_iter().next().map(|element| (element.labels, element.value)),
        Value::Scalar(value) => Some((Labels::empty(), value)),
        Value::Text(_) => None,
    }
}

/// The last millisecond before.
pub(super) fn just_before(at: Timestamp) -> Timestamp {
    Timestamp::from_millis(at.as_millis().saturating_sub(1))
}

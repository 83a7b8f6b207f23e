//! The monitor: evaluates rules on every sample, in event time, and verifications on the samples after an effect.
//!
//! What it decides is a function of the samples in their order, each series' own, and of the instants they came in: how
//! they were cut into frames, and frames that came twice, make no difference. Deadlines run when an instant begins, before
//! its input; what a deadline or an input leaves to be done at once is done in the next instant.

mod counters;
mod deadlines;
mod drafts;
mod elements;
mod episodes;
mod evaluation;
mod grid;
mod index;
mod intake;
mod joined;
mod joins;
mod live;
mod phases;
mod producers;
mod pulse;
mod reconfigure;
mod recording;
mod rules;
mod snapshot;
mod tables;
mod texts;
mod verification;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

pub use counters::Counters;
pub use intake::EXTERNAL_GROUP;
pub use live::LiveViolation;
pub use phases::{Course, Stage};
pub use producers::{Delay, Lane, Measurement, Producer};
pub use rules::RuleKey;
pub use snapshot::{
    GridSnapshot, JoinSnapshot, MonitorSnapshot, PulseSnapshot, RuleSnapshot, ScrapeSnapshot, SeriesSnapshot,
    TableSnapshot, ViolationSnapshot,
};
pub use tables::WaitingFrame;

use super::outbox::{Answer, Decision, Outbox};
use super::{Configuration, Core, Input, Published, Step, Ticket, Token};
use crate::engine::fold::Fold;
use crate::model::{
    Batch, Entry, Frame, Phase, Reason, Record, Role, SeriesTable, Timestamp, Topic, Violation,
};
use deadlines::Target;
use evaluation::{Arrived, Evaluation};
use intake::External;
use joins::Reader;
use producers::{Arrival, ProducerId, Producers};
use tables::Tables;
use verification::Verifications;

/// How often series without samples are looked for.
const SWEEP_EVERY: Duration = Duration::from_mins(1);
/// Samples from further ahead are refused: one clock set to another century must not carry the time of its series there,
/// from where it does not come back. Prometheus' own bound.
const AHEAD_MAX: Duration = Duration::from_mins(10);

/// The deciding core of the monitor role.
#[derive(Debug)]
pub struct Monitor {
    fold: Fold,
    configuration: Arc<Configuration>,
    outbox: Outbox,
    /// The instant that was begun last.
    instant: Option<Timestamp>,
    swept_at: Timestamp,
    producers: Producers,
    tables: Tables,
    evaluation: Evaluation,
    verifications: Verifications,
    external: External,
    /// Whether it was told that the store is full.
    told_full: bool,
}

impl Monitor {
    /// A core that knows nothing yet. `cell` is in the ids of all episodes.
    pub fn new(cell: Arc<str>, instance: Arc<str>, configuration: Arc<Configuration>) -> Self {
        let mut monitor = Self {
            fold: Fold::without_scopes(),
            configuration: Arc::default(),
            outbox: Outbox::new(Role::Monitor, instance),
            instant: None,
            swept_at: Timestamp::MIN,
            producers: Producers::new(),
            tables: Tables::default(),
            evaluation: Evaluation::new(cell),
            verifications: Verifications::default(),
            external: External::default(),
            told_full: false,
        };
        monitor.configure(configuration, Timestamp::MIN);
        monitor
    }

    /// What it knows of the ledger.
    pub fn fold(&self) -> &Fold {
        &self.fold
    }

    /// What it has counted.
    pub fn counters(&self) -> Counters {
        let store = self.evaluation.store.counters();
        Counters {
            samples: store.stored + store.stored_late,
            samples_duplicate: store.duplicates,
            samples_conflicting: store.conflicts,
            samples_too_late: store.too_old,
            samples_refused: store.refused,
            samples_evicted: store.evicted,
            frames_lost: self.producers.iter().fold(0, |lost, producer| lost.saturating_add(producer.lost)),
            series: self.evaluation.store.len() as u64,
            tables_missing: self.tables.missing() as u64,
            producers_skewed: self.producers.iter().filter(|producer| producer.skewed).count() as u64,
            ..self.evaluation.counters
        }
    }

    /// Who sends samples, and how well.
    pub fn producers(&self) -> impl Iterator<Item = &Producer> {
        self.producers.iter()
    }

    /// All violations that are pending or firing, in the order of rules and labels. Pending ones are not in the ledger.
    pub fn violations(&self) -> impl Iterator<Item = LiveViolation<'_>> {
        self.evaluation.live()
    }

    /// Begins an instant: lets pass what is due on the clock. Once for each `now`.
    fn begin(&mut self, now: Timestamp) -> Timestamp {
        if let Some(instant) = self.instant.filter(|instant| now <= *instant) {
            // A clock that was set back stands still for us until it is there again.
            return instant;
        }
        self.instant = Some(now);
        self.evaluation.now = now;
        for skewed in self.producers.begin(now) {
            let text = format!(
                "the clock of {} is off by {:.1} s: its samples verify nothing",
                skewed.producer,
                -skewed.skew_ms / 1_000.0
            );
            self.evaluation.drafts.report(Reason::Stale, &format!("{} {now}", skewed.producer), text, now);
        }
        if self.evaluation.observed_since.is_none() {
            self.evaluation.observed_since = Some(now);
            self.swept_at = now;
            self.evaluation.await_silence(&self.producers, now);
        }
        for (at, reader) in self.evaluation.joins.due(now) {
            self.evaluate(reader, at);
        }
        for (_, target) in self.evaluation.deadlines.due(&self.producers, now) {
            match target {
                Target::Live(place) => self.evaluation.violation_due(&self.producers, place, now),
                Target::Rule(rule) => self.evaluation.rule_due(&self.producers, rule, now),
                Target::Verification(plan) => {
                    self.verifications.due(&mut self.evaluation, &self.producers, plan, now);
                }
            }
        }
        self.evaluation.run_grids(&self.producers, now);
        self.evaluation.run_pulses(&self.producers, now);
        self.evaluation.settle_orphans(&self.producers, now);
        self.sweep(now);
        now
    }

    /// Forgets series without samples, at full minutes: whether there was a reason to wake in between, and when, makes no
    /// difference.
    fn sweep(&mut self, now: Timestamp) {
        let minutes = now.saturating_since(self.swept_at).as_secs() / SWEEP_EVERY.as_secs();
        if minutes == 0 {
            return;
        }
        self.swept_at =
            self.swept_at + SWEEP_EVERY.saturating_mul(u32::try_from(minutes).unwrap_or(u32::MAX));
        // A new series is spared by the first sweep and not by the second.
        for _ in 0..minutes.min(2) {
            self.evaluation.sweep(&self.producers, &mut self.tables, self.swept_at);
        }
        self.verifications.forget_places();
        self.evaluation.episodes.forget_over(self.swept_at);
        self.tell_if_full(now);
    }

    fn evaluate(&mut self, reader: Reader, at: Timestamp) {
        match reader {
            Reader::Rule(rule) => self.evaluation.evaluate_joined(&self.producers, rule, at),
            Reader::Verification(plan) => {
                self.verifications.evaluate(&mut self.evaluation, &self.producers, plan, at);
            }
        }
    }

    fn take_frame(&mut self, now: Timestamp, mut frame: Frame) {
        let counters = &mut self.evaluation.counters;
        let Some(from) = self.producers.intern(&frame.producer, now) else {
            counters.frames_refused += 1;
            return;
        };
        match self.producers.arrive(from, &frame, now) {
            Arrival::Fresh { broken, .. } => {
                counters.frames += 1;
                if broken {
                    // What happened since the checkpoint is not known: from here on it is.
                    self.evaluation.observed_since = Some(now);
                }
            }
            Arrival::Late => counters.frames += 1,
            Arrival::Duplicate => {
                counters.frames_duplicate += 1;
                return;
            }
            Arrival::OlderEpoch => {
                counters.frames_of_older_epoch += 1;
                return;
            }
        }
        let in_time = Timestamp::from_millis(0)..=now + AHEAD_MAX;
        if !frame.rows.iter().all(|row| in_time.contains(&row.at)) {
            let before = frame.rows.len();
            frame.rows.retain(|row| in_time.contains(&row.at));
            self.evaluation.counters.samples_out_of_time += (before - frame.rows.len()) as u64;
        }
        if let Some(newest) = self.producers.measure(from, &frame, now) {
            self.evaluation.grids.iter_mut().for_each(|grid| grid.pass(newest));
        }
        if !std::mem::replace(&mut self.evaluation.heard, true) && self.evaluation.episodes.has_orphans() {
            self.evaluation.orphans_at = Some(now);
        }
        if self.tables.knows(frame.table) {
            self.take_rows(now, from, &frame);
        } else {
            let waiting = WaitingFrame { frame, since: now };
            self.tables.wait(from, waiting, now, &mut self.evaluation.counters);
        }
    }

    fn take_rows(&mut self, now: Timestamp, from: ProducerId, frame: &Frame) {
        let Some(first) = frame.rows.first() else { return };
        let Some(table) = self.tables.get_mut(frame.table, now) else { return };
        let joins = &mut self.evaluation.joins;
        let scrape = frame.scrape.map(|part| ((from, first.at), part));
        let scrape = scrape.filter(|(key, part)| joins.open_scrape(*key, *part, now));
        let arrived = Arrived {
            producers: &self.producers,
            from,
            bucket: frame.bucket,
            now,
            scrape: scrape.map(|(key, _)| key),
        };
        self.evaluation.take_rows(arrived, frame, table);
        if !self.verifications.is_empty() {
            self.verifications.take_rows(arrived, frame, table, &mut self.evaluation.joins);
        }
        if let Some((key, part)) = scrape {
            for reader in self.evaluation.joins.close_part(key, part) {
                self.evaluate(reader, key.1);
            }
        }
        while let Some((at, reader)) = self.evaluation.joins.overflow() {
            self.evaluate(reader, at);
        }
    }

    fn take_table(&mut self, now: Timestamp, table: &SeriesTable) {
        if self.tables.knows(table.hash) {
            return;
        }
        if SeriesTable::new(Arc::clone(&table.series)).hash != table.hash {
            self.evaluation.counters.tables_refused += 1;
            return;
        }
        let places = self.evaluation.intern(&table.series);
        self.tables.insert(table, places, now, &mut self.evaluation.counters);
        for (from, frame) in self.tables.arrived(table.hash) {
            self.take_rows(now, from, &frame);
        }
    }

    fn configure(&mut self, configuration: Arc<Configuration>, now: Timestamp) {
        self.evaluation.is_configured = configuration.generation.0 > 0 || !configuration.groups.is_empty();
        self.evaluation.configure(&self.producers, &configuration, now);
        if self.evaluation.episodes.has_orphans() {
            self.evaluation.orphans_at = Some(now);
        }
        self.configuration = configuration;
    }

    /// As if the records that the fold was made of had been read: an episode that is over was the last of its labels where
    /// another one fires, so those that are over come first.
    fn learn_all(&mut self, now: Timestamp) {
        let stored_at = self.fold.stored_at();
        let mut known: Vec<&Arc<Violation>> =
            self.fold.episodes.iter().map(|(_, episode)| &episode.violation).collect();
        known.sort_by_key(|violation| (violation.phase == Phase::Firing, violation.since));
        for violation in known {
            self.evaluation.learn(&self.producers, violation, (stored_at, now));
            self.external.learn(violation);
        }
    }

    fn learn(&mut self, record: &Record, now: Timestamp) {
        for violation in record.batch.entries.iter().filter_map(Entry::as_violation) {
            // What was recorded again after a restart says nothing of an episode that has gone on since.
            let newest = self.fold.episodes.get(violation.episode).map(|known| known.violation.rev);
            if newest.is_some_and(|newest| newest > violation.rev) {
                continue;
            }
            self.evaluation.learn(&self.producers, violation, (record.stored_at, now));
            self.external.learn(violation);
        }
    }

    fn published(&mut self, now: Timestamp, step: &mut Step, ticket: Ticket, result: Published) {
        let settled = match self.outbox.published(now, step, ticket, result) {
            Answer::Stored { batch, sequence, released } => {
                self.outbox.ack(step, released);
                // It will come on the ledger, unless it is a repeat that the fold has read already.
                (sequence <= self.fold.applied()).then_some(batch)
            }
            // One entry: a larger batch was cut in halves first.
            Answer::Refused { batch, .. } => {
                self.evaluation.counters.batches_refused += 1;
                self.tell_refused(now, &batch);
                Some(batch)
            }
            Answer::Stale { .. } | Answer::Unknown | Answer::Nothing => None,
        };
        let entries = settled.iter().flat_map(|batch| &batch.entries);
        for violation in entries.filter_map(Entry::as_violation) {
            self.evaluation.episodes.settled(violation.episode, violation.rev);
            self.external.arrived(violation);
        }
    }

    /// Nothing else will ever say it: what was found is not in the ledger.
    fn tell_refused(&mut self, now: Timestamp, batch: &Batch) {
        for violation in batch.entries.iter().filter_map(Entry::as_violation) {
            let text = format!(
                "the ledger refuses revision {} of {} of {}: it is too large, or must not be written",
                violation.rev, violation.episode, violation.rule.alert
            );
            let subject = format!("{} {}", violation.episode, violation.rev);
            self.evaluation.drafts.report(Reason::Refused, &subject, text, now);
        }
    }

    fn tell_if_full(&mut self, now: Timestamp) {
        let store = self.evaluation.store.counters();
        let is_full = store.refused + store.evicted + store.series_refused > 0;
        if is_full && !std::mem::replace(&mut self.told_full, true) {
            let text = format!(
                "the monitor's store is full: {} series and {} samples refused, {} samples dropped early",
                store.series_refused, store.refused, store.evicted
            );
            self.evaluation.drafts.report(Reason::Limit, "store", text, now);
        }
    }

    fn publish(
        &mut self,
        now: Timestamp,
        step: &mut Step,
        topic: Topic,
        entries: Vec<Entry>,
        holds: &[Token],
    ) {
        let basis = self.fold.basis(self.configuration.generation);
        let decision = Decision { now, topic, entries, basis, expected_last: None, holds };
        self.outbox.publish(step, decision);
    }

    /// Publishes what the step has decided and says when to wake.
    fn finish(&mut self, now: Timestamp, step: &mut Step) {
        for known in self.evaluation.drafts.drop_known(&self.fold) {
            self.evaluation.episodes.settled(known.0, known.1);
        }
        for (topic, entries) in self.evaluation.drafts.take() {
            self.publish(now, step, topic, entries, &[]);
        }
        self.tables.tick(now, step, &mut self.evaluation.counters);
        self.outbox.tick(now, step);
        let deadlines = [
            self.evaluation.deadlines.next(&self.producers),
            self.evaluation.joins.next(),
            self.evaluation.next_grid_point(now),
            self.evaluation.next_pulse(&self.producers),
            self.evaluation.orphans_at,
        ];
        // What is due already has come up in this instant, and is for the next one.
        let next_instant = now + Duration::from_millis(1);
        for at in deadlines.into_iter().flatten() {
            step.wake_no_later_than(at.max(next_instant));
        }
    }
}

impl Core for Monitor {
    fn handle(&mut self, now: Timestamp, input: Input) -> Step {
        let mut step = Step::default();
        let now = self.begin(now);
        match input {
            Input::Frame(frame) => self.take_frame(now, frame),
            Input::Table(table) => self.take_table(now, &table),
            Input::Known(fold) => {
                self.fold.take_over(&fold);
                self.learn_all(now);
                self.verifications.follow(&self.fold, &mut self.evaluation, &self.producers, now);
            }
            Input::Ledger(records) => {
                for record in &records {
                    if record.sequence > self.fold.applied() {
                        self.fold.apply(record);
                        self.learn(record, now);
                    }
                }
                self.verifications.follow(&self.fold, &mut self.evaluation, &self.producers, now);
            }
            Input::Work(deliveries) => self.take(now, &mut step, deliveries),
            Input::Published { ticket, result } => self.published(now, &mut step, ticket, result),
            Input::Configuration(configuration) => self.configure(configuration, now),
            Input::ReadBack { .. } | Input::Acted(_) | Input::Leases(_) => {}
        }
        self.finish(now, &mut step);
        step
    }

    fn tick(&mut self, now: Timestamp) -> Step {
        let mut step = Step::default();
        let now = self.begin(now);
        self.finish(now, &mut step);
        step
    }
}

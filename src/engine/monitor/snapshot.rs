//! The monitor's state as plain values: what a checkpoint holds. A monitor that is restored from it and given the frames
//! that came since, each at the time the sample stream stored it, is where it would be had it never stopped.
//!
//! What is not in it is known again from elsewhere: the ledger is read anew, verifications begin anew from the ledger and
//! the samples, deliveries come again. Numbers that point to producers count from 1 in the order of
//! [`MonitorSnapshot::producers`], 0 is nobody; those that point to series and rules count from 0.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::evaluation::Evaluation;
use super::joins::{Reader, Scrape};
use super::live::{Live, Source};
use super::phases::Course;
use super::producers::{Producer, ProducerId, Producers};
use super::pulse::Pulse;
use super::recording::Recorded;
use super::rules::{Path, RuleKey, place_of};
use super::tables::{FORGOTTEN, REFUSED, WaitingFrame};
use super::{Configuration, Monitor};
use crate::engine::promql::LOOKBACK;
use crate::model::{Entry, EpisodeId, Labels, SeriesTable, TableHash, Timestamp};

/// Late samples are put in their place this far behind the newest, so windows reach back that much further.
const LATENESS: Duration = Duration::from_secs(5);

/// A checkpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MonitorSnapshot {
    /// The instant that was begun last.
    pub at: Option<Timestamp>,
    /// Since when it is known what there is and what there is not. Whoever restores and does not have all frames since
    /// `at` sets this to the time of the restart: what may have been missed is not taken for absence then.
    pub observed_since: Option<Timestamp>,
    /// Up to when series without samples were looked for.
    pub swept_at: Timestamp,
    /// Who sends, with the numbers of the frames that were seen.
    pub producers: Vec<Producer>,
    /// Series in the order of their labels, with the samples that windows can still see; behind them those that only
    /// tables name.
    pub series: Vec<SeriesSnapshot>,
    /// Series tables, by hash.
    pub tables: Vec<TableSnapshot>,
    /// Rules, in the order of the configuration.
    pub rules: Vec<RuleSnapshot>,
    /// Violations pending or firing, by rule and labels.
    pub violations: Vec<ViolationSnapshot>,
    /// Groups with an interval.
    pub grids: Vec<GridSnapshot>,
    /// Groups that are evaluated on every sample, and at points for what is silent.
    pub pulses: Vec<PulseSnapshot>,
    /// Evaluations that wait for the rest of their moment.
    pub joins: Vec<JoinSnapshot>,
    /// Scrapes that are not whole.
    pub scrapes: Vec<ScrapeSnapshot>,
    /// Frames that wait for their table.
    pub waiting: Vec<WaitingFrame>,
    /// Violations and reports that were decided and are not known to be in the ledger.
    pub unpublished: Vec<Entry>,
}

/// A series.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesSnapshot {
    /// Metric name and labels.
    pub labels: Labels,
    /// Whether it has no samples, and only a table names it.
    pub is_forgotten: bool,
    /// Who sent its newest sample.
    pub producer: u32,
    /// Its samples, oldest first.
    pub samples: Vec<(Timestamp, f64)>,
}

/// A series table.
#[derive(Clone, Debug, PartialEq)]
pub struct TableSnapshot {
    /// Its name.
    pub hash: TableHash,
    /// Its series, in its order.
    pub series: Vec<u32>,
}

/// What a rule knows besides its violations.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleSnapshot {
    /// Which rule.
    pub key: RuleKey,
    /// When it was last evaluated for all series.
    pub evaluated_at: Timestamp,
    /// The newest sample it reads, as far as it was noted.
    pub read_at: Timestamp,
    /// Who sent that.
    pub producer: u32,
    /// When it has to be evaluated if no sample comes.
    pub expires_at: Option<Timestamp>,
    /// The series that its last evaluation has recorded.
    pub recorded: Vec<Labels>,
    /// Whether it was told that it has too many violations.
    pub told_limit: bool,
    /// Whether it was told that it cannot be evaluated.
    pub told_failure: bool,
}

/// A violation that is pending or firing.
#[derive(Clone, Debug, PartialEq)]
pub struct ViolationSnapshot {
    /// Its rule.
    pub rule: u32,
    /// The series it comes from, for a rule that is evaluated for single series.
    pub series: Option<u32>,
    /// Whether its series was forgotten meanwhile.
    pub is_series_gone: bool,
    /// The labels of the expression's element.
    pub element: Labels,
    /// Its own.
    pub labels: Labels,
    /// Its episode.
    pub episode: EpisodeId,
    /// Where it stands.
    pub course: Course,
    /// When the last sample of its series is out of the window.
    pub expires_at: Option<Timestamp>,
    /// On whose clock its deadlines are.
    pub producer: u32,
    /// When the episode was over, going by the ledger.
    pub contradicted: Option<Timestamp>,
    /// Since when it was seen to hold, where it was taken for an episode of the ledger that began before.
    pub held_since: Option<Timestamp>,
}

/// A group with an interval.
#[derive(Clone, Debug, PartialEq)]
pub struct GridSnapshot {
    /// The group.
    pub name: Arc<str>,
    /// Its interval.
    pub interval: Duration,
    /// The next point to evaluate at.
    pub next: Option<Timestamp>,
    /// Whose samples it reads: producer and bucket.
    pub lanes: Vec<(u32, u32)>,
    /// Whether a point was evaluated since there are samples.
    pub has_begun: bool,
    /// Whether samples behind the next point have come since the points were last looked at.
    pub may_pass: bool,
    /// When the next point is evaluated at the latest, going by the lags when that was last looked at.
    pub due_at: Timestamp,
}

/// An evaluation that waits.
#[derive(Clone, Debug, PartialEq)]
pub struct JoinSnapshot {
    /// Of which rule.
    pub rule: u32,
    /// At which time.
    pub at: Timestamp,
    /// Until when.
    pub due: Timestamp,
}

/// How far a group is that is evaluated at points for what is silent.
#[derive(Clone, Debug, PartialEq)]
pub struct PulseSnapshot {
    /// The group.
    pub name: Arc<str>,
    /// Between its points.
    pub interval: Duration,
    /// The next point.
    pub next: Option<Timestamp>,
}

/// A scrape that is not whole.
#[derive(Clone, Debug, PartialEq)]
pub struct ScrapeSnapshot {
    /// Whose.
    pub producer: u32,
    /// Its time.
    pub at: Timestamp,
    /// How many parts it has.
    pub parts: u16,
    /// Those that are in.
    pub seen: Vec<u16>,
    /// When it is no longer waited for.
    pub forget_at: Timestamp,
    /// The rules that wait for the rest.
    pub rules: Vec<u32>,
}

impl Monitor {
    /// The state as plain values.
    pub fn snapshot(&self) -> MonitorSnapshot {
        let evaluation = &self.evaluation;
        // A series without samples is as good as forgotten.
        let mut places: Vec<u32> =
            evaluation.places().filter(|place| evaluation.newest(*place).is_some()).collect();
        let labels = |place: u32| evaluation.store.labels(evaluation.index.entries[place as usize].id);
        places.sort_by(|one, other| labels(*one).cmp(&labels(*other)));
        let number_of = numbers(&places, evaluation.index.entries.len());
        let unpublished =
            self.outbox.under_way().flat_map(|batch| &batch.entries).filter(|entry| match entry {
                Entry::Violation(violation) => violation.rule.group.as_ref() != super::EXTERNAL_GROUP,
                Entry::Report(_) => true,
                Entry::Incident(_)
                | Entry::Analysis(_)
                | Entry::Plan(_)
                | Entry::Admission(_)
                | Entry::Outcome(_)
                | Entry::Verdict(_)
                | Entry::Change(_)
                | Entry::Applied { .. } => false,
            });
        let mut series: Vec<SeriesSnapshot> =
            places.iter().filter_map(|place| evaluation.series_snapshot(*place)).collect();
        let tables = self.table_snapshots(&number_of, &mut series);
        MonitorSnapshot {
            at: self.instant,
            observed_since: evaluation.observed_since,
            swept_at: self.swept_at,
            producers: self.producers.iter().cloned().collect(),
            series,
            tables,
            rules: evaluation.rule_snapshots(),
            violations: evaluation.violation_snapshots(&number_of),
            grids: evaluation.grid_snapshots(),
            pulses: evaluation.pulse_snapshots(),
            joins: evaluation.join_snapshots(),
            scrapes: evaluation.scrape_snapshots(),
            waiting: self.tables.waiting().cloned().collect(),
            unpublished: unpublished.cloned().collect(),
        }
    }

    /// A core that goes on where a checkpoint was made. The frames since then are to be handled next, each with the `now`
    /// at which the sample stream stored it; what the ledger has is read after or before that.
    pub fn restore(
        cell: Arc<str>,
        instance: Arc<str>,
        configuration: Arc<Configuration>,
        snapshot: MonitorSnapshot,
    ) -> Self {
        let mut monitor = Self::new(cell, instance, configuration);
        let MonitorSnapshot { at, observed_since, swept_at, producers, series, tables, .. } = &snapshot;
        monitor.instant = *at;
        monitor.swept_at = *swept_at;
        monitor.producers = Producers::restore(producers.clone());
        let evaluation = &mut monitor.evaluation;
        evaluation.observed_since = *observed_since;
        let now = at.unwrap_or(Timestamp::MIN);
        let places: Vec<u32> = series.iter().map(|series| evaluation.restore_series(series)).collect();
        for table in tables {
            let of = |number: &u32| series.get(*number as usize).map(|series| series.labels.clone());
            let labels: Arc<[Labels]> = table.series.iter().filter_map(of).collect();
            let place = |number: &u32| places.get(*number as usize).copied().unwrap_or(REFUSED);
            let places = table.series.iter().map(place).collect();
            let table = SeriesTable { hash: table.hash, series: labels };
            monitor.tables.insert(&table, places, now, &mut evaluation.counters);
        }
        evaluation.restore_rules(&monitor.producers, &snapshot, &places);
        for waiting in snapshot.waiting {
            if let Some(from) = monitor.producers.id_of(&waiting.frame.producer) {
                monitor.tables.wait(from, waiting, now, &mut evaluation.counters);
            }
        }
        for violation in snapshot.unpublished.iter().filter_map(Entry::as_violation) {
            evaluation.episodes.decided(violation);
        }
        evaluation.drafts.restore(&snapshot.unpublished);
        monitor
    }

    fn table_snapshots(&self, number_of: &[u32], series: &mut Vec<SeriesSnapshot>) -> Vec<TableSnapshot> {
        let mut forgotten: BTreeMap<&Labels, u32> = BTreeMap::new();
        let mut tables = Vec::new();
        for (hash, table) in self.tables.iter() {
            // A table with a series that was refused is asked for again: it may find room then.
            if table.places.contains(&REFUSED) {
                continue;
            }
            let mut numbers = Vec::with_capacity(table.places.len());
            for (place, labels) in table.places.iter().zip(table.series.iter()) {
                let number = number_of.get(*place as usize).copied().filter(|place| *place < FORGOTTEN);
                numbers.push(number.unwrap_or_else(|| {
                    *forgotten.entry(labels).or_insert_with(|| {
                        series.push(SeriesSnapshot::forgotten(labels));
                        place_of(series.len() - 1)
                    })
                }));
            }
            tables.push(TableSnapshot { hash, series: numbers });
        }
        tables
    }
}

impl SeriesSnapshot {
    fn forgotten(labels: &Labels) -> Self {
        Self { labels: labels.clone(), is_forgotten: true, producer: 0, samples: Vec::new() }
    }
}

impl Evaluation {
    fn series_snapshot(&self, place: u32) -> Option<SeriesSnapshot> {
        let entry = self.index.entries.get(place as usize)?;
        let labels = self.store.labels(entry.id)?.clone();
        let bindings = &self.index.bindings[entry.from as usize..entry.until as usize];
        let windows = bindings.iter().map(|binding| self.rules[binding.rule as usize].window);
        let keep = windows.max().unwrap_or(LOOKBACK).max(LOOKBACK);
        let after = self.newest(place).map_or(Timestamp::MAX, |newest| newest - keep - LATENESS);
        let samples = self.store.samples(entry.id, after, Timestamp::MAX).to_vec();
        Some(SeriesSnapshot { labels, is_forgotten: false, producer: entry.producer.0, samples })
    }

    fn restore_series(&mut self, series: &SeriesSnapshot) -> u32 {
        if series.is_forgotten {
            return FORGOTTEN;
        }
        let Ok(id) = self.store.import(&series.labels, &series.samples) else { return REFUSED };
        let place = self.index.place(id, &series.labels, &self.rules);
        self.index.entries[place as usize].producer = ProducerId(series.producer);
        place
    }

    fn rule_snapshots(&self) -> Vec<RuleSnapshot> {
        let snapshot = |rule: &super::rules::Rule| RuleSnapshot {
            key: rule.key.clone(),
            evaluated_at: rule.state.evaluated_at,
            read_at: rule.state.read_at,
            producer: rule.state.producer.0,
            expires_at: rule.state.expires_at,
            recorded: rule.state.recorded.keys().cloned().collect(),
            told_limit: rule.state.told_limit,
            told_failure: rule.state.told_failure,
        };
        self.rules.iter().map(snapshot).collect()
    }

    fn violation_snapshots(&self, number_of: &[u32]) -> Vec<ViolationSnapshot> {
        let lives = self.rules.iter().flat_map(|rule| rule.state.sorted());
        let snapshot = |live: &Live| {
            let series = match live.source {
                Source::Series(place) => {
                    number_of.get(place as usize).copied().filter(|place| *place < FORGOTTEN)
                }
                Source::Element | Source::Gone => None,
            };
            ViolationSnapshot {
                rule: live.rule,
                series,
                is_series_gone: live.source != Source::Element && series.is_none(),
                element: live.element.clone(),
                labels: live.labels.clone(),
                episode: live.episode,
                course: live.course,
                expires_at: live.expires_at,
                producer: live.producer.0,
                contradicted: live.contradicted,
                held_since: live.held_since,
            }
        };
        lives.filter_map(|place| self.lives.get(place)).map(snapshot).collect()
    }

    fn pulse_snapshots(&self) -> Vec<PulseSnapshot> {
        let snapshot = |pulse: &Pulse| PulseSnapshot {
            name: Arc::clone(&pulse.group),
            interval: pulse.interval,
            next: pulse.next,
        };
        self.pulses.iter().map(snapshot).collect()
    }

    fn grid_snapshots(&self) -> Vec<GridSnapshot> {
        let snapshot = |grid: &super::grid::Grid| GridSnapshot {
            name: Arc::clone(&grid.group.name),
            interval: grid.group.interval,
            next: grid.next,
            has_begun: grid.has_begun,
            may_pass: grid.may_pass,
            due_at: grid.due_at,
            lanes: grid.lanes.iter().map(|(producer, bucket)| (producer.0, *bucket)).collect(),
        };
        self.grids.iter().map(snapshot).collect()
    }

    fn join_snapshots(&self) -> Vec<JoinSnapshot> {
        let of_rule = |(reader, at, due)| match reader {
            Reader::Rule(rule) => Some(JoinSnapshot { rule, at, due }),
            Reader::Verification(_) => None,
        };
        self.joins.waiting().filter_map(of_rule).collect()
    }

    fn scrape_snapshots(&self) -> Vec<ScrapeSnapshot> {
        let rule = |reader: &Reader| match reader {
            Reader::Rule(rule) => Some(*rule),
            Reader::Verification(_) => None,
        };
        let snapshot = |((producer, at), scrape): ((ProducerId, Timestamp), &Scrape)| ScrapeSnapshot {
            producer: producer.0,
            at,
            parts: scrape.parts,
            seen: scrape.seen.iter().copied().collect(),
            forget_at: scrape.forget_at,
            rules: scrape.readers.iter().filter_map(rule).collect(),
        };
        self.joins.scrapes().map(snapshot).collect()
    }

    fn restore_rules(&mut self, producers: &Producers, snapshot: &MonitorSnapshot, places: &[u32]) {
        let find = |key: &RuleKey| self.rules.iter().position(|rule| rule.key == *key).map(place_of);
        let moved: Vec<Option<u32>> = snapshot.rules.iter().map(|rule| find(&rule.key)).collect();
        let to = |rule: u32| moved.get(rule as usize).copied().flatten();
        for (saved, place) in snapshot.rules.iter().zip(&moved) {
            let Some(rule) = place.and_then(|place| self.rules.get_mut(place as usize)) else { continue };
            let state = &mut rule.state;
            (state.evaluated_at, state.read_at) = (saved.evaluated_at, saved.read_at);
            (state.producer, state.expires_at) = (ProducerId(saved.producer), saved.expires_at);
            let recorded = saved.recorded.iter().map(|labels| (labels.clone(), Recorded::RESTORED));
            state.recorded = recorded.collect();
            (state.told_limit, state.told_failure) = (saved.told_limit, saved.told_failure);
        }
        for saved in &snapshot.violations {
            // Firing episodes of rules that are gone are found in the ledger, and ended.
            if let Some(rule) = to(saved.rule) {
                self.restore_violation(producers, rule, saved, places);
            }
        }
        for saved in &snapshot.grids {
            let same = |grid: &&mut super::grid::Grid| {
                grid.group.name == saved.name && grid.group.interval == saved.interval
            };
            if let Some(grid) = self.grids.iter_mut().find(same) {
                (grid.next, grid.has_begun) = (saved.next, saved.has_begun);
                (grid.may_pass, grid.due_at) = (saved.may_pass, saved.due_at);
                grid.lanes = saved.lanes.iter().map(|(lane, bucket)| (ProducerId(*lane), *bucket)).collect();
            }
        }
        for saved in &snapshot.pulses {
            let same = |pulse: &&mut Pulse| pulse.group == saved.name && pulse.interval == saved.interval;
            if let Some(pulse) = self.pulses.iter_mut().find(same) {
                pulse.next = saved.next;
            }
        }
        for saved in &snapshot.joins {
            if let Some(rule) = to(saved.rule) {
                self.joins.restore_wait(Reader::Rule(rule), saved.at, saved.due);
            }
        }
        for saved in &snapshot.scrapes {
            let scrape = Scrape {
                parts: saved.parts,
                seen: saved.seen.iter().copied().collect(),
                forget_at: saved.forget_at,
                readers: saved.rules.iter().filter_map(|rule| to(*rule)).map(Reader::Rule).collect(),
            };
            self.joins.restore_scrape((ProducerId(saved.producer), saved.at), scrape);
        }
        for rule in 0..place_of(self.rules.len()) {
            self.await_expiry(producers, rule);
        }
    }

    fn restore_violation(
        &mut self,
        producers: &Producers,
        rule: u32,
        saved: &ViolationSnapshot,
        places: &[u32],
    ) {
        let series = saved.series.and_then(|number| places.get(number as usize).copied());
        let series = series.filter(|place| *place < FORGOTTEN);
        let known = &self.rules[rule as usize];
        let source = match series {
            Some(series) => Source::Series(series),
            None if saved.is_series_gone || saved.series.is_some() => Source::Gone,
            None => Source::Element,
        };
        let is_grid = matches!(known.path, Path::Grid { .. });
        let place = self.lives.insert(Live {
            rule,
            source,
            element: saved.element.clone(),
            labels: saved.labels.clone(),
            episode: saved.episode,
            course: saved.course,
            expires_at: saved.expires_at,
            producer: ProducerId(saved.producer),
            queued: None,
            seen: 0,
            contradicted: saved.contradicted,
            held_since: saved.held_since,
        });
        self.attach(place);
        if saved.course.rev > 0 {
            self.episodes.restore(saved.episode, saved.course.rev);
        }
        if !is_grid {
            self.schedule(producers, place);
        }
    }
}

/// The number of each place in a list.
fn numbers(places: &[u32], len: usize) -> Vec<u32> {
    let mut numbers = vec![u32::MAX; len];
    for (place, number) in places.iter().zip(0..) {
        numbers[*place as usize] = number;
    }
    numbers
}

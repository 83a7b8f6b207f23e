//! Stories told to a whole monitor, and what always holds. The world around it answers at once and keeps the ledger.

mod intake;
mod properties;
mod recording;
mod restart;
mod stories;
mod verification;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Monitor, MonitorSnapshot};
use crate::engine::{Ask, Configuration, Core, Done, Input, Published, Step, Token};
use crate::model::{
    Batch, Entry, Frame, Generation, Gives, Labels, Phase, Record, Row, Rule, RuleGroup, RuleName,
    ScrapePart, SeriesTable, TableHash, Timestamp, Violation,
};

/// A time in seconds, for stories.
pub(super) fn secs(seconds: f64) -> Timestamp {
    #[expect(clippy::cast_possible_truncation, reason = "small numbers in tests")]
    let millis = (seconds * 1_000.0).round() as i64;
    Timestamp::from_millis(millis)
}

/// A rule, and what most of them do without.
pub(super) fn rule(alert: &str, expr: &str, hold: u64, keep_firing: u64) -> Rule {
    Rule {
        name: RuleName { group: "g".into(), alert: alert.into() },
        gives: Gives::Violations,
        expr: expr.into(),
        hold: Duration::from_secs(hold),
        keep_firing: Duration::from_secs(keep_firing),
        labels: vec![("severity".into(), "warning".into())],
        annotations: vec![("summary".into(), "{{ $labels.job }} is at {{ $value }}".into())],
    }
}

pub(super) fn configuration(generation: u64, interval: Option<u64>, rules: Vec<Rule>) -> Arc<Configuration> {
    let interval = interval.map(Duration::from_secs);
    let group =
        RuleGroup { name: "g".into(), file: "g.yaml".into(), interval, pulse: Duration::from_mins(1), rules };
    Arc::new(Configuration {
        generation: Generation(generation),
        groups: vec![group],
        ..Configuration::default()
    })
}

/// Labels in the notation of PromQL, good enough for tests: `up{job="a",instance="b"}`.
pub(super) fn series(text: &str) -> Labels {
    let (name, rest) = text.split_once('{').unwrap_or((text, "}"));
    let pairs = rest.trim_end_matches('}').split(',').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap();
        (name.to_string(), value.trim_matches('"').to_string())
    });
    Labels::new([("__name__".to_string(), name.to_string())].into_iter().chain(pairs)).unwrap()
}

/// Everything around a monitor.
pub(super) struct World {
    pub(super) monitor: Monitor,
    pub(super) now: Timestamp,
    pub(super) wake_at: Option<Timestamp>,
    pub(super) ledger: Vec<Arc<Record>>,
    pub(super) done: Vec<(Token, Done)>,
    pub(super) asked: Vec<Ask>,
    /// Whether publishes are answered.
    pub(super) answers: bool,
    /// Batches that the ledger will not have.
    pub(super) refuses: fn(&Batch) -> bool,
    sequences: BTreeMap<(String, u32), u64>,
    /// Tables that were sent.
    tables: BTreeSet<TableHash>,
}

impl World {
    pub(super) fn new(configuration: Arc<Configuration>) -> Self {
        Self::around(Monitor::new("cell".into(), "one".into(), configuration))
    }

    pub(super) fn around(monitor: Monitor) -> Self {
        Self {
            monitor,
            now: secs(0.0),
            wake_at: None,
            ledger: Vec::new(),
            done: Vec::new(),
            asked: Vec::new(),
            answers: true,
            refuses: |_| false,
            sequences: BTreeMap::new(),
            tables: BTreeSet::new(),
        }
    }

    /// The same world with a monitor that was restored from a checkpoint, or one that knows nothing.
    pub(super) fn restart(
        mut self,
        configuration: Arc<Configuration>,
        snapshot: Option<MonitorSnapshot>,
    ) -> Self {
        let (cell, instance) = ("cell".into(), "two".into());
        if snapshot.is_none() {
            self.tables.clear();
        }
        self.monitor = match snapshot {
            Some(snapshot) => Monitor::restore(cell, instance, configuration, snapshot),
            None => Monitor::new(cell, instance, configuration),
        };
        self.wake_at = None;
        let ledger = self.ledger.clone();
        self.handle(Input::Ledger(ledger));
        self
    }

    /// Lets time pass up to and including `at`.
    pub(super) fn run_until(&mut self, at: Timestamp) {
        while let Some(wake_at) = self.wake_at.filter(|wake_at| *wake_at <= at) {
            self.now = wake_at;
            self.wake_at = None;
            let step = self.monitor.tick(wake_at);
            self.carry_out(step);
        }
        self.now = self.now.max(at);
    }

    pub(super) fn handle(&mut self, input: Input) {
        let step = self.monitor.handle(self.now, input);
        self.carry_out(step);
    }

    fn carry_out(&mut self, step: Step) {
        let mut steps = vec![step];
        while let Some(step) = steps.pop() {
            if let Some(wake_at) = step.wake_at {
                assert!(wake_at > self.now, "wakes at {wake_at}, now is {}", self.now);
            }
            self.wake_at = step.wake_at;
            self.done.extend(step.done);
            self.asked.extend(step.ask);
            for emit in step.emit {
                if !self.answers {
                    continue;
                }
                if (self.refuses)(&emit.batch) {
                    let (ticket, result) = (emit.ticket, Published::Refused);
                    steps.push(self.monitor.handle(self.now, Input::Published { ticket, result }));
                    continue;
                }
                let known = self
                    .ledger
                    .iter()
                    .find(|record| record.batch.id == emit.batch.id)
                    .map(|record| record.sequence);
                let sequence = known.unwrap_or(self.ledger.len() as u64 + 1);
                let record = Arc::new(Record {
                    sequence,
                    stored_at: self.now,
                    topic: emit.topic,
                    batch: Arc::clone(&emit.batch),
                });
                let result = Published::Stored { sequence, duplicate: known.is_some() };
                steps.push(self.monitor.handle(self.now, Input::Published { ticket: emit.ticket, result }));
                if known.is_none() {
                    self.ledger.push(Arc::clone(&record));
                    steps.push(self.monitor.handle(self.now, Input::Ledger(vec![record])));
                }
            }
        }
    }

    /// Appends to the ledger what somebody else has decided.
    pub(super) fn record(&mut self, topic: crate::model::Topic, entries: Vec<Entry>) {
        let sequence = self.ledger.len() as u64 + 1;
        let batch = crate::model::Batch {
            id: crate::model::MessageId::of(&[&sequence]),
            role: crate::model::Role::Executor,
            instance: "other".into(),
            at: self.now,
            basis: crate::model::Basis::default(),
            trace: 0,
            entries,
        };
        let record = Arc::new(Record { sequence, stored_at: self.now, topic, batch: batch.into() });
        self.ledger.push(Arc::clone(&record));
        self.handle(Input::Ledger(vec![record]));
    }

    pub(super) fn send_table(&mut self, series: &[Labels]) -> SeriesTable {
        let table = SeriesTable::new(series.to_vec());
        if self.tables.insert(table.hash) {
            self.handle(Input::Table(table.clone()));
        }
        table
    }

    pub(super) fn frame(
        &mut self,
        producer: &str,
        table: &SeriesTable,
        scrape: Option<ScrapePart>,
        rows: Vec<Row>,
    ) -> Frame {
        let sequence = self.sequences.entry((producer.into(), 0)).or_default();
        *sequence += 1;
        let sequence = *sequence;
        Frame { producer: producer.into(), epoch: 1, sequence, bucket: 0, scrape, table: table.hash, rows }
    }

    /// A whole scrape at `at`, that arrives at once.
    pub(super) fn scrape(&mut self, at: Timestamp, samples: &[(&str, f64)]) {
        self.run_until(at);
        let labels: Vec<Labels> = samples.iter().map(|(text, _)| series(text)).collect();
        let table = self.send_table(&labels);
        let rows = samples.iter().zip(0..).map(|((_, value), series)| Row { series, at, value: *value });
        let part = Some(ScrapePart { part: 0, parts: 1 });
        let frame = self.frame("p", &table, part, rows.collect());
        self.handle(Input::Frame(frame));
    }

    /// Violations in the ledger, in its order.
    pub(super) fn violations(&self) -> impl Iterator<Item = &Violation> {
        self.ledger
            .iter()
            .flat_map(|record| &record.batch.entries)
            .filter_map(Entry::as_violation)
            .map(AsRef::as_ref)
    }

    /// The violations as lines: when, what, phase.
    pub(super) fn story(&self) -> Vec<String> {
        self.violations().map(line).collect()
    }

    pub(super) fn reports(&self) -> Vec<String> {
        let entries = self.ledger.iter().flat_map(|record| &record.batch.entries);
        entries
            .filter_map(|entry| if let Entry::Report(report) = entry { Some(report) } else { None })
            .map(|report| format!("{} {}", report.reason.as_str(), report.text))
            .collect()
    }
}

/// `12.5 s Alert{job="a"} firing since 2.5 = 7`
pub(super) fn line(violation: &Violation) -> String {
    let labels = violation.labels.filter(|name| name != "alertname" && name != "severity");
    let phase = match violation.phase {
        Phase::Pending => "pending",
        Phase::Firing => "firing",
        Phase::Resolved => "resolved",
    };
    let seconds = |at: Timestamp| at.as_millis() as f64 / 1_000.0;
    format!(
        "{} s {}{labels} {phase} since {} = {}",
        seconds(violation.at),
        violation.rule.alert,
        seconds(violation.since),
        violation.value
    )
}

//! The transitions as the monitor decides them.

use std::sync::Arc;
use std::time::Duration;

use homeostat::engine::monitor::Monitor;
use homeostat::engine::{Configuration, Core, Input, Published, Step};
use homeostat::model::{
    Entry, Frame, Generation, Phase, Row, RuleGroup, ScrapePart, SeriesTable, TableHash, Timestamp,
};

use crate::made::Made;

/// Series in one frame.
const ROWS_MAX: usize = 500;

/// Violations in the order of time, up to the end of what was made.
pub(crate) fn transitions(group: &RuleGroup, made: &Made) -> Vec<String> {
    let configuration =
        Configuration { generation: Generation(1), groups: vec![group.clone()], ..Configuration::default() };
    let monitor = Monitor::new("cell".into(), "one".into(), Arc::new(configuration));
    let mut world = World { monitor, wake_at: None, violations: Vec::new(), sequence: 0 };
    let tables: Vec<SeriesTable> =
        made.series.chunks(ROWS_MAX).map(|chunk| SeriesTable::new(chunk.to_vec())).collect();
    for table in &tables {
        world.handle(made.scrapes[0].0, Input::Table(table.clone()));
    }
    let hashes: Vec<TableHash> = tables.iter().map(|table| table.hash).collect();
    for (at, rows) in &made.scrapes {
        world.run_until(*at);
        world.scrape(*at, rows, &hashes);
    }
    world.run_until(made.end + Duration::from_secs(30));
    let mut violations = world.violations;
    violations.retain(|(at, since, _)| *at <= made.end && *since > made.begin);
    violations.sort_by(|(one, _, line), (other, _, told)| (one, line).cmp(&(other, told)));
    violations.into_iter().map(|(.., line)| line).collect()
}

struct World {
    monitor: Monitor,
    wake_at: Option<Timestamp>,
    violations: Vec<(Timestamp, Timestamp, String)>,
    sequence: u64,
}

impl World {
    fn scrape(&mut self, at: Timestamp, rows: &[(u16, f64)], tables: &[TableHash]) {
        let parts: Vec<Vec<Row>> = (0..tables.len())
            .map(|part| {
                let of_part = rows.iter().filter(|(place, _)| usize::from(*place) / ROWS_MAX == part);
                let row = |(place, value): &(u16, f64)| Row {
                    series: *place % u16::try_from(ROWS_MAX).unwrap(),
                    at,
                    value: *value,
                };
                of_part.map(row).collect()
            })
            .collect();
        for (part, (rows, table)) in parts.into_iter().zip(tables).enumerate() {
            self.sequence += 1;
            let scrape = ScrapePart {
                part: u16::try_from(part).unwrap(),
                parts: u16::try_from(tables.len()).unwrap(),
            };
            let frame = Frame {
                producer: "p".into(),
                epoch: 1,
                sequence: self.sequence,
                bucket: 0,
                scrape: Some(scrape),
                table: *table,
                rows,
            };
            self.handle(at, Input::Frame(frame));
        }
    }

    fn run_until(&mut self, at: Timestamp) {
        while let Some(wake_at) = self.wake_at.filter(|wake_at| *wake_at <= at) {
            self.wake_at = None;
            let step = self.monitor.tick(wake_at);
            self.carry_out(wake_at, step);
        }
    }

    fn handle(&mut self, now: Timestamp, input: Input) {
        let step = self.monitor.handle(now, input);
        self.carry_out(now, step);
    }

    /// The ledger takes everything at once.
    fn carry_out(&mut self, now: Timestamp, step: Step) {
        self.wake_at = step.wake_at;
        for (sequence, emit) in (1..).zip(step.emit) {
            for violation in emit.batch.entries.iter().filter_map(Entry::as_violation) {
                let phase = match violation.phase {
                    Phase::Pending => "pending",
                    Phase::Firing => "firing",
                    Phase::Resolved => "resolved",
                };
                let (at, labels, since) = (violation.at, &violation.labels, violation.since);
                self.violations.push((at, since, format!("{at} {labels} {phase} since {since}")));
            }
            let result = Published::Stored { sequence, duplicate: false };
            let step = self.monitor.handle(now, Input::Published { ticket: emit.ticket, result });
            self.carry_out(now, step);
        }
    }
}

//! What a record of the ledger leaves in the store.
//!
//! Everything about an incident is kept under the incident's id in the order of the ledger, so that an explanation is one
//! scan; small indexes lead there from a plan, an action or an analysis. In front of the rows of an incident stands its
//! head: how many rows there are.
//!
//! What one record says never ends the role: a row that the store cannot take is left out, counted and told.

use std::sync::Arc;

use super::KnowledgeError;
use super::rings::Ring;
use super::writing::Writing;
use crate::engine::fold::Effectiveness;
use crate::model::{Admission, Batch, Entry, IncidentId, Plan, Record, Topic, Verdict, Violation};
use crate::store::{KeyRange, Table, VALUE_BYTES_MAX};
use crate::telemetry;
use crate::wire::{self, knowledge::LearnedRow};

/// Rows of one incident that are kept: one that flaps for months says the same over and over; the oldest go first.
pub(super) const ROWS_PER_INCIDENT_MAX: u32 = 2_000;
/// Rows that go at once where an incident has too many.
const ROWS_SHORTENED_AT_ONCE: usize = 200;
/// Rows of an incident that are looked at in one go.
const PAGE_ROWS: usize = 64;
/// A verdict and what it teaches, with their counts: they stand in one piece, or a verdict would be learned twice.
const ROWS_PER_VERDICT: usize = 12;
/// A row with its count, its index and the head of its incident.
const ROWS_AROUND_ONE: usize = 6;

/// Adds what a record says. Applying it twice writes the same rows.
pub(super) fn remember(writing: &mut Writing<'_>, record: &Record) -> Result<(), KnowledgeError> {
    // What the store has is not looked through again.
    if record.sequence <= writing.store().applied() {
        return Ok(());
    }
    remember_entries(writing, record)?;
    writing.reach(record.sequence, record.stored_at);
    Ok(())
}

pub(super) fn remember_entries(writing: &mut Writing<'_>, record: &Record) -> Result<(), KnowledgeError> {
    for (index, entry) in record.batch.entries.iter().enumerate() {
        match remember_entry(writing, record, index, entry) {
            Ok(()) => {}
            Err(error) if error.is_about_the_record() => {
                let cause = super::explain(&error);
                tracing::error!(sequence = record.sequence, entry = index, %cause, "an entry of the ledger is not kept");
                telemetry::knowledge_left_out();
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn remember_entry(
    writing: &mut Writing<'_>,
    record: &Record,
    index: usize,
    entry: &Entry,
) -> Result<(), KnowledgeError> {
    // Not the batch with one entry left: copying 256 of them for each of 256 is what storms were slow at.
    let Batch { id: message, role, ref instance, at, basis, trace, entries: _ } = *record.batch;
    let entries = vec![entry.clone()];
    let batch = Batch { id: message, role, instance: Arc::clone(instance), at, basis, trace, entries };
    let alone = Record { batch: Arc::new(batch), ..*record };
    let row = wire::ledger::keep(&alone)?;
    if row.len() > VALUE_BYTES_MAX {
        return Err(KnowledgeError::TooLarge { bytes: row.len() });
    }
    let place = place(record.sequence, index);
    match entry {
        Entry::Violation(violation) => remember_violation(writing, violation, &place, &row),
        Entry::Incident(incident) => match record.topic {
            Topic::Analyses(_) => about(writing, incident.id, &place, &row),
            // Copies for subscribers say nothing new.
            Topic::Incidents(_)
            | Topic::Violations(_)
            | Topic::Plans
            | Topic::Admission
            | Topic::Outcomes(_)
            | Topic::Verdicts(_)
            | Topic::Reports(_)
            | Topic::Changes
            | Topic::Control => Ok(()),
        },
        Entry::Analysis(analysis) => {
            about(writing, analysis.incident, &place, &row)?;
            writing.put(Table::Analyses, &id(analysis.id.as_u128()), &id(analysis.incident.as_u128()))
        }
        Entry::Plan(plan) => {
            about(writing, plan.incident, &place, &row)?;
            index_plan(writing, plan)
        }
        Entry::Admission(Admission::Intent(intent)) => about(writing, intent.incident, &place, &row),
        Entry::Admission(Admission::Release(release)) => about(writing, release.incident, &place, &row),
        Entry::Outcome(outcome) => about(writing, outcome.incident, &place, &row),
        Entry::Verdict(verdict) => {
            about(writing, verdict.incident, &place, &row)?;
            learn(writing, record, verdict)
        }
        Entry::Report(report) => {
            if let Some(incident) = report.incident {
                about(writing, incident, &place, &row)?;
            }
            in_order(writing, Ring::Reports, &place, &row)
        }
        Entry::Change(_) => in_order(writing, Ring::Changes, &place, &row),
        Entry::Admission(Admission::Halt { .. } | Admission::Resume { .. } | Admission::Charter { .. })
        | Entry::Applied { .. } => in_order(writing, Ring::Control, &place, &row),
    }
}

/// A row of a table that is kept in the order of the ledger.
fn in_order(writing: &mut Writing<'_>, ring: Ring, place: &[u8], row: &[u8]) -> Result<(), KnowledgeError> {
    writing.make_room(ROWS_AROUND_ONE, row.len())?;
    if writing.get(ring.table(), place)?.is_none() {
        writing.count_up(ring)?;
    }
    writing.put(ring.table(), place, row)
}

fn remember_violation(
    writing: &mut Writing<'_>,
    violation: &Violation,
    place: &[u8],
    row: &[u8],
) -> Result<(), KnowledgeError> {
    writing.make_room(ROWS_AROUND_ONE, row.len())?;
    let key = join(&id(violation.episode.as_u128()), &violation.rev.to_be_bytes());
    // What comes again at another place is what came first.
    if writing.get(Table::Violations, &key)?.is_some() {
        return Ok(());
    }
    writing.put(Table::Violations, &key, row)?;
    writing.put(Table::ByTime, &Ring::Violations.by_time(place, &key), &[])?;
    writing.count_up(Ring::Violations)
}

/// A row about an incident, which begins to be known with the first one.
fn about(
    writing: &mut Writing<'_>,
    incident: IncidentId,
    place: &[u8],
    row: &[u8],
) -> Result<(), KnowledgeError> {
    let incident = id(incident.as_u128());
    let known = writing.get(Table::Incidents, &incident)?;
    let mut head = known.as_deref().and_then(Head::read);
    if let Some(full) = &mut head
        && full.rows >= ROWS_PER_INCIDENT_MAX
    {
        full.rows -= shorten(writing, &incident)?;
    }
    writing.make_room(ROWS_AROUND_ONE, row.len())?;
    let mut head = if let Some(head) = head {
        head
    } else {
        writing.put(Table::ByTime, &Ring::Incidents.by_time(place, &incident), &[])?;
        writing.count_up(Ring::Incidents)?;
        Head { rows: 0 }
    };
    let key = join(&incident, place);
    if writing.get(Table::Incidents, &key)?.is_none() {
        head.rows += 1;
    }
    writing.put(Table::Incidents, &incident, &head.encode())?;
    writing.put(Table::Incidents, &key, row)
}

fn index_plan(writing: &mut Writing<'_>, plan: &Plan) -> Result<(), KnowledgeError> {
    let incident = id(plan.incident.as_u128());
    writing.put(Table::Plans, &id(plan.id.as_u128()), &incident)?;
    for action in plan.steps.iter().chain(&plan.undo) {
        writing.put(Table::Actions, &id(action.id.as_u128()), &incident)?;
    }
    Ok(())
}

/// The first verdict on a plan counts, as in the fold.
fn learn(writing: &mut Writing<'_>, record: &Record, verdict: &Verdict) -> Result<(), KnowledgeError> {
    writing.make_room(ROWS_PER_VERDICT, 4 * wire::TEXT_BYTES_MAX)?;
    let plan = id(verdict.plan.as_u128());
    if writing.get(Table::Verdicts, &plan)?.is_some() {
        return Ok(());
    }
    writing.put(Table::Verdicts, &plan, verdict.kind.as_str().as_bytes())?;
    for scope in [None, Some(&verdict.scope)] {
        let key = wire::knowledge::learned_key(&verdict.playbook, &verdict.cause, scope);
        let known = if let Some(row) = writing.get(Table::Learned, &key)? {
            wire::knowledge::decode_learned(&row)?.effectiveness
        } else {
            writing.count_up(Ring::Learned)?;
            Effectiveness::unknown(record.stored_at)
        };
        let row = LearnedRow {
            playbook: verdict.playbook.to_string(),
            cause: verdict.cause.to_string(),
            scope: scope.cloned(),
            effectiveness: known.taught(verdict.kind, record.stored_at),
        };
        writing.put(Table::Learned, &key, &wire::knowledge::encode_learned(&row)?)?;
    }
    Ok(())
}

/// Drops the oldest rows of an incident that has too many; how many.
fn shorten(writing: &mut Writing<'_>, incident: &[u8]) -> Result<u32, KnowledgeError> {
    writing.store_piece()?;
    let page = writing.store().scan(Table::Incidents, &rows_of(incident), ROWS_SHORTENED_AT_ONCE)?;
    for row in &page.records {
        forget_row(writing, &row.key, &row.value)?;
    }
    let count = page.records.len();
    telemetry::knowledge_dropped("incident_rows", count as u64);
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Drops an incident, in as many pieces as it takes; its head goes last, so that what a crash leaves is found again.
pub(super) fn forget(writing: &mut Writing<'_>, by_time: &[u8]) -> Result<(), KnowledgeError> {
    let Some(incident) = Ring::subject(by_time) else {
        return writing.delete(Table::ByTime, by_time);
    };
    let mut rows = rows_of(incident);
    loop {
        let page = writing.store().scan(Table::Incidents, &rows, PAGE_ROWS)?;
        for row in &page.records {
            forget_row(writing, &row.key, &row.value)?;
        }
        match page.records.last() {
            Some(last) if page.more => rows = rows.after(&last.key),
            Some(_) | None => break,
        }
    }
    writing.make_room(ROWS_AROUND_ONE, 0)?;
    writing.delete(Table::Incidents, incident)?;
    writing.delete(Table::ByTime, by_time)?;
    writing.count_down(Ring::Incidents)
}

/// The indexes first: they are found by the row.
fn forget_row(writing: &mut Writing<'_>, key: &[u8], row: &[u8]) -> Result<(), KnowledgeError> {
    // A row that cannot be read any more has indexes that lead nowhere; those are few and small.
    if let Ok(record) = wire::ledger::kept(row) {
        for (table, key) in indexes(&record) {
            writing.delete(table, &key)?;
        }
    }
    writing.delete(Table::Incidents, key)
}

/// The rows elsewhere that lead to a row of an incident.
fn indexes(record: &Record) -> Vec<(Table, [u8; 16])> {
    let mut rows = Vec::new();
    for entry in &record.batch.entries {
        match entry {
            Entry::Plan(plan) => {
                rows.push((Table::Plans, id(plan.id.as_u128())));
                let actions = plan.steps.iter().chain(&plan.undo);
                rows.extend(actions.map(|action| (Table::Actions, id(action.id.as_u128()))));
            }
            Entry::Verdict(verdict) => rows.push((Table::Verdicts, id(verdict.plan.as_u128()))),
            Entry::Analysis(analysis) => rows.push((Table::Analyses, id(analysis.id.as_u128()))),
            Entry::Incident(_)
            | Entry::Violation(_)
            | Entry::Admission(_)
            | Entry::Outcome(_)
            | Entry::Report(_)
            | Entry::Change(_)
            | Entry::Applied { .. } => {}
        }
    }
    rows
}

/// What stands in front of the rows of an incident.
struct Head {
    /// How many there are.
    rows: u32,
}

impl Head {
    fn encode(&self) -> [u8; 4] {
        self.rows.to_be_bytes()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        Some(Self { rows: u32::from_be_bytes(bytes.try_into().ok()?) })
    }
}

/// The key of an id.
pub(super) fn id(bits: u128) -> [u8; 16] {
    bits.to_be_bytes()
}

/// The rows of an incident, without its head.
pub(super) fn rows_of(incident: &[u8]) -> KeyRange {
    KeyRange::prefix(incident).after(incident)
}

fn place(sequence: u64, index: usize) -> Vec<u8> {
    join(&sequence.to_be_bytes(), &u16::try_from(index).unwrap_or(u16::MAX).to_be_bytes())
}

pub(super) fn join(head: &[u8], tail: &[u8]) -> Vec<u8> {
    [head, tail].concat()
}

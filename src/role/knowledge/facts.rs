//! What a record of the ledger leaves in the store.
//!
//! Everything about an incident is kept under the incident's id in the order of the ledger, so that an explanation is one
//! scan; small indexes lead there from a plan, an action or an episode.

use std::sync::Arc;

use super::KnowledgeError;
use crate::engine::fold::Effectiveness;
use crate::model::{Admission, Batch, Entry, IncidentId, Record, Topic, Verdict};
use crate::store::{Change, KeyRange, Store, Table};
use crate::wire::{self, knowledge::LearnedRow};

/// Incidents that are kept; the oldest goes first. At about 10 KiB each a store stays below a gigabyte.
pub(super) const INCIDENTS_MAX: u64 = 50_000;
/// Incidents that are dropped in one change.
const DROPPED_AT_ONCE_MAX: usize = 16;
/// Rows of one incident that are looked at in one go.
const ROWS_MAX: usize = 1_000;

/// The key of the count of incidents.
const INCIDENT_COUNT: &[u8] = b"incidents";

/// What was known before a record: the store, and the changes that are on their way into it.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    store: &'a Store,
    pending: Option<&'a Change>,
}

impl<'a> Known<'a> {
    pub(super) const fn new(store: &'a Store, pending: Option<&'a Change>) -> Self {
        Self { store, pending }
    }

    fn get(self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, KnowledgeError> {
        match self.pending.and_then(|pending| pending.get(table, key)) {
            Some(pending) => Ok(pending.map(<[u8]>::to_vec)),
            None => Ok(self.store.get(table, key)?),
        }
    }

    /// How many incidents are kept.
    fn count(self) -> Result<u64, KnowledgeError> {
        let row = self.get(Table::Meta, INCIDENT_COUNT)?;
        Ok(row.and_then(|row| <[u8; 8]>::try_from(row).ok()).map_or(0, u64::from_be_bytes))
    }
}

/// Adds what a record says, and drops the oldest incidents where they become too many; whether it dropped any. Applying it twice
/// writes the same rows.
pub(super) fn remember(
    known: Known<'_>,
    change: &mut Change,
    record: &Record,
) -> Result<bool, KnowledgeError> {
    let mut added = 0;
    for (index, entry) in record.batch.entries.iter().enumerate() {
        remember_entry(known, change, record, index, entry)?;
        // Copies for subscribers say nothing new.
        if let (Topic::Analyses(_), Some(incident)) = (record.topic, entry.as_incident())
            && incident.rev == 1
            && first_seen(known, change, record, incident.id)?
        {
            added += 1;
        }
    }
    if added == 0 {
        return Ok(false);
    }
    let count = known.count()?;
    let dropped = forget(known.store, change, count + added)?;
    change.put(Table::Meta, INCIDENT_COUNT, &(count + added - dropped).to_be_bytes())?;
    Ok(dropped > 0)
}

fn remember_entry(
    known: Known<'_>,
    change: &mut Change,
    record: &Record,
    index: usize,
    entry: &Entry,
) -> Result<(), KnowledgeError> {
    // Not the batch with one entry left: copying 256 of them for each of 256 is what storms were slow at.
    let Batch { id: message, role, ref instance, at, basis, trace, entries: _ } = record.batch;
    let entries = vec![entry.clone()];
    let batch = Batch { id: message, role, instance: Arc::clone(instance), at, basis, trace, entries };
    let alone = Record { batch, ..*record };
    let row = wire::ledger::keep(&alone)?;
    let place = place(record.sequence, index);
    let about = |change: &mut Change, incident: IncidentId| -> Result<(), KnowledgeError> {
        change.put(Table::Incidents, &join(&id(incident.as_u128()), &place), &row)?;
        Ok(())
    };
    match entry {
        Entry::Violation(violation) => {
            let key = join(&id(violation.episode.as_u128()), &violation.rev.to_be_bytes());
            change.put(Table::Violations, &key, &row)?;
        }
        Entry::Incident(incident) => {
            if matches!(record.topic, Topic::Analyses(_)) {
                about(change, incident.id)?;
            }
        }
        Entry::Analysis(analysis) => {
            about(change, analysis.incident)?;
            change.put(Table::Analyses, &id(analysis.id.as_u128()), &id(analysis.incident.as_u128()))?;
        }
        Entry::Plan(plan) => {
            about(change, plan.incident)?;
            let incident = id(plan.incident.as_u128());
            change.put(Table::Plans, &id(plan.id.as_u128()), &incident)?;
            for action in plan.steps.iter().chain(&plan.undo) {
                change.put(Table::Actions, &id(action.id.as_u128()), &incident)?;
            }
        }
        Entry::Admission(Admission::Intent(intent)) => about(change, intent.incident)?,
        Entry::Admission(Admission::Release(release)) => about(change, release.incident)?,
        Entry::Outcome(outcome) => about(change, outcome.incident)?,
        Entry::Verdict(verdict) => {
            about(change, verdict.incident)?;
            learn(known, change, record, verdict)?;
        }
        Entry::Report(report) => {
            if let Some(incident) = report.incident {
                about(change, incident)?;
            }
            change.put(Table::Reports, &place, &row)?;
        }
        Entry::Change(_) => change.put(Table::Changes, &place, &row)?,
        Entry::Admission(Admission::Halt { .. } | Admission::Resume { .. } | Admission::Charter { .. })
        | Entry::Applied { .. } => change.put(Table::Control, &place, &row)?,
    }
    Ok(())
}

/// The first verdict on a plan counts, as in the fold.
fn learn(
    known: Known<'_>,
    change: &mut Change,
    record: &Record,
    verdict: &Verdict,
) -> Result<(), KnowledgeError> {
    let plan = id(verdict.plan.as_u128());
    if known.get(Table::Verdicts, &plan)?.is_some() {
        return Ok(());
    }
    change.put(Table::Verdicts, &plan, verdict.kind.as_str().as_bytes())?;
    for scope in [None, Some(&verdict.scope)] {
        let key = wire::knowledge::learned_key(&verdict.playbook, &verdict.cause, scope);
        let effectiveness = match known.get(Table::Learned, &key)? {
            Some(row) => wire::knowledge::decode_learned(&row)?.effectiveness,
            None => Effectiveness::unknown(record.stored_at),
        };
        let row = LearnedRow {
            playbook: verdict.playbook.to_string(),
            cause: verdict.cause.to_string(),
            scope: scope.cloned(),
            effectiveness: effectiveness.taught(verdict.kind, record.stored_at),
        };
        change.put(Table::Learned, &key, &wire::knowledge::encode_learned(&row)?)?;
    }
    Ok(())
}

/// Notes when an incident began; whether that was not known.
fn first_seen(
    known: Known<'_>,
    change: &mut Change,
    record: &Record,
    incident: IncidentId,
) -> Result<bool, KnowledgeError> {
    let by_time = join(&record.sequence.to_be_bytes(), &id(incident.as_u128()));
    if known.get(Table::ByTime, &by_time)?.is_some() {
        return Ok(false);
    }
    change.put(Table::ByTime, &by_time, &[])?;
    Ok(true)
}

/// How many incidents are kept.
pub(super) fn count(store: &Store) -> Result<u64, KnowledgeError> {
    Known::new(store, None).count()
}

/// Drops the oldest incidents that are too many, with their indexes and violations; how many.
fn forget(store: &Store, change: &mut Change, kept: u64) -> Result<u64, KnowledgeError> {
    let surplus = usize::try_from(kept.saturating_sub(INCIDENTS_MAX)).unwrap_or(0).min(DROPPED_AT_ONCE_MAX);
    if surplus == 0 {
        return Ok(0);
    }
    for oldest in store.scan(Table::ByTime, &KeyRange::all(), surplus)?.records {
        let Some(incident) = oldest.key.get(8..24) else { continue };
        for row in store.scan(Table::Incidents, &KeyRange::prefix(incident), ROWS_MAX)?.records {
            for (table, key) in
                wire::ledger::kept(&row.value).map(|record| indexes(&record)).unwrap_or_default()
            {
                change.delete(table, &key)?;
            }
            change.delete(Table::Incidents, &row.key)?;
        }
        change.delete(Table::ByTime, &oldest.key)?;
    }
    Ok(surplus as u64)
}

/// The rows elsewhere that lead to a row of an incident.
fn indexes(record: &Record) -> Vec<(Table, Vec<u8>)> {
    let mut rows = Vec::new();
    for entry in &record.batch.entries {
        match entry {
            Entry::Plan(plan) => {
                rows.push((Table::Plans, id(plan.id.as_u128()).to_vec()));
                rows.push((Table::Verdicts, id(plan.id.as_u128()).to_vec()));
                let actions = plan.steps.iter().chain(&plan.undo);
                rows.extend(actions.map(|action| (Table::Actions, id(action.id.as_u128()).to_vec())));
            }
            Entry::Analysis(analysis) => rows.push((Table::Analyses, id(analysis.id.as_u128()).to_vec())),
            Entry::Incident(incident) => {
                // An episode has few revisions: firing, resolved.
                let revisions =
                    incident.joined.iter().flat_map(|episode| (1..=4_u32).map(move |rev| (episode, rev)));
                rows.extend(revisions.map(|(episode, rev)| {
                    (Table::Violations, join(&id(episode.as_u128()), &rev.to_be_bytes()))
                }));
            }
            Entry::Violation(_)
            | Entry::Admission(_)
            | Entry::Outcome(_)
            | Entry::Verdict(_)
            | Entry::Report(_)
            | Entry::Change(_)
            | Entry::Applied { .. } => {}
        }
    }
    rows
}

/// The key of an id.
pub(super) fn id(bits: u128) -> [u8; 16] {
    bits.to_be_bytes()
}

fn place(sequence: u64, index: usize) -> Vec<u8> {
    join(&sequence.to_be_bytes(), &u16::try_from(index).unwrap_or(u16::MAX).to_be_bytes())
}

fn join(head: &[u8], tail: &[u8]) -> Vec<u8> {
    [head, tail].concat()
}

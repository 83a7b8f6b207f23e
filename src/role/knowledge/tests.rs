//! What all tests of the module need, and stories about records that once ended the process.

use std::sync::Arc;
use std::time::Duration;

use super::rings::{self, Ring};
use super::*;
use crate::model::{
    Analysis, AnalysisId, Basis, Cause, Change as ChangeEntry, ChangeKind, Confidence, Entry, EpisodeId,
    Generation, Incident, IncidentId, IncidentPhase, Labels, MessageId, Phase, Role, RuleName, Severity,
    Shard, Topic, Violation,
};
use crate::store::{KeyRange, Table};

/// A folder for one store.
pub(super) struct Home(tempfile::TempDir);

impl Home {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn open(&self) -> Knowledge {
        Knowledge::open(&self.0.path().join("knowledge"), Timestamp::from_millis(1)).unwrap()
    }
}

pub(super) fn record(sequence: u64, at: i64, topic: Topic, entries: Vec<Entry>) -> Record {
    let at = Timestamp::from_millis(at);
    let batch = crate::model::Batch {
        id: MessageId::of(&[&sequence]),
        role: Role::Analyzer,
        instance: "a".into(),
        at,
        basis: Basis { ledger: 0, generation: Generation(1) },
        trace: 0,
        entries,
    };
    Record { sequence, stored_at: at, topic, batch: batch.into() }
}

fn incident_id(n: u64) -> IncidentId {
    IncidentId::of(&[&n])
}

pub(super) fn incident(n: u64) -> Entry {
    revision(n, 1, Vec::new())
}

fn revision(n: u64, rev: u32, joined: Vec<EpisodeId>) -> Entry {
    let at = Timestamp::from_millis(0);
    Entry::Incident(Arc::new(Incident {
        id: incident_id(n),
        rev,
        phase: IncidentPhase::Open,
        scope: Labels::empty(),
        severity: Severity::Info,
        violations: 1,
        opened_at: at,
        changed_at: at,
        joined,
    }))
}

fn analysis(n: u64, rev: u32, evidence: Vec<Arc<str>>) -> Entry {
    let (scope, confidence) = (Labels::empty(), Confidence::new(0.5).unwrap());
    Entry::Analysis(Arc::new(Analysis {
        id: AnalysisId::of(&[&n, &u64::from(rev)]),
        incident: incident_id(n),
        incident_rev: rev,
        patterns: Vec::new(),
        causes: vec![Cause { name: "c".into(), scope, confidence, evidence }],
    }))
}

pub(super) fn change(n: u64) -> Entry {
    let at = Timestamp::from_millis(i64::try_from(n).unwrap());
    Entry::Change(Arc::new(ChangeEntry::new(ChangeKind::Deploy, Labels::empty(), at, "v2")))
}

pub(super) fn violation(n: u64) -> Entry {
    let at = Timestamp::from_millis(0);
    Entry::Violation(Arc::new(Violation {
        episode: EpisodeId::of(&[&n]),
        rev: 1,
        rule: RuleName { group: "g".into(), alert: "a".into() },
        severity: Severity::Info,
        phase: Phase::Firing,
        labels: Labels::empty(),
        annotations: Vec::new(),
        since: at,
        at,
        value: 1.0,
        sample_interval: Duration::ZERO,
    }))
}

const ANALYSES: Topic = Topic::Analyses(Shard(0));

fn rows(knowledge: &Knowledge, table: Table) -> usize {
    knowledge.store().scan(table, &KeyRange::all(), 10_000).unwrap().records.len()
}

#[test]
fn an_entry_that_is_too_large_is_left_out_and_the_rest_is_kept() {
    let home = Home::new();
    let knowledge = home.open();
    let evidence = vec!["x".repeat(60_000).into(); 8];
    let entries = vec![incident(1), analysis(1, 1, evidence), incident(2), analysis(2, 1, vec!["e".into()])];
    knowledge.remember(&[record(7, 0, ANALYSES, entries)]).unwrap();
    assert_eq!(knowledge.applied(), 7);
    assert_eq!(rows(&knowledge, Table::Analyses), 1);
    let chain = |n| knowledge.answer(&Question::Explain { id: incident_id(n).to_string() }).unwrap().unwrap();
    assert_eq!(chain(1)["chain"].as_array().unwrap().len(), 1);
    assert_eq!(chain(2)["chain"].as_array().unwrap().len(), 2);
    knowledge.remember(&[record(8, 0, ANALYSES, vec![incident(3)])]).unwrap();
    assert_eq!(rings::count(knowledge.store(), Ring::Incidents).unwrap(), 3);
}

#[test]
fn an_incident_of_any_size_is_forgotten_in_pieces() {
    let home = Home::new();
    let knowledge = home.open();
    // The largest batches that the ledger takes, of a storm.
    let mut sequence = 0;
    for lot in 0..4_u32 {
        let revisions = (1..=128_u32).flat_map(|n| {
            let rev = lot * 128 + n;
            let joined = (0..40_u64).map(|episode| EpisodeId::of(&[&u64::from(rev), &episode])).collect();
            [revision(1, rev, joined), analysis(1, rev, vec!["e".into()])]
        });
        sequence += 1;
        knowledge.remember(&[record(sequence, 0, ANALYSES, revisions.collect())]).unwrap();
    }
    knowledge.remember(&[record(9, 0, ANALYSES, vec![incident(2)])]).unwrap();
    assert_eq!((rows(&knowledge, Table::Incidents), rows(&knowledge, Table::Analyses)), (1_024 + 3, 512));
    let (table, range) = Ring::Incidents.in_time();
    let oldest = knowledge.store().scan(table, &range, 1).unwrap().records.remove(0);
    let mut writing = writing::Writing::begin(knowledge.store());
    facts::forget(&mut writing, &oldest.key).unwrap();
    writing.finish().unwrap();
    assert_eq!((rows(&knowledge, Table::Incidents), rows(&knowledge, Table::Analyses)), (2, 0));
    assert_eq!(rings::count(knowledge.store(), Ring::Incidents).unwrap(), 1);
    assert_eq!(knowledge.applied(), 9, "what is forgotten does not move the ledger");
}

#[test]
fn one_incident_keeps_a_bounded_number_of_rows_the_newest() {
    let home = Home::new();
    let knowledge = home.open();
    for sequence in 1..=10_u64 {
        let revisions = (0..250).map(|n| revision(1, u32::try_from(sequence).unwrap() * 250 + n, Vec::new()));
        knowledge.remember(&[record(sequence, 0, ANALYSES, revisions.collect())]).unwrap();
        assert!(rows(&knowledge, Table::Incidents) <= facts::ROWS_PER_INCIDENT_MAX as usize + 1);
    }
    let listed = knowledge.answer(&Question::Incidents { limit: 5 }).unwrap().unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(rows(&knowledge, Table::ByTime), 1);
}

#[test]
fn a_record_that_comes_twice_is_counted_once() {
    let home = Home::new();
    let knowledge = home.open();
    let entries = || vec![incident(1), analysis(1, 1, Vec::new())];
    // As in a crash between two pieces: the rows are there, the sequence is not.
    let mut writing = writing::Writing::begin(knowledge.store());
    facts::remember_entries(&mut writing, &record(5, 0, ANALYSES, entries())).unwrap();
    writing.finish().unwrap();
    assert_eq!(knowledge.applied(), 0);
    knowledge.remember(&[record(5, 0, ANALYSES, entries())]).unwrap();
    knowledge.remember(&[record(5, 0, ANALYSES, entries())]).unwrap();
    assert_eq!((rows(&knowledge, Table::Incidents), rows(&knowledge, Table::ByTime)), (3, 1));
    assert_eq!(rings::count(knowledge.store(), Ring::Incidents).unwrap(), 1);
}

#[test]
fn a_store_that_grew_far_beyond_what_lives_in_it_is_compacted() {
    let home = Home::new();
    let knowledge = home.open();
    assert!(!knowledge.tidy(), "nothing is due, and that is no failure");
}

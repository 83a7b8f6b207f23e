//! What is kept beside the ledger (the monitor's checkpoint, the fold, the rows of the store) reads back, and hostile bytes are
//! refused. There are no golden files: whoever cannot read it rebuilds it.

use std::collections::BTreeMap;
use std::time::Duration;

use homeostat::engine::fold::{Effectiveness, Fold, FoldSnapshot};
use homeostat::engine::monitor::{
    Course, Delay, GridSnapshot, JoinSnapshot, Lane, Measurement, MonitorSnapshot, Producer, PulseSnapshot,
    RuleKey, RuleSnapshot, ScrapeSnapshot, SeriesSnapshot, Stage, TableSnapshot, ViolationSnapshot,
    WaitingFrame,
};
use homeostat::model::{Entry, EpisodeId, Labels, Record, RuleName, Timestamp, Topic};
use homeostat::wire::checkpoint::{self, Checkpoint};
use homeostat::wire::fold::{self, KeptFold};
use homeostat::wire::knowledge::{LearnedRow, decode_learned, encode_learned};
use homeostat::wire::{DecodeError, ledger};

use crate::fixtures;

const AT: Timestamp = Timestamp::from_millis(1_700_000_000_123);

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::new(pairs.iter().copied()).unwrap()
}

fn producer() -> Producer {
    let lane = Lane { epoch: 2, first: 3, high: 9, seen: u128::MAX, watermark: AT };
    Producer {
        name: "web-1".into(),
        delay: Some(Delay { skew_ms: -2.5, lag_ms: f64::INFINITY }),
        instant: Some(Measurement { now: AT, oldest: Timestamp::MIN, newest: Timestamp::MAX }),
        skewed: true,
        lost: 7,
        heard_at: AT,
        lanes: BTreeMap::from([(0, lane.clone()), (7, lane)]),
    }
}

fn violation(stage: Stage) -> ViolationSnapshot {
    ViolationSnapshot {
        rule: 0,
        series: Some(1),
        is_series_gone: false,
        element: labels(&[("job", "api")]),
        labels: labels(&[("alertname", "Down"), ("job", "api")]),
        episode: EpisodeId::of(&[&"one"]),
        course: Course { since: AT, stage, rev: 3, value: f64::NEG_INFINITY, evaluated_at: AT },
        expires_at: None,
        producer: 0,
        contradicted: Some(AT),
        held_since: Some(AT),
    }
}

fn snapshot() -> MonitorSnapshot {
    let key = RuleKey {
        name: RuleName { group: "g".into(), alert: "Down".into() },
        expr: "up == 0".into(),
        hold: Duration::from_secs(5),
        labels: vec![("severity".into(), "critical".into())],
        interval: None,
        number: 0,
    };
    let rule = RuleSnapshot {
        key: key.clone(),
        evaluated_at: AT,
        read_at: AT,
        producer: 0,
        expires_at: Some(AT),
        recorded: vec![labels(&[("__name__", "job:up:sum"), ("job", "api")])],
        told_limit: true,
        told_failure: false,
    };
    let gridded =
        RuleSnapshot { key: RuleKey { interval: Some(Duration::from_mins(1)), ..key }, ..rule.clone() };
    let samples = vec![(AT, 1.5), (Timestamp::MAX, f64::NEG_INFINITY), (Timestamp::MIN, -0.0)];
    MonitorSnapshot {
        at: Some(AT),
        observed_since: None,
        swept_at: AT,
        producers: vec![producer(), Producer { delay: None, instant: None, ..producer() }],
        series: vec![SeriesSnapshot {
            labels: labels(&[("__name__", "up")]),
            is_forgotten: false,
            producer: 0,
            samples,
        }],
        tables: vec![TableSnapshot { hash: fixtures::table().hash, series: vec![0, 0] }],
        rules: vec![rule, gridded],
        violations: vec![violation(Stage::Pending), violation(Stage::Firing { kept_since: Some(AT) })],
        grids: vec![GridSnapshot {
            name: "g".into(),
            interval: Duration::from_secs(15),
            next: Some(AT),
            lanes: vec![(0, 7)],
            has_begun: true,
            may_pass: true,
            due_at: AT,
        }],
        pulses: vec![PulseSnapshot { name: "g".into(), interval: Duration::from_mins(1), next: Some(AT) }],
        joins: vec![JoinSnapshot { rule: 0, at: AT, due: AT }],
        scrapes: vec![ScrapeSnapshot {
            producer: 0,
            at: AT,
            parts: 3,
            seen: vec![0, 2],
            forget_at: AT,
            rules: vec![0],
        }],
        waiting: fixtures::frames()
            .into_iter()
            .map(|(_, frame, _)| WaitingFrame { frame, since: AT })
            .collect(),
        unpublished: fixtures::entries().into_iter().map(|(_, entry)| entry).collect(),
    }
}

fn survives(bytes: &[u8], decode: impl Fn(&[u8]) -> Result<(), DecodeError>) {
    assert!(decode(bytes).is_ok());
    for end in 0..bytes.len() {
        assert!(decode(&bytes[..end]).is_err(), "{end} of {} bytes", bytes.len());
    }
    let mut bent = bytes.to_vec();
    for index in 0..bytes.len() {
        for bit in 0..8 {
            bent[index] = bytes[index] ^ (1 << bit);
            let _ = decode(&bent);
        }
        bent[index] = bytes[index];
    }
}

#[test]
fn a_checkpoint_reads_back() {
    for snapshot in [MonitorSnapshot::default(), snapshot()] {
        let checkpoint = Checkpoint { stream: AT, sequence: 41, snapshot };
        let bytes = checkpoint::encode(&checkpoint).unwrap();
        assert_eq!(checkpoint::decode(&bytes).unwrap(), checkpoint);
    }
}

#[test]
fn a_damaged_checkpoint_is_read_or_refused() {
    let snapshot = MonitorSnapshot { unpublished: Vec::new(), ..snapshot() };
    let bytes = checkpoint::encode(&Checkpoint { stream: AT, sequence: 41, snapshot }).unwrap();
    survives(&bytes, |bytes| checkpoint::decode(bytes).map(drop));
}

#[test]
fn rows_of_the_store_read_back_and_damaged_ones_are_refused() {
    let batch = fixtures::batch(vec![fixtures::entries().swap_remove(0).1]);
    let record = Record { sequence: 42, stored_at: AT, topic: Topic::Plans, batch: batch.into() };
    let bytes = ledger::keep(&record).unwrap();
    assert_eq!(ledger::kept(&bytes).unwrap(), record);
    survives(&bytes, |bytes| ledger::kept(bytes).map(drop));

    let effectiveness = Effectiveness { helped: 1.5, failed: 0.25, at: AT };
    for scope in [None, Some(Labels::new([("zone", "a")]).unwrap())] {
        let row = LearnedRow { playbook: "restart".into(), cause: "leak".into(), scope, effectiveness };
        let bytes = encode_learned(&row).unwrap();
        assert_eq!(decode_learned(&bytes).unwrap(), row);
        survives(&bytes, |bytes| decode_learned(bytes).map(drop));
    }
}

/// A fold of every entry that there is.
fn kept_fold() -> KeptFold {
    let mut fold = Fold::default();
    for (sequence, (_, entry)) in (1..).zip(fixtures::entries()) {
        let topic = if matches!(entry, Entry::Admission(_)) { Topic::Admission } else { Topic::Plans };
        fold.apply(&Record { sequence, stored_at: AT, topic, batch: fixtures::batch(vec![entry]).into() });
    }
    KeptFold { ledger: AT, snapshot: fold.snapshot() }
}

#[test]
fn a_kept_fold_reads_back_and_goes_on_as_it_was() {
    for kept in [KeptFold { ledger: AT, snapshot: FoldSnapshot::default() }, kept_fold()] {
        let bytes = fold::encode(kept.clone()).unwrap();
        let read = fold::decode(&bytes).unwrap().unwrap();
        assert_eq!(read, kept);
        assert_eq!(Fold::restore(read.snapshot).snapshot(), kept.snapshot);
    }
}

#[test]
fn a_kept_fold_of_another_format_is_none_and_a_damaged_one_is_read_or_refused() {
    let bytes = fold::encode(kept_fold()).unwrap();
    survives(&bytes, |bytes| fold::decode(bytes).map(drop));
    let place = bytes.windows(6).position(|part| part == b"format").unwrap() + 6;
    let mut newer = bytes;
    newer[place] = 99;
    assert_eq!(fold::decode(&newer).unwrap(), None);
}

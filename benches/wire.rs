//! The codec alone: rows of frames, and the four messages of one loop.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on fails")]

use std::hint::black_box;
use std::time::Duration;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use homeostat::model::{
    Action, ActionId, ActionSpec, Admission, Analysis, AnalysisId, AttemptId, Basis, Batch, Cause,
    Confidence, Entry, EpisodeId, Frame, Generation, Idempotency, IncidentId, Intent, Labels, MessageId,
    Mode, Pattern, PatternKind, Phase, Plan, PlanId, Role, Row, RuleName, SeriesTable, Severity, Timestamp,
    Verification, Violation,
};
use homeostat::wire::frame::FrameView;
use homeostat::wire::{ContentType, frame, ledger, table};

/// The program's: what is measured is what runs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

const AT: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn table_of(series: usize) -> SeriesTable {
    let series: Vec<Labels> = (0..series)
        .map(|n| {
            let own = (1..8).map(|label| (format!("label_{label}"), format!("value_{}", (n + label) % 97)));
            Labels::new(own.chain([("__name__".to_owned(), format!("metric_{}", n % 50))])).unwrap()
        })
        .collect();
    SeriesTable::new(series)
}

fn frame_of(rows: u16, spread: i64) -> Frame {
    let row = |n: u16| Row {
        series: n % 512,
        at: Timestamp::from_millis(AT.as_millis() + i64::from(n) * spread),
        value: f64::from(n) * 0.1,
    };
    Frame {
        producer: "web-1".into(),
        epoch: 1,
        sequence: 7,
        bucket: 3,
        scrape: None,
        table: table_of(512).hash,
        rows: (0..rows).map(row).collect(),
    }
}

fn total(bytes: &[u8]) -> (f64, i64) {
    let view = FrameView::new(bytes).unwrap();
    view.rows().fold((0.0, 0), |(values, others), row| {
        (values + row.value, others ^ row.at.as_millis() ^ i64::from(row.series))
    })
}

#[divan::bench(args = [100, 500, 1_000, 8_192])]
fn frame_rows_read(bencher: Bencher<'_, '_>, rows: u16) {
    let bytes = frame::encode(&frame_of(rows, 1), None).unwrap();
    bencher.counter(ItemsCount::new(rows)).bench(|| total(black_box(&bytes)));
}

#[divan::bench]
fn frame_rows_read_of_a_scrape(bencher: Bencher<'_, '_>) {
    let bytes = frame::encode(&frame_of(500, 0), None).unwrap();
    bencher.counter(ItemsCount::new(500_u32)).bench(|| total(black_box(&bytes)));
}

#[divan::bench]
fn frame_copied(bencher: Bencher<'_, '_>) {
    let bytes = frame::encode(&frame_of(500, 1), None).unwrap();
    bencher.counter(ItemsCount::new(500_u32)).bench(|| frame::decode(black_box(&bytes)).unwrap());
}

#[divan::bench]
fn frame_written(bencher: Bencher<'_, '_>) {
    let frame = frame_of(500, 1);
    bencher.counter(ItemsCount::new(500_u32)).bench(|| frame::encode(black_box(&frame), None).unwrap());
}

#[divan::bench]
fn table_written(bencher: Bencher<'_, '_>) {
    let table = table_of(512);
    let bytes = table::encode(&table).unwrap().len();
    bencher.counter(BytesCount::new(bytes)).bench(|| table::encode(black_box(&table)).unwrap());
}

#[divan::bench]
fn table_read(bencher: Bencher<'_, '_>) {
    let bytes = table::encode(&table_of(512)).unwrap();
    bencher.counter(BytesCount::new(bytes.len())).bench(|| table::decode(black_box(&bytes)).unwrap());
}

/// Violation, analysis, plan and intent of one failure.
fn one_loop() -> [Batch; 4] {
    let scope = Labels::new([("service", "checkout")]).unwrap();
    let incident = IncidentId::of(&[&1_u64]);
    let confidence = Confidence::new(0.8).unwrap();
    let plan = PlanId::of(&[&incident, &1_u64]);
    let action = ActionId::of(&[&plan, &0_u64]);
    let violation = Violation {
        episode: EpisodeId::of(&[&1_u64]),
        rev: 1,
        rule: RuleName { group: "memory".into(), alert: "WorkerMemoryHigh".into() },
        severity: Severity::Critical,
        phase: Phase::Firing,
        labels: Labels::new((0..8).map(|n| (format!("label_{n}"), format!("value_{n}")))).unwrap(),
        annotations: vec![("summary".into(), "w1 takes 93.5M".into())],
        since: AT,
        at: AT,
        value: 93.5e6,
        sample_interval: Duration::from_secs(1),
    };
    let analysis = Analysis {
        id: AnalysisId::of(&[&incident, &1_u64]),
        incident,
        incident_rev: 1,
        patterns: vec![Pattern {
            kind: PatternKind::CommonLabel { name: "worker".into(), value: "w1".into() },
            confidence,
        }],
        causes: vec![Cause {
            name: "memory_leak".into(),
            scope: scope.clone(),
            confidence,
            evidence: vec!["memory grows and does not come back".into()],
        }],
    };
    let spec =
        ActionSpec::NatsRequest { subject: "workers.w1.restart".into(), body: r#"{"key":"w1"}"#.into() };
    let idempotency = Idempotency::Key;
    let step =
        Action { id: action, name: "restart".into(), spec, timeout: Duration::from_secs(5), idempotency };
    let intent = Intent {
        attempt: AttemptId::of(&[&action, &1_u64]),
        action,
        number: 1,
        plan,
        incident,
        playbook: "restart-worker".into(),
        scope: scope.clone(),
        undo: false,
        executor: "host-1".into(),
        nonce: 7,
        lease: 3,
        timeout: Duration::from_secs(5),
    };
    let plan = Plan {
        id: plan,
        incident,
        generation: 1,
        parent: None,
        playbook: "restart-worker".into(),
        cause: "memory_leak".into(),
        confidence,
        scope,
        mode: Mode::Auto,
        steps: vec![step],
        verify: Verification {
            expr: r#"worker_rss_bytes{worker="w1"} < 100e6"#.into(),
            harm: None,
            settle: Duration::ZERO,
            within: Duration::from_secs(5),
            evaluations: 3,
        },
        undo: Vec::new(),
        at: AT,
    };
    [
        Entry::Violation(violation.into()),
        Entry::Analysis(analysis.into()),
        Entry::Plan(plan.into()),
        Entry::Admission(Admission::Intent(intent.into())),
    ]
    .map(|entry| Batch {
        id: MessageId::of(&[&1_u64]),
        role: Role::Executor,
        instance: "host-1".into(),
        at: AT,
        basis: Basis { ledger: 41, generation: Generation(3) },
        trace: 7,
        entries: vec![entry],
    })
}

#[divan::bench]
fn four_messages_written(bencher: Bencher<'_, '_>) {
    let batches = one_loop();
    bencher.bench(|| black_box(&batches).each_ref().map(|batch| ledger::encode(batch).unwrap()));
}

#[divan::bench]
fn four_messages_read(bencher: Bencher<'_, '_>) {
    let bytes = one_loop().map(|batch| ledger::encode(&batch).unwrap());
    bencher.bench(|| {
        black_box(&bytes).each_ref().map(|bytes| ledger::decode(ContentType::MessagePack, bytes).unwrap())
    });
}

#[divan::bench]
fn a_full_batch_read(bencher: Bencher<'_, '_>) {
    let [mut violation, ..] = one_loop();
    violation.entries = vec![violation.entries[0].clone(); 256];
    let bytes = ledger::encode(&violation).unwrap();
    let counter = BytesCount::new(bytes.len());
    bencher.counter(counter).bench(|| ledger::decode(ContentType::MessagePack, black_box(&bytes)).unwrap());
}

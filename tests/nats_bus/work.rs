//! Work that is given back and buried, and that goes on when something breaks. What is true of the memory bus too is in
//! `tests/conformance`.

use std::collections::BTreeMap;
use std::time::Duration;

use homeostat::bus::nats::{
    CAUSE_HEADER, CUT_HEADER, Connection, DELIVERED_HEADER, DeadLetters, Ledger, Publisher, SEQUENCE_HEADER,
    SUBJECT_HEADER, Work, WorkError, WorkSpec,
};
use homeostat::bus::{Delivery, Outgoing, PublishError, Settle};

use crate::support::{Bed, soon};

/// Longer than any step of a test, so that only what should comes again.
const LONG: Duration = Duration::from_mins(5);

fn spec(bed: &Bed, ack_wait: Duration) -> WorkSpec {
    WorkSpec {
        stream: bed.names.ledger.clone(),
        name: "analyzer".into(),
        filters: vec![bed.subject("violations.*")],
        ack_wait,
        ack_pending_max: 1_000,
        batch: 64,
    }
}

async fn publish(bed: &Bed, connection: &Connection, topic: &str, ids: std::ops::Range<usize>) {
    let ledger = Ledger::open(connection.clone(), &bed.names).await.unwrap();
    for id in ids {
        ledger.publisher().publish(bed.outgoing(topic, &id.to_string())).await.unwrap();
    }
}

async fn take(work: &mut Work, max: usize) -> Vec<Delivery> {
    soon("a delivery", work.next_batch(max)).await.unwrap()
}

fn text(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.stored.payload).into_owned()
}

#[tokio::test]
async fn two_processes_share_the_work_and_one_takes_over_what_the_other_gave_back() {
    const COUNT: usize = 200;
    let (bed, connection) = Bed::ready().await;
    let small = WorkSpec { batch: 4, ..spec(&bed, LONG) };
    let mut one = Work::open(bed.connect().await, small.clone()).await.unwrap();
    let mut other = Work::open(bed.connect().await, small.clone()).await.unwrap();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut taken = [0, 0];
    let share = async {
        while seen.len() < COUNT / 2 {
            let (by, batch, settler) = tokio::select! {
                batch = one.next_batch(4) => (0, batch.unwrap(), one.settler()),
                batch = other.next_batch(4) => (1, batch.unwrap(), other.settler()),
            };
            for delivery in batch {
                settler.settle(&delivery.token, Settle::Ack).await.unwrap();
                *seen.entry(text(&delivery)).or_default() += 1;
                taken[by] += 1;
            }
        }
    };
    tokio::join!(soon("half of the work", share), publish(&bed, &connection, "violations.info", 0..COUNT));
    assert!(taken[0] > COUNT / 10 && taken[1] > COUNT / 10, "{taken:?}");

    // What it took in advance comes to the other at once, not after its five minutes.
    one.release().await;
    while seen.len() < COUNT {
        for delivery in take(&mut other, 100).await {
            other.settler().settle(&delivery.token, Settle::Ack).await.unwrap();
            *seen.entry(text(&delivery)).or_default() += 1;
        }
    }
    assert!(seen.values().all(|count| *count == 1), "{seen:?}");
}

#[tokio::test]
async fn work_goes_on_after_the_server_was_killed() {
    const COUNT: usize = 400;
    let (mut bed, connection) = Bed::ready().await;
    publish(&bed, &connection, "violations.info", 0..COUNT).await;
    let mut work = Work::open(connection, spec(&bed, Duration::from_secs(1))).await.unwrap();
    let settler = work.settler();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut kills = 0;
    while seen.len() < COUNT {
        for delivery in take(&mut work, 16).await {
            // What was settled before a crash of the server may come again; nothing may be missing.
            *seen.entry(text(&delivery)).or_default() += 1;
            let _ = settler.settle(&delivery.token, Settle::Ack).await;
        }
        if kills < 3 && seen.len() >= (kills + 1) * COUNT / 4 {
            kills += 1;
            bed.server.kill().await;
            bed.server.restart().await.unwrap();
        }
    }
    assert_eq!(kills, 3);
}

#[tokio::test]
async fn a_deleted_consumer_is_an_error_and_a_differing_one_too() {
    let (bed, connection) = Bed::ready().await;
    let mut work = Work::open(connection.clone(), spec(&bed, LONG)).await.unwrap();
    let other = WorkSpec { ack_pending_max: 7, filters: vec![bed.subject("plans")], ..spec(&bed, LONG) };
    let error = Work::open(connection.clone(), other).await.unwrap_err();
    assert_eq!(
        error.to_string().lines().take(3).collect::<Vec<_>>(),
        [
            "the consumer `analyzer` exists and differs:",
            r#"  filter_subjects: wanted ["homeostat.v1.plans"], found ["homeostat.v1.violations.*"]"#,
            "  max_ack_pending: wanted 7, found 1000",
        ]
    );
    let client = async_nats::connect(bed.server.url()).await.unwrap();
    let delete = client.request("$JS.API.CONSUMER.DELETE.HOMEOSTAT_LEDGER.analyzer", "".into());
    let (ended, deleted) = tokio::join!(soon("the end", work.next_batch(1)), delete);
    deleted.unwrap();
    assert_eq!(ended, Err(WorkError::Deleted("analyzer".into())));
    assert_eq!(soon("the end", work.next_batch(1)).await, Err(WorkError::Deleted("analyzer".into())));
}

#[tokio::test]
async fn poison_is_buried_with_its_cause_once() {
    let (bed, connection) = Bed::ready().await;
    publish(&bed, &connection, "violations.info", 0..1).await;
    let mut work = Work::open(connection.clone(), spec(&bed, Duration::from_secs(1))).await.unwrap();
    let letters = DeadLetters::new(connection.clone(), &bed.names, work.settler());
    let delivery = take(&mut work, 1).await.remove(0);
    letters.bury("analyzer", &delivery, "no such version\r\nat all").await.unwrap();
    letters.bury("analyzer", &delivery, "no such version").await.unwrap();

    let dlq = Ledger::of_stream(connection, &bed.names.dead_letters).await.unwrap();
    assert_eq!(dlq.tail().await.unwrap().last_sequence, 1);
    let letter = dlq.last_on(&bed.subject("dlq.analyzer")).await.unwrap().unwrap();
    assert_eq!(letter.payload, delivery.stored.payload);
    for (name, value) in [
        (CAUSE_HEADER, "no such version  at all"),
        (SUBJECT_HEADER, "homeostat.v1.violations.info"),
        (SEQUENCE_HEADER, "1"),
        (DELIVERED_HEADER, "1"),
        ("ce-type", "test"),
    ] {
        assert!(letter.headers.contains(&(name.into(), value.into())), "{name}: {:?}", letter.headers);
    }
    // Its delivery ended with it: after `ack_wait` it would have come again.
    let more = tokio::time::timeout(Duration::from_millis(1_500), work.next_batch(1)).await;
    assert!(more.is_err(), "{more:?}");
}

#[tokio::test]
async fn poison_as_large_as_the_server_takes_is_buried_too() {
    let (bed, connection) = Bed::ready().await;
    let publisher = Publisher::new(connection.clone(), &bed.names.ledger);
    // Its headers alone are nearly all that the server stores of them.
    let large = |name: &str, bytes: usize| (name.to_owned(), "x".repeat(bytes));
    let headers = vec![large("a", 30_000), large("b", 30_000), ("ce-type".to_owned(), "test".to_owned())];
    let subject = bed.subject("violations.info");
    let mut bodies = Vec::new();
    for (id, headers) in [("heavy", vec![]), ("wordy", headers)] {
        let taken = connection.payload_bytes_max() - 200;
        let own: usize = headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        let body = vec![0xff; taken - own];
        bodies.push(body.len());
        let subject = subject.clone();
        let outgoing = Outgoing {
            subject,
            headers,
            payload: body.into(),
            id: id.into(),
            expected_last_on_subject: None,
        };
        publisher.publish(outgoing).await.unwrap();
    }
    let mut work = Work::open(connection.clone(), spec(&bed, Duration::from_secs(1))).await.unwrap();
    let letters = DeadLetters::new(connection.clone(), &bed.names, work.settler());
    let mut buried = 0;
    while buried < 2 {
        for delivery in take(&mut work, 2).await {
            letters.bury("analyzer", &delivery, &"cause ".repeat(1_000)).await.unwrap();
            buried += 1;
        }
    }
    let dlq = Ledger::of_stream(connection, &bed.names.dead_letters).await.unwrap();
    let heavy = dlq.get(1).await.unwrap().unwrap();
    assert!(heavy.payload.len() > 1_000_000 && heavy.payload.len() < bodies[0], "{}", heavy.payload.len());
    assert!(heavy.headers.contains(&(CUT_HEADER.into(), bodies[0].to_string())));
    // Without the headers that were too long there is room for its body.
    let wordy = dlq.get(2).await.unwrap().unwrap();
    assert_eq!(wordy.payload.len(), bodies[1]);
    let has = |name: &str| wordy.headers.iter().any(|(known, _)| known == name);
    assert!(has("ce-type") && has(CAUSE_HEADER) && !has("a") && !has(CUT_HEADER));
    let more = tokio::time::timeout(Duration::from_millis(1_500), work.next_batch(1)).await;
    assert!(more.is_err(), "{more:?}");
}

#[tokio::test]
async fn a_full_intake_refuses_violations_and_takes_a_halt() {
    let (bed, connection) = Bed::ready().await;
    let intake = Publisher::new(connection.clone(), &bed.names.intake);
    let mut refused = None;
    for number in 0..20 {
        let flood = Outgoing {
            payload: vec![0; 1_000_000].into(),
            ..bed.outgoing("intake.violations", &number.to_string())
        };
        refused = intake.publish(flood).await.err();
        if refused.is_some() {
            break;
        }
    }
    assert!(matches!(refused, Some(PublishError::Unavailable(_))), "{refused:?}");
    let control = Publisher::new(connection.clone(), &bed.names.control);
    control.publish(bed.outgoing("intake.control.kim", "halt")).await.unwrap();
    // One user's flood leaves room for the others, and for its own newest request.
    for number in 0..1_100 {
        control.publish(bed.outgoing("intake.control.eve", &number.to_string())).await.unwrap();
    }
    let stream = Ledger::of_stream(connection.clone(), &bed.names.control).await.unwrap();
    assert!(stream.last_on(&bed.subject("intake.control.kim")).await.unwrap().is_some());
    let newest = stream.last_on(&bed.subject("intake.control.eve")).await.unwrap().unwrap();
    assert_eq!(newest.payload.as_ref(), b"1099");
    // What nobody takes is not taken in.
    for subject in ["intake.approvals.kim", "intake.anything"] {
        let error = intake.publish(bed.outgoing(subject, subject)).await.unwrap_err();
        assert!(!error.may_be_stored() || matches!(error, PublishError::TimedOut), "{error}");
    }
}

#[tokio::test]
async fn work_of_a_stream_that_was_created_anew_can_be_told_from_what_came_before() {
    let (bed, connection) = Bed::ready().await;
    let spec = WorkSpec {
        stream: bed.names.control.clone(),
        name: "executor-control".into(),
        filters: vec![bed.subject("intake.control.*")],
        ..spec(&bed, LONG)
    };
    let control = Publisher::new(connection.clone(), &bed.names.control);
    let first = async |spec: WorkSpec, id: &str| {
        control.publish(bed.outgoing("intake.control.kim", id)).await.unwrap();
        let mut work = Work::open(connection.clone(), spec).await.unwrap();
        take(&mut work, 1).await.remove(0)
    };
    let before = first(spec.clone(), "one").await;
    let client = async_nats::connect(bed.server.url()).await.unwrap();
    client.request("$JS.API.STREAM.DELETE.HOMEOSTAT_CONTROL", "".into()).await.unwrap();
    assert_eq!(bed.topology.ensure(&connection).await.unwrap(), ["HOMEOSTAT_CONTROL"]);
    let anew = first(spec, "two").await;
    assert_eq!((before.stored.sequence, anew.stored.sequence), (1, 1));
    assert!(anew.stream_created > before.stream_created);
}

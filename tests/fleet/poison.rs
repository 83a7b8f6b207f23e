//! What cannot be read is put aside with its cause, and the loop goes on.

use std::process::Stdio;
use std::time::Duration;

use homeostat::bus::Outgoing;
use homeostat::bus::nats::{CAUSE_HEADER, Ledger, Publisher, SUBJECT_HEADER};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use crate::cell::Cell;
use crate::support::soon;

const ATTEMPT_SECONDS: u32 = 3;
/// How often a count is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Content type, body, and a part of the cause.
fn poisons() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("application/msgpack", b"\x82\xa9alertname\xa8DiskF".to_vec()),
        ("application/json", br#"{"alertname": "DiskFull", "labels": {"#.to_vec()),
        ("application/json", br#"{"alertname": 7}"#.to_vec()),
        ("application/json", [b"[".repeat(200_000), b"]".repeat(200_000)].concat()),
        ("application/msgpack", vec![0xff; 300_000]),
        ("text/html", b"<html>".to_vec()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_ends_among_the_dead_letters_while_the_loop_goes_on() {
    let cell = Cell::start(&["monitor", "analyzer"], ATTEMPT_SECONDS).await;
    cell.work.stop_breaking();
    let connection = cell.bed.connect().await;
    let publisher = Publisher::new(connection.clone(), &cell.bed.names.intake);
    let subject = cell.bed.subject("intake.violations");
    let send = async |content: &str, body: Vec<u8>, id: String| {
        let headers = vec![("Content-Type".to_owned(), content.to_owned())];
        let subject = subject.clone();
        let outgoing =
            Outgoing { subject, headers, payload: body.into(), id, expected_last_on_subject: None };
        publisher.publish(outgoing).await.unwrap();
    };
    for (number, (content, body)) in poisons().into_iter().enumerate() {
        send(content, body, format!("poison-{number}")).await;
    }
    let letters = Ledger::of_stream(connection.clone(), &cell.bed.names.dead_letters).await.unwrap();
    let mut feed = letters.feed(0, None);
    let mut found = Vec::new();
    while found.len() < poisons().len() {
        found.extend(soon("a dead letter", feed.next_batch(16)).await.unwrap());
    }
    for (letter, (_, body)) in found.iter().zip(poisons()) {
        let header = |name: &str| {
            letter.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
        };
        assert_eq!(letter.subject, cell.bed.subject("dlq.monitor"));
        assert_eq!(header(SUBJECT_HEADER), Some(subject.as_str()));
        let cause = header(CAUSE_HEADER).unwrap();
        assert!(!cause.is_empty() && letter.payload.as_ref() == body, "{cause}");
        println!("{cause}");
    }
    let monitor = cell.of("monitor").next().unwrap();
    let counted = monitor.metric("homeostat_dead_letters_total", &["role=\"monitor\""]).await;
    assert!(counted >= poisons().len() as f64, "{counted}");

    // What can be read is recorded as ever.
    cell.targets.break_unit("r-after");
    cell.work.until_accepted("r-after").await;
    cell.chronicle.until("a violation behind the poison", |story| story.knows("r-after")).await;

    let mut tail = Command::new(env!("CARGO_BIN_EXE_homeostat"));
    tail.args(["tail", "dlq.*", "-n", "1", "--server", &cell.bed.server.url()]);
    let mut tail = tail.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut text = String::new();
    let mut out = tail.stdout.take().unwrap();
    let mut reading = Box::pin(out.read_to_string(&mut text));
    // Whoever looks on sees what comes from now on, and does not tell when that is.
    for number in 0.. {
        send("application/json", b"{".to_vec(), format!("late-{number}")).await;
        let looking = std::time::Duration::from_millis(100);
        if tokio::time::timeout(looking, &mut reading).await.is_ok() {
            break;
        }
        assert!(number < 600, "`homeostat tail` shows nothing");
    }
    drop(reading);
    let shown: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(shown["subject"], cell.bed.subject("dlq.monitor"));
    assert!(shown["headers"][CAUSE_HEADER].as_str().is_some_and(|cause| !cause.is_empty()), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_as_the_last_word_on_a_subject_of_the_ledger_holds_nobody_up() {
    let mut cell = Cell::start(&["monitor", "analyzer", "planner", "executor"], ATTEMPT_SECONDS).await;
    cell.work.stop_breaking();
    let publisher = Publisher::new(cell.bed.connect().await, &cell.bed.names.ledger);
    for round in 0..3 {
        litter(&cell, &publisher, round).await;
        cell.heal(&format!("r-behind-{round}")).await;
    }
    let analyzer = cell.of("analyzer").next().unwrap();
    let counted = analyzer.metric("homeostat_ledger_unreadable_total", &[]).await;
    assert!((counted - 6.0).abs() < f64::EPSILON, "each once, and {counted} were counted");
    assert_eq!(analyzer.log().matches("cannot be read and is skipped").count(), 6);
    // The executor keeps its fold meanwhile, holes and all, and counts that.
    let executor = cell.of("executor").next().unwrap();
    let folds = async |outcome: &[&str]| executor.metric("homeostat_folds_kept_total", outcome).await;
    let keeping = async {
        while folds(&["outcome=\"kept\""]).await < 1.0 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    soon("a kept fold", keeping).await;
    // Who starts anew comes across them when it reads the ledger.
    litter(&cell, &publisher, 3).await;
    for role in ["analyzer", "executor"] {
        cell.take(role).kill().await;
        cell.add(role).await;
        cell.members.last_mut().unwrap().ready().await;
    }
    cell.heal("r-anew").await;
}

/// The last message on each subject that decisions are conditional on is one that nobody can read.
async fn litter(cell: &Cell, publisher: &Publisher, round: u32) {
    for topic in ["analyses.0", "admission"] {
        let (subject, id) = (cell.bed.subject(topic), format!("litter-{round}-{topic}"));
        let (headers, payload) = (Vec::new(), b"\x82\xa9entries".to_vec().into());
        let outgoing = Outgoing { subject, headers, payload, id, expected_last_on_subject: None };
        publisher.publish(outgoing).await.unwrap();
    }
}

//! Publishing with compare-and-set, reading from the leader, following in order.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use homeostat::bus::nats::{Connection, Feed, FeedError, Ledger, Purpose};
use homeostat::bus::{Outgoing, PublishError, Published};

use crate::support::{Bed, soon, texts};

async fn ledger() -> (Bed, Ledger) {
    let (bed, connection) = Bed::ready().await;
    let ledger = Ledger::open(connection, &bed.names).await.unwrap();
    (bed, ledger)
}

/// Follows until it has so many.
async fn follow(feed: &mut Feed, count: usize) -> Vec<homeostat::bus::Stored> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(soon("a batch", feed.next_batch(512)).await.unwrap());
    }
    all
}

#[tokio::test]
async fn headers_are_kept_and_the_id_is_one_of_them() {
    let (bed, ledger) = ledger().await;
    let first = ledger.publisher().publish(bed.outgoing("plans", "a")).await.unwrap();
    assert_eq!(first, Published { sequence: 1, duplicate: false });
    let one = ledger.get(1).await.unwrap().unwrap();
    assert_eq!((one.subject.as_str(), one.payload.as_ref()), ("homeostat.v1.plans", b"a".as_slice()));
    assert!(one.headers.contains(&("ce-type".into(), "test".into())), "{:?}", one.headers);
    assert!(one.headers.contains(&("Nats-Msg-Id".into(), "a".into())), "{:?}", one.headers);
    let tail = ledger.tail().await.unwrap();
    assert_eq!((tail.first_sequence, tail.last_sequence), (1, 1));
}

#[tokio::test]
async fn compare_and_set_lets_one_of_two_writers_through_and_tells_the_other_where_it_stands() {
    let (bed, ledger) = ledger().await;
    let expecting = |id: &str, expected| Outgoing {
        expected_last_on_subject: Some(expected),
        ..bed.outgoing("admission", id)
    };
    let first = ledger.publisher().publish(expecting("a", 0)).await.unwrap();
    let wrong = ledger.publisher().publish(expecting("b", 0)).await.unwrap_err();
    assert_eq!(wrong, PublishError::WrongLastSequence { actual: Some(first.sequence) });
    let (one, other) = tokio::join!(
        ledger.publisher().publish(expecting("c", first.sequence)),
        ledger.publisher().publish(expecting("d", first.sequence))
    );
    assert_eq!([one.is_ok(), other.is_ok()].iter().filter(|ok| **ok).count(), 1);
}

#[tokio::test]
async fn what_cannot_be_stored_is_told_apart() {
    let (bed, ledger) = ledger().await;
    let publish = |outgoing| ledger.publisher().publish(outgoing);
    let large = Outgoing { payload: Bytes::from(vec![0; 2 << 20]), ..bed.outgoing("plans", "large") };
    assert!(matches!(publish(large).await, Err(PublishError::TooLarge(_))));
    let nowhere = Outgoing { subject: "nowhere.at.all".into(), ..bed.outgoing("plans", "nowhere") };
    assert!(matches!(publish(nowhere).await, Err(PublishError::Unavailable(_))));
    let elsewhere = Outgoing { subject: bed.subject("intake.changes"), ..bed.outgoing("plans", "elsewhere") };
    assert!(
        matches!(publish(elsewhere).await, Err(PublishError::Refused(_))),
        "the intake is another stream"
    );
    let mut broken = bed.outgoing("plans", "broken");
    broken.headers.push(("a".into(), "1\r\n2".into()));
    assert!(matches!(publish(broken).await, Err(PublishError::Refused(_))));
    assert_eq!(ledger.tail().await.unwrap().last_sequence, 0);
}

#[tokio::test]
async fn many_publishes_are_under_way_at_once_and_keep_their_order() {
    let (bed, ledger) = ledger().await;
    let mut answers = Vec::new();
    for number in 0..3_000 {
        answers.push(ledger.publisher().send(bed.outgoing("plans", &number.to_string())).await.unwrap());
        if answers.len() == 1_000 {
            for (place, answer) in join_all(answers.drain(..)).await.into_iter().enumerate() {
                assert_eq!(answer.unwrap().sequence, number - 999 + place as u64 + 1);
            }
        }
    }
    assert_eq!(ledger.tail().await.unwrap().last_sequence, 3_000);
}

#[tokio::test]
async fn a_publish_to_a_dead_server_ends_and_its_repetition_is_stored_once() {
    let (mut bed, _) = Bed::ready().await;
    let mut settings = bed.settings();
    settings.request_timeout = Duration::from_millis(500);
    let connection = Connection::open(&settings, Purpose::Decisions).await.unwrap();
    let ledger = Ledger::open(connection, &bed.names).await.unwrap();
    bed.server.kill().await;
    let lost = soon("the end of the wait", ledger.publisher().publish(bed.outgoing("plans", "a"))).await;
    let lost = lost.unwrap_err();
    assert!(matches!(lost, PublishError::TimedOut | PublishError::Unavailable(_)), "{lost}");
    bed.server.restart().await.unwrap();
    while soon("an answer", ledger.publisher().publish(bed.outgoing("plans", "a"))).await.is_err() {}
    assert_eq!(ledger.tail().await.unwrap().last_sequence, 1);
}

#[tokio::test]
async fn a_feed_brings_everything_in_order_from_any_place() {
    let (bed, ledger) = ledger().await;
    for number in 1..=2_500 {
        drop(ledger.publisher().send(bed.outgoing("plans", &number.to_string())).await.unwrap());
    }
    let mut feed = ledger.feed(0, None);
    let all = follow(&mut feed, 2_500).await;
    let expected: Vec<_> = (1..=2_500).map(|number: u64| number.to_string()).collect();
    assert_eq!(texts(&all), expected);
    assert!(all.iter().zip(1..).all(|(stored, sequence)| stored.sequence == sequence));
    assert_eq!((feed.pending(), feed.next_sequence()), (0, 2_501));
    assert_eq!(feed.created(), Some(ledger.tail().await.unwrap().created));

    let mut late = ledger.feed(2_499, feed.created());
    assert_eq!(texts(&follow(&mut late, 2).await), ["2499", "2500"]);
    let next = ledger.publisher().publish(bed.outgoing("changes", "next")).await.unwrap();
    assert_eq!(follow(&mut late, 1).await[0].sequence, next.sequence);
    assert_eq!(texts(&follow(&mut feed, 1).await), ["next"]);
}

#[tokio::test]
async fn a_feed_loses_and_repeats_nothing_when_the_server_is_killed() {
    const KILLS: usize = 4;
    const PER_KILL: usize = 300;
    let (mut bed, ledger) = ledger().await;
    let mut feed = ledger.feed(0, None);
    let writer = ledger.clone();
    let mut letters: Vec<Outgoing> =
        (0..KILLS * PER_KILL).map(|number| bed.outgoing("plans", &number.to_string())).collect();
    let (published, mut progress) = tokio::sync::watch::channel(0_usize);
    let write = async {
        for letter in letters.drain(..) {
            // As a role does: again, with the same id, until there is an answer.
            while soon("an answer", writer.publisher().publish(letter.clone())).await.is_err() {
                tokio::task::yield_now().await;
            }
            published.send_modify(|count| *count += 1);
        }
    };
    let kill = async {
        for round in 1..=KILLS {
            progress.wait_for(|count| *count >= round * PER_KILL - PER_KILL / 2).await.unwrap();
            bed.server.kill().await;
            bed.server.restart().await.unwrap();
        }
    };
    let (all, (), ()) = tokio::join!(follow(&mut feed, KILLS * PER_KILL), write, kill);
    let expected: Vec<_> = (0..KILLS * PER_KILL).map(|number| number.to_string()).collect();
    assert_eq!(texts(&all), expected);
    assert!(all.iter().zip(1..).all(|(stored, sequence)| stored.sequence == sequence));
}

#[tokio::test]
async fn a_feed_outlives_its_consumer() {
    let (bed, ledger) = ledger().await;
    let mut feed = ledger.feed(0, None);
    ledger.publisher().publish(bed.outgoing("plans", "a")).await.unwrap();
    assert_eq!(texts(&follow(&mut feed, 1).await), ["a"]);
    let client = async_nats::connect(bed.server.url()).await.unwrap();
    let names = client.request("$JS.API.CONSUMER.NAMES.HOMEOSTAT_LEDGER", "".into()).await.unwrap();
    let names: serde_json::Value = serde_json::from_slice(&names.payload).unwrap();
    let name = names["consumers"][0].as_str().unwrap();
    client.request(format!("$JS.API.CONSUMER.DELETE.HOMEOSTAT_LEDGER.{name}"), "".into()).await.unwrap();
    ledger.publisher().publish(bed.outgoing("plans", "b")).await.unwrap();
    assert_eq!(texts(&follow(&mut feed, 1).await), ["b"]);
}

/// A stream that may be purged, as the ledger may not.
async fn other_stream(bed: &Bed) -> (async_nats::Client, Ledger) {
    let client = async_nats::connect(bed.server.url()).await.unwrap();
    let config = serde_json::json!({ "name": "OTHER", "subjects": ["other"], "storage": "file" });
    let made = client.request("$JS.API.STREAM.CREATE.OTHER", config.to_string().into()).await.unwrap();
    assert!(!String::from_utf8_lossy(&made.payload).contains("\"error\""), "{made:?}");
    let ledger = Ledger::of_stream(bed.connect().await, "OTHER").await.unwrap();
    (client, ledger)
}

async fn publish_other(ledger: &Ledger, ids: std::ops::RangeInclusive<u64>) {
    for id in ids {
        let outgoing = Outgoing {
            subject: "other".into(),
            headers: Vec::new(),
            payload: id.to_string().into(),
            id: String::new(),
            expected_last_on_subject: None,
        };
        ledger.publisher().publish(outgoing).await.unwrap();
    }
}

#[tokio::test]
async fn a_feed_says_what_is_gone_and_goes_on_when_told_to() {
    let bed = Bed::start().await;
    let (client, ledger) = other_stream(&bed).await;
    publish_other(&ledger, 1..=9).await;
    client.request("$JS.API.STREAM.PURGE.OTHER", "{\"seq\":5}".into()).await.unwrap();
    let mut feed = ledger.feed(3, None);
    let gap = soon("the gap", feed.next_batch(100)).await.unwrap_err();
    assert_eq!(gap, FeedError::Gap { stream: "OTHER".into(), next: 3, found: 5 });
    assert_eq!(soon("the gap", feed.next_batch(100)).await, Err(gap), "it does not go away by itself");
    feed.skip_to(5);
    assert_eq!(texts(&follow(&mut feed, 5).await), ["5", "6", "7", "8", "9"]);

    // A hole in the middle, as damage leaves it: first what is before it.
    client.request("$JS.API.STREAM.MSG.DELETE.OTHER", "{\"seq\":7}".into()).await.unwrap();
    let mut feed = ledger.feed(5, None);
    assert_eq!(texts(&follow(&mut feed, 2).await), ["5", "6"]);
    let gap = soon("the gap", feed.next_batch(100)).await.unwrap_err();
    assert_eq!(gap, FeedError::Gap { stream: "OTHER".into(), next: 7, found: 8 });
}

#[tokio::test]
async fn a_feed_notices_that_the_stream_is_another_one() {
    let bed = Bed::start().await;
    let (client, ledger) = other_stream(&bed).await;
    publish_other(&ledger, 1..=3).await;
    let mut feed = ledger.feed(0, None);
    follow(&mut feed, 3).await;
    let back = soon("an answer", ledger.feed(9, None).next_batch(1)).await.unwrap_err();
    assert_eq!(back, FeedError::WentBack { stream: "OTHER".into(), last: 3, next: 9 });

    client.request("$JS.API.STREAM.DELETE.OTHER", "".into()).await.unwrap();
    let missing = soon("the end", feed.next_batch(1)).await.unwrap_err();
    assert_eq!(missing, FeedError::Missing("OTHER".into()));
    let (_client, ledger) = other_stream(&bed).await;
    publish_other(&ledger, 1..=9).await;
    let anew = soon("the other stream", feed.next_batch(1)).await.unwrap_err();
    assert!(matches!(anew, FeedError::Recreated { .. }), "{anew}");
}

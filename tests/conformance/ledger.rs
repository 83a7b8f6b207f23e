//! What is written and read.

use homeostat::engine::Published;
use homeostat::model::{Severity, Topic};

use crate::bus::{Bus, batch, name};

const HERE: Topic = Topic::Admission;
const ELSEWHERE: Topic = Topic::Plans;

fn stored(sequence: u64) -> Published {
    Published::Stored { sequence, duplicate: false }
}

fn duplicate(sequence: u64) -> Published {
    Published::Stored { sequence, duplicate: true }
}

pub(crate) async fn what_is_published_is_read_back_whole(mut bus: Bus) {
    let several = batch("several", 3);
    assert_eq!(bus.publish(ELSEWHERE, &several, None).await, stored(1));
    assert_eq!(bus.put(ELSEWHERE, "one").await, 2);
    let first = bus.get(1).await.unwrap();
    assert_eq!((first.sequence, first.topic, first.batch.as_ref()), (1, ELSEWHERE, several.as_ref()));
    let last = bus.last_on(ELSEWHERE).await.unwrap();
    assert_eq!((last.sequence, name(&last)), (2, "one".to_owned()));
    assert!(first.stored_at <= last.stored_at);
    assert_eq!(bus.get(3).await, None);
    assert_eq!(bus.last_on(Topic::Control).await, None);
    assert_eq!(bus.last_sequence().await, 2);
}

pub(crate) async fn an_id_is_stored_once_on_whatever_topic(mut bus: Bus) {
    let one = batch("one", 1);
    assert_eq!(bus.publish(HERE, &one, None).await, stored(1));
    assert_eq!(bus.put(HERE, "other").await, 2);
    assert_eq!(bus.publish(HERE, &one, None).await, duplicate(1));
    assert_eq!(bus.publish(ELSEWHERE, &one, None).await, duplicate(1));
    assert_eq!(bus.last_sequence().await, 2);
}

pub(crate) async fn a_condition_is_on_its_own_topic_and_holds_or_nothing_is_written(mut bus: Bus) {
    bus.put(ELSEWHERE, "beside").await;
    assert_eq!(bus.publish(HERE, &batch("early", 1), Some(1)).await, Published::WrongLastSequence);
    assert_eq!(bus.publish(HERE, &batch("first", 2), Some(0)).await, stored(2));
    assert_eq!(bus.publish(HERE, &batch("late", 1), Some(0)).await, Published::WrongLastSequence);
    bus.put(ELSEWHERE, "beside again").await;
    assert_eq!(bus.publish(HERE, &batch("second", 1), Some(2)).await, stored(4));
    assert_eq!(bus.publish(HERE, &batch("third", 1), Some(3)).await, Published::WrongLastSequence);
    // Without a condition it is written, and moves the topic on.
    assert_eq!(bus.put(HERE, "free").await, 5);
    assert_eq!(bus.publish(HERE, &batch("third", 1), Some(4)).await, Published::WrongLastSequence);
    assert_eq!(bus.last_sequence().await, 5);
    assert_eq!(bus.last_on(HERE).await.map(|record| name(&record)).as_deref(), Some("free"));
}

pub(crate) async fn what_was_refused_may_be_tried_again_under_its_id(mut bus: Bus) {
    bus.put(HERE, "first").await;
    let second = batch("second", 1);
    assert_eq!(bus.publish(HERE, &second, Some(0)).await, Published::WrongLastSequence);
    assert_eq!(bus.publish(HERE, &second, Some(1)).await, stored(2));
}

/// One server; replicas look at the id first. Whoever tries again what was stored may be answered either way, and only
/// what is there tells whose it is.
pub(crate) async fn a_condition_that_does_not_hold_comes_before_a_known_id(mut bus: Bus) {
    let first = batch("first", 1);
    assert_eq!(bus.publish(HERE, &first, Some(0)).await, stored(1));
    assert_eq!(bus.publish(HERE, &first, Some(0)).await, Published::WrongLastSequence);
    assert_eq!(bus.publish(HERE, &first, Some(1)).await, duplicate(1));
    assert_eq!(bus.last_sequence().await, 1);
}

pub(crate) async fn the_feed_brings_everything_in_order_from_any_place(mut bus: Bus) {
    let topics = [HERE, ELSEWHERE, Topic::Violations(Severity::Info)];
    for number in 1..=30_usize {
        bus.put(topics[number % 3], &number.to_string()).await;
    }
    let all = bus.feed(1, 30).await;
    let seen: Vec<(u64, String)> = all.iter().map(|record| (record.sequence, name(record))).collect();
    let expected: Vec<(u64, String)> = (1..=30).map(|number| (number, number.to_string())).collect();
    assert_eq!(seen, expected);
    assert!(all.windows(2).all(|pair| pair[0].stored_at <= pair[1].stored_at));
    assert_eq!(bus.feed(29, 2).await, all[28..]);
}

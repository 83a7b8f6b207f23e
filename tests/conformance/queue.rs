//! Work that is shared, settled and given back.

use std::collections::BTreeMap;
use std::time::Duration;

use homeostat::engine::Done;
use homeostat::model::{Severity, Topic};

use crate::bus::{Bus, Taken};

const WORK: Topic = Topic::Violations(Severity::Warning);
/// Longer than any step of a claim, so that only what should comes again.
const LONG: Duration = Duration::from_mins(5);
/// An acknowledgement wait that a claim can sit out.
const SHORT: Duration = Duration::from_millis(600);
/// Long enough for a message to come that should not.
const WHILE: Duration = Duration::from_millis(150);
const MANY: u32 = 1_000;

async fn put(bus: &mut Bus, names: std::ops::Range<usize>) {
    for name in names {
        bus.put(WORK, &name.to_string()).await;
    }
}

fn told(taken: &[Taken]) -> Vec<(&str, u64)> {
    taken.iter().map(|it| (it.name.as_str(), it.delivered)).collect()
}

pub(crate) async fn only_matching_work_comes_and_what_is_acknowledged_does_not_come_again(mut bus: Bus) {
    bus.put(Topic::Plans, "beside").await;
    put(&mut bus, 0..2).await;
    bus.open(1, SHORT, MANY).await;
    // What was there before the queue comes, and what comes later.
    bus.put(Topic::Violations(Severity::Critical), "2").await;
    bus.put(Topic::Reports(homeostat::model::Role::Monitor), "beside too").await;
    let taken = bus.take(0, 3).await;
    assert_eq!(told(&taken), [("0", 1), ("1", 1), ("2", 1)]);
    assert_eq!(taken.iter().map(|it| it.sequence).collect::<Vec<_>>(), [2, 3, 4]);
    for it in &taken {
        bus.settle(it, Done::Ack).await;
    }
    assert!(bus.is_quiet(0, SHORT * 2).await);
}

pub(crate) async fn each_message_comes_to_one_of_two_members(mut bus: Bus) {
    const ROUNDS: usize = 20;
    bus.open(2, LONG, MANY).await;
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut shares = [0, 0];
    for round in 0..ROUNDS {
        put(&mut bus, round * 8..round * 8 + 8).await;
        while seen.len() < (round + 1) * 8 {
            let (member, batch) = bus.next_of_two(3).await;
            for it in &batch {
                *seen.entry(it.name.clone()).or_default() += 1;
                bus.settle(it, Done::Ack).await;
            }
            shares[member] += batch.len();
        }
    }
    assert!(seen.values().all(|times| *times == 1), "{seen:?}");
    assert!(shares.iter().all(|share| *share >= ROUNDS), "{shares:?}");
}

pub(crate) async fn what_is_not_settled_comes_again_and_progress_puts_it_off(mut bus: Bus) {
    put(&mut bus, 0..2).await;
    bus.open(1, SHORT, MANY).await;
    let first = bus.take(0, 2).await;
    let taken_at = bus.now();
    for _ in 0..3 {
        assert!(bus.is_quiet(0, WHILE).await);
        bus.progress(&first[0]).await;
    }
    // The second is forgotten, and comes again after its wait.
    let again = bus.take(0, 1).await;
    assert_eq!(told(&again), [("1", 2)]);
    assert!(bus.now().checked_sub(taken_at).unwrap() >= SHORT.checked_sub(WHILE / 2).unwrap());
    bus.settle(&again[0], Done::Ack).await;
    assert_eq!(told(&bus.take(0, 1).await), [("0", 2)]);
}

pub(crate) async fn what_a_dead_member_had_in_hand_comes_to_another_one(mut bus: Bus) {
    put(&mut bus, 0..3).await;
    bus.open(1, SHORT, MANY).await;
    let first = bus.take(0, 3).await;
    bus.settle(&first[1], Done::Ack).await;
    bus.die(0);
    bus.open(1, SHORT, MANY).await;
    assert_eq!(told(&bus.take(0, 2).await), [("0", 2), ("2", 2)]);
}

pub(crate) async fn what_is_given_back_comes_again_after_its_delay(mut bus: Bus) {
    const DELAY: Duration = Duration::from_millis(300);
    put(&mut bus, 0..1).await;
    bus.open(1, LONG, MANY).await;
    let first = bus.take(0, 1).await;
    let given_back_at = bus.now();
    bus.settle(&first[0], Done::Nak(DELAY)).await;
    assert!(bus.is_quiet(0, WHILE).await);
    let again = bus.take(0, 1).await;
    assert!(bus.now().checked_sub(given_back_at).unwrap() >= DELAY);
    assert_eq!(told(&again), [("0", 2)]);
    bus.settle(&again[0], Done::Nak(Duration::ZERO)).await;
    assert_eq!(told(&bus.take(0, 1).await), [("0", 3)]);
}

pub(crate) async fn what_is_given_back_first_comes_again_first(mut bus: Bus) {
    put(&mut bus, 0..3).await;
    bus.open(1, LONG, 3).await;
    let first = bus.take(0, 3).await;
    put(&mut bus, 3..4).await;
    bus.settle(&first[2], Done::Nak(Duration::ZERO)).await;
    bus.settle(&first[0], Done::Nak(Duration::ZERO)).await;
    assert_eq!(told(&bus.take(0, 2).await), [("2", 2), ("0", 2)]);
    bus.settle(&first[1], Done::Ack).await;
    assert_eq!(told(&bus.take(0, 1).await), [("3", 1)]);
}

pub(crate) async fn what_is_dead_does_not_come_again(mut bus: Bus) {
    put(&mut bus, 0..1).await;
    bus.open(1, SHORT, MANY).await;
    let first = bus.take(0, 1).await;
    bus.settle(&first[0], Done::Dead("poison\r\n".into())).await;
    assert!(bus.is_quiet(0, SHORT * 2).await);
}

pub(crate) async fn an_acknowledgement_settles_later_deliveries_of_the_message_too(mut bus: Bus) {
    put(&mut bus, 0..1).await;
    bus.open(1, SHORT, MANY).await;
    let first = bus.take(0, 1).await;
    let again = bus.take(0, 1).await;
    assert_eq!(told(&again), [("0", 2)]);
    bus.settle(&first[0], Done::Ack).await;
    assert!(bus.is_quiet(0, SHORT * 2).await);
}

pub(crate) async fn what_is_given_back_late_comes_again_from_other_hands(mut bus: Bus) {
    put(&mut bus, 0..1).await;
    bus.open(1, SHORT, MANY).await;
    let first = bus.take(0, 1).await;
    assert_eq!(told(&bus.take(0, 1).await), [("0", 2)]);
    let given_back_at = bus.now();
    bus.settle(&first[0], Done::Nak(Duration::ZERO)).await;
    assert_eq!(told(&bus.take(0, 1).await), [("0", 3)]);
    assert!(bus.now().checked_sub(given_back_at).unwrap() < SHORT);
}

pub(crate) async fn settling_twice_changes_nothing(mut bus: Bus) {
    put(&mut bus, 0..1).await;
    bus.open(1, SHORT, MANY).await;
    let first = bus.take(0, 1).await;
    for done in [Done::Ack, Done::Ack, Done::Nak(Duration::ZERO), Done::Dead("late".into())] {
        bus.settle(&first[0], done).await;
    }
    bus.progress(&first[0]).await;
    assert!(bus.is_quiet(0, SHORT * 2).await);
}

pub(crate) async fn no_more_is_handed_out_than_may_be_unsettled(mut bus: Bus) {
    put(&mut bus, 0..5).await;
    bus.open(1, LONG, 3).await;
    let open = bus.take(0, 3).await;
    assert!(bus.is_quiet(0, WHILE).await);
    bus.settle(&open[1], Done::Ack).await;
    assert_eq!(told(&bus.take(0, 1).await), [("3", 1)]);
    assert!(bus.is_quiet(0, WHILE).await);
}

pub(crate) async fn a_queue_that_exists_goes_on_where_it_was(mut bus: Bus) {
    put(&mut bus, 0..1).await;
    bus.open(1, LONG, MANY).await;
    let first = bus.take(0, 1).await;
    bus.settle(&first[0], Done::Ack).await;
    bus.open(1, LONG, MANY).await;
    put(&mut bus, 1..2).await;
    assert_eq!(told(&bus.take(0, 1).await), [("1", 1)]);
}

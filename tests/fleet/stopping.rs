//! Told to stop, a process finishes what is under way, gives back what it holds, and ends well.

use std::time::Duration;

use homeostat::bus::nats::{Answer, Connection, Leases, ask};
use homeostat::engine::execute::SHARDS;
use homeostat::model::OutcomeResult;
use serde_json::Value;

use crate::cell::Cell;
use crate::kills::ROLES;
use crate::support::{PATIENCE, soon};
use crate::target::HELD;

/// Long enough to tell a process to stop while its attempt is under way, short enough for what it does before its end.
const ATTEMPT_SECONDS: u32 = 8;
/// How often a log is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Effects that show that the loop is at work.
const EFFECTS_BETWEEN: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_stop_at_work_each_role_ends_well_and_leaves_nothing_in_doubt() {
    let mut cell = Cell::start(&ROLES, ATTEMPT_SECONDS).await;
    let connection = cell.bed.connect().await;
    let leases = Leases::open(connection.clone(), &cell.bed.names).await.unwrap();
    for role in ROLES {
        let effects = cell.targets.effects() + EFFECTS_BETWEEN;
        cell.targets.until("work", |world| world.effects.len() >= effects).await;
        let stopping = cell.take(role);
        if role == "executor" {
            stop_with_an_attempt_under_way(&cell, &leases, &stopping).await;
        } else {
            stopping.terminate();
        }
        let status = stopping.ended().await;
        assert!(status.success(), "told to stop, the {role} ended with {status}");
        // Whoever comes next need not wait for the end of a lease.
        for key in keys_of(role) {
            assert_eq!(leases.holder(&key).await.unwrap(), None, "{key} after the {role} ended");
        }
        cell.add(role).await;
    }
    let effects = cell.targets.effects() + EFFECTS_BETWEEN;
    cell.targets.until("work at the end", |world| world.effects.len() >= effects).await;
    let by_hand = cell.settle().await;
    let story = cell.chronicle.so_far();
    story.check(&cell.targets.world.borrow());
    let ended = |result| story.ended(result);
    assert_eq!((ended(OutcomeResult::InDoubt), ended(OutcomeResult::TimedOut), by_hand), (0, 0, 0));
    let messages = story.violation_messages;
    drop(story);
    let names = &cell.bed.names;
    all_is_settled(&connection, &names.ledger, "planner").await;
    all_is_settled(&connection, &names.intake, "monitor-intake").await;
    // What the stopped analyzer had in hand came again, once, and nothing else did.
    let deliveries = all_is_settled(&connection, &names.ledger, "analyzer").await;
    println!("{messages} messages of violations, {deliveries} deliveries");
    assert!(deliveries <= 2 * messages, "{deliveries} deliveries of {messages} messages");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_monitor_that_waits_for_another_one_can_be_told_to_stop() {
    let cell = Cell::start(&["monitor"], ATTEMPT_SECONDS).await;
    let waiting = cell.member("monitor").await;
    let looking = async {
        while !waiting.log().contains("held by another process") {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    soon("a second monitor that waits", looking).await;
    waiting.terminate();
    let status = waiting.ended().await;
    assert!(status.success(), "{status}");
    assert!(cell.of("monitor").next().unwrap().is_ready().await);
}

/// Its target answers when the executor has been told to stop and has given back its leases.
async fn stop_with_an_attempt_under_way(cell: &Cell, leases: &Leases, executor: &crate::member::Member) {
    let unit = format!("{HELD}1");
    cell.targets.break_unit(&unit);
    cell.targets.until("the call for a held unit", |world| world.held.contains(&unit)).await;
    executor.terminate();
    let given_back = async {
        for key in keys_of("executor") {
            while leases.holder(&key).await.unwrap().is_some() {
                tokio::task::yield_now().await;
            }
        }
    };
    soon("the leases of the executor", given_back).await;
    cell.targets.world.send_modify(|world| {
        world.let_go.insert(unit);
    });
}

fn keys_of(role: &str) -> Vec<String> {
    match role {
        "monitor" => vec!["monitor".to_owned()],
        "executor" => {
            let shards = (0..SHARDS).map(|shard| format!("executor.shard.{shard}"));
            shards.chain(["executor.place.0".to_owned()]).collect()
        }
        _ => Vec::new(),
    }
}

/// Nothing is out and nothing waits; how many deliveries it took.
async fn all_is_settled(connection: &Connection, stream: &str, consumer: &str) -> u64 {
    let subject = format!("$JS.API.CONSUMER.INFO.{stream}.{consumer}");
    let asking = async {
        loop {
            let question = Answer { headers: Vec::new(), payload: "".into() };
            let answer = ask(connection, &subject, question, PATIENCE).await.unwrap();
            let info: Value = serde_json::from_slice(&answer.payload).unwrap();
            if info["num_ack_pending"] == 0 && info["num_pending"] == 0 {
                return info;
            }
            tokio::task::yield_now().await;
        }
    };
    let info = soon(&format!("the settlement of all for {consumer}"), asking).await;
    info["delivered"]["consumer_seq"].as_u64().unwrap()
}

//! More of a role: they share its work, and take over from each other.

use std::time::Duration;

use homeostat::model::{Role, VerdictKind};

use crate::cell::Cell;

const SHARED: [(&str, Role, &str, &str); 3] = [
    ("analyzer", Role::Analyzer, "homeostat_ledger_published_total", "topic=\"analyses\""),
    ("planner", Role::Planner, "mape_k_cycle_policies_generated", ""),
    ("executor", Role::Executor, "mape_k_cycle_actions_executed", ""),
];
const ATTEMPT_SECONDS: u32 = 3;
/// Verdicts that show that the work goes on.
const VERIFIED_AFTER: usize = 24;
const LOOK_EVERY: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_a_role_share_its_work_and_one_takes_over_when_the_other_is_killed() {
    let roles =
        ["monitor", "knowledge", "analyzer", "analyzer", "planner", "planner", "executor", "executor"];
    let mut cell = Cell::start(&roles, ATTEMPT_SECONDS).await;
    let second = cell.member("monitor").await;
    for (name, role, metric, label) in SHARED {
        let both = |story: &crate::chronicle::Story| story.deciders(role).len() == 2;
        cell.chronicle.until(&format!("decisions of both {name}s"), both).await;
        // And each of them says so itself.
        for member in cell.of(name) {
            let counting = async {
                while member.metric(metric, &[label]).await < 1.0 {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            };
            crate::support::soon(&format!("the count of an {name}"), counting).await;
        }
    }
    let shares = SHARED.map(|(_, role, ..)| format!("{:?}", cell.chronicle.so_far().deciders(role)));
    println!("shares: {shares:#?}");
    let verified = cell.chronicle.so_far().judged(VerdictKind::Verified);
    for (name, ..) in SHARED {
        cell.take(name).kill().await;
    }
    let more = verified + VERIFIED_AFTER;
    let goes_on = |story: &crate::chronicle::Story| story.judged(VerdictKind::Verified) >= more;
    cell.chronicle.until("work after a kill of one of each", goes_on).await;
    let by_hand = cell.settle().await;
    // Samples are not shared: a second monitor waits for the end of the first one, and not for long.
    assert!(!second.is_ready().await);
    assert_eq!(second.ended().await.code(), Some(3));
    let story = cell.chronicle.so_far();
    story.check(&cell.targets.world.borrow());
    for (name, role, ..) in SHARED {
        assert_eq!(story.deciders(role).len(), 2, "nobody else was the {name}: {:?}", story.deciders(role));
    }
    println!(
        "{} units, {} attempts, {} verified, {by_hand} healed by hand",
        story.episodes.len(),
        story.intents.len(),
        story.judged(VerdictKind::Verified),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_of_many_roles_shares_the_work_while_its_monitor_stands_by_and_then_takes_over() {
    let roles = "monitor,analyzer,planner,executor";
    let mut cell = Cell::start(&[roles], ATTEMPT_SECONDS).await;
    cell.add(roles).await;
    let told = async |cell: &Cell, place: usize| {
        let (status, page) = cell.members[place].page("readyz").await.unwrap();
        let page: serde_json::Value = serde_json::from_str(&page).unwrap();
        let standing_by = page["standing_by"].as_array().map_or(0, Vec::len);
        (status, standing_by, cell.members[place].metric("homeostat_standing_by", &[]).await)
    };
    let until = async |cell: &Cell, place: usize, what: &str, expected: (u16, usize, f64)| {
        let looking = async {
            while told(cell, place).await != expected {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        crate::support::soon(what, looking).await;
    };
    until(&cell, 1, "a monitor that stands by", (200, 1, 1.0)).await;
    assert_eq!(told(&cell, 0).await, (200, 0, 0.0));
    let both =
        |story: &crate::chronicle::Story| SHARED.iter().all(|(_, role, ..)| story.deciders(*role).len() == 2);
    cell.chronicle.until("decisions of both processes", both).await;

    cell.members.remove(0).kill().await;
    until(&cell, 0, "a monitor that takes over", (200, 0, 0.0)).await;
    cell.work.stop_breaking();
    cell.heal("r-later").await;
    let by_hand = cell.settle().await;
    cell.chronicle.so_far().check(&cell.targets.world.borrow());
    println!("{by_hand} healed by hand");
}

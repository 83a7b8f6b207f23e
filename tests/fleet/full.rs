//! No room for the knowledge store: the loop goes on, says what is missing, and knows everything when there is room again.

use std::time::Duration;

use homeostat::bus::nats::{Answer, Ledger, ask};
use serde_json::Value;

use crate::cell::Cell;
use crate::member::Member;
use crate::support::{PATIENCE, soon};

const ATTEMPT_SECONDS: u32 = 8;
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Effects that show that the loop is at work.
const EFFECTS_BETWEEN: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_room_for_what_is_remembered_the_loop_goes_on_and_catches_up_afterwards() {
    let cell = Cell::start(&[], ATTEMPT_SECONDS).await;
    let mut all = cell.limitable("monitor,analyzer,planner,executor,knowledge").await;
    all.ready().await;
    work(&cell).await;
    assert!(stats(&cell).await["applied"].as_u64().unwrap() > 0);

    all.limit_files(Some(1));
    // As the store itself does on a disk that is full: what was set aside for opening is given back.
    std::fs::remove_file(cell.data().join("knowledge/ballast")).unwrap();
    let page = until_page(&all, 503).await;
    assert!(page.contains("knowledge cannot be kept") && page.contains("File too large"), "{page}");
    let stale = stats(&cell).await;
    work(&cell).await;
    assert!(all.is_running(), "{}", all.log());
    assert_eq!(stats(&cell).await["applied"], stale["applied"], "what was stored whole is served");
    assert!(all.metric("homeostat_store_failures_total", &[]).await >= 1.0);
    assert!(all.metric("homeostat_store_usable", &[]).await < 0.5);
    let told = all.log().matches("the knowledge store cannot be used").count();
    assert_eq!(told, 1, "it is told once:\n{}", all.log());

    all.limit_files(None);
    until_page(&all, 200).await;
    assert!(all.metric("homeostat_store_usable", &[]).await > 0.5);
    cell.settle().await;
    cell.chronicle.so_far().check(&cell.targets.world.borrow());
    let ledger = Ledger::open(cell.bed.connect().await, &cell.bed.names).await.unwrap();
    let last = ledger.tail().await.unwrap().last_sequence;
    let known = async {
        while stats(&cell).await["applied"].as_u64().unwrap() < last {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    soon("the whole ledger in the store", known).await;
    assert_eq!(stats(&cell).await["doubtful_folders"], 0, "nothing was lost and begun anew");
    assert!(all.log().contains("the knowledge store is open again"), "{}", all.log());
}

/// The loop heals some units.
async fn work(cell: &Cell) {
    let effects = cell.targets.effects() + EFFECTS_BETWEEN;
    cell.targets.until("work", |world| world.effects.len() >= effects).await;
}

async fn until_page(member: &Member, wanted: u16) -> String {
    let looking = async {
        loop {
            match member.page("readyz").await {
                Some((status, text)) if status == wanted => return text,
                _ => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    };
    soon(&format!("readiness {wanted}"), looking).await
}

async fn stats(cell: &Cell) -> Value {
    let question = Answer { headers: Vec::new(), payload: "".into() };
    let connection = cell.bed.connect().await;
    let subject = cell.bed.subject("kb.stats");
    let answer = ask(&connection, &subject, question, PATIENCE).await.unwrap();
    serde_json::from_slice(&answer.payload).unwrap()
}

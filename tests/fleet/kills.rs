//! `kill -9` of each role and of the server, in the middle of work: nothing that was accepted is lost, nothing is done
//! twice, what is in doubt is said to be.

use std::time::Duration;

use homeostat::bus::nats::{Answer, Ledger, ask};
use homeostat::clock::Clock;
use homeostat::model::{OutcomeResult, VerdictKind};

use crate::cell::Cell;
use crate::target::HELD;
use crate::work;

pub(crate) const ROLES: [&str; 5] = ["monitor", "analyzer", "planner", "executor", "knowledge"];
/// Short: what is in doubt is waited for.
const ATTEMPT_SECONDS: u32 = 3;
/// How often each role is killed.
const KILLS_PER_ROLE: usize = 4;
/// How often the server is.
const SERVER_KILLS: usize = KILLS_PER_ROLE - 1;
/// Effects after a kill, before the next one: the loop works again from end to end.
const EFFECTS_BETWEEN: usize = 3;
/// A kill comes up to so much later than that, so that it hits anything.
const JITTER_MILLIS_MAX: u64 = 250;

fn seed() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a test is told by the environment which run to repeat")]
    let given = std::env::var("HOMEOSTAT_FLEET_SEED").ok();
    given.map_or_else(|| fastrand::u64(..), |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_every_role_and_of_the_server_lose_nothing_and_repeat_nothing() {
    let seed = seed();
    println!("HOMEOSTAT_FLEET_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut victims: Vec<&str> = ROLES.repeat(KILLS_PER_ROLE);
    victims.extend(["server"; SERVER_KILLS]);
    random.shuffle(&mut victims);
    println!("in this order: {victims:?}");

    let mut cell = Cell::start(&ROLES, ATTEMPT_SECONDS).await;
    let clock = Clock::system();
    let begun = clock.stopwatch();
    let mut blinks = Vec::new();
    for (number, victim) in victims.iter().enumerate() {
        let effects = cell.targets.effects() + EFFECTS_BETWEEN;
        let what = format!("work before kill {number}, of the {victim}");
        cell.tended(&what, |cell| cell.targets.effects() >= effects).await;
        // Not a wait for anything: where in the work the kill falls.
        tokio::time::sleep(Duration::from_millis(random.u64(..JITTER_MILLIS_MAX))).await;
        println!("{:>6.2} s: kill {number}, of the {victim}", begun.elapsed().as_secs_f64());
        match *victim {
            "server" => {
                // Samples that no monitor has read yet are in the server's memory, and go with it.
                blinks.retain(|unit: &String| cell.chronicle.so_far().knows(unit));
                cell.bed.server.kill().await;
                cell.bed.server.restart().await.unwrap();
            }
            "monitor" => {
                cell.take("monitor").kill().await;
                blinks.push(blink(&cell, number).await);
                cell.add("monitor").await;
            }
            role => {
                cell.take(role).kill().await;
                cell.add(role).await;
            }
        }
    }
    let in_doubt = kill_between_intent_and_outcome(&mut cell).await;
    // Who came back last found a kept fold; what it had to say is checked below, with all the rest.
    let executor = cell.of("executor").next().unwrap();
    assert!(executor.log().contains("goes on from a kept fold"), "{}", executor.log());
    let by_hand = cell.settle().await;
    assert!(!blinks.is_empty(), "a monitor is killed more often than the server");
    check(&cell, &blinks).await;
    let story = cell.chronicle.so_far();
    println!(
        "{} kills in {:.1} s: {} violations, {} attempts, {} effects, {} verified, {} in doubt, {by_hand} healed by hand",
        victims.len() + 1,
        begun.elapsed().as_secs_f64(),
        story.episodes.len(),
        story.intents.len(),
        cell.targets.effects(),
        story.judged(VerdictKind::Verified),
        story.ended(OutcomeResult::InDoubt),
    );
    assert!(story.ended(OutcomeResult::InDoubt) >= in_doubt);
    assert!(story.judged(VerdictKind::Verified) * 2 > story.episodes.len(), "hardly anything was healed");
}

/// A unit that breaks and recovers while there is no monitor: only the sample stream can tell.
async fn blink(cell: &Cell, number: usize) -> String {
    let connection = cell.bed.connect().await;
    let unit = format!("s-blink-{number}");
    let mut producer = work::producer(connection.clone(), &format!("blinker-{number}")).await;
    let begun = Clock::system().now();
    for (is_ill, after) in [(true, 0), (false, 10)] {
        let sample = work::reading(&unit, is_ill, begun + Duration::from_millis(after));
        producer.push(&sample).await.unwrap();
    }
    producer.close().await.unwrap();
    connection.barrier().await;
    unit
}

/// The effect happens, its answer does not come, and the executor dies waiting for it.
async fn kill_between_intent_and_outcome(cell: &mut Cell) -> usize {
    let unit = format!("{HELD}1");
    cell.targets.break_unit(&unit);
    cell.targets.until("the call for a held unit", |world| world.held.contains(&unit)).await;
    cell.take("executor").kill().await;
    cell.add("executor").await;
    let doubts = |story: &crate::chronicle::Story| story.ended(OutcomeResult::InDoubt);
    let held: Vec<String> = {
        let world = cell.targets.world.borrow();
        world.on_http.iter().cloned().collect()
    };
    cell.chronicle
        .until("an attempt in doubt", |story| {
            story.intents.values().any(|(_, intent)| {
                let results = story.outcomes.get(&intent.attempt);
                intent.scope.get("unit") == Some(&unit)
                    && held.contains(&intent.action.to_string())
                    && results.is_some_and(|results| results.contains(&OutcomeResult::InDoubt))
            })
        })
        .await;
    let executor = cell.of("executor").next().unwrap();
    let counted = executor.metric("homeostat_attempts_in_doubt_total", &[]).await;
    assert!(counted >= 1.0, "{counted}");
    doubts(&cell.chronicle.so_far())
}

async fn check(cell: &Cell, blinks: &[String]) {
    let connection = cell.bed.connect().await;
    {
        let story = cell.chronicle.so_far();
        let world = cell.targets.world.borrow();
        for unit in cell.work.accepted() {
            assert!(story.knows(&unit), "the report on {unit} was acknowledged and is not in the ledger");
        }
        for unit in world.units.keys().chain(blinks) {
            assert!(story.knows(unit), "{unit} broke and is not in the ledger");
        }
        story.check(&world);
    }
    // Knowledge has come to the same.
    let ledger = Ledger::open(connection.clone(), &cell.bed.names).await.unwrap();
    let last = ledger.tail().await.unwrap().last_sequence;
    let incidents = cell.chronicle.so_far().incidents.len();
    let asking = async {
        loop {
            let question = Answer { headers: Vec::new(), payload: "".into() };
            let answer =
                ask(&connection, "homeostat.v1.kb.stats", question, Duration::from_secs(5)).await.unwrap();
            let stats: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
            if stats["applied"].as_u64() >= Some(last) {
                return stats;
            }
        }
    };
    let stats = crate::support::soon("knowledge of all that is in the ledger", asking).await;
    assert_eq!(stats["incidents"], incidents, "{stats}");
    assert_eq!(stats["rebuilt"], false, "{stats}");
}

//! The loop in a bad world: every seed is a world in which messages are late, lost, doubled and out of order, and
//! processes die and come back. Whatever happens, no violation is lost, no effect repeated, no budget exceeded, no
//! incident split.
//!
//! A failure prints its seed; `HOMEOSTAT_SEED=n cargo test --test simulation` runs that one alone and tells its story.

#![expect(
    clippy::wildcard_enum_match_arm,
    clippy::match_same_arms,
    reason = "the tests look at the few entries that an invariant is about"
)]

mod invariants;
mod oracle;
mod saboteur;
mod sampled;
mod scripted;
mod stage;
mod storm;

use saboteur::Sabotage;

/// Seeds of one run; the issue of a budget is a few minutes in a debug build on two cores.
const SEEDS: u64 = 1_000;
/// Seeds of the worlds with a real monitor: twenty-five seconds.
const SEEDS_WITH_SAMPLES: u64 = 200;
/// Seeds within which each deliberate bug has to be found.
const SEEDS_WITH_SABOTAGE: u64 = 1_000;

#[test]
fn no_seed_loses_a_violation_repeats_an_effect_exceeds_a_budget_or_splits_an_incident() {
    let (mut effects, mut kills, mut in_doubt) = (0, 0, 0);
    for seed in seeds(SEEDS) {
        let told = scripted::run(seed, Sabotage::None);
        if let Err(broken) = invariants::check(&told) {
            panic!("seed {seed}: {broken}\nrun it alone with HOMEOSTAT_SEED={seed}\n{}", told.story());
        }
        effects += told.effects.len();
        kills += told.kills;
        in_doubt += told.in_doubt();
    }
    // A simulation in which nothing happens proves nothing.
    assert!(effects > 0 && kills > 0, "{effects} effects, {kills} kills, {in_doubt} attempts in doubt");
    println!("{effects} effects, {kills} kills, {in_doubt} attempts in doubt");
}

#[test]
fn no_seed_loses_an_episode_that_the_samples_contain_or_tells_it_twice() {
    let (mut runs, mut effects, mut monitor_kills) = (0, 0, 0);
    for seed in seeds(SEEDS_WITH_SAMPLES) {
        let sampled = sampled::run(seed);
        if let Err(broken) = oracle::check(&sampled).and_then(|()| invariants::check(&sampled.told)) {
            panic!(
                "seed {seed}: {broken}\nrun it alone with HOMEOSTAT_SEED={seed}\n{}",
                sampled.told.story()
            );
        }
        runs += sampled.runs.len();
        effects += sampled.told.effects.len();
        monitor_kills += sampled.monitor_kills;
    }
    assert!(runs > 0 && effects > 0, "{runs} runs, {effects} effects, {monitor_kills} kills of the monitor");
    println!("{runs} runs, {effects} effects, {monitor_kills} kills of the monitor");
}

#[test]
fn acknowledging_first_is_caught() {
    assert_caught(Sabotage::AckFirst);
}

#[test]
fn writing_without_compare_and_set_is_caught() {
    assert_caught(Sabotage::NoCompareAndSet);
}

#[test]
fn acting_on_a_duplicate_acknowledgement_is_caught() {
    assert_caught(Sabotage::TrustDuplicates);
}

#[test]
fn a_seed_tells_the_same_story_twice() {
    for seed in 0..20 {
        assert_eq!(scripted::run(seed, Sabotage::None).story(), scripted::run(seed, Sabotage::None).story());
    }
}

fn assert_caught(sabotage: Sabotage) {
    let caught = (0..SEEDS_WITH_SABOTAGE).find_map(|seed| {
        let told = scripted::run(seed, sabotage);
        invariants::check(&told).err().map(|broken| (seed, broken))
    });
    match caught {
        Some((seed, broken)) => println!("{sabotage:?} is caught by seed {seed}: {broken}"),
        None => panic!("{sabotage:?} is not caught within {SEEDS_WITH_SABOTAGE} seeds"),
    }
}

#[expect(clippy::disallowed_methods, reason = "a test has no configuration to read its environment for it")]
fn seeds(all: u64) -> std::ops::Range<u64> {
    match std::env::var("HOMEOSTAT_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..all,
    }
}

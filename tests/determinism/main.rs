//! The loop decides the same whatever way its input comes: samples cut into frames in any way that keeps their order and
//! their instants, and anything twice. At each instant of virtual time the incidents, plans and admissions are the same.
//!
//! The cores are those of production, all of them, and so is the charter's mode: effects are called and verified.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod input;
mod story;
mod unsettled;

use proptest::prelude::*;
use proptest::strategy::ValueTree;

use input::Instant;
use story::Story;
use unsettled::{Calm, Unsettled};

/// About twenty seconds of a debug build on two busy cores.
const CASES: u32 = 96;

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]

    #[test]
    fn duplicates_and_any_batching_give_the_same_at_each_instant(
        instants in input::instants(),
        seed in any::<u64>(),
    ) {
        let whole = Story::of(&input::play(&instants, Calm, None));
        let cut = Story::of(&input::play(&instants, Unsettled::new(seed), Some(seed)));
        if let Some(difference) = whole.differs_from(&cut) {
            prop_assert!(false, "{}", difference);
        }
    }
}

/// A loop in which nothing happens is deterministic too: the cases have to reach every kind of decision.
#[test]
fn the_cases_reach_every_kind_of_decision() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut reached = story::Reached::default();
    for _ in 0..CASES / 4 {
        let instants: Vec<Instant> = input::instants().new_tree(&mut runner).unwrap().current();
        reached.add(&input::play(&instants, Calm, None));
    }
    println!("{reached:?}");
    assert!(reached.everything(), "{reached:?}");
}

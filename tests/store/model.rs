//! Any history of changes, reopenings, compactions and transfers leaves what a plain map would hold.

use std::collections::BTreeMap;

use homeostat::model::Timestamp;
use homeostat::store::{Applied, Change, Found, Store, Table};
use proptest::prelude::*;
use proptest::test_runner::Config;

use crate::work::{self, Model};

type Writes = BTreeMap<(Table, Vec<u8>), Option<Vec<u8>>>;

#[derive(Clone, Debug)]
enum Step {
    Apply(Writes),
    Stale(Writes),
    Reopen,
    Compact,
    Transfer,
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    // Around the length of a row, and well above it.
    let len = prop_oneof![6 => 0..100_usize, 2 => 4_070..4_090_usize, 1 => 8_000..40_000_usize];
    (len, any::<u8>()).prop_map(|(len, fill)| vec![fill; len])
}

fn some_writes() -> impl Strategy<Value = Writes> {
    let table = proptest::sample::select(vec![Table::Meta, Table::Plans, Table::ByTime]);
    // Keys that are prefixes of each other, and bytes at both ends.
    let key = proptest::collection::vec(proptest::sample::select(vec![0, 1, 0x7f, 0xff]), 1..4);
    proptest::collection::btree_map((table, key), proptest::option::weighted(0.7, value()), 0..8)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => some_writes().prop_map(Step::Apply),
        1 => some_writes().prop_map(Step::Stale),
        1 => Just(Step::Reopen),
        1 => Just(Step::Compact),
        1 => Just(Step::Transfer),
    ]
}

fn change(applied: u64, writes: &Writes) -> Change {
    let mut change = Change::new(applied, Timestamp::from_millis(7));
    for ((table, key), value) in writes {
        match value {
            Some(value) => change.put(*table, key, value).unwrap(),
            None => change.delete(*table, key).unwrap(),
        }
    }
    change
}

fn fold(model: &mut Model, writes: Writes) {
    for (place, value) in writes {
        match value {
            Some(value) => model.insert(place, value),
            None => model.remove(&place),
        };
    }
}

/// The store's contents in a new store beside it, by export and import.
fn transfer(store: Store, root: &std::path::Path, number: usize) -> (Store, std::path::PathBuf) {
    let mut export = Vec::new();
    store.export(&mut export).unwrap();
    store.close();
    let dir = root.join(format!("kb-{number}"));
    let store = work::open(&dir).store;
    store.import(&mut export.as_slice()).unwrap();
    (store, dir)
}

proptest! {
    #![proptest_config(Config { cases: 24, ..Config::default() })]

    #[test]
    fn a_store_holds_what_a_map_would(steps in proptest::collection::vec(step(), 1..40)) {
        let root = tempfile::tempdir().unwrap();
        let mut dir = root.path().join("kb");
        let mut store = work::open(&dir).store;
        let (mut model, mut applied) = (Model::new(), 0);
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Apply(writes) => {
                    applied += 1 + number as u64 % 3;
                    prop_assert_eq!(store.apply(&change(applied, &writes)).unwrap(), Applied::Now);
                    fold(&mut model, writes);
                }
                Step::Stale(writes) => {
                    prop_assert_eq!(store.apply(&change(applied, &writes)).unwrap(), Applied::Before);
                }
                Step::Reopen => {
                    store.close();
                    let opened = work::open(&dir);
                    prop_assert_eq!(opened.found, Found::Intact { applied });
                    store = opened.store;
                }
                Step::Compact => {
                    store.compact().unwrap();
                }
                Step::Transfer => (store, dir) = transfer(store, root.path(), number),
            }
            for ((table, key), value) in &model {
                let held = store.get(*table, key).unwrap();
                prop_assert_eq!(held.as_ref(), Some(value));
            }
        }
        let held = work::contents(&store);
        prop_assert!(held == model, "the store differs from the map");
        prop_assert_eq!(store.stats().unwrap().records, model.len() as u64);
        prop_assert_eq!(store.applied(), applied);
    }
}

//! How fast the ledger's view grows on disk: durable facts per second, and how long opening takes to believe it.
//!
//! `cargo bench --bench store`. The first group is the workload the engine was chosen by: groups of 64 small facts,
//! each group durable before the next begins.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use homeostat::model::Timestamp;
use homeostat::store::{Change, Identity, Options, Store, Table};
use tempfile::TempDir;

/// Facts of one group: the knee of the curve; larger ones only wait longer.
const GROUP: u64 = 64;
/// Records that live while retention deletes as many as arrive.
const LIVE: u64 = 100_000;
/// A named fact: MessagePack with field names.
const FACT_BYTES: usize = 196;

/// The program's: what is measured is what runs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

fn open(dir: &TempDir) -> Store {
    let identity = Identity::new(1, b"bench").expect("a short identity");
    Store::open(&dir.path().join("kb"), &identity, Options::default())
        .expect("a store opens in a new folder")
        .store
}

fn put(change: &mut Change, table: Table, number: u64, bytes: usize) {
    let value: Vec<u8> =
        (0..bytes as u64).map(|at| (number.wrapping_mul(31) ^ at).to_le_bytes()[0]).collect();
    change.put(table, &number.to_be_bytes(), &value).expect("within the limits");
}

/// The group that brings the store to `applied`: facts only, or facts with an index key each and as many deletes.
fn group(applied: u64, indexed: bool) -> Change {
    let mut change = Change::new(applied, Timestamp::from_millis(0));
    for number in (applied - 1) * GROUP..applied * GROUP {
        put(&mut change, Table::Violations, number, FACT_BYTES);
        if !indexed {
            continue;
        }
        put(&mut change, Table::ByTime, number, 0);
        if let Some(old) = number.checked_sub(LIVE) {
            change.delete(Table::Violations, &old.to_be_bytes()).expect("within the limits");
            change.delete(Table::ByTime, &old.to_be_bytes()).expect("within the limits");
        }
    }
    change
}

fn filled(dir: &TempDir) -> Store {
    let store = open(dir);
    for applied in 1..=LIVE.div_ceil(GROUP) {
        store.apply(&group(applied, true)).expect("room in the temporary folder");
    }
    store
}

fn durable_groups(bencher: Bencher<'_, '_>, store: &Store, indexed: bool) {
    bencher
        .counter(ItemsCount::new(GROUP))
        .with_inputs(|| group(store.applied() + 1, indexed))
        .bench_local_values(|change| store.apply(black_box(&change)));
}

#[divan::bench(sample_count = 2_000, sample_size = 1)]
fn facts(bencher: Bencher<'_, '_>) {
    let dir = TempDir::new().expect("a temporary folder");
    durable_groups(bencher, &open(&dir), false);
}

#[divan::bench(sample_count = 2_000, sample_size = 1)]
fn facts_with_index_and_retention_at_100_000_live(bencher: Bencher<'_, '_>) {
    let dir = TempDir::new().expect("a temporary folder");
    durable_groups(bencher, &filled(&dir), true);
}

#[divan::bench(sample_count = 10, sample_size = 1)]
fn open_and_check_100_000_live(bencher: Bencher<'_, '_>) {
    let dir = TempDir::new().expect("a temporary folder");
    filled(&dir).close();
    bencher.counter(ItemsCount::new(2 * LIVE)).bench_local(|| open(&dir).close());
}

#[divan::bench(sample_count = 2_000, sample_size = 16)]
fn get_one_of_100_000(bencher: Bencher<'_, '_>) {
    let dir = TempDir::new().expect("a temporary folder");
    let store = filled(&dir);
    let mut number = 0_u64;
    bencher.bench_local(|| {
        number = (number + 48_271) % LIVE;
        store.get(Table::Violations, &number.to_be_bytes())
    });
}

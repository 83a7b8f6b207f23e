//! A long row of changes, each a function of its ledger sequence: whoever knows how far a store came knows what it
//! must hold. And the child process that applies them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use fastrand::Rng;
use homeostat::model::Timestamp;
use homeostat::store::{Change, Identity, KeyRange, Opened, Options, Store, StoreError, Table};

/// Names the folder to the child, and makes it one.
const CHILD: &str = "HOMEOSTAT_TEST_STORE_CHILD";
const TABLES: [Table; 3] = [Table::Incidents, Table::Plans, Table::ByTime];

/// What a store holds, as a map.
pub(crate) type Model = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

pub(crate) fn open(dir: &Path) -> Opened {
    try_open(dir).unwrap()
}

pub(crate) fn try_open(dir: &Path) -> Result<Opened, StoreError> {
    let options = Options { cache_bytes: 4 << 20, ballast_bytes: 64 << 10, ..Options::default() };
    Store::open(dir, &Identity::new(1, b"test ledger").unwrap(), options)
}

/// What the ledger says at `applied`: a few puts and deletes over some dozens of keys, now and then a long value.
pub(crate) fn writes(applied: u64) -> Vec<(Table, Vec<u8>, Option<Vec<u8>>)> {
    let mut rng = Rng::with_seed(applied);
    let count = rng.usize(0..12);
    let write = |rng: &mut Rng| {
        let table = TABLES[rng.usize(0..TABLES.len())];
        let key = format!("key-{}", rng.u32(0..60)).into_bytes();
        let len = if rng.u8(0..20) == 0 { rng.usize(4_000..20_000) } else { rng.usize(0..300) };
        let value = (rng.u8(0..4) > 0).then(|| (0..len).map(|_| rng.u8(..)).collect());
        (table, key, value)
    };
    (0..count).map(|_| write(&mut rng)).collect()
}

pub(crate) fn change(applied: u64) -> Change {
    let mut change = Change::new(applied, Timestamp::from_millis(1_700_000_000_000));
    for (table, key, value) in writes(applied) {
        match value {
            Some(value) => change.put(table, &key, &value).unwrap(),
            None => change.delete(table, &key).unwrap(),
        }
    }
    change
}

/// What a store that folded the ledger up to `applied` must hold.
pub(crate) fn model_at(applied: u64) -> Model {
    let mut model = Model::new();
    for (table, key, value) in (1..=applied).flat_map(writes) {
        match value {
            Some(value) => model.insert((table, key), value),
            None => model.remove(&(table, key)),
        };
    }
    model
}

/// Everything in the store, page by page.
pub(crate) fn contents(store: &Store) -> Model {
    try_contents(store).unwrap()
}

/// The same, where a read may fail.
pub(crate) fn try_contents(store: &Store) -> Result<Model, StoreError> {
    let mut model = Model::new();
    for table in Table::ALL {
        let mut range = KeyRange::all();
        loop {
            let page = store.scan(table, &range, 7)?;
            if let Some(last) = page.records.last() {
                range = range.after(&last.key);
            }
            model.extend(page.records.into_iter().map(|record| ((table, record.key), record.value)));
            if !page.more {
                break;
            }
        }
    }
    Ok(model)
}

/// What a child does until it is killed or fails.
#[derive(Clone, Copy)]
pub(crate) enum Work {
    /// Applies changes and says how far it came after each.
    Apply,
    /// The same, with a compaction after every few.
    ApplyAndCompact,
    /// Applies until the disk is full and checks what is promised then.
    Fill,
}

impl Work {
    fn name(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::ApplyAndCompact => "compact",
            Self::Fill => "fill",
        }
    }
}

/// This test binary again, as a process that works on `dir`; `wrapper` may limit what it can do.
pub(crate) fn spawn(dir: &Path, work: Work, wrapper: &[&str]) -> (Child, Lines<BufReader<ChildStdout>>) {
    let this = std::env::current_exe().unwrap();
    let mut command = match wrapper {
        [] => Command::new(this),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(this);
            command
        }
    };
    let mut child = command
        .args(["--exact", "work::a_child_works_where_it_is_told_to", "--nocapture"])
        .env(CHILD, format!("{}:{}", work.name(), dir.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

/// The number in a child's line; libtest's own lines carry none.
pub(crate) fn acknowledged(line: &str) -> Option<u64> {
    line.rsplit("stored ").next()?.parse().ok()
}

/// Not a test of its own: the body of the children, which passes at once when nobody asks for one.
#[test]
fn a_child_works_where_it_is_told_to() {
    #[expect(clippy::disallowed_methods, reason = "how a test binary tells its child what to do")]
    let Ok(told) = std::env::var(CHILD) else { return };
    let (work, dir) = told.split_once(':').unwrap();
    let store = open(Path::new(dir)).store;
    let mut out = std::io::stdout();
    for applied in store.applied() + 1.. {
        match store.apply(&change(applied)) {
            Ok(_) => {
                writeln!(out, "stored {applied}").unwrap();
                out.flush().unwrap();
            }
            Err(error) if work == "fill" => return crate::full::check_refusal(&store, &error),
            Err(error) => panic!("change {applied}: {error}"),
        }
        if work == "compact" && applied % 5 == 0 {
            store.compact().unwrap();
        }
    }
}

//! `SIGKILL` at any moment: nothing that was acknowledged is lost, and sequence and data agree.

use std::path::Path;

use fastrand::Rng;
use homeostat::store::Found;

use crate::work::{self, Work};

const KILLS: u32 = 24;

/// Lets a child work, kills it after a random number of acknowledged changes, and opens what it left.
fn kill_again_and_again(work: Work, changes_per_life: u64) {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("kb");
    let mut rng = Rng::with_seed(20_261_121);
    let mut stored = 0;
    for kill in 0..KILLS {
        stored = stored.max(live_and_die(&dir, work, rng.u64(0..changes_per_life)));
        let opened = work::open(&dir);
        match opened.found {
            Found::Fresh => assert_eq!(stored, 0, "kill {kill}"),
            Found::Intact { applied } => {
                assert!(applied >= stored, "kill {kill}: {stored} was acknowledged, {applied} is left");
                assert!(opened.store.contents_are(applied), "kill {kill}: not what {applied} changes make");
                stored = applied;
            }
            Found::MovedAside { doubt, .. } => panic!("kill {kill} left a doubtful store: {doubt}"),
        }
        opened.store.close();
    }
    assert!(stored > u64::from(KILLS), "the children got nowhere: {stored}");
}

/// How far the child said it came.
fn live_and_die(dir: &Path, work: Work, changes: u64) -> u64 {
    let (mut child, mut lines) = work::spawn(dir, work, &[]);
    let mut acknowledged = (&mut lines).map_while(Result::ok).filter_map(|line| work::acknowledged(&line));
    let mut stored = acknowledged.by_ref().take(usize::try_from(changes).unwrap()).last();
    child.kill().unwrap();
    child.wait().unwrap();
    // What it still said before it died counts, too.
    stored = acknowledged.last().or(stored);
    stored.unwrap_or(0)
}

trait ContentsAre {
    fn contents_are(&self, applied: u64) -> bool;
}

impl ContentsAre for homeostat::store::Store {
    fn contents_are(&self, applied: u64) -> bool {
        work::contents(self) == work::model_at(applied)
    }
}

#[test]
fn a_killed_writer_loses_nothing_it_acknowledged() {
    kill_again_and_again(Work::Apply, 40);
}

#[test]
fn a_writer_killed_while_compacting_loses_nothing_either() {
    kill_again_and_again(Work::ApplyAndCompact, 12);
}

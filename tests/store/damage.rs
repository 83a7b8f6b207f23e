//! Damaged files: what is served is what some prefix of the ledger made, or the store was moved aside.

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use fastrand::Rng;
use homeostat::store::Found;

use crate::work::{self, Work};

const CHANGES: u64 = 200;
const TRIALS: u32 = 12;

/// A store that was compacted and closed, or whose process was killed.
fn written(dir: &Path, closed: bool) {
    if closed {
        let store = work::open(dir).store;
        for applied in 1..=CHANGES {
            store.apply(&work::change(applied)).unwrap();
        }
        // Without it most of the log is superseded, and damage there does no harm.
        store.compact().unwrap();
        return store.close();
    }
    let (mut child, lines) = work::spawn(dir, Work::Apply, &[]);
    let far = |line: &String| work::acknowledged(line) == Some(CHANGES);
    assert!(lines.map_while(Result::ok).any(|line| far(&line)));
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Damages copies of a store and opens them; gives how many were believed and how many moved aside.
fn open_damaged(seed: u64, closed: bool, damage: impl Fn(&mut Rng, &Path)) -> (u32, u32) {
    let root = tempfile::tempdir().unwrap();
    let original = root.path().join("original");
    written(&original, closed);
    let (mut believed, mut aside) = (0, 0);
    for trial in 0..TRIALS {
        let dir = root.path().join(format!("trial-{trial}")).join("kb");
        copy(&original, &dir);
        damage(&mut Rng::with_seed(seed + u64::from(trial)), &dir);
        let opened = work::open(&dir);
        match opened.found {
            Found::Fresh => panic!("seed {seed}, trial {trial}: a store with files in it was taken for none"),
            Found::Intact { applied } => {
                let served = work::contents(&opened.store);
                assert!(
                    served == work::model_at(applied),
                    "seed {seed}, trial {trial}: wrong contents served"
                );
                believed += 1;
            }
            Found::MovedAside { to, .. } => {
                assert!(to.is_dir());
                assert!(work::contents(&opened.store).is_empty());
                aside += 1;
            }
        }
        let next = opened.store.applied() + 1;
        opened.store.apply(&work::change(next)).unwrap();
        opened.store.close();
    }
    (believed, aside)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// All files under `dir` but the ballast, in order.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.file_name().unwrap() != "ballast" {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn log(dir: &Path) -> PathBuf {
    files(dir).into_iter().find(|path| path.file_name().unwrap() == "db").unwrap()
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(bytes).unwrap();
}

fn check(claim: &str, seed: u64, damage: impl Fn(&mut Rng, &Path) + Copy) {
    for closed in [true, false] {
        let (believed, aside) = open_damaged(seed, closed, damage);
        println!("{claim}, closed {closed}: {believed} served as of some sequence, {aside} moved aside");
    }
}

#[test]
fn a_log_cut_short_is_never_served_wrong() {
    check("cut short", 1_000, |rng, dir| {
        let log = log(dir);
        let len = fs::metadata(&log).unwrap().len();
        let file = OpenOptions::new().write(true).open(&log).unwrap();
        file.set_len(rng.u64(0..len)).unwrap();
    });
}

#[test]
fn a_flipped_bit_is_never_served() {
    check("flipped bit", 2_000, |rng, dir| {
        let log = log(dir);
        let mut bytes = fs::read(&log).unwrap();
        // Where something is written: the log is preallocated in segments.
        let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
        let at = used[rng.usize(0..used.len())];
        bytes[at] ^= 1 << rng.u8(0..8);
        fs::write(&log, bytes).unwrap();
    });
}

#[test]
fn a_zeroed_block_is_never_served() {
    check("zeroed block", 3_000, |rng, dir| {
        let log = log(dir);
        let blocks = fs::metadata(&log).unwrap().len() / 4_096;
        overwrite(&log, rng.u64(0..blocks) * 4_096, &[0; 4_096]);
    });
}

#[test]
fn a_lost_or_garbled_file_is_noticed_or_does_no_harm() {
    check("lost or garbled file", 4_000, |rng, dir| {
        let files = files(dir);
        let file = &files[rng.usize(0..files.len())];
        if rng.bool() {
            fs::remove_file(file).unwrap();
        } else {
            let len = fs::metadata(file).unwrap().len();
            overwrite(file, rng.u64(0..len.max(1)), &[rng.u8(..), rng.u8(..)]);
        }
    });
}

//! The contract of what is on the bus, on disk and in the API.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod corpus;
#[path = "../support/corpus.rs"]
mod data;
mod fixtures;
mod golden;
mod hostile;
mod schemas;
mod state;

use std::path::{Path, PathBuf};

/// A path below the root of the repository.
fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Compares a stored file with what it should be. `UPDATE_GOLDEN=1 cargo test --test wire` writes it instead: do that
/// for a new message, and for an old one only if you know that every reader of the old bytes is gone.
#[expect(clippy::disallowed_methods, reason = "a test's switch, not configuration")]
fn compare(path: &Path, expected: &[u8]) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, expected).unwrap();
        return;
    }
    let stored = std::fs::read(path)
        .unwrap_or_else(|error| panic!("{}: {error}; UPDATE_GOLDEN=1 writes it", path.display()));
    if stored != expected {
        let place = stored.iter().zip(expected).position(|(one, other)| one != other);
        let place = place.unwrap_or_else(|| stored.len().min(expected.len()));
        panic!(
            "{} has {} bytes, now there are {}; they differ from byte {place} on",
            path.display(),
            stored.len(),
            expected.len(),
        );
    }
}

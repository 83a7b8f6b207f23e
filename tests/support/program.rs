//! Where the `nats-server` program is, for tests that only run it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The path of a usable `nats-server`, installed first where there is none.
///
/// A test that needs the server fails where there is none to be had: it is never skipped silently.
pub(crate) fn nats_server() -> PathBuf {
    let script = root().join("scripts/nats-server");
    let output = Command::new(&script).output().expect("scripts/nats-server runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8(output.stdout).expect("a path in UTF-8").trim_end())
}

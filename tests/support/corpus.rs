//! Where the inputs of tests are: small ones that belong to the repository, and public collections where they are there.

use std::path::{Path, PathBuf};

/// What belongs to the repository.
pub(crate) fn own(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(folder)
}

/// A folder of the public collections: below `HOMEOSTAT_DATA`, which has to be there where it is set, else below
/// `../shared/data`. `None` where there are none, which is said.
#[expect(clippy::disallowed_methods, reason = "a test's only setting, read where it is needed")]
pub(crate) fn public(folder: &str) -> Option<PathBuf> {
    let named = std::env::var_os("HOMEOSTAT_DATA").map(PathBuf::from);
    let is_named = named.is_some();
    let root = named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"));
    let path = root.join(folder);
    if path.exists() {
        println!("the public data in {} is read too", path.display());
        return Some(path);
    }
    assert!(!is_named, "HOMEOSTAT_DATA is set, and {} is not there", path.display());
    println!("there is no {}: only tests/data was read", path.display());
    None
}

/// All files below a folder whose names end so, in order.
pub(crate) fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut folders = vec![folder.to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of test data") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no {ending} below {}", folder.display());
    found
}

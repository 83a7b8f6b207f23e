//! Bundles: configuration of record. A bundle is immutable and named by the hash of its contents.

use std::fmt;
use std::sync::Arc;

/// Counts the applied bundles of a cell from 1; 0 is "none yet".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One file of a bundle, as it was applied.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BundleFile {
    /// Its path below the applied folder, with `/`.
    pub path: Arc<str>,
    /// Its text.
    pub text: Arc<str>,
}

/// What was applied: the files as they are, so that a decision of long ago can be made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// BLAKE3 of paths and texts, in hexadecimal.
    pub hash: Arc<str>,
    /// Sorted by path.
    pub files: Vec<BundleFile>,
}

impl Bundle {
    /// Sorts the files and names the bundle.
    pub fn new(mut files: Vec<BundleFile>) -> Self {
        files.sort();
        let mut hasher = blake3::Hasher::new();
        for part in files.iter().flat_map(|file| [&file.path, &file.text]) {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part.as_bytes());
        }
        Self { hash: hasher.finalize().to_hex().as_str().into(), files }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_the_files_does_not_change_the_hash_and_their_text_does() {
        let file = |path: &str, text: &str| BundleFile { path: path.into(), text: text.into() };
        let one = Bundle::new(vec![file("b", "2"), file("a", "1")]);
        assert_eq!(one, Bundle::new(vec![file("a", "1"), file("b", "2")]));
        assert_ne!(one.hash, Bundle::new(vec![file("a", "1"), file("b", "3")]).hash);
    }
}

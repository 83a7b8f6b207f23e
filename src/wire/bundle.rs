//! Bundles in the object store: the files as they were applied, under the hash of their contents.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::error::{DecodeError, EncodeError};
use super::files::FILE_BYTES_MAX;
use super::msgpack::{self, Limits};
use crate::model::{Bundle, BundleFile};

/// Largest bundle. It is read whole by every role; the object store sends it in pieces.
pub const BUNDLE_BYTES_MAX: usize = 16 * 1_048_576;
/// Most files: nine times the largest public collection of rule files.
pub const FILES_PER_BUNDLE_MAX: usize = 1_024;
/// Longest path of a file.
const PATH_BYTES_MAX: usize = 256;

const LIMITS: Limits = Limits {
    message_bytes: BUNDLE_BYTES_MAX,
    text_bytes: FILE_BYTES_MAX,
    items: FILES_PER_BUNDLE_MAX,
    depth: 4,
};

#[derive(Serialize, Deserialize)]
struct BundleShape<'a> {
    hash: &'a str,
    #[serde(borrow)]
    files: Vec<FileShape<'a>>,
}

#[derive(Serialize, Deserialize)]
struct FileShape<'a> {
    path: &'a str,
    text: &'a str,
}

/// Writes a bundle.
pub fn encode(bundle: &Bundle) -> Result<Bytes, EncodeError> {
    let count = bundle.files.len();
    if count > FILES_PER_BUNDLE_MAX {
        return Err(EncodeError::TooMany { what: "files", count, max: FILES_PER_BUNDLE_MAX });
    }
    for file in &bundle.files {
        let refuse = |cause: String| EncodeError::Refused(format!("`{}`: {cause}", file.path));
        check_path(&file.path).map_err(refuse)?;
        if file.text.len() > FILE_BYTES_MAX {
            return Err(refuse(format!("{} bytes, at most {FILE_BYTES_MAX} are taken", file.text.len())));
        }
    }
    let files = bundle.files.iter().map(|BundleFile { path, text }| FileShape { path, text }).collect();
    let shape = BundleShape { hash: &bundle.hash, files };
    let bytes = rmp_serde::to_vec_named(&shape).map_err(|error| EncodeError::Refused(error.to_string()))?;
    if bytes.len() > BUNDLE_BYTES_MAX {
        return Err(EncodeError::TooMany { what: "bytes", count: bytes.len(), max: BUNDLE_BYTES_MAX });
    }
    Ok(bytes.into())
}

/// Reads a bundle and checks that it is what its hash says.
pub fn decode(payload: &[u8]) -> Result<Bundle, DecodeError> {
    let shape: BundleShape<'_> = msgpack::decode(payload, &LIMITS)?;
    let mut files = Vec::with_capacity(shape.files.len());
    for (index, FileShape { path, text }) in shape.files.into_iter().enumerate() {
        check_path(path).map_err(|cause| {
            DecodeError::malformed(cause).in_field("path").in_item(index).in_field("files")
        })?;
        files.push(BundleFile { path: path.into(), text: text.into() });
    }
    let bundle = Bundle::new(files);
    if let Some(two) = bundle.files.windows(2).find(|two| two[0].path == two[1].path) {
        return Err(
            DecodeError::malformed(format_args!("`{}` is there twice", two[0].path)).in_field("files")
        );
    }
    if bundle.hash.as_ref() != shape.hash {
        let cause = format_args!("the bundle says `{}`, its files are `{}`", shape.hash, bundle.hash);
        return Err(DecodeError::malformed(cause).in_field("hash"));
    }
    Ok(bundle)
}

/// A path below the applied folder: it may be written to a disk one day.
fn check_path(path: &str) -> Result<(), String> {
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', '\0']);
    if path.len() <= PATH_BYTES_MAX && path.split('/').all(plain) {
        return Ok(());
    }
    Err(format!("`{path}` is not a plain path below the applied folder, at most {PATH_BYTES_MAX} bytes"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bundle(files: &[(&str, &str)]) -> Bundle {
        let file = |(path, text): &(&str, &str)| BundleFile { path: (*path).into(), text: (*text).into() };
        Bundle::new(files.iter().map(file).collect())
    }

    #[test]
    fn a_bundle_reads_back() {
        for bundle in
            [bundle(&[]), bundle(&[("rules/a.yml", "groups: []"), ("charter.yaml", "mode: shadow")])]
        {
            assert_eq!(decode(&encode(&bundle).unwrap()).unwrap(), bundle);
        }
    }

    #[test]
    fn a_bundle_is_checked_against_its_hash_and_its_paths() {
        let mut wrong = bundle(&[("a.yaml", "x")]);
        wrong.hash = "other".into();
        let error = decode(&encode(&wrong).unwrap()).unwrap_err();
        assert!(error.to_string().starts_with("`hash`: the bundle says `other`"), "{error}");
        for path in ["/etc/passwd", "../a", "a//b", "", ".", "a\\b", &"x".repeat(257)] {
            let bad = bundle(&[(path, "x")]);
            assert!(encode(&bad).is_err(), "{path}");
            let shape = BundleShape { hash: &bad.hash, files: vec![FileShape { path, text: "x" }] };
            let error = decode(&rmp_serde::to_vec_named(&shape).unwrap()).unwrap_err();
            assert_eq!(error.place(), "files[0].path");
        }
        let twice = bundle(&[("a", "1"), ("a", "2")]);
        assert_eq!(decode(&encode(&twice).unwrap()).unwrap_err().to_string(), "`files`: `a` is there twice");
    }

    #[test]
    fn what_is_too_large_is_not_written() {
        assert!(encode(&bundle(&[("a", &"x".repeat(FILE_BYTES_MAX + 1))])).is_err());
        let many: Vec<String> = (0..=FILES_PER_BUNDLE_MAX).map(|n| n.to_string()).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|path| (path.as_str(), "")).collect();
        assert!(encode(&bundle(&many)).is_err());
        let large = "x".repeat(FILE_BYTES_MAX);
        let large: Vec<(String, &str)> = (0..16).map(|n| (n.to_string(), large.as_str())).collect();
        let large: Vec<(&str, &str)> = large.iter().map(|(path, text)| (path.as_str(), *text)).collect();
        assert!(encode(&bundle(&large)).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}

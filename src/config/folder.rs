//! From a folder to a bundle.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::model::{Bundle, BundleFile};
use crate::wire::bundle::FILES_PER_BUNDLE_MAX;
use crate::wire::files::FILE_BYTES_MAX;

/// Folders below folders.
const DEPTH_MAX: usize = 8;

/// Why a folder is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It cannot be read.
    #[error("`{}` cannot be read", path.display())]
    Unreadable {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A limit was reached.
    #[error("`{}`: {what}", path.display())]
    TooMuch {
        /// Where.
        path: PathBuf,
        /// Which limit.
        what: String,
    },
    /// There is nothing in it.
    #[error("`{}` has no .yaml or .yml file\nhint: rules/*.yaml, playbooks/*.yaml, causes/*.yaml, charter.yaml and analysis.yaml are read", .0.display())]
    Empty(PathBuf),
}

/// Reads every YAML file below a folder. Names that begin with a dot are left out.
pub fn read_bundle(folder: &Path) -> Result<Bundle, FolderError> {
    let mut files = Vec::new();
    collect(folder, folder, 0, &mut files)?;
    if files.is_empty() {
        return Err(FolderError::Empty(folder.to_owned()));
    }
    Ok(Bundle::new(files))
}

fn collect(root: &Path, folder: &Path, depth: usize, files: &mut Vec<BundleFile>) -> Result<(), FolderError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| FolderError::Unreadable { path, source }
    };
    let too_much = |path: &Path, what: String| FolderError::TooMuch { path: path.to_owned(), what };
    if depth > DEPTH_MAX {
        return Err(too_much(folder, format!("more than {DEPTH_MAX} folders deep")));
    }
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .map_err(unreadable(folder))?;
    entries.sort();
    for path in entries {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let wanted = matches!(path.extension().and_then(|it| it.to_str()), Some("yaml" | "yml"));
        if name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            collect(root, &path, depth + 1, files)?;
        } else if wanted {
            let bytes = fs::metadata(&path).map_err(unreadable(&path))?.len();
            if bytes > FILE_BYTES_MAX as u64 {
                return Err(too_much(&path, format!("{bytes} bytes, at most {FILE_BYTES_MAX} are taken")));
            }
            if files.len() == FILES_PER_BUNDLE_MAX {
                return Err(too_much(root, format!("more than {FILES_PER_BUNDLE_MAX} files")));
            }
            let text = fs::read_to_string(&path).map_err(unreadable(&path))?;
            let below = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            files.push(BundleFile { path: below.into(), text: text.into() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_by_their_path_below_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("rules")).unwrap();
        fs::write(folder.path().join("rules/a.yaml"), "groups: []").unwrap();
        fs::write(folder.path().join("charter.yaml"), "mode: shadow").unwrap();
        fs::write(folder.path().join("README.md"), "not read").unwrap();
        let bundle = read_bundle(folder.path()).unwrap();
        let paths: Vec<&str> = bundle.files.iter().map(|file| file.path.as_ref()).collect();
        assert_eq!(paths, ["charter.yaml", "rules/a.yaml"]);
    }

    #[test]
    fn an_empty_folder_is_refused_with_a_hint() {
        let folder = tempfile::tempdir().unwrap();
        let error = read_bundle(folder.path()).unwrap_err();
        assert!(error.to_string().contains("hint:"), "{error}");
    }
}

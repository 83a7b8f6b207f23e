//! Which rules of rule files can be used: `promtool check rules`, rule by rule.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::engine::promql::Expr;
use crate::wire::files::{
    FileError, Place, RuleFile, RuleFound, RuleKind, RuleText, UnknownFields, parse_rules_with,
};

/// Folders below folders.
const DEPTH_MAX: usize = 32;
/// What rule files end in, where a folder is looked through.
const ENDINGS: [&str; 3] = ["yml", "yaml", "rules"];

/// What became of rule files.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checked {
    /// Files that were read.
    pub files: usize,
    /// Alerting and recording rules in them.
    pub rules: usize,
    /// Rules that can be used.
    pub loaded: usize,
    /// Rules, groups and files that cannot.
    pub refused: Vec<Refused>,
    /// What can be used, and is hardly meant so.
    pub warnings: Vec<FileError>,
}

/// What cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The rule; `None` where it is a whole file, or what a group says about all of its rules.
    pub rule: Option<Arc<str>>,
    /// File, place and cause.
    pub error: FileError,
}

/// Checks files, and the rule files below folders.
pub fn check(paths: &[PathBuf], unknown: UnknownFields) -> io::Result<Checked> {
    let mut checked = Checked::default();
    for path in paths {
        let mut files = Vec::new();
        if path.is_dir() {
            collect(path, 0, &mut files)?;
        } else {
            files.push(path.clone());
        }
        for file in files {
            checked.file(&file, unknown)?;
        }
    }
    Ok(checked)
}

/// Rule files below a folder, in order. Names that begin with a dot are left out.
fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(io::Error::other(format!("more than {DEPTH_MAX} folders deep")));
    }
    let entries = std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let mut entries = entries.collect::<io::Result<Vec<PathBuf>>>()?;
    entries.sort();
    for path in entries {
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let ending = path.extension().and_then(|ending| ending.to_str());
        if !is_hidden && path.is_dir() {
            collect(&path, depth + 1, files)?;
        } else if !is_hidden && ending.is_some_and(|ending| ENDINGS.contains(&ending)) {
            files.push(path);
        }
    }
    Ok(())
}

impl Checked {
    fn file(&mut self, path: &Path, unknown: UnknownFields) -> io::Result<()> {
        self.files += 1;
        let name = path.to_string_lossy();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let error = FileError::new(&name, Place::START, "this is no text in UTF-8");
                self.refused.push(Refused { rule: None, error });
                return Ok(());
            }
            Err(error) => {
                return Err(io::Error::new(error.kind(), format!("`{name}` cannot be read: {error}")));
            }
        };
        match parse_rules_with(&name, &text, unknown) {
            Ok(file) => self.rules_of(&name, &file),
            Err(error) => self.refused.push(Refused { rule: None, error }),
        }
        Ok(())
    }

    fn rules_of(&mut self, name: &str, file: &RuleFile) {
        self.rules += file.found.len();
        self.warnings.extend(file.warnings.iter().cloned());
        let of_group = file.groups_refused.iter().cloned();
        self.refused.extend(of_group.map(|error| Refused { rule: None, error }));
        let texts: BTreeMap<_, &RuleText> =
            file.groups.iter().flat_map(|group| &group.rules).map(|rule| (rule.at, rule)).collect();
        for found in &file.found {
            match usable(name, found, texts.get(&found.at).copied()) {
                Ok(()) => self.loaded += 1,
                Err(error) => self.refused.push(Refused { rule: Some(Arc::clone(&found.name)), error }),
            }
        }
        self.warnings.extend(duplicates(name, file));
    }
}

/// Whether a rule can be used; `text` is what could be read of it.
fn usable(file: &str, found: &RuleFound, text: Option<&RuleText>) -> Result<(), FileError> {
    if let [first, others @ ..] = found.refused.as_slice() {
        let causes = others.iter().map(|error| format!("; {}", error.cause));
        let cause = first.cause.clone() + &causes.collect::<String>();
        return Err(FileError { cause, ..first.clone() });
    }
    let text = text.ok_or_else(|| FileError::new(file, found.at, "its group is refused"))?;
    match Expr::parse(&text.expr.text) {
        Ok(_) => Ok(()),
        Err(error) => Err(FileError::new(file, text.expr.place(error.place.byte), error.message)),
    }
}

/// Rules that make the same series, or the same alerts, as an earlier one of the file.
fn duplicates(name: &str, file: &RuleFile) -> Vec<FileError> {
    let mut first = BTreeMap::new();
    let mut warnings = Vec::new();
    for rule in file.groups.iter().flat_map(|group| &group.rules) {
        let (kind, made) = match &rule.kind {
            RuleKind::Alert(made) => ("alert", made),
            RuleKind::Record(made) => ("record", made),
        };
        let labels: Vec<_> =
            rule.labels.iter().map(|(name, value)| (name, Arc::clone(value.source()))).collect();
        match first.entry((kind, made, labels)) {
            std::collections::btree_map::Entry::Vacant(entry) => drop(entry.insert(rule.at.line)),
            std::collections::btree_map::Entry::Occupied(entry) => {
                let line = entry.get();
                let cause = format_args!("`{made}` is made with the same labels by the rule of line {line}");
                warnings.push(FileError::new(name, rule.at, cause));
            }
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Checked {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.rules"), text).unwrap();
        std::fs::write(folder.path().join("README.md"), "no rules").unwrap();
        check(&[folder.path().to_owned()], UnknownFields::Refused).unwrap()
    }

    fn told(checked: &Checked) -> Vec<(Option<&str>, u64, &str)> {
        let told = checked.refused.iter();
        told.map(|one| (one.rule.as_deref(), one.error.place.line, one.error.cause.as_str())).collect()
    }

    #[test]
    fn each_rule_is_loaded_or_refused_for_itself() {
        let text = "groups:\n- name: a\n  rules:\n  - {alert: A, expr: up}\n  - {record: 'b:c', expr: up}\n\
                    \x20 - {record: b.c, expr: 'up +'}\n  - {alert: D, expr: up, for: soon, exrp: up}\n\
                    - name: b\n  limit: many\n  rules: [{alert: E, expr: up}]\n";
        let checked = checked(text);
        assert_eq!((checked.files, checked.rules, checked.loaded), (1, 5, 2));
        let told = told(&checked);
        assert_eq!(told[0], (None, 9, "`many` is not a number of alerts"));
        assert_eq!((told[1].0, told[1].1), (Some("b.c"), 6));
        let both = "unknown field `exrp`; `soon` is not a duration such as `1m30s`";
        assert_eq!(told[2], (Some("D"), 7, both));
        assert_eq!(told[3], (Some("E"), 10, "its group is refused"));
        assert_eq!(told.len(), 4);
    }

    #[test]
    fn a_file_that_is_none_is_refused_whole() {
        let checked = checked("groups: [\n");
        assert_eq!((checked.files, checked.rules, checked.loaded), (1, 0, 0));
        assert_eq!(told(&checked)[0].0, None);
    }

    #[test]
    fn rules_that_make_the_same_are_a_warning() {
        let rule = |name: &str| format!("  - {{record: {name}, expr: up, labels: {{x: y}}}}\n");
        let text = format!("groups:\n- name: a\n  rules:\n{}{}{}", rule("b"), rule("c"), rule("b"));
        let checked = checked(&text);
        assert_eq!((checked.loaded, checked.refused.len(), checked.warnings.len()), (3, 0, 1));
        assert!(checked.warnings[0].to_string().contains("by the rule of line 4"));
    }
}

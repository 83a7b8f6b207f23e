//! The rule files that a test names: patterns of paths as Go's `filepath.Glob` reads them.

use std::io;
use std::path::{Component, Path, PathBuf};

/// The files that a pattern means, in order; a pattern without `*`, `?` and `[` means itself, if it is there.
pub(super) fn matching(base: &Path, pattern: &str) -> Result<Vec<PathBuf>, String> {
    let mut found = vec![PathBuf::new()];
    for component in base.join(pattern).components() {
        let Component::Normal(name) = component else {
            found.iter_mut().for_each(|path| path.push(component));
            continue;
        };
        let name = name.to_string_lossy();
        if name.contains(['*', '?', '[', '\\']) {
            let name = Pattern::parse(&name).ok_or_else(|| format!("`{pattern}` is no pattern of paths"))?;
            found = found.iter().flat_map(|folder| entries(folder, &name)).collect();
        } else {
            found.iter_mut().for_each(|path| path.push(&*name));
        }
    }
    found.retain(|path| path.exists());
    Ok(found)
}

/// What is in a folder and matches; nothing where it cannot be read, as in Go.
fn entries(folder: &Path, pattern: &Pattern) -> Vec<PathBuf> {
    let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let names = || -> io::Result<Vec<_>> {
        std::fs::read_dir(here)?.map(|entry| entry.map(|entry| entry.file_name())).collect()
    };
    let mut names = names().unwrap_or_default();
    names.retain(|name| pattern.matches(&name.to_string_lossy()));
    names.sort();
    names.into_iter().map(|name| folder.join(name)).collect()
}

/// A pattern of one name.
struct Pattern(Vec<Part>);

enum Part {
    /// This character.
    Exactly(char),
    /// `?`
    AnyOne,
    /// `*`
    Any,
    /// `[a-z]`, or with `^` all others.
    Class { ranges: Vec<(char, char)>, is_negated: bool },
}

impl Pattern {
    /// `None` where a bracket or an escape is not complete.
    fn parse(text: &str) -> Option<Self> {
        let mut chars = text.chars().peekable();
        let mut parts = Vec::new();
        while let Some(c) = chars.next() {
            parts.push(match c {
                '*' => Part::Any,
                '?' => Part::AnyOne,
                '\\' => Part::Exactly(chars.next()?),
                '[' => {
                    let is_negated = chars.next_if_eq(&'^').is_some();
                    let mut ranges = Vec::new();
                    while ranges.is_empty() || chars.next_if_eq(&']').is_none() {
                        let low = class_character(&mut chars)?;
                        let is_range = chars.next_if_eq(&'-').is_some();
                        ranges.push((low, if is_range { class_character(&mut chars)? } else { low }));
                    }
                    Part::Class { ranges, is_negated }
                }
                _ => Part::Exactly(c),
            });
        }
        Some(Self(parts))
    }

    fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        matches(&self.0, &name)
    }
}

fn class_character(chars: &mut impl Iterator<Item = char>) -> Option<char> {
    match chars.next()? {
        '\\' => chars.next(),
        '-' | ']' => None,
        c => Some(c),
    }
}

/// A `*` that was passed is the only place to come back to: later ones make earlier ones superfluous.
fn matches(parts: &[Part], name: &[char]) -> bool {
    let (mut part, mut at, mut star) = (0, 0, None);
    while at < name.len() {
        let is_one = match parts.get(part) {
            Some(Part::Any) => {
                star = Some((part + 1, at));
                part += 1;
                continue;
            }
            Some(Part::Exactly(c)) => *c == name[at],
            Some(Part::AnyOne) => true,
            Some(Part::Class { ranges, is_negated }) => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&name[at])) != *is_negated
            }
            None => false,
        };
        if is_one {
            (part, at) = (part + 1, at + 1);
        } else if let Some((behind, from)) = star {
            (part, at, star) = (behind, from + 1, Some((behind, from + 1)));
        } else {
            return false;
        }
    }
    parts[part..].iter().all(|part| matches!(part, Part::Any))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_go() {
        for (pattern, name, expected) in [
            ("*.yml", "a.yml", true),
            ("*.yml", ".yml", true),
            ("*.yml", "a.yaml", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("r?les", "rules", true),
            ("[a-c]1", "b1", true),
            ("[^a-c]1", "b1", false),
            ("[]a]", "a", false),
            (r"\*", "*", true),
            (r"\*", "a", false),
        ] {
            let matched = Pattern::parse(pattern).is_some_and(|parsed| parsed.matches(name));
            assert_eq!(matched, expected, "{pattern} {name}");
        }
        assert!(Pattern::parse("[a").is_none() && Pattern::parse("a\\").is_none());
    }

    #[test]
    fn files_are_found_from_where_the_test_is() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["x/a.yml", "x/b.yml", "y/a.yml", "y/c.txt"] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let found = |pattern: &str| -> Vec<String> {
            let found = matching(folder.path(), pattern).unwrap().into_iter();
            found.map(|path| path.strip_prefix(folder.path()).unwrap().display().to_string()).collect()
        };
        assert_eq!(found("*/a.yml"), ["x/a.yml", "y/a.yml"]);
        assert_eq!(found("x/*"), ["x/a.yml", "x/b.yml"]);
        assert_eq!(found("./x/a.yml"), ["x/a.yml"]);
        assert_eq!((found("x/none.yml").len(), found("none/*").len()), (0, 0));
        assert!(matching(folder.path(), "[").is_err());
    }
}

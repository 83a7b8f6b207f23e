//! What is wrong with a file of a bundle: file, line and column, cause, and a hint where one helps.

use std::fmt;
use std::sync::Arc;

use serde_saphyr::{Error as Yaml, Location, MessageFormatter, Spanned, UserMessageFormatter};

use crate::wire::error::shortened;

/// Longest cause that is told.
const CAUSE_CHARS_MAX: usize = 400;

/// A place in a file, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The line.
    pub line: u64,
    /// The column, in characters.
    pub column: u64,
}

impl Place {
    /// Where a file starts.
    pub const START: Self = Self { line: 1, column: 1 };

    pub(super) fn of(location: Location) -> Self {
        // A location that the reader does not know is 0:0.
        Self { line: location.line().max(1), column: location.column().max(1) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Why a file, or a part of it, is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    /// The file's path in the bundle.
    pub file: Arc<str>,
    /// Where in it.
    pub place: Place,
    /// What is wrong there.
    pub cause: String,
    /// What to do about it, where that is clear.
    pub hint: Option<String>,
}

impl FileError {
    /// An error at a place.
    pub fn new(file: &str, place: Place, cause: impl fmt::Display) -> Self {
        let cause = shortened(&cause.to_string(), CAUSE_CHARS_MAX);
        Self { file: file.into(), place, cause, hint: None }
    }

    /// An error at a value.
    pub(super) fn at<T>(file: &str, value: &Spanned<T>, cause: impl fmt::Display) -> Self {
        Self::new(file, Place::of(value.referenced), cause)
    }

    /// The same with a hint.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// A name that means nothing where it stands.
    pub(super) fn unknown_field(file: &str, name: &Spanned<String>, known: &[&str]) -> Self {
        let field = &name.value;
        Self { hint: hint(field, known), ..Self::at(file, name, format_args!("unknown field `{field}`")) }
    }

    /// A word that is none of those that may stand there.
    pub(super) fn unknown_word<T>(file: &str, value: &Spanned<T>, word: &str, known: &[&str]) -> Self {
        let cause = format_args!("`{word}` is not one of {}", known.join(", "));
        Self { hint: hint(word, known), ..Self::at(file, value, cause) }
    }

    pub(super) fn of_yaml(file: &str, error: &Yaml) -> Self {
        let error = error.without_snippet();
        let place = error.location().map_or(Place::START, Place::of);
        // Not a `match`: the reader has sixty kinds of errors, and three of them can be told better here.
        let (cause, hint) = if let Yaml::SerdeUnknownField { field, expected, .. } = error {
            (format!("unknown field `{field}`"), hint(field, expected))
        } else if let Yaml::SerdeUnknownVariant { variant, expected, .. } = error {
            (format!("`{variant}` is not one of {}", expected.join(", ")), hint(variant, expected))
        } else if let Yaml::SerdeMissingField { field, .. } = error {
            (format!("`{field}` is missing"), None)
        } else {
            (in_our_words(&UserMessageFormatter.format_message(error)), None)
        };
        Self { hint, ..Self::new(file, place, cause) }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.place, self.cause)?;
        match &self.hint {
            None => Ok(()),
            Some(hint) => write!(f, "\nhint: {hint}"),
        }
    }
}

impl std::error::Error for FileError {}

/// The reader's words are those of YAML's grammar and of Rust's types.
fn in_our_words(cause: &str) -> String {
    if let Some(name) = cause.strip_prefix("duplicate mapping key: ") {
        return format!("`{}` stands here twice", name.trim_end_matches(" not allowed here"));
    }
    let said = match cause {
        "expected sequence start" => "a list is expected here",
        "expected mapping start" => "fields are expected here, as `name: value`",
        "expected string scalar" => "a text is expected here",
        "invalid floating point" => "a number is expected here",
        "externally tagged enum expected scalar or mapping" => "one word is expected here",
        _ if cause.starts_with("invalid u") => "a whole number is expected here, 0 or more",
        _ if cause.ends_with("found a tab") => "a tab does not indent: use blanks",
        _ => cause,
    };
    said.to_owned()
}

fn hint(word: &str, known: &[&str]) -> Option<String> {
    match nearest(word, known) {
        Some(near) => Some(format!("did you mean `{near}`?")),
        None if known.is_empty() => None,
        None => Some(format!("known here: {}", known.join(", "))),
    }
}

/// The known word that is as good as the same: one edit, or one for each three letters.
fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let best = known.iter().map(|known| (edits(word, known), *known)).min()?;
    let allowed = (word.chars().count() / 3).max(1);
    (best.0 <= allowed).then_some(best.1)
}

/// Levenshtein's distance, with a swap of neighbours as one edit.
fn edits(one: &str, other: &str) -> usize {
    let one: Vec<char> = one.chars().take(64).collect();
    let other: Vec<char> = other.chars().take(64).collect();
    let mut before = vec![0; other.len() + 1];
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (row, left) in one.iter().enumerate() {
        let mut this = vec![row + 1];
        for (column, right) in other.iter().enumerate() {
            let changed = last[column] + usize::from(left != right);
            let mut best = changed.min(last[column + 1] + 1).min(this[column] + 1);
            if row > 0 && column > 0 && *left == other[column - 1] && one[row - 1] == *right {
                best = best.min(before[column - 1] + 1);
            }
            this.push(best);
        }
        before = std::mem::replace(&mut last, this);
    }
    last[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted_as_people_mistype() {
        for (one, other, expected) in [
            ("expr", "expr", 0),
            ("exrp", "expr", 1),
            ("expression", "expr", 6),
            ("", "for", 3),
            ("lables", "labels", 1),
        ] {
            assert_eq!(edits(one, other), expected, "{one} {other}");
        }
    }

    #[test]
    fn a_near_word_is_offered_and_a_far_one_is_not() {
        assert_eq!(hint("lables", &["labels", "name"]).unwrap(), "did you mean `labels`?");
        assert_eq!(hint("ownership", &["labels", "name"]).unwrap(), "known here: labels, name");
    }
}

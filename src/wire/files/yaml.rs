//! YAML as people write it: strict about names, bounded, every error with line and column.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::{Options, Spanned};

use super::duration;
use super::error::{FileError, Place};
use crate::model::Template;

/// Longest file: thirty thousand rules, three times the largest rule file we know (promtool's own test of size).
pub const FILE_BYTES_MAX: usize = 4 * 1_048_576;

/// Reads a file; one without a document reads as nothing.
pub(super) fn read<'de, T: Deserialize<'de>>(file: &str, text: &'de str) -> Result<Option<T>, FileError> {
    if text.len() > FILE_BYTES_MAX {
        let cause = format_args!("{} bytes, at most {FILE_BYTES_MAX} are taken", text.len());
        return Err(FileError::new(file, Place::START, cause));
    }
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| FileError::of_yaml(file, &error))
}

/// The first document of a text, which is all that Prometheus reads of one, and the line where the next one begins. A
/// line that begins with `---` is a marker wherever it stands: no text of YAML may contain one.
pub(super) fn first_document(text: &str) -> (&str, Option<u64>) {
    let (mut is_begun, mut start) = (false, 0);
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        let is_marker = ["---", "..."].iter().any(|marker| {
            line.strip_prefix(marker)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
        });
        let bare = line.trim_start_matches('\u{feff}').trim_start();
        if is_marker && is_begun {
            let rest = &text[start + line.len()..];
            let is_more = rest.lines().any(|line| !matches!(line.trim().chars().next(), None | Some('#')));
            return (&text[..start], is_more.then_some(number));
        }
        is_begun |= is_marker || !(bare.is_empty() || bare.starts_with(['#', '%']));
        start += line.len();
    }
    (text, None)
}

fn options() -> Options {
    serde_saphyr::options! {
        // A file of the largest size has fewer nodes; aliases may not multiply them.
        budget: serde_saphyr::budget! {
            max_depth: 32,
            max_nodes: 1_000_000,
            max_events: 2_000_000,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000, max_replay_stack_depth: 8 },
        with_snippet: false,
    }
}

/// A text of a file into which errors can point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// What it says, with YAML's quoting and folding undone.
    pub text: Arc<str>,
    /// Where it starts.
    pub at: Place,
    file: Arc<str>,
    start: usize,
}

impl Passage {
    pub(super) fn of(file: &Arc<str>, value: &Spanned<String>) -> Self {
        // Behind an alias, the text stands where it is defined.
        let start = value.defined.span().byte_offset().and_then(|offset| usize::try_from(offset).ok());
        Self {
            text: value.value.as_str().into(),
            at: Place::of(value.defined),
            file: Arc::clone(file),
            start: start.unwrap_or(usize::MAX),
        }
    }

    /// Where in the file a byte of the text stands. Quoting, folding and indentation are undone by walking text and file
    /// together, character by character; where they part, it is the start.
    pub fn place(&self, offset: usize) -> Place {
        let Some(source) = self.file.get(self.start..) else { return self.at };
        let (mut line, mut column) = (self.at.line, self.at.column);
        let mut rest = source.chars().peekable();
        let mut step = |c: char| {
            (line, column) = if c == '\n' { (line + 1, 1) } else { (line, column + 1) };
        };
        // The header of a block: `|`, `>-` and a comment behind it.
        if let Some('|' | '>') = rest.peek() {
            for c in rest.by_ref() {
                step(c);
                if c == '\n' {
                    break;
                }
            }
        }
        for (at, wanted) in self.text.char_indices() {
            if wanted.is_whitespace() {
                continue;
            }
            while let Some(c) = rest.next_if(|c| *c != wanted) {
                step(c);
            }
            if at >= offset {
                break;
            }
            rest.next().map(&mut step);
        }
        if rest.peek().is_none() { self.at } else { Place { line, column } }
    }
}

/// A duration in Prometheus' notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DurationText(pub(super) Duration);

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer, "a duration such as `1m30s`", |text| duration::parse(text).map(Self))
    }
}

impl JsonSchema for DurationText {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A duration in Prometheus' notation, for example `1m30s`; nothing but zero goes without a unit.",
            "type": ["string", "integer"],
            "pattern": "^(0|([0-9]+y)?([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?)$",
            "minLength": 1,
            "minimum": 0,
            "maximum": 0,
        })
    }
}

/// A text with places to fill in.
#[derive(Clone, Debug)]
pub(super) struct TemplateText(pub(super) Template);

impl<'de> Deserialize<'de> for TemplateText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer, "a text", |text| Template::parse(text).map(Self))
    }
}

impl JsonSchema for TemplateText {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Template".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A text with places to fill in, for example `{{ $labels.job }}`.",
            "type": ["string", "number", "boolean"],
        })
    }
}

/// Labels: a number or a truth value is the text that stands in the file.
pub(super) struct LabelTexts;

impl JsonSchema for LabelTexts {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Labels".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Labels with their values.",
            "type": "object",
            "additionalProperties": { "type": ["string", "number", "boolean"] },
        })
    }
}

/// The absolute path of a program.
#[derive(Clone, Debug)]
pub(super) struct ProgramPath(pub(super) Arc<str>);

impl<'de> Deserialize<'de> for ProgramPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer, "an absolute path", |text| {
            let clean = text.starts_with('/') && !text.split('/').any(|part| part == "..");
            if clean { Ok(Self(text.into())) } else { Err(format!("`{text}` is not an absolute path")) }
        })
    }
}

impl JsonSchema for ProgramPath {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Program".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "The absolute path of a program.", "type": "string", "pattern": "^/" })
    }
}

/// A host, with or without a port, in lower case as URLs have it.
#[derive(Clone, Debug)]
pub(super) struct HostName(pub(super) Arc<str>);

impl<'de> Deserialize<'de> for HostName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer, "a host or `host:port`", |text| {
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
            if text.is_empty() || !text.chars().all(fits) {
                return Err(format!("`{text}` is not a host or `host:port`"));
            }
            Ok(Self(text.to_ascii_lowercase().into()))
        })
    }
}

impl JsonSchema for HostName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Host".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A host, with or without a port.",
            "type": "string",
            "pattern": r"^[A-Za-z0-9._:\[\]-]+$"
        })
    }
}

fn parsed<'de, D, T, E>(
    deserializer: D,
    expected: &'static str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    E: fmt::Display,
{
    struct TextVisitor<P>(&'static str, P);
    impl<T, E: fmt::Display, P: FnOnce(&str) -> Result<T, E>> Visitor<'_> for TextVisitor<P> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<F: de::Error>(self, text: &str) -> Result<T, F> {
            (self.1)(text).map_err(F::custom)
        }
    }
    deserializer.deserialize_str(TextVisitor(expected, parse))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_document_ends_where_the_next_one_begins() {
        for (text, first, next) in [
            ("a: 1\n", "a: 1\n", None),
            ("# x\n---\na: 1\n", "# x\n---\na: 1\n", None),
            ("%YAML 1.1\n---\na: 1\n...\n", "%YAML 1.1\n---\na: 1\n", None),
            ("---\na: 1\n---\nb: 2\n", "---\na: 1\n", Some(3)),
            ("a: 1\n--- # next\nb: 2", "a: 1\n", Some(2)),
            ("a: |\n  ---\n  x\n", "a: |\n  ---\n  x\n", None),
            ("a: 1\n---\n# nothing\n", "a: 1\n", None),
            ("---a: 1\n", "---a: 1\n", None),
            ("", "", None),
        ] {
            assert_eq!(first_document(text), (first, next), "{text:?}");
        }
    }
}

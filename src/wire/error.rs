//! What can be wrong with a message, and where.

use std::fmt;

use serde::de;

/// Longest cause that is told: what a hostile sender wrote must not fill the log.
const CAUSE_CHARS_MAX: usize = 300;
/// Longest part of a place that is told.
const SEGMENT_CHARS_MAX: usize = 64;

/// What to do about a message that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Something that a newer version wrote: not poison. It comes again after a delay, to this or a newer reader.
    Unknown,
    /// It is not what it says it is, whoever reads it: poison.
    Malformed,
    /// It is larger than we take: poison.
    Limit,
}

/// Why a message cannot be read: the place in it, and the cause.
#[derive(Clone, PartialEq, Eq)]
pub struct DecodeError(Box<Parts>);

#[derive(Clone, PartialEq, Eq)]
struct Parts {
    fault: Fault,
    cause: String,
    /// Innermost first: each layer adds its own on the way out.
    place: Vec<Segment>,
}

#[derive(Clone, PartialEq, Eq)]
enum Segment {
    Field(String),
    Item(usize),
}

impl DecodeError {
    pub(crate) fn new(fault: Fault, cause: impl fmt::Display) -> Self {
        let cause = shortened(&cause.to_string(), CAUSE_CHARS_MAX);
        Self(Box::new(Parts { fault, cause, place: Vec::new() }))
    }

    pub(crate) fn malformed(cause: impl fmt::Display) -> Self {
        Self::new(Fault::Malformed, cause)
    }

    pub(crate) fn limit(cause: impl fmt::Display) -> Self {
        Self::new(Fault::Limit, cause)
    }

    pub(crate) fn unknown(cause: impl fmt::Display) -> Self {
        Self::new(Fault::Unknown, cause)
    }

    /// The same error, seen from one level further out.
    pub(crate) fn in_field(mut self, name: &str) -> Self {
        self.0.place.push(Segment::Field(shortened(name, SEGMENT_CHARS_MAX)));
        self
    }

    /// The same error, seen from the list that holds the item.
    pub(crate) fn in_item(mut self, index: usize) -> Self {
        self.0.place.push(Segment::Item(index));
        self
    }

    /// The same error where no newer version can be to blame.
    pub(crate) fn into_malformed(mut self) -> Self {
        if self.0.fault == Fault::Unknown {
            self.0.fault = Fault::Malformed;
        }
        self
    }

    /// What to do about it.
    pub fn fault(&self) -> Fault {
        self.0.fault
    }

    /// Where in the message: `entries[3].violation.since`; empty for the message as a whole.
    pub fn place(&self) -> String {
        let mut place = String::new();
        for segment in self.0.place.iter().rev() {
            match segment {
                Segment::Field(name) if place.is_empty() => place.push_str(name),
                Segment::Field(name) => {
                    place.push('.');
                    place.push_str(name);
                }
                Segment::Item(index) => {
                    place.push('[');
                    place.push_str(&index.to_string());
                    place.push(']');
                }
            }
        }
        place
    }

    /// What is wrong there.
    pub fn cause(&self) -> &str {
        &self.0.cause
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.place.is_empty() {
            write!(f, "`{}`: ", self.place())?;
        }
        f.write_str(self.cause())
    }
}

impl fmt::Debug for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.fault)
    }
}

impl std::error::Error for DecodeError {}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(cause: T) -> Self {
        Self::malformed(cause)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let variant = shortened(variant, SEGMENT_CHARS_MAX);
        Self::unknown(format_args!("`{variant}` is not one of {}", expected.join(", ")))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::malformed(format_args!("`{field}` is missing"))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::malformed(format_args!("`{field}` is given twice"))
    }
}

/// Why a message cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// More than a message may hold: the caller splits.
    #[error("{count} {what}, at most {max} fit into one message")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// Nothing to say.
    #[error("a batch without entries says nothing")]
    Empty,
    /// A field that no reader would take.
    #[error("{0}")]
    Refused(String),
}

pub(crate) fn shortened(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        None => text.into(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_its_place_from_the_outside_in() {
        let error = DecodeError::malformed("not a number").in_field("since").in_item(3).in_field("entries");
        assert_eq!(error.to_string(), "`entries[3].since`: not a number");
        assert_eq!(DecodeError::malformed("empty").to_string(), "empty");
    }

    #[test]
    fn what_a_sender_wrote_does_not_fill_the_log() {
        let error = DecodeError::malformed("x".repeat(100_000)).in_field(&"y".repeat(100_000));
        assert!(error.to_string().chars().count() < CAUSE_CHARS_MAX + SEGMENT_CHARS_MAX + 10);
    }
}

//! What can go wrong with an expression: when it is read, and when it is evaluated.

use std::fmt;

use crate::model::LabelsError;

use super::eval::{ELEMENTS_PER_VECTOR_MAX, SAMPLES_PER_EVALUATION_MAX};
use super::query::STEPS_PER_QUERY_MAX;

/// Why an expression is refused, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct ParseError {
    /// Where in the expression.
    pub place: Place,
    /// What kind of refusal it is.
    pub kind: ParseErrorKind,
    /// In words, without the place.
    pub message: String,
    /// The function, aggregation or feature it is about.
    pub name: Option<String>,
}

/// Kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseErrorKind {
    /// Prometheus refuses it, too.
    Invalid,
    /// Prometheus evaluates it, we do not.
    Unsupported,
    /// It is larger than a limit.
    TooLarge,
}

/// A place in an expression.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Bytes before it.
    pub byte: usize,
    /// Characters before it.
    pub character: usize,
    /// Its line, from 1.
    pub line: usize,
    /// Its column in the line, in characters, from 1.
    pub column: usize,
}

impl Place {
    /// The place at a byte of `text`; in the middle of a character, the place of that character.
    pub(super) fn new(text: &str, byte: usize) -> Self {
        let byte = (0..=byte.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        let before = &text[..byte];
        let line = before.rsplit('\n').next().unwrap_or("");
        Self {
            byte,
            character: before.chars().count(),
            line: before.matches('\n').count() + 1,
            column: line.chars().count() + 1,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Why an expression has no value. Texts in the words of Prometheus, so that they can be looked up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// Two elements of the side that has to be unique match the same.
    #[error(
        "found duplicate series for the match group {group} on the {side} hand-side of the operation: [{}, {}];\
         many-to-many matching not allowed: matching labels must be unique on one side", .pair[0], .pair[1]
    )]
    ManyToMany {
        /// The labels they match by.
        group: String,
        /// `left` or `right`.
        side: &'static str,
        /// Two of them.
        pair: [String; 2],
    },
    /// Several elements of the left side match one of the right, and the expression does not say `group_left`.
    #[error("multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)")]
    ManyToOne,
    /// Several elements of the result would have the same labels.
    #[error("multiple matches for labels: grouping labels must ensure unique matches")]
    GroupingNotUnique,
    /// Several elements have the same labels once the metric name is gone.
    #[error("vector cannot contain metrics with the same labelset")]
    SameLabels,
    /// A number that means nothing to the aggregation or function it is given to.
    #[error("{0}")]
    Parameter(String),
    /// A value that a range of times cannot have.
    #[error("invalid expression type {0:?} for range query, must be Scalar or instant Vector")]
    NotInRange(&'static str),
    /// A range query would have too many points in time.
    #[error("exceeded maximum resolution of {STEPS_PER_QUERY_MAX} points per timeseries")]
    TooManySteps,
    /// A result's labels break a limit.
    #[error("the labels of a result are refused")]
    Labels(#[from] LabelsError),
    /// The evaluation would read too many samples.
    #[error("the expression reads more than {SAMPLES_PER_EVALUATION_MAX} samples")]
    TooManySamples,
    /// A vector would have too many elements.
    #[error("a part of the expression has more than {ELEMENTS_PER_VECTOR_MAX} elements")]
    TooManyElements,
    /// The scope is a few series, and the expression's elements depend on others, too.
    #[error("the expression cannot be evaluated for single series: its elements depend on several")]
    NotSeparable,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_bytes_characters_lines_and_columns() {
        let text = "sum(\"ü\")\n  + foo";
        assert_eq!(Place::new(text, 12), Place { byte: 12, character: 11, line: 2, column: 3 });
        assert_eq!(Place::new(text, 6), Place { byte: 5, character: 5, line: 1, column: 6 });
        assert_eq!(Place::new(text, 99), Place { byte: 17, character: 16, line: 2, column: 8 });
        assert_eq!(Place::new("", 3), Place { byte: 0, character: 0, line: 1, column: 1 });
    }
}

//! Why a text is not a template, and why one cannot be expanded: with the place, in Go's words where people search for
//! them.

use std::fmt;

/// Why a text is not a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {cause}")]
pub struct ParseError {
    /// The line in the template, counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub cause: ParseCause,
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseCause {
    /// Longer than what is taken.
    #[error("the template is {0} bytes long, at most {max} are taken", max = super::TEMPLATE_BYTES_MAX)]
    TooLong(usize),
    /// More parts inside of each other than what is taken.
    #[error("more than {max} parts inside of each other", max = super::DEPTH_MAX)]
    TooDeep,
    /// `{{` without `}}`.
    #[error("`{{{{` is never closed")]
    Unclosed,
    /// `/*` without `*/`.
    #[error("a comment is never closed")]
    UnclosedComment,
    /// A comment with something beside it.
    #[error("a comment ends before `}}}}`")]
    CommentNotAlone,
    /// A string without its second quote.
    #[error("a string is never closed")]
    UnclosedString,
    /// `'` with anything but one character behind it.
    #[error("a character stands alone in its quotes")]
    BadCharacter,
    /// A backslash with what means nothing.
    #[error("an escape that Go's strings do not have")]
    BadEscape,
    /// What begins as a number and is none.
    #[error("`{0}` is not a number")]
    BadNumber(String),
    /// A word where it cannot stand.
    #[error("unexpected `{0}`")]
    Unexpected(String),
    /// The template ends inside of a block.
    #[error("`{0}` has no `{{{{ end }}}}`")]
    NoEnd(&'static str),
    /// Nothing between the braces, or behind a `|`.
    #[error("a value is missing in `{0}`")]
    NoValue(String),
    /// What is piped into something that takes no arguments.
    #[error("`{0}` is no function, and nothing can be piped into it")]
    NotCallable(String),
    /// A name that is neither.
    #[error("function `{0}` is not defined")]
    UnknownFunction(String),
    /// A variable that is not there.
    #[error("variable `{0}` is not defined")]
    UnknownVariable(String),
    /// `break` or `continue` outside.
    #[error("`{0}` outside of `range`")]
    OutsideRange(&'static str),
    /// Too many variables before `:=`.
    #[error("too many variables in `{0}`")]
    TooManyVariables(&'static str),
    /// Two templates of one name.
    #[error("the template `{0}` is defined twice")]
    DefinedTwice(String),
    /// A function that Prometheus gives to its consoles only, or that means nothing here.
    #[error("`{0}` is not available in the templates of rules")]
    Unavailable(&'static str),
}

impl ParseError {
    pub(super) fn new(source: &str, at: usize, cause: ParseCause) -> Self {
        let before = source.get(..at).unwrap_or(source);
        Self { line: 1 + before.matches('\n').count(), cause }
    }
}

/// Why a template could not be expanded. Its text is what Prometheus puts in the place of the label or annotation,
/// inside of `<error expanding template: …>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpandError {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) context: String,
    pub(super) cause: String,
}

/// Longest part of the template that an error cites.
const CONTEXT_CHARS_MAX: usize = 20;

impl ExpandError {
    pub(super) fn new(name: &str, source: &str, place: (usize, usize), cause: String) -> Self {
        let (at, end) = place;
        let before = source.get(..at).unwrap_or("");
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let cited = source.get(at..end).unwrap_or("");
        let mut context: String = cited.chars().take(CONTEXT_CHARS_MAX).collect();
        if context.len() < cited.len() {
            context.push_str("...");
        }
        Self {
            name: name.to_owned(),
            line: 1 + before.matches('\n').count(),
            column: at - line_start,
            context,
            cause,
        }
    }
}

impl ExpandError {
    /// As Prometheus names the templates of a rule, with the variables that it declares before them.
    pub(super) fn of_rule(self, alert: &str) -> Self {
        let column = if self.line == 1 { self.column + super::PREFIX.len() } else { self.column };
        Self { name: format!("__alert_{alert}"), column, ..self }
    }
}

impl fmt::Display for ExpandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, line, column, context, cause } = self;
        write!(
            f,
            "error executing template {name}: template: {name}:{line}:{column}: executing \"{name}\" at <{context}>: \
             {cause}"
        )
    }
}

impl std::error::Error for ExpandError {}

//! From text to the evaluator's tree, in one pass: the tree is typed as it is built, so that what does not fit
//! together is refused where it stands, in the words of Prometheus.
//!
//! The grammar is that of Prometheus 3: `generated_parser.y` and the type rules of its parser.

#![expect(
    clippy::unnecessary_box_returns,
    reason = "what a function can return counts for each level of an expression, several times in a debug build"
)]

mod aggregate;
mod call;
mod expression;
mod operand;
mod text;

use std::sync::Arc;

use super::ast::{Node, Samples, Scalar, Vector};
use super::error::{ParseError, ParseErrorKind};
use super::scan::{self, Kind, Token};

/// Deepest nesting: expressions are walked on the stack, of which a thread has two megabytes, and a debug build's
/// frames take up to seven kilobytes a level. The deepest of the public rule collections has eleven.
pub(super) const NESTING_MAX: usize = 128;

/// Reads an expression. The step is that of subqueries which name none.
pub(super) fn parse(text: &str, subquery_step_millis: i64) -> Result<Node, ParseError> {
    let tokens = scan::scan(text)?;
    let mut parser = Parser { text, tokens, next: 0, nesting: 0, subquery_step_millis };
    let operand = parser.expression(0).map_err(|refusal| *refusal)?;
    if parser.peek().is_some() {
        return Err(*parser.unexpected("an operator"));
    }
    Ok(match operand.value {
        Typed::Scalar(scalar) => Node::Scalar(scalar),
        Typed::Vector(vector) => Node::Vector(vector),
        Typed::Samples(samples) => Node::Samples(samples),
        Typed::Text(bytes) => Node::Text(String::from_utf8_lossy(&bytes).into()),
    })
}

struct Parser<'t> {
    text: &'t str,
    tokens: Vec<Token<'t>>,
    next: usize,
    nesting: usize,
    subquery_step_millis: i64,
}

/// Why an expression is refused. In a box, as operands are, because expressions are read on the stack.
type Refusal = Box<ParseError>;

/// What reading an operand gives.
type Parsed = Result<Box<Operand>, Refusal>;

/// A part of an expression that has a value.
struct Operand {
    value: Typed,
    /// Where it begins and ends in the text, in bytes.
    start: usize,
    end: usize,
    /// Where it begins without the parentheses around it.
    inner: usize,
    depth: usize,
    form: Form,
}

/// A value by its type.
enum Typed {
    Scalar(Scalar),
    Vector(Vector),
    Samples(Samples),
    /// Escapes can make it something else than UTF-8.
    Text(Box<[u8]>),
}

/// Whether `offset`, `@` and ranges can follow.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// A selector or a subquery without parentheses around it.
    Selection {
        has_offset: bool,
        has_at: bool,
    },
    Other,
}

impl Typed {
    /// As Prometheus calls the type.
    fn name(&self) -> &'static str {
        match self {
            Self::Scalar(_) => "scalar",
            Self::Vector(_) => "instant vector",
            Self::Samples(_) => "range vector",
            Self::Text(_) => "string",
        }
    }
}

impl<'t> Parser<'t> {
    fn peek(&self) -> Option<Token<'t>> {
        self.tokens.get(self.next).copied()
    }

    fn take(&mut self, is_it: impl Fn(&Token<'_>) -> bool) -> Option<Token<'t>> {
        let token = self.peek().filter(is_it)?;
        self.next += 1;
        Some(token)
    }

    fn take_mark(&mut self, mark: &str) -> Option<Token<'t>> {
        self.take(|token| token.is_mark(mark))
    }

    fn take_word(&mut self, word: &str) -> Option<Token<'t>> {
        self.take(|token| token.is_word(word))
    }

    fn wants(&mut self, mark: &str, expected: &str) -> Result<Token<'t>, Refusal> {
        self.take_mark(mark).ok_or_else(|| self.unexpected(expected))
    }

    /// Whether a mark comes after the next token.
    fn is_followed_by(&self, mark: &str) -> bool {
        self.tokens.get(self.next + 1).is_some_and(|token| token.is_mark(mark))
    }

    /// The end of the last token taken.
    fn end(&self) -> usize {
        let last = self.next.checked_sub(1).and_then(|last| self.tokens.get(last));
        last.map_or(0, |token| token.at + token.text.len())
    }

    /// A new operand that ends with the last token taken.
    fn operand_of(&self, value: Typed, start: usize, depth: usize) -> Parsed {
        if depth > NESTING_MAX {
            return Err(self.too_deep(start));
        }
        Ok(Box::new(Operand { value, start, end: self.end(), inner: start, depth, form: Form::Other }))
    }

    /// Counts a level of the text; the caller comes back with [`leave`](Self::leave).
    fn enter(&mut self) -> Result<(), Refusal> {
        self.nesting += 1;
        let at = self.peek().map_or(self.text.len(), |token| token.at);
        if self.nesting > NESTING_MAX { Err(self.too_deep(at)) } else { Ok(()) }
    }

    fn leave(&mut self) {
        self.nesting -= 1;
    }

    /// Labels in parentheses, sorted, without duplicates.
    fn label_list(&mut self) -> Result<Vec<Arc<str>>, Refusal> {
        self.wants("(", "`(`")?;
        let mut labels: Vec<Arc<str>> = Vec::new();
        while self.take_mark(")").is_none() {
            let Some(token) = self.take(|token| matches!(token.kind, Kind::Word | Kind::Text)) else {
                return Err(self.unexpected("a label or `)`"));
            };
            labels.push(self.label_name(token)?.into());
            if self.take_mark(",").is_none() && !self.peek().is_some_and(|token| token.is_mark(")")) {
                return Err(self.unexpected("`,` or `)`"));
            }
        }
        labels.sort_unstable();
        labels.dedup();
        Ok(labels)
    }

    /// A label's name, in quotes or not.
    fn label_name(&self, token: Token<'_>) -> Result<String, Refusal> {
        if token.kind != Kind::Text {
            return Ok(token.text.to_owned());
        }
        let bytes = self.unquoted(token)?;
        String::from_utf8(bytes.clone()).ok().filter(|name| !name.is_empty()).ok_or_else(|| {
            self.invalid(token.at, &format!("invalid label name {} in grouping", text::quoted(&bytes)))
        })
    }

    fn unquoted(&self, token: Token<'_>) -> Result<Vec<u8>, Refusal> {
        text::unquoted(token.text).map_err(|message| self.invalid(token.at, &message))
    }

    fn invalid(&self, at: usize, message: &str) -> Refusal {
        scan::refuse(self.text, at, ParseErrorKind::Invalid, message.into()).into()
    }

    /// Of something that has a name.
    fn invalid_named(&self, at: usize, name: &str, message: String) -> Refusal {
        let error = scan::refuse(self.text, at, ParseErrorKind::Invalid, message);
        ParseError { name: Some(name.into()), ..error }.into()
    }

    fn too_deep(&self, at: usize) -> Refusal {
        let message = format!("nested more than {NESTING_MAX} deep");
        scan::refuse(self.text, at, ParseErrorKind::TooLarge, message).into()
    }

    fn unexpected(&self, expected: &str) -> Refusal {
        match self.peek() {
            Some(token) => {
                self.invalid(token.at, &format!("unexpected `{}`, expected {expected}", token.text))
            }
            None => {
                self.invalid(self.text.len(), &format!("the expression ends where {expected} is expected"))
            }
        }
    }

    /// A feature with a space in its name is described by it, any other one is called so.
    fn unsupported(&self, at: usize, name: &str) -> Refusal {
        let quote = if name.contains(' ') { "" } else { "`" };
        let message = format!("{quote}{name}{quote} is not supported");
        let error = scan::refuse(self.text, at, ParseErrorKind::Unsupported, message);
        ParseError { name: Some(name.into()), ..error }.into()
    }
}

#[cfg(test)]
mod tests;

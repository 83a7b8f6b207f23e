//! From words to nodes: the grammar of Go's text/template.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::{ParseCause, ParseError};
use super::functions::Function;
use super::lex::{self, Token, Word};
use super::node::{Branch, Command, List, Node, Operand, OperandKind, Pipeline, Span, Tree};
use super::{DEPTH_MAX, TEMPLATE_BYTES_MAX};

/// The variable that Go's templates begin with: the data.
const ROOT_VARIABLE: &str = "$";

/// Reads a template. `variables` are there before it begins.
pub(super) fn parse(source: &str, variables: &[&str]) -> Result<Tree, ParseError> {
    if source.len() > TEMPLATE_BYTES_MAX {
        return Err(ParseError::new(source, 0, ParseCause::TooLong(source.len())));
    }
    let words = lex::words(source)?;
    let known = std::iter::once(&ROOT_VARIABLE).chain(variables).map(|name| Arc::from(*name)).collect();
    let mut parser =
        Parser { source, words, next: 0, variables: known, ranges: 0, depth: 0, defined: BTreeMap::new() };
    let (body, end) = parser.list("template", true)?;
    match end {
        End::Source => Ok(Tree { body, defined: parser.defined }),
        End::Word => parser.fail_at(parser.last_at(), ParseCause::Unexpected("end".into())),
        End::Else(_) => parser.fail_at(parser.last_at(), ParseCause::Unexpected("else".into())),
    }
}

struct Parser<'a> {
    source: &'a str,
    words: Vec<Word>,
    next: usize,
    variables: Vec<Arc<str>>,
    /// How many `range`s there are around this place.
    ranges: usize,
    depth: usize,
    defined: BTreeMap<Arc<str>, List>,
}

/// What a list ended with.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Source,
    Word,
    /// `else`, and the branch that follows it in the same braces.
    Else(Option<Kind>),
}

/// A branch.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    If,
    With,
    Range,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::If => "if",
            Self::With => "with",
            Self::Range => "range",
        }
    }

    fn node(self, branch: Branch) -> Node {
        match self {
            Self::If => Node::If(branch),
            Self::With => Node::With(branch),
            Self::Range => Node::Range(branch),
        }
    }
}

impl Parser<'_> {
    fn fail_at<T>(&self, at: usize, cause: ParseCause) -> Result<T, ParseError> {
        Err(ParseError::new(self.source, at, cause))
    }

    fn last_at(&self) -> usize {
        self.next.checked_sub(1).and_then(|last| self.words.get(last)).map_or(0, |word| word.at)
    }

    fn at(&self) -> usize {
        self.words.get(self.next).map_or(self.source.len(), |word| word.at)
    }

    fn end(&self) -> usize {
        self.next.checked_sub(1).and_then(|last| self.words.get(last)).map_or(0, |word| word.end)
    }

    fn peek(&self) -> Option<&Token> {
        self.words.get(self.next).map(|word| &word.token)
    }

    fn skip_blank(&mut self) {
        while self.peek() == Some(&Token::Blank) {
            self.next += 1;
        }
    }

    /// The word that comes next, whatever it is, as it is written: something else was expected.
    fn unexpected<T>(&self) -> Result<T, ParseError> {
        let written = match self.words.get(self.next) {
            Some(word) => self.source.get(word.at..word.end).unwrap_or("").to_owned(),
            None => return self.fail_at(self.last_at(), ParseCause::Unclosed),
        };
        self.fail_at(self.at(), ParseCause::Unexpected(written))
    }

    fn expect(&mut self, token: &Token) -> Result<(), ParseError> {
        self.skip_blank();
        if self.peek() == Some(token) {
            self.next += 1;
            return Ok(());
        }
        self.unexpected()
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, ParseError>) -> Result<T, ParseError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return self.fail_at(self.at(), ParseCause::TooDeep);
        }
        let read = read(self);
        self.depth -= 1;
        read
    }

    /// Nodes up to the end of what is called `what`.
    fn list(&mut self, what: &'static str, is_top: bool) -> Result<(List, End), ParseError> {
        let begin = self.last_at();
        let mut nodes = List::new();
        while let Some(word) = self.words.get(self.next) {
            if let Token::Text(text) = &word.token {
                nodes.push(Node::Text(text.as_str().into()));
                self.next += 1;
                continue;
            }
            let open = word.at;
            self.expect(&Token::Open)?;
            self.skip_blank();
            let keyword = match self.peek() {
                Some(Token::Name(name)) => name.clone(),
                _ => String::new(),
            };
            match keyword.as_str() {
                "end" => {
                    self.next += 1;
                    self.expect(&Token::Close)?;
                    return Ok((nodes, End::Word));
                }
                "else" => {
                    self.next += 1;
                    return Ok((nodes, End::Else(self.after_else()?)));
                }
                "define" if is_top => self.define()?,
                _ => nodes.extend(self.deeper(|parser| parser.action(&keyword, open))?),
            }
        }
        if is_top { Ok((nodes, End::Source)) } else { self.fail_at(begin, ParseCause::NoEnd(what)) }
    }

    /// `else`, `else if` or `else with`.
    fn after_else(&mut self) -> Result<Option<Kind>, ParseError> {
        self.skip_blank();
        let kind = match self.peek() {
            Some(Token::Name(name)) if name == "if" => Kind::If,
            Some(Token::Name(name)) if name == "with" => Kind::With,
            _ => {
                self.expect(&Token::Close)?;
                return Ok(None);
            }
        };
        self.next += 1;
        Ok(Some(kind))
    }

    fn action(&mut self, keyword: &str, open: usize) -> Result<Option<Node>, ParseError> {
        let kind = match keyword {
            "if" => Kind::If,
            "with" => Kind::With,
            "range" => Kind::Range,
            "template" => return self.call(open).map(Some),
            "block" => return self.block(open).map(Some),
            "break" | "continue" => return self.leave(keyword).map(Some),
            "define" => return self.unexpected(),
            _ => {
                let pipeline = self.pipeline(&Token::Close, "command", false)?;
                return Ok(Some(Node::Action(pipeline)));
            }
        };
        self.next += 1;
        self.branch(kind).map(Some)
    }

    /// A branch, its keyword read already.
    fn branch(&mut self, kind: Kind) -> Result<Node, ParseError> {
        let mark = self.variables.len();
        let pipeline = self.pipeline(&Token::Close, kind.word(), kind == Kind::Range)?;
        self.ranges += usize::from(kind == Kind::Range);
        let (then, end) = self.list(kind.word(), false)?;
        self.ranges -= usize::from(kind == Kind::Range);
        let otherwise = match end {
            End::Else(Some(other)) => {
                if other == kind && kind != Kind::Range {
                    // `{{ else if }}` is a branch within this one's `else`, and shares its end.
                    vec![self.deeper(|parser| parser.branch(other))?]
                } else {
                    return self.fail_at(self.last_at(), ParseCause::Unexpected(other.word().into()));
                }
            }
            End::Else(None) => match self.list(kind.word(), false)? {
                (otherwise, End::Word) => otherwise,
                _ => return self.fail_at(self.last_at(), ParseCause::Unexpected("else".into())),
            },
            End::Word | End::Source => List::new(),
        };
        self.variables.truncate(mark);
        Ok(kind.node(Branch { pipeline, then, otherwise }))
    }

    fn leave(&mut self, keyword: &str) -> Result<Node, ParseError> {
        let (node, word) =
            if keyword == "break" { (Node::Break, "break") } else { (Node::Continue, "continue") };
        if self.ranges == 0 {
            return self.fail_at(self.at(), ParseCause::OutsideRange(word));
        }
        self.next += 1;
        self.expect(&Token::Close)?;
        Ok(node)
    }

    /// A name in quotes.
    fn quoted(&mut self) -> Result<Arc<str>, ParseError> {
        self.skip_blank();
        match self.peek() {
            Some(Token::Quoted(name)) => {
                let name = name.as_str().into();
                self.next += 1;
                Ok(name)
            }
            _ => self.unexpected(),
        }
    }

    fn define(&mut self) -> Result<(), ParseError> {
        self.next += 1;
        let name = self.quoted()?;
        self.expect(&Token::Close)?;
        self.body_of(name, "define")
    }

    /// What a name stands for: it knows no variables but the data.
    fn body_of(&mut self, name: Arc<str>, what: &'static str) -> Result<(), ParseError> {
        let at = self.last_at();
        let outside = (std::mem::take(&mut self.variables), std::mem::take(&mut self.ranges));
        self.variables.push(ROOT_VARIABLE.into());
        let (body, end) = self.deeper(|parser| parser.list(what, false))?;
        (self.variables, self.ranges) = outside;
        if end != End::Word {
            return self.fail_at(self.last_at(), ParseCause::Unexpected("else".into()));
        }
        // Of two, the one that is empty gives way.
        let is_empty =
            |list: &List| list.iter().all(|node| matches!(node, Node::Text(text) if text.trim().is_empty()));
        match self.defined.get(&name) {
            Some(known) if is_empty(&body) && !is_empty(known) => {}
            Some(known) if !is_empty(known) => {
                return self.fail_at(at, ParseCause::DefinedTwice(name.to_string()));
            }
            Some(_) | None => drop(self.defined.insert(name, body)),
        }
        Ok(())
    }

    fn call(&mut self, open: usize) -> Result<Node, ParseError> {
        self.next += 1;
        let name = self.quoted()?;
        let span = (open, self.end());
        self.skip_blank();
        if self.peek() == Some(&Token::Close) {
            self.next += 1;
            return Ok(Node::Call { name, argument: None, span });
        }
        let argument = Some(self.pipeline(&Token::Close, "template", false)?);
        Ok(Node::Call { name, argument, span })
    }

    /// `{{ block "name" pipeline }}`: a template that is defined and used at once.
    fn block(&mut self, open: usize) -> Result<Node, ParseError> {
        self.next += 1;
        let name = self.quoted()?;
        let span = (open, self.end());
        let argument = Some(self.pipeline(&Token::Close, "block", false)?);
        self.body_of(Arc::clone(&name), "block")?;
        Ok(Node::Call { name, argument, span })
    }

    /// A pipeline up to `end`, which is read as well. `range` may take two variables.
    fn pipeline(&mut self, end: &Token, what: &'static str, is_range: bool) -> Result<Pipeline, ParseError> {
        self.skip_blank();
        let begin = self.at();
        let (variables, assigns) = self.declaration(what, is_range)?;
        let mut commands = vec![self.command(end, what)?];
        while self.peek() == Some(&Token::Pipe) {
            self.next += 1;
            commands.push(self.command(end, what)?);
        }
        let span = (begin, self.end());
        self.expect(end)?;
        for command in &commands[1..] {
            self.check_callable(command)?;
        }
        if !assigns {
            self.variables.extend(variables.iter().map(Arc::clone));
        }
        Ok(Pipeline { variables, assigns, commands, span })
    }

    /// `$x :=`, `$x =`, or `$i, $x :=`.
    fn declaration(
        &mut self,
        what: &'static str,
        is_range: bool,
    ) -> Result<(Vec<Arc<str>>, bool), ParseError> {
        let begin = self.next;
        let mut variables: Vec<Arc<str>> = Vec::new();
        while let Some(Token::Variable(name)) = self.peek() {
            variables.push(name.as_str().into());
            self.next += 1;
            self.skip_blank();
            match self.peek() {
                Some(Token::Declare) => {
                    self.next += 1;
                    return Ok((variables, false));
                }
                Some(Token::Assign) => {
                    self.next += 1;
                    for name in &variables {
                        self.check_variable(name, self.at())?;
                    }
                    return Ok((variables, true));
                }
                Some(Token::Comma) if !is_range || variables.len() > 1 => {
                    return self.fail_at(self.at(), ParseCause::TooManyVariables(what));
                }
                Some(Token::Comma) => {
                    self.next += 1;
                    self.skip_blank();
                }
                _ => break,
            }
        }
        // It was an operand.
        self.next = begin;
        Ok((Vec::new(), false))
    }

    fn check_variable(&self, name: &str, at: usize) -> Result<(), ParseError> {
        if self.variables.iter().any(|known| known.as_ref() == name) {
            return Ok(());
        }
        self.fail_at(at, ParseCause::UnknownVariable(name.to_owned()))
    }

    /// What a value is piped into has to take it.
    fn check_callable(&self, command: &Command) -> Result<(), ParseError> {
        let Some(first) = command.operands.first() else { return Ok(()) };
        match &first.kind {
            OperandKind::Dot
            | OperandKind::Nil
            | OperandKind::Bool(_)
            | OperandKind::Int(_)
            | OperandKind::Float(_)
            | OperandKind::Text(_) => {
                let written = self.source.get(first.span.0..first.span.1).unwrap_or("").to_owned();
                self.fail_at(first.span.0, ParseCause::NotCallable(written))
            }
            OperandKind::Function(_)
            | OperandKind::Fields(_)
            | OperandKind::Variable(..)
            | OperandKind::Nested(..) => Ok(()),
        }
    }

    fn command(&mut self, end: &Token, what: &'static str) -> Result<Command, ParseError> {
        let mut operands = Vec::new();
        loop {
            self.skip_blank();
            match self.peek() {
                Some(Token::Pipe) => break,
                Some(token) if token == end => break,
                None => return self.fail_at(self.last_at(), ParseCause::Unclosed),
                Some(_) => operands.push(self.operand()?),
            }
            // Arguments are parted by blanks.
            match self.peek() {
                Some(Token::Blank | Token::Pipe) => {}
                Some(token) if token == end => {}
                _ => return self.unexpected(),
            }
        }
        if operands.is_empty() {
            return self.fail_at(self.at(), ParseCause::NoValue(what.to_owned()));
        }
        Ok(Command { operands })
    }

    fn operand(&mut self) -> Result<Operand, ParseError> {
        let Some(word) = self.words.get(self.next).cloned() else { return self.unexpected() };
        let kind = match &word.token {
            Token::Name(name) => match name.as_str() {
                "true" => OperandKind::Bool(true),
                "false" => OperandKind::Bool(false),
                "nil" => OperandKind::Nil,
                _ => OperandKind::Function(self.function(name, word.at)?),
            },
            Token::Dot => OperandKind::Dot,
            Token::Quoted(text) => OperandKind::Text(text.as_str().into()),
            Token::Char(code) => OperandKind::Int(*code),
            Token::Number(text) => self.number(text, word.at)?,
            Token::Field(_) => {
                let kind = OperandKind::Fields(self.field_names());
                return Ok(Operand { kind, span: self.span_from(word.at) });
            }
            Token::Variable(name) => {
                self.check_variable(name, word.at)?;
                self.next += 1;
                let fields = self.field_names();
                let kind = OperandKind::Variable(name.as_str().into(), fields);
                return Ok(Operand { kind, span: self.span_from(word.at) });
            }
            Token::OpenParen => {
                self.next += 1;
                let inner =
                    self.deeper(|parser| parser.pipeline(&Token::CloseParen, "parenthesis", false))?;
                let fields = self.field_names();
                let kind = OperandKind::Nested(Box::new(inner), fields);
                return Ok(Operand { kind, span: self.span_from(word.at) });
            }
            Token::Text(_)
            | Token::Open
            | Token::Close
            | Token::Pipe
            | Token::Comma
            | Token::CloseParen
            | Token::Declare
            | Token::Assign
            | Token::Blank => return self.unexpected(),
        };
        self.next += 1;
        Ok(Operand { kind, span: (word.at, word.end) })
    }

    fn span_from(&self, begin: usize) -> Span {
        (begin, self.end())
    }

    fn field_names(&mut self) -> Vec<Arc<str>> {
        let mut names = Vec::new();
        while let Some(Token::Field(name)) = self.peek() {
            names.push(name.as_str().into());
            self.next += 1;
        }
        names
    }

    fn function(&self, name: &str, at: usize) -> Result<Function, ParseError> {
        match Function::named(name) {
            Some(function) => Ok(function),
            None => self.fail_at(at, ParseCause::UnknownFunction(name.to_owned())),
        }
    }

    fn number(&self, text: &str, at: usize) -> Result<OperandKind, ParseError> {
        match number(text) {
            Some(kind) => Ok(kind),
            None => self.fail_at(at, ParseCause::BadNumber(text.to_owned())),
        }
    }
}

/// A number as Go writes it: whole where it has neither point nor exponent.
fn number(text: &str) -> Option<OperandKind> {
    let (sign, digits) = match text.strip_prefix(['+', '-']) {
        Some(digits) => (text.starts_with('-'), digits),
        None => (false, text),
    };
    let plain = digits.replace('_', "");
    let lower = plain.to_ascii_lowercase();
    let radix = [("0x", 16), ("0b", 2), ("0o", 8)].into_iter().find(|(prefix, _)| lower.starts_with(prefix));
    let whole = match radix {
        Some((prefix, radix)) => i64::from_str_radix(&lower[prefix.len()..], radix).ok(),
        None if lower.len() > 1 && lower.starts_with('0') => i64::from_str_radix(&lower[1..], 8).ok(),
        None => lower.parse::<i64>().ok(),
    };
    if let Some(whole) = whole {
        return Some(OperandKind::Int(if sign { -whole } else { whole }));
    }
    if radix.is_some() || !lower.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let value: f64 = lower.parse().ok()?;
    Some(OperandKind::Float(if sign { -value } else { value }))
}

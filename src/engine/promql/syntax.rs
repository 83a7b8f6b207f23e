//! Finds the token at which an expression stops being one. The parser only says that it does.

use super::scan::{Kind, Token};

/// Where an expression stops being one.
pub(super) struct Unexpected<'t> {
    /// The first token that cannot follow the ones before it; `None` where the expression ends too early.
    pub token: Option<Token<'t>>,
    expected: Expected,
}

impl Unexpected<'_> {
    pub(super) fn message(&self) -> String {
        match self.token {
            Some(token) => format!("unexpected `{}`, expected {}", token.text, self.expected),
            None => format!("the expression ends where {} is expected", self.expected),
        }
    }

    /// The experimental feature of Prometheus that the token belongs to, where it does.
    pub(super) fn feature(&self) -> Option<&'static str> {
        let token = self.token?;
        let is_calculated = ["+", "-", "*", "/", "%", "^", "("].iter().any(|mark| token.is_mark(mark))
            || ["step", "range", "min", "max", "min_of", "max_of"].iter().any(|word| token.is_word(word));
        let is_length = token.is_inside || self.expected == DURATION;
        match () {
            () if token.is_word("smoothed") => Some("smoothed"),
            () if token.is_word("anchored") => Some("anchored"),
            () if is_calculated && is_length => Some("a calculated duration"),
            () => None,
        }
    }
}

/// The first token that cannot follow the ones before it, and what should stand there instead. `None` where nothing
/// is wrong with the order of the tokens.
pub(super) fn first_unexpected<'t>(tokens: &[Token<'t>]) -> Option<Unexpected<'t>> {
    let mut walker = Walker { tokens, next: 0, open: Vec::new() };
    let expected = walker.expression().err()?;
    Some(Unexpected { token: tokens.get(walker.next).copied(), expected })
}

/// What is expected where a length of time is.
const DURATION: Expected = "a duration";

/// What is open: parentheses around an operand, or around arguments, which have commas between them.
#[derive(Clone, Copy, PartialEq)]
enum Open {
    Operand,
    Arguments,
}

struct Walker<'w, 't> {
    tokens: &'w [Token<'t>],
    next: usize,
    open: Vec<Open>,
}

type Expected = &'static str;

impl Walker<'_, '_> {
    fn expression(&mut self) -> Result<(), Expected> {
        self.operand()?;
        loop {
            self.suffixes()?;
            let Some(token) = self.tokens.get(self.next) else { break };
            if token.is_mark(")") && self.open.pop().is_some() {
                self.next += 1;
                // `sum(x) by (job)`
                self.label_list(&["by", "without"])?;
            } else if token.is_mark(",") && self.open.last() == Some(&Open::Arguments) {
                self.next += 1;
                self.operand()?;
            } else if is_operator(token) {
                self.next += 1;
                self.modifiers()?;
                self.operand()?;
            } else if self.open.is_empty() {
                return Err("an operator");
            } else {
                return Err("an operator or `)`");
            }
        }
        if self.open.is_empty() { Ok(()) } else { Err("`)`") }
    }

    /// Up to and including an operand that has no parentheses, or up to the inside of the parentheses.
    fn operand(&mut self) -> Result<(), Expected> {
        loop {
            let Some(token) = self.tokens.get(self.next) else { return Err("an operand") };
            match token.kind {
                Kind::Number(_) | Kind::Duration(_) | Kind::Text => {
                    self.next += 1;
                    return Ok(());
                }
                Kind::Word if self.word()? => return Ok(()),
                Kind::Word => {}
                Kind::Mark if token.is_mark("{") => return self.braces(),
                Kind::Mark if token.is_mark("(") => {
                    self.next += 1;
                    self.open.push(Open::Operand);
                }
                Kind::Mark if token.is_mark("+") || token.is_mark("-") => self.next += 1,
                Kind::Mark => return Err("an operand"),
            }
        }
    }

    /// A name, with what belongs to it; `false` where it opened arguments of which the first comes next.
    fn word(&mut self) -> Result<bool, Expected> {
        self.next += 1;
        self.label_list(&["by", "without"])?;
        if !self.mark("(") {
            if self.tokens.get(self.next).is_some_and(|token| token.is_mark("{")) {
                self.braces()?;
            }
            return Ok(true);
        }
        if self.mark(")") {
            return Ok(true);
        }
        self.open.push(Open::Arguments);
        Ok(false)
    }

    fn braces(&mut self) -> Result<(), Expected> {
        self.next += 1;
        while !self.mark("}") {
            let is_text = self.kind(Kind::Text);
            if !is_text && !self.kind(Kind::Word) {
                return Err("a label or `}`");
            }
            let has_operator = ["=", "!=", "=~", "!~"].into_iter().any(|operator| self.mark(operator));
            if has_operator && !self.kind(Kind::Text) {
                return Err("a text in quotes");
            }
            // A text by itself is the name of the metric.
            if !has_operator && !is_text {
                return Err("`=`, `!=`, `=~` or `!~`");
            }
            if !self.mark(",") && !self.tokens.get(self.next).is_some_and(|token| token.is_mark("}")) {
                return Err("`,` or `}`");
            }
        }
        Ok(())
    }

    /// `[5m]`, `[5m:1m]`, `offset 5m`, `@ 100`
    fn suffixes(&mut self) -> Result<(), Expected> {
        loop {
            if self.mark("[") {
                self.length()?;
                if self.mark(":") && !self.tokens.get(self.next).is_some_and(|token| token.is_mark("]")) {
                    self.length()?;
                }
                if !self.mark("]") {
                    return Err("`]`");
                }
            } else if self.keyword("offset") {
                self.sign();
                self.length()?;
            } else if self.mark("@") {
                self.sign();
                let is_bound = self.keyword("start") || self.keyword("end");
                if is_bound && !(self.mark("(") && self.mark(")")) {
                    return Err("`()`");
                }
                if !is_bound && !self.number() {
                    return Err("a time");
                }
            } else {
                return Ok(());
            }
        }
    }

    fn modifiers(&mut self) -> Result<(), Expected> {
        self.keyword("bool");
        if self.label_list(&["on", "ignoring"])? {
            for word in ["group_left", "group_right"] {
                if self.tokens.get(self.next).is_some_and(|token| token.is_word(word)) {
                    let has_list = self.tokens.get(self.next + 1).is_some_and(|token| token.is_mark("("));
                    if !(has_list && self.label_list(&[word])?) {
                        self.next += 1;
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes a list of labels after one of these words; nothing, where none of them comes next.
    fn label_list(&mut self, words: &[&str]) -> Result<bool, Expected> {
        let follows =
            self.tokens.get(self.next).is_some_and(|token| words.iter().any(|word| token.is_word(word)));
        let opens = self.tokens.get(self.next + 1).is_some_and(|token| token.is_mark("("));
        if !follows || !opens {
            return Ok(false);
        }
        self.next += 2;
        while !self.mark(")") {
            if !self.kind(Kind::Word) && !self.kind(Kind::Text) {
                return Err("a label or `)`");
            }
            if !self.mark(",") && !self.tokens.get(self.next).is_some_and(|token| token.is_mark(")")) {
                return Err("`,` or `)`");
            }
        }
        Ok(true)
    }

    fn length(&mut self) -> Result<(), Expected> {
        if self.number() { Ok(()) } else { Err(DURATION) }
    }

    fn number(&mut self) -> bool {
        let is_number = |token: &Token<'_>| matches!(token.kind, Kind::Number(_) | Kind::Duration(_));
        self.take(is_number)
    }

    fn sign(&mut self) {
        let _ = self.mark("+") || self.mark("-");
    }

    fn keyword(&mut self, word: &str) -> bool {
        self.take(|token| token.is_word(word))
    }

    fn kind(&mut self, kind: Kind) -> bool {
        self.take(|token| token.kind == kind)
    }

    fn mark(&mut self, text: &str) -> bool {
        self.take(|token| token.is_mark(text))
    }

    fn take(&mut self, is_it: impl Fn(&Token<'_>) -> bool) -> bool {
        let taken = self.tokens.get(self.next).is_some_and(is_it);
        self.next += usize::from(taken);
        taken
    }
}

fn is_operator(token: &Token<'_>) -> bool {
    let marks = ["+", "-", "*", "/", "%", "^", "==", "!=", "<=", "<", ">=", ">"];
    let words = ["and", "or", "unless", "atan2"];
    marks.iter().any(|mark| token.is_mark(mark)) || words.iter().any(|word| token.is_word(word))
}

//! Gives the parser's tree its places back. The tree has none, but its nodes come in the order of the text: walking
//! both together, each node finds its token.

use super::scan::{Kind, Token};

/// The tokens that nodes are made of, and how far the walk has come.
pub(super) struct Places<'t> {
    tokens: Vec<Token<'t>>,
    next: usize,
}

impl<'t> Places<'t> {
    /// Leaves out what is no node: label lists, and all between braces and brackets.
    pub(super) fn new(tokens: &[Token<'t>]) -> Self {
        let mut kept = Vec::new();
        let mut in_list = false;
        for (index, token) in tokens.iter().enumerate() {
            let starts_list = ["by", "without", "on", "ignoring", "group_left", "group_right"]
                .iter()
                .any(|word| token.is_word(word))
                && tokens.get(index + 1).is_some_and(|next| next.is_mark("("));
            in_list = (in_list || starts_list) && !token.is_mark(")");
            if !in_list && !token.is_inside {
                kept.push(*token);
            }
        }
        Self { tokens: kept, next: 0 }
    }

    /// The place of the next token.
    pub(super) fn here(&self) -> usize {
        self.tokens.get(self.next).map_or(0, |token| token.at)
    }

    /// The place of the next selector: its name or its brace.
    pub(super) fn selector(&mut self, name: Option<&str>) -> usize {
        match name {
            Some(name) => self.find(|token| token.kind == Kind::Word && token.text == name),
            None => self.find(|token| token.is_mark("{")),
        }
    }

    /// The place of the next use of a function, an aggregation or a keyword.
    pub(super) fn word(&mut self, word: &str) -> usize {
        self.find(|token| token.is_word(word))
    }

    /// The place of the next operator or bracket.
    pub(super) fn mark(&mut self, mark: &str) -> usize {
        self.find(|token| token.is_mark(mark) || token.is_word(mark))
    }

    /// The place of the next number.
    pub(super) fn number(&mut self) -> usize {
        self.find(|token| matches!(token.kind, Kind::Number(_) | Kind::Duration(_)))
    }

    /// The place of the next text.
    pub(super) fn text(&mut self) -> usize {
        self.find(|token| token.kind == Kind::Text)
    }

    /// Goes on to the token; stays, and says where, if there is none.
    fn find(&mut self, is_it: impl Fn(&Token<'_>) -> bool) -> usize {
        let found = self.tokens[self.next..].iter().position(is_it);
        if let Some(offset) = found {
            self.next += offset + 1;
        }
        self.tokens.get(self.next.saturating_sub(1)).map_or(0, |token| token.at)
    }
}

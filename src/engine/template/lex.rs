//! The words of a template: text, and what stands between `{{` and `}}`.

use super::error::{ParseCause, ParseError};

/// A word.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// Text outside of actions, trimmed where `{{-` or `-}}` says so.
    Text(String),
    /// `{{`.
    Open,
    /// `}}`.
    Close,
    /// A name: a function or a keyword.
    Name(String),
    /// `.name`, without the dot.
    Field(String),
    /// `$` or `$name`, with the dollar.
    Variable(String),
    /// A string, its escapes resolved.
    Quoted(String),
    /// A number as it is written.
    Number(String),
    /// A character in quotes, as its code.
    Char(i64),
    /// `.` alone.
    Dot,
    Pipe,
    Comma,
    OpenParen,
    CloseParen,
    /// `:=`.
    Declare,
    /// `=`.
    Assign,
    /// One blank or more: they part arguments.
    Blank,
}

/// A word, and where it begins and ends in the template, in bytes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Word {
    pub(super) token: Token,
    pub(super) at: usize,
    pub(super) end: usize,
}

/// Cuts a template into words.
pub(super) fn words(source: &str) -> Result<Vec<Word>, ParseError> {
    let mut lexer = Lexer { source, at: 0, words: Vec::new() };
    lexer.template()?;
    Ok(lexer.words)
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    words: Vec<Word>,
}

const BLANKS: [char; 4] = [' ', '\t', '\r', '\n'];

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.source[self.at..]
    }

    fn fail<T>(&self, at: usize, cause: ParseCause) -> Result<T, ParseError> {
        Err(ParseError::new(self.source, at, cause))
    }

    fn push(&mut self, token: Token, at: usize) {
        self.words.push(Word { token, at, end: self.at });
    }

    fn template(&mut self) -> Result<(), ParseError> {
        let mut trims_before = false;
        while self.at < self.source.len() {
            let begin = self.at;
            let open = self.rest().find("{{");
            let text_end = begin + open.unwrap_or(self.rest().len());
            let mut text = &self.source[begin..text_end];
            self.at = text_end;
            let trims_after =
                open.is_some() && self.rest()[2..].starts_with('-') && self.rest()[3..].starts_with(BLANKS);
            if trims_before {
                text = text.trim_start_matches(BLANKS);
            }
            if trims_after {
                text = text.trim_end_matches(BLANKS);
            }
            if !text.is_empty() {
                self.push(Token::Text(text.to_owned()), begin);
            }
            if open.is_none() {
                return Ok(());
            }
            self.at += if trims_after { 3 } else { 2 };
            trims_before = self.action(text_end)?;
        }
        Ok(())
    }

    /// What stands between the braces; whether the blanks behind it are to be dropped.
    fn action(&mut self, open: usize) -> Result<bool, ParseError> {
        let inside = self.rest().trim_start_matches(BLANKS);
        // A comment stands alone in its braces.
        if inside.starts_with("/*") {
            let Some(close) = inside.find("*/") else { return self.fail(open, ParseCause::UnclosedComment) };
            let behind = self.rest().len() - inside.len() + close + 2;
            self.at += behind;
            return match self.closing() {
                Some(trims) => Ok(trims),
                None => self.fail(open, ParseCause::CommentNotAlone),
            };
        }
        self.push(Token::Open, open);
        let mut depth = 0_usize;
        loop {
            let at = self.at;
            if depth == 0
                && let Some(trims) = self.closing()
            {
                self.push(Token::Close, at);
                return Ok(trims);
            }
            let token = self.word(open)?;
            if token == Token::OpenParen {
                depth += 1;
            } else if token == Token::CloseParen {
                match depth.checked_sub(1) {
                    Some(less) => depth = less,
                    None => return self.fail(at, ParseCause::Unexpected(")".into())),
                }
            } else if self.rest().is_empty() {
                return self.fail(open, ParseCause::Unclosed);
            }
        }
    }

    /// The closing braces, where they stand here: whether they trim.
    fn closing(&mut self) -> Option<bool> {
        let rest = self.rest();
        let trimmed = rest.trim_start_matches(BLANKS);
        let blanks = rest.len() - trimmed.len();
        let (length, trims) = if blanks > 0 && trimmed.starts_with("-}}") {
            (blanks + 3, true)
        } else if trimmed.starts_with("}}") {
            (blanks + 2, false)
        } else {
            return None;
        };
        self.at += length;
        Some(trims)
    }

    fn word(&mut self, open: usize) -> Result<Token, ParseError> {
        let at = self.at;
        let Some(first) = self.rest().chars().next() else { return self.fail(open, ParseCause::Unclosed) };
        let token = match first {
            _ if BLANKS.contains(&first) => {
                self.at += self.rest().len() - self.rest().trim_start_matches(BLANKS).len();
                Token::Blank
            }
            '"' => self.quoted()?,
            '`' => self.raw()?,
            '\'' => self.character()?,
            '$' => {
                self.at += 1;
                let name = self.take_name();
                Token::Variable(format!("${name}"))
            }
            '.' if !self.rest()[1..].starts_with(|next: char| next.is_ascii_digit()) => {
                self.at += 1;
                let name = self.take_name();
                if name.is_empty() { Token::Dot } else { Token::Field(name) }
            }
            '0'..='9' | '.' | '+' | '-' => self.number()?,
            _ if is_alphanumeric(first) => Token::Name(self.take_name()),
            _ => self.sign(first)?,
        };
        self.push(token.clone(), at);
        Ok(token)
    }

    fn sign(&mut self, first: char) -> Result<Token, ParseError> {
        let (token, length) = match first {
            '|' => (Token::Pipe, 1),
            ',' => (Token::Comma, 1),
            '(' => (Token::OpenParen, 1),
            ')' => (Token::CloseParen, 1),
            '=' => (Token::Assign, 1),
            ':' if self.rest().starts_with(":=") => (Token::Declare, 2),
            _ => return self.fail(self.at, ParseCause::Unexpected(first.to_string())),
        };
        self.at += length;
        Ok(token)
    }

    fn take_name(&mut self) -> String {
        let rest = self.rest();
        let end = rest.find(|c: char| !is_alphanumeric(c)).unwrap_or(rest.len());
        let name = rest[..end].to_owned();
        self.at += end;
        name
    }

    fn number(&mut self) -> Result<Token, ParseError> {
        let rest = self.rest();
        let signed = rest.strip_prefix(['+', '-']).unwrap_or(rest);
        let mut before = ' ';
        let mut end = rest.len() - signed.len();
        let is_hex = signed.starts_with("0x") || signed.starts_with("0X");
        for c in signed.chars() {
            let is_exponent_sign = matches!(c, '+' | '-')
                && if is_hex { matches!(before, 'p' | 'P') } else { matches!(before, 'e' | 'E') };
            if !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_') || is_exponent_sign) {
                break;
            }
            before = c;
            end += c.len_utf8();
        }
        let text = rest[..end].to_owned();
        if text.len() == rest.len() - signed.len() {
            return self.fail(self.at, ParseCause::BadNumber(text));
        }
        self.at += end;
        Ok(Token::Number(text))
    }

    fn raw(&mut self) -> Result<Token, ParseError> {
        let inner = &self.rest()[1..];
        let Some(end) = inner.find('`') else { return self.fail(self.at, ParseCause::UnclosedString) };
        let text = inner[..end].replace('\r', "");
        self.at += end + 2;
        Ok(Token::Quoted(text))
    }

    fn quoted(&mut self) -> Result<Token, ParseError> {
        let at = self.at;
        self.at += 1;
        let mut bytes = Vec::new();
        loop {
            let Some(c) = self.rest().chars().next() else {
                return self.fail(at, ParseCause::UnclosedString);
            };
            self.at += c.len_utf8();
            match c {
                '"' => break,
                '\n' => return self.fail(at, ParseCause::UnclosedString),
                '\\' => self.escape(at, '"', &mut bytes)?,
                _ => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        Ok(Token::Quoted(String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn character(&mut self) -> Result<Token, ParseError> {
        let at = self.at;
        let mut bytes = Vec::new();
        self.at += 1;
        match self.rest().chars().next() {
            None | Some('\n' | '\'') => return self.fail(at, ParseCause::BadCharacter),
            Some('\\') => {
                self.at += 1;
                self.escape(at, '\'', &mut bytes)?;
            }
            Some(c) => {
                self.at += c.len_utf8();
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        if !self.rest().starts_with('\'') {
            return self.fail(at, ParseCause::BadCharacter);
        }
        self.at += 1;
        let code = match std::str::from_utf8(&bytes).ok().and_then(|text| text.chars().next()) {
            Some(c) => i64::from(u32::from(c)),
            None => bytes.first().map_or(0, |byte| i64::from(*byte)),
        };
        Ok(Token::Char(code))
    }

    /// An escape of Go's strings, the backslash read already. `\x` and the octal ones give a byte, `\u` a character.
    fn escape(&mut self, at: usize, quote: char, bytes: &mut Vec<u8>) -> Result<(), ParseError> {
        let bad = ParseCause::BadEscape;
        let Some(c) = self.rest().chars().next() else { return self.fail(at, bad) };
        self.at += c.len_utf8();
        let simple = match c {
            'a' => 0x07,
            'b' => 0x08,
            'f' => 0x0c,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 0x0b,
            '\\' => b'\\',
            _ if c == quote => u8::try_from(quote).unwrap_or(b'"'),
            'x' => {
                let code = self.digits(at, 2, 16)?;
                bytes.push(u8::try_from(code).unwrap_or(u8::MAX));
                return Ok(());
            }
            'u' | 'U' => {
                let code = self.digits(at, if c == 'u' { 4 } else { 8 }, 16)?;
                let Some(c) = char::from_u32(code) else { return self.fail(at, bad) };
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            '0'..='7' => {
                self.at -= 1;
                let code = self.digits(at, 3, 8)?;
                let Ok(byte) = u8::try_from(code) else { return self.fail(at, bad) };
                bytes.push(byte);
                return Ok(());
            }
            _ => return self.fail(at, bad),
        };
        bytes.push(simple);
        Ok(())
    }

    fn digits(&mut self, at: usize, count: usize, radix: u32) -> Result<u32, ParseError> {
        let digits = self.rest().get(..count).filter(|digits| digits.chars().all(|c| c.is_digit(radix)));
        let Some(code) = digits.and_then(|digits| u32::from_str_radix(digits, radix).ok()) else {
            return self.fail(at, ParseCause::BadEscape);
        };
        self.at += count;
        Ok(code)
    }
}

/// What Go's templates take in a name.
fn is_alphanumeric(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

//! Cuts an expression into tokens that know their place.

use super::error::{ParseError, ParseErrorKind, Place};

/// Longest expression in bytes: a hundred times the longest of the public rule collections.
pub(super) const EXPRESSION_BYTES_MAX: usize = 64 << 10;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// A number, or a duration, which is a number of seconds.
    Number(f64),
    /// A text in quotes.
    Text,
    /// A name or keyword.
    Word,
    /// Everything else: operators, parentheses, commas.
    Mark,
}

/// A token of the expression.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'t> {
    pub kind: Kind,
    pub text: &'t str,
    /// Bytes before it.
    pub at: usize,
}

impl Token<'_> {
    pub(super) fn is_mark(&self, text: &str) -> bool {
        self.kind == Kind::Mark && self.text == text
    }

    /// Keywords are written in any case.
    pub(super) fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(word)
    }
}

/// The tokens of an expression, without comments.
pub(super) fn scan(text: &str) -> Result<Vec<Token<'_>>, ParseError> {
    if text.len() > EXPRESSION_BYTES_MAX {
        let message =
            format!("an expression of {} bytes, at most {EXPRESSION_BYTES_MAX} are read", text.len());
        return Err(refuse(text, EXPRESSION_BYTES_MAX, ParseErrorKind::TooLarge, message));
    }
    let mut scanner = Scanner { text, at: 0, tokens: Vec::new(), braces: false, brackets: false };
    while scanner.token()? {}
    Ok(scanner.tokens)
}

/// An error at a byte of `text`.
pub(super) fn refuse(text: &str, at: usize, kind: ParseErrorKind, message: String) -> ParseError {
    ParseError { place: Place::new(text, at), kind, message, name: None }
}

struct Scanner<'t> {
    text: &'t str,
    at: usize,
    tokens: Vec<Token<'t>>,
    braces: bool,
    brackets: bool,
}

impl Scanner<'_> {
    /// Takes one token; `false` at the end.
    fn token(&mut self) -> Result<bool, ParseError> {
        self.skip_blanks();
        let rest = &self.text[self.at..];
        let Some(first) = rest.chars().next() else { return Ok(false) };
        let second = rest[first.len_utf8()..].chars().next();
        match first {
            '"' | '\'' | '`' => self.quoted(first)?,
            '0'..='9' => self.number()?,
            '.' if second.is_some_and(|c| c.is_ascii_digit()) => self.number()?,
            'a'..='z' | 'A'..='Z' | '_' => self.word(),
            ':' if !self.braces && !self.brackets => self.word(),
            _ => self.mark(first, second)?,
        }
        Ok(true)
    }

    fn skip_blanks(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            let blank = rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
            let comment = match rest[blank..].strip_prefix('#') {
                Some(comment) => 1 + comment.find('\n').unwrap_or(comment.len()),
                None => 0,
            };
            self.at += blank + comment;
            if comment == 0 {
                return;
            }
        }
    }

    fn quoted(&mut self, quote: char) -> Result<(), ParseError> {
        let mut is_escaped = false;
        for (offset, c) in self.text[self.at..].char_indices().skip(1) {
            if c == '\n' && quote != '`' {
                break;
            } else if is_escaped {
                is_escaped = false;
            } else if c == '\\' && quote != '`' {
                is_escaped = true;
            } else if c == quote {
                self.push(Kind::Text, offset + 1);
                return Ok(());
            }
        }
        Err(self.refuse("this text has no closing quote".into()))
    }

    fn number(&mut self) -> Result<(), ParseError> {
        let rest = &self.text[self.at..];
        let is_hex = rest.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("0x"));
        let mut end = 0;
        for (offset, c) in rest.char_indices() {
            let is_sign_of_exponent =
                matches!(c, '+' | '-') && !is_hex && rest[..offset].ends_with(['e', 'E']);
            if !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_') || is_sign_of_exponent) {
                break;
            }
            end = offset + 1;
        }
        let text = &rest[..end];
        let seconds = number_value(text).or_else(|| duration_seconds(text));
        let Some(value) = seconds.filter(|value| value.is_finite()) else {
            return Err(self.refuse(format!("`{text}` is neither a number nor a duration")));
        };
        self.push(Kind::Number(value), end);
        Ok(())
    }

    fn word(&mut self) {
        let rest = &self.text[self.at..];
        let takes_colon = !self.braces && !self.brackets;
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || (c == ':' && takes_colon);
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let kind = match rest[..end].to_ascii_lowercase().as_str() {
            "inf" if !self.braces => Kind::Number(f64::INFINITY),
            "nan" if !self.braces => Kind::Number(f64::NAN),
            _ => Kind::Word,
        };
        self.push(kind, end);
    }

    fn mark(&mut self, first: char, second: Option<char>) -> Result<(), ParseError> {
        match (first, second) {
            ('<' | '>', Some('/')) => {
                let name = format!("{first}/");
                let message = format!("`{name}`, which trims native histograms, is not supported yet");
                let error = refuse(self.text, self.at, ParseErrorKind::Unsupported, message);
                return Err(ParseError { name: Some(name), ..error });
            }
            ('=' | '!', Some('=' | '~')) | ('<' | '>', Some('=')) => {
                self.push(Kind::Mark, 2);
            }
            ('+' | '-' | '*' | '/' | '%' | '^' | '=' | '<' | '>' | '@' | ',' | '(' | ')' | ':', _) => {
                self.push(Kind::Mark, 1);
            }
            ('{', _) if !self.braces && !self.brackets => {
                self.push(Kind::Mark, 1);
                self.braces = true;
            }
            ('}', _) if self.braces => {
                self.braces = false;
                self.push(Kind::Mark, 1);
            }
            ('[', _) if !self.braces && !self.brackets => {
                self.push(Kind::Mark, 1);
                self.brackets = true;
            }
            (']', _) if self.brackets => {
                self.brackets = false;
                self.push(Kind::Mark, 1);
            }
            _ => return Err(self.refuse(format!("unexpected character `{}`", first.escape_debug()))),
        }
        Ok(())
    }

    fn push(&mut self, kind: Kind, bytes: usize) {
        let text = &self.text[self.at..self.at + bytes];
        self.tokens.push(Token { kind, text, at: self.at });
        self.at += bytes;
    }

    fn refuse(&self, message: String) -> ParseError {
        refuse(self.text, self.at, ParseErrorKind::Invalid, message)
    }
}

/// Numbers as Go reads them with base 0: hexadecimal, octal with a leading zero, underscores between digits,
/// decimals with an exponent.
fn number_value(text: &str) -> Option<f64> {
    let plain = text.replace('_', "");
    if plain.is_empty() || text.starts_with('_') || text.ends_with('_') {
        return None;
    }
    let lower = plain.to_ascii_lowercase();
    if let Some(digits) = lower.strip_prefix("0x") {
        return i64::from_str_radix(digits, 16).ok().map(|value| value as f64);
    }
    if lower.len() > 1 && lower.starts_with('0') && lower.bytes().all(|digit| matches!(digit, b'0'..=b'7')) {
        return i64::from_str_radix(&lower, 8).ok().map(|value| value as f64);
    }
    let is_decimal = lower.bytes().all(|c| c.is_ascii_digit() || matches!(c, b'.' | b'e' | b'+' | b'-'));
    is_decimal.then(|| lower.parse().ok()).flatten()
}

/// `1h30m`: each unit at most once, from the longest to the shortest.
fn duration_seconds(text: &str) -> Option<f64> {
    let units = [
        ("y", 31_536_000.0),
        ("w", 604_800.0),
        ("d", 86_400.0),
        ("h", 3_600.0),
        ("m", 60.0),
        ("s", 1.0),
        ("ms", 0.001),
    ];
    let (mut rest, mut seconds, mut next_unit) = (text, 0.0, 0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|&digits| digits > 0)?;
        let count: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let name = rest.find(|c: char| c.is_ascii_digit()).map_or(rest, |end| &rest[..end]);
        let unit = units.iter().position(|(known, _)| *known == name).filter(|&unit| unit >= next_unit)?;
        seconds += count * units[unit].1;
        next_unit = unit + 1;
        rest = &rest[name.len()..];
    }
    Some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tokens as written, numbers by their value.
    fn tokens(text: &str) -> String {
        let written = |token: &Token<'_>| match token.kind {
            Kind::Number(value) => format!("{value:?}"),
            Kind::Text | Kind::Word | Kind::Mark => token.text.to_owned(),
        };
        let tokens = scan(text).map(|tokens| tokens.iter().map(written).collect::<Vec<_>>().join(" "));
        tokens.unwrap_or_else(|error| error.to_string())
    }

    #[test]
    fn numbers_and_durations_have_a_value() {
        let cases = [
            ("0x1F + 017 + 1_000 + .5 + 1e3", "31.0 + 15.0 + 1000.0 + 0.5 + 1000.0"),
            ("x[1h30m:5]", "x [ 5400.0 : 5.0 ]"),
            ("x offset -1d", "x offset - 86400.0"),
            ("x @ 1m40s", "x @ 100.0"),
            ("x[1ms]", "x [ 0.001 ]"),
            ("-Inf", "- inf"),
            ("x{inf=\"1\"}", "x { inf = \"1\" }"),
        ];
        for (text, expected) in cases {
            assert_eq!(tokens(text), expected, "{text}");
        }
    }

    #[test]
    fn comments_are_skipped_and_texts_kept() {
        assert_eq!(tokens("x{a=~`\\d\"`} # and\n + y"), "x { a =~ `\\d\"` } + y");
        assert_eq!(tokens("{a=\"#\"}"), "{ a = \"#\" }");
    }

    #[test]
    fn what_is_no_token_is_refused_where_it_stands() {
        let cases = [
            ("a + $", "1:5: unexpected character `$`"),
            ("a + 5x", "1:5: `5x` is neither a number nor a duration"),
            ("x[5m30h]", "1:3: `5m30h` is neither a number nor a duration"),
            ("x{a=\"b", "1:5: this text has no closing quote"),
            ("x{a=\"b\n\"}", "1:5: this text has no closing quote"),
            ("x}", "1:2: unexpected character `}`"),
        ];
        for (text, expected) in cases {
            assert_eq!(tokens(text), expected, "{text}");
        }
    }

    #[test]
    fn size_is_bounded() {
        let error = scan(&" ".repeat(EXPRESSION_BYTES_MAX + 1)).unwrap_err();
        assert_eq!(error.kind, ParseErrorKind::TooLarge);
    }
}

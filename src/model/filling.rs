//! Filling templates in where a place has a grammar of its own: a label's value comes from outside, and in a URL, an
//! expression, a subject or an argument it stays a value, whatever it contains.

use std::fmt::Write as _;
use std::sync::Arc;

use super::{Labels, Template, is_metric_name};

/// Longest text that a template may become: as long as a text of a message.
pub const FILLED_BYTES_MAX: usize = 65_536;

/// Where a filled template is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// What is sent: JSON where the template looks like it, else any text.
    Body,
    /// A URL: values become a part of its path, query or fragment.
    Url,
    /// A PromQL expression: values become a part of a string, a name or a number.
    PromQl,
    /// A NATS subject: values become (a part of) one token.
    Subject,
    /// One argument of a program.
    Argument,
}

/// Why a template cannot be filled in with these labels.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The value would say who is called, not what is asked for.
    #[error("a place in scheme, host or port of the URL `{0}`: only path and query can be filled in")]
    Authority(Arc<str>),
    /// The value would lead to another path.
    #[error("`{0}` in a path would lead elsewhere")]
    Path(String),
    /// The value would be part of the expression's grammar.
    #[error("`{0}` is neither a name nor a number, and stands outside of the quotes of a string")]
    Expression(String),
    /// The value would end the raw string it stands in.
    #[error("`{0}` has a backtick and stands in a raw string")]
    RawString(String),
    /// The value is not (a part of) one token.
    #[error("`{0}` is no token of a subject: letters, digits and signs but `.`, `*`, `>` and blanks")]
    Token(String),
    /// The value would be taken for an option.
    #[error("`{0}` would be taken for an option: put something before the place, as in `--name=`")]
    Option(String),
    /// It becomes too long.
    #[error("it becomes {0} bytes long, at most {FILLED_BYTES_MAX} are taken")]
    TooLong(usize),
}

/// A piece of a template that is being filled in.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Piece<'a> {
    /// As it stands in the template.
    Literal(&'a str),
    /// What comes from outside.
    Value(String),
}

impl Template {
    /// The text with the labels filled in, for this place. There is no value: plans are made for an incident.
    pub fn fill(&self, place: Place, labels: &Labels) -> Result<Arc<str>, Misfit> {
        if let Some(text) = self.literal() {
            return Ok(Arc::clone(text));
        }
        let pieces: Vec<Piece<'_>> = self.pieces(labels, f64::NAN).collect();
        let text = match place {
            Place::Body => body(&pieces),
            Place::Url => self.url(&pieces)?,
            Place::PromQl => expression(&pieces)?,
            Place::Subject => subject(&pieces)?,
            Place::Argument => argument(&pieces)?,
        };
        if text.len() > FILLED_BYTES_MAX {
            return Err(Misfit::TooLong(text.len()));
        }
        Ok(text.into())
    }

    /// Whether this can be a URL whose places are all behind its host: no label may say who is called.
    pub fn check_authority(&self) -> Result<(), Misfit> {
        // A text without places is as the playbook's author wants it.
        self.fill(Place::Url, &Labels::empty()).map(drop).or_else(|misfit| match misfit {
            Misfit::Authority(_) => Err(misfit),
            Misfit::Path(_)
            | Misfit::Expression(_)
            | Misfit::RawString(_)
            | Misfit::Token(_)
            | Misfit::Option(_)
            | Misfit::TooLong(_) => Ok(()),
        })
    }

    fn url(&self, pieces: &[Piece<'_>]) -> Result<String, Misfit> {
        let mut text = String::new();
        for piece in pieces {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Value(_) if !names_its_host(&text) => {
                    return Err(Misfit::Authority(self.source().into()));
                }
                Piece::Value(value) => percent_encode(&mut text, value),
            }
        }
        // A URL's reader takes `%2e` for a dot, too.
        let path = text.split(['?', '#']).next().unwrap_or("");
        let leads_elsewhere =
            |segment: &&str| matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..");
        match path.split(['/', '\\']).find(leads_elsewhere) {
            Some(segment) => Err(Misfit::Path(segment.to_owned())),
            None => Ok(text),
        }
    }
}

/// Whether scheme, host and port are there and over.
fn names_its_host(text: &str) -> bool {
    text.split_once("://").is_some_and(|(_, rest)| rest.find(['/', '?', '#']).is_some_and(|end| end > 0))
}

/// All but what RFC 3986 calls unreserved.
fn percent_encode(text: &mut String, value: &str) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
}

/// In what looks like JSON a value cannot end the string that it stands in.
fn body(pieces: &[Piece<'_>]) -> String {
    let starts_as_json = |piece: &Piece<'_>| matches!(piece, Piece::Literal(text) if text.trim_start().starts_with(['{', '[']));
    let is_json = pieces.first().is_some_and(starts_as_json);
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Literal(literal) => text.push_str(literal),
            Piece::Value(value) if !is_json => text.push_str(value),
            Piece::Value(value) => value.chars().for_each(|character| match character {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                control if control < ' ' => {
                    let _ = write!(text, "\\u{:04x}", u32::from(control));
                }
                plain => text.push(plain),
            }),
        }
    }
    text
}

/// Where in an expression the next character stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    Expression,
    Comment,
    /// After this quote; a regular expression where a matcher stands before it.
    String {
        quote: char,
        regex: bool,
    },
}

fn expression(pieces: &[Piece<'_>]) -> Result<String, Misfit> {
    let mut text = String::new();
    let mut within = Within::Expression;
    for piece in pieces {
        match piece {
            Piece::Literal(literal) => within = scan(&mut text, literal, within),
            Piece::Value(value) => match within {
                Within::String { quote: '`', .. } if value.contains('`') => {
                    return Err(Misfit::RawString(value.clone()));
                }
                Within::String { quote: '`', regex } => text.push_str(&matched(value, regex)),
                Within::String { quote, regex } => quoted(&mut text, &matched(value, regex), quote),
                Within::Expression | Within::Comment => {
                    if !is_metric_name(value) && value.parse::<f64>().is_err() {
                        return Err(Misfit::Expression(value.clone()));
                    }
                    text.push_str(value);
                }
            },
        }
    }
    Ok(text)
}

/// Takes a literal piece over and says where it ends.
fn scan(text: &mut String, literal: &str, mut within: Within) -> Within {
    let mut escaped = false;
    for character in literal.chars() {
        within = match (within, character) {
            (Within::Expression, '#') => Within::Comment,
            (Within::Comment, '\n') => Within::Expression,
            (Within::Expression, quote @ ('"' | '\'' | '`')) => {
                let before = text.trim_end();
                Within::String { quote, regex: before.ends_with("=~") || before.ends_with("!~") }
            }
            (Within::String { quote, .. }, end) if end == quote && !escaped => Within::Expression,
            (same, _) => same,
        };
        let escapes = matches!(within, Within::String { quote: '"' | '\'', .. });
        escaped = escapes && character == '\\' && !escaped;
        text.push(character);
    }
    within
}

/// In a regular expression a value stands for itself.
fn matched(value: &str, regex: bool) -> String {
    let mut text = String::new();
    for character in value.chars() {
        if regex && ".+*?()|[]{}^$\\".contains(character) {
            text.push('\\');
        }
        text.push(character);
    }
    text
}

fn quoted(text: &mut String, value: &str, quote: char) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            plain => {
                if plain == quote {
                    text.push('\\');
                }
                text.push(plain);
            }
        }
    }
}

fn subject(pieces: &[Piece<'_>]) -> Result<String, Misfit> {
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Literal(literal) => text.push_str(literal),
            Piece::Value(value) => {
                let splits = |c: char| matches!(c, '.' | '*' | '>') || c.is_whitespace() || c.is_control();
                if value.is_empty() || value.contains(splits) {
                    return Err(Misfit::Token(value.clone()));
                }
                text.push_str(value);
            }
        }
    }
    Ok(text)
}

fn argument(pieces: &[Piece<'_>]) -> Result<String, Misfit> {
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Literal(literal) => text.push_str(literal),
            Piece::Value(value) => {
                if text.is_empty() && value.starts_with('-') {
                    return Err(Misfit::Option(value.clone()));
                }
                text.push_str(value);
            }
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(place: Place, template: &str, value: &str) -> Result<String, Misfit> {
        let labels = Labels::new([("x", value)]).unwrap();
        Template::parse(template).unwrap().fill(place, &labels).map(|text| text.to_string())
    }

    #[test]
    fn a_value_in_a_url_stays_one_segment_of_it() {
        let url = |template: &str, value: &str| fill(Place::Url, template, value);
        let path = "http://ops:8080/restart/{{ $labels.x }}";
        assert_eq!(url(path, "web-1.eu").unwrap(), "http://ops:8080/restart/web-1.eu");
        assert_eq!(url(path, "../../shutdown").unwrap(), "http://ops:8080/restart/..%2F..%2Fshutdown");
        assert_eq!(url(path, "a?b=c&d#é").unwrap(), "http://ops:8080/restart/a%3Fb%3Dc%26d%23%C3%A9");
        for value in [".", ".."] {
            assert_eq!(url(path, value), Err(Misfit::Path(value.to_owned())));
        }
        assert_eq!(url("http://ops/%2E{{ $labels.x }}/a", "."), Err(Misfit::Path("%2E.".to_owned())));
        assert_eq!(url("http://ops?a={{ $labels.x }}", "..").unwrap(), "http://ops?a=..");
        for template in [
            "{{ $labels.x }}",
            "http://{{ $labels.x }}/a",
            "http://ops{{ $labels.x }}/a",
            "http://ops:{{ $labels.x }}",
            "http:///{{ $labels.x }}",
            "{{ $labels.x }}://ops/",
        ] {
            assert!(matches!(url(template, "evil"), Err(Misfit::Authority(_))), "{template}");
        }
    }

    #[test]
    fn a_value_in_an_expression_stays_a_value() {
        let expr = |template: &str, value: &str| fill(Place::PromQl, template, value);
        let double = r#"up{job="{{ $labels.x }}"} == 1"#;
        assert_eq!(expr(double, "api").unwrap(), r#"up{job="api"} == 1"#);
        let hostile = r#"x"} or vector(1) # \"#;
        assert_eq!(expr(double, hostile).unwrap(), r#"up{job="x\"} or vector(1) # \\"} == 1"#);
        assert_eq!(expr("up{job='{{ $labels.x }}'}", "it's").unwrap(), r"up{job='it\'s'}");
        assert_eq!(expr("up{job=`{{ $labels.x }}`}", r"a\b").unwrap(), r"up{job=`a\b`}");
        assert!(matches!(expr("up{job=`{{ $labels.x }}`}", "a`b"), Err(Misfit::RawString(_))));
        assert_eq!(
            expr(r#"up{job=~"{{ $labels.x }}-.*"}"#, "a.*|b").unwrap(),
            r#"up{job=~"a\\.\\*\\|b-.*"}"#
        );
        assert_eq!(expr(r#"up{a="\"",job="{{ $labels.x }}"}"#, "\"").unwrap(), r#"up{a="\"",job="\""}"#);
        assert_eq!(expr("# don't\nup{job=\"{{ $labels.x }}\"}", "\"").unwrap(), "# don't\nup{job=\"\\\"\"}");
        for value in ["http_requests", "-1.5e3"] {
            assert_eq!(expr("1 > {{ $labels.x }}", value).unwrap(), format!("1 > {value}"));
        }
        assert!(matches!(expr("1 > {{ $labels.x }}", "0 or vector(1)"), Err(Misfit::Expression(_))));
    }

    #[test]
    fn a_value_in_a_subject_is_one_token() {
        let subject = |value: &str| fill(Place::Subject, "ops.{{ $labels.x }}.restart", value);
        assert_eq!(subject("w-1").unwrap(), "ops.w-1.restart");
        for value in ["a.b", "*", ">", "a b", "a\tb", "a\r\nb"] {
            assert_eq!(subject(value), Err(Misfit::Token(value.to_owned())));
        }
    }

    #[test]
    fn a_value_is_no_option() {
        let argument = |template: &str, value: &str| fill(Place::Argument, template, value);
        assert_eq!(argument("{{ $labels.x }}", "w1").unwrap(), "w1");
        assert_eq!(argument("--name={{ $labels.x }}", "--all").unwrap(), "--name=--all");
        assert_eq!(argument("{{ $labels.x }}", "--all"), Err(Misfit::Option("--all".to_owned())));
    }

    #[test]
    fn a_value_in_json_does_not_end_its_string() {
        let body = |template: &str, value: &str| fill(Place::Body, template, value);
        let text = body(r#" {"key": "{{ $labels.x }}"}"#, "a\",\"all\":\"\n\\").unwrap();
        assert_eq!(text, r#" {"key": "a\",\"all\":\"\u000a\\"}"#);
        assert_eq!(body("restart {{ $labels.x }}", "\"a\"").unwrap(), "restart \"a\"");
    }

    #[test]
    fn what_becomes_too_long_is_refused() {
        let template = "{{ $labels }}".repeat(40);
        let filled = fill(Place::Body, &template, &"v".repeat(2_000));
        assert!(matches!(filled, Err(Misfit::TooLong(bytes)) if bytes > FILLED_BYTES_MAX), "{filled:?}");
    }
}

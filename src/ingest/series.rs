//! Series in PromQL notation: `cpu_usage{host="a",zone="b"}`.

use std::borrow::Cow;

use crate::model::{Labels, LabelsError, METRIC_NAME};

use super::error::excerpt;

/// A text that names no series.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("character {character} of `{text}`: {cause}")]
pub struct SeriesError {
    /// The text, shortened.
    text: String,
    /// Where it stopped making sense, in characters from 1.
    character: usize,
    cause: Cause,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Cause {
    #[error("expected {0}")]
    Expected(&'static str),
    #[error("the quoted text is not closed")]
    Unclosed,
    #[error("`\\{0}` is not an escape")]
    Escape(char),
    #[error("the escape names no character")]
    NoCharacter,
    #[error("only `=` names a series, `{0}` selects several")]
    Matcher(&'static str),
    #[error("the metric name is missing")]
    NoMetric,
    #[error("the metric name is given twice")]
    TwoMetrics,
    #[error(transparent)]
    Labels(#[from] LabelsError),
}

/// What a backslash means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Escapes {
    /// As in PromQL and Go: an unknown escape is an error.
    Promql,
    /// As in exposition text: `\\`, `\"` and `\n`; before anything else a backslash is itself.
    Exposition,
}

/// Reads a metric name and labels: `up`, `up{job="api"}`, `{__name__="up"}`, or, for names that are not identifiers,
/// `{"my.metric","k8s.pod"="a"}`. Quotes and escapes are PromQL's.
pub fn parse_series(text: &str) -> Result<Labels, SeriesError> {
    parse(text, Escapes::Promql)
}

pub(crate) fn parse(text: &str, escapes: Escapes) -> Result<Labels, SeriesError> {
    let mut parser = Parser { text, at: 0, escapes };
    parser.series().map_err(|cause| parser.refuse(cause))
}

/// Reads the metric name and the labels that a text begins with, none of which has to be there, and returns what stands
/// behind them: an element of a PromQL vector, or a series with its values.
pub(crate) fn parse_beginning(text: &str) -> Result<(Labels, &str), SeriesError> {
    let mut parser = Parser { text, at: 0, escapes: Escapes::Promql };
    let beginning = parser.beginning().and_then(|pairs| {
        let mut pairs = pairs.unwrap_or_default();
        // The name may be said twice where it is the same.
        if let Some(again) = pairs.iter().rposition(|(name, _)| name == METRIC_NAME)
            && pairs[..again].contains(&pairs[again])
        {
            pairs.remove(again);
        }
        let names = pairs.iter().filter(|(name, _)| name == METRIC_NAME).count();
        if names > 1 { Err(Cause::TwoMetrics) } else { Ok(Labels::new(pairs)?) }
    });
    match beginning {
        Ok(labels) => Ok((labels, &text[parser.at..])),
        Err(cause) => Err(parser.refuse(cause)),
    }
}

type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

struct Parser<'a> {
    text: &'a str,
    /// In bytes; always on a character.
    at: usize,
    escapes: Escapes,
}

impl<'a> Parser<'a> {
    fn refuse(&self, cause: Cause) -> SeriesError {
        let before = self.text.get(..self.at);
        SeriesError {
            text: excerpt(self.text),
            character: before.map_or(0, |before| before.chars().count()) + 1,
            cause,
        }
    }

    /// The name and the labels, and the blanks behind them; `None` where there is neither.
    fn beginning(&mut self) -> Result<Option<Vec<Pair<'a>>>, Cause> {
        let mut pairs: Vec<Pair<'a>> = Vec::new();
        self.skip_blanks();
        let name = self.identifier(|byte| byte == b':');
        if !name.is_empty() {
            pairs.push((Cow::Borrowed(METRIC_NAME), Cow::Borrowed(name)));
        }
        self.skip_blanks();
        // `{{` begins a native histogram.
        if !self.text[self.at..].starts_with("{{") && self.take(b'{') {
            self.labels(&mut pairs)?;
            self.skip_blanks();
        } else if name.is_empty() {
            return Ok(None);
        }
        Ok(Some(pairs))
    }

    fn series(&mut self) -> Result<Labels, Cause> {
        let pairs = self.beginning()?.ok_or(Cause::Expected("a metric name or `{`"))?;
        if self.at < self.text.len() {
            return Err(Cause::Expected("the end"));
        }
        match pairs.iter().filter(|(name, _)| name == METRIC_NAME).count() {
            0 => Err(Cause::NoMetric),
            1 if pairs.iter().any(|(name, value)| name == METRIC_NAME && value.is_empty()) => {
                Err(Cause::NoMetric)
            }
            1 => Ok(Labels::new(pairs)?),
            _ => Err(Cause::TwoMetrics),
        }
    }

    /// Behind `{`, up to and with `}`.
    fn labels(&mut self, pairs: &mut Vec<Pair<'a>>) -> Result<(), Cause> {
        loop {
            self.skip_blanks();
            if self.take(b'}') {
                return Ok(());
            }
            pairs.push(self.label()?);
            self.skip_blanks();
            if !self.take(b',') && self.peek() != Some(b'}') {
                return Err(Cause::Expected("`,` or `}`"));
            }
        }
    }

    /// `name="value"`, `"name"="value"`, or a metric name alone in quotes.
    fn label(&mut self) -> Result<Pair<'a>, Cause> {
        let (name, quoted) = match self.quoted()? {
            Some(name) => (name, true),
            None => (Cow::Borrowed(self.identifier(|_| false)), false),
        };
        if name.is_empty() {
            return Err(Cause::Expected("a label name"));
        }
        self.skip_blanks();
        for matcher in ["!=", "!~", "=~", "=="] {
            if self.text[self.at..].starts_with(matcher) {
                return Err(Cause::Matcher(matcher));
            }
        }
        if self.take(b'=') {
            self.skip_blanks();
            let value = self.quoted()?.ok_or(Cause::Expected("a value in quotes"))?;
            Ok((name, value))
        } else if quoted {
            Ok((Cow::Borrowed(METRIC_NAME), name))
        } else {
            Err(Cause::Expected("`=`"))
        }
    }

    /// A quoted text, or `None` where none starts.
    fn quoted(&mut self) -> Result<Option<Cow<'a, str>>, Cause> {
        let Some(quote @ (b'"' | b'\'' | b'`')) = self.peek() else { return Ok(None) };
        let opening = self.at;
        let start = opening + 1;
        let rest = &self.text.as_bytes()[start..];
        let stop = rest.iter().position(|byte| *byte == quote || (*byte == b'\\' && quote != b'`'));
        match stop {
            None => Err(Cause::Unclosed),
            Some(length) if rest[length] == quote => {
                self.at = start + length + 1;
                Ok(Some(Cow::Borrowed(&self.text[start..start + length])))
            }
            Some(length) => {
                let mut text = self.text[start..start + length].to_owned();
                self.at = start + length;
                self.unescape(quote, &mut text)?;
                Ok(Some(Cow::Owned(text)))
            }
        }
    }

    /// The rest of a quoted text, from its first backslash to behind its closing quote.
    fn unescape(&mut self, quote: u8, text: &mut String) -> Result<(), Cause> {
        loop {
            let rest = &self.text[self.at..];
            let mut characters = rest.chars();
            match characters.next() {
                None => return Err(Cause::Unclosed),
                Some('\\') => match self.escapes {
                    Escapes::Promql => self.promql_escape(text)?,
                    Escapes::Exposition => {
                        let (meaning, length) = match characters.next() {
                            Some('n') => ('\n', 2),
                            Some(itself @ ('\\' | '"')) => (itself, 2),
                            _ => ('\\', 1),
                        };
                        text.push(meaning);
                        self.at += length;
                    }
                },
                Some(plain) => {
                    self.at += plain.len_utf8();
                    if u8::try_from(plain) == Ok(quote) {
                        return Ok(());
                    }
                    text.push(plain);
                }
            }
        }
    }

    /// Go's escapes, as PromQL takes them. A number above 0x7f by `\x` or octal would be a byte, not a character, and
    /// is refused: text is UTF-8.
    fn promql_escape(&mut self, text: &mut String) -> Result<(), Cause> {
        let rest = &self.text[self.at + 1..];
        let kind = rest.chars().next().ok_or(Cause::Unclosed)?;
        let (prefix, digits, radix, largest) = match kind {
            'x' => (1, 2, 16, 0x7f),
            'u' => (1, 4, 16, u32::MAX),
            'U' => (1, 8, 16, u32::MAX),
            '0'..='7' => (0, 3, 8, 0x7f),
            _ => {
                let plain = match kind {
                    'a' => '\u{7}',
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'v' => '\u{b}',
                    '\\' | '"' | '\'' => kind,
                    unknown => return Err(Cause::Escape(unknown)),
                };
                text.push(plain);
                self.at += 2;
                return Ok(());
            }
        };
        let number = rest.get(prefix..prefix + digits).ok_or(Cause::NoCharacter)?;
        let character = Some(number)
            .filter(|number| number.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|number| u32::from_str_radix(number, radix).ok())
            .filter(|number| *number <= largest)
            .and_then(char::from_u32)
            .ok_or(Cause::NoCharacter)?;
        text.push(character);
        self.at += 1 + prefix + digits;
        Ok(())
    }

    /// The identifier that starts here, maybe empty.
    fn identifier(&mut self, also: impl Fn(u8) -> bool) -> &'a str {
        let rest = &self.text[self.at..];
        let length = rest
            .bytes()
            .enumerate()
            .take_while(|(place, byte)| {
                byte.is_ascii_alphabetic()
                    || *byte == b'_'
                    || also(*byte)
                    || (*place > 0 && byte.is_ascii_digit())
            })
            .count();
        self.at += length;
        &rest[..length]
    }

    fn skip_blanks(&mut self) {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_notation_names_its_series() {
        for (text, pairs) in [
            ("up", vec![(METRIC_NAME, "up")]),
            (" job:up:rate5m ", vec![(METRIC_NAME, "job:up:rate5m")]),
            ("up{}", vec![(METRIC_NAME, "up")]),
            (r#"cpu{host="a",zone="b"}"#, vec![(METRIC_NAME, "cpu"), ("host", "a"), ("zone", "b")]),
            (
                r#"cpu { host = "a" , zone = 'b' , }"#,
                vec![(METRIC_NAME, "cpu"), ("host", "a"), ("zone", "b")],
            ),
            (r#"{__name__="up",job="a"}"#, vec![(METRIC_NAME, "up"), ("job", "a")]),
            (r#"{"my.metric","k8s.pod"="a"}"#, vec![(METRIC_NAME, "my.metric"), ("k8s.pod", "a")]),
            (r#"a{b="",c="1"}"#, vec![(METRIC_NAME, "a"), ("c", "1")]),
            (
                r#"a{b="q\"\\\n\t\x41\101\u00e9\U0001F600"}"#,
                vec![(METRIC_NAME, "a"), ("b", "q\"\\\n\tAAé😀")],
            ),
            (r#"a{b=`raw\n"`,c='it\'s'}"#, vec![(METRIC_NAME, "a"), ("b", "raw\\n\""), ("c", "it's")]),
            (r#"a{b="},{=ü"}"#, vec![(METRIC_NAME, "a"), ("b", "},{=ü")]),
        ] {
            assert_eq!(parse_series(text), Ok(Labels::new(pairs).unwrap()), "{text}");
        }
    }

    #[test]
    fn what_stands_behind_a_series_is_returned() {
        for (text, labels, rest) in [
            ("up{job=\"x}\"} 1 2", "up{job=\"x}\"}", "1 2"),
            ("up  1+1x2", "up", "1+1x2"),
            ("up{__name__=\"up\"}", "up", ""),
            ("{} 5", "{}", "5"),
            ("up {{count:1}}", "up", "{{count:1}}"),
            ("7", "{}", "7"),
            ("", "{}", ""),
        ] {
            let (found, behind) = parse_beginning(text).unwrap();
            assert_eq!((found.to_string().as_str(), behind), (labels, rest), "{text}");
        }
    }

    #[test]
    fn errors_tell_the_character_and_the_cause() {
        for (text, message) in [
            ("", "character 1 of ``: expected a metric name or `{`"),
            ("1up", "character 1 of `1up`: expected a metric name or `{`"),
            ("a.b", "character 2 of `a.b`: expected the end"),
            ("up{", "character 4 of `up{`: expected a label name"),
            ("up{a}", "character 5 of `up{a}`: expected `=`"),
            ("up{é=\"1\"}", "character 4 of `up{é=\"1\"}`: expected a label name"),
            ("up{a=\"é\" b=\"\"}", "character 10 of `up{a=\"é\" b=\"\"}`: expected `,` or `}`"),
            ("up{a=1}", "character 6 of `up{a=1}`: expected a value in quotes"),
            ("up{a=\"1}", "character 6 of `up{a=\"1}`: the quoted text is not closed"),
            ("up{a=\"\\q\"}", "character 7 of `up{a=\"\\q\"}`: `\\q` is not an escape"),
            ("up{a=\"\\xff\"}", "character 7 of `up{a=\"\\xff\"}`: the escape names no character"),
            ("up{a=\"\\ud800\"}", "character 7 of `up{a=\"\\ud800\"}`: the escape names no character"),
            ("up{a=~\"x\"}", "character 5 of `up{a=~\"x\"}`: only `=` names a series, `=~` selects several"),
            ("{a=\"1\"}", "character 8 of `{a=\"1\"}`: the metric name is missing"),
            ("up{__name__=\"b\"}", "character 17 of `up{__name__=\"b\"}`: the metric name is given twice"),
            ("up{a=\"1\",a=\"2\"}", "character 16 of `up{a=\"1\",a=\"2\"}`: label `a` is given twice"),
            ("up{a=\"1\"} 5", "character 11 of `up{a=\"1\"} 5`: expected the end"),
        ] {
            assert_eq!(parse_series(text).unwrap_err().to_string(), message, "{text}");
        }
    }

    #[test]
    fn exposition_keeps_a_backslash_that_escapes_nothing() {
        let series = parse(r#"a{path="C:\DIR\\x\n\""}"#, Escapes::Exposition).unwrap();
        assert_eq!(series.get("path"), Some("C:\\DIR\\x\n\""));
    }

    proptest! {
        #[test]
        fn what_labels_write_reads_back(
            name in "[a-zA-Z_:][a-zA-Z0-9_:]{0,8}|\\PC{1,8}",
            labels in prop::collection::btree_map("[a-zA-Z_][a-z0-9_]{0,4}|\\PC{1,4}", "(?s).{0,8}", 0..5),
        ) {
            let pairs = labels.into_iter().filter(|(label, _)| label != METRIC_NAME);
            let series = Labels::new(pairs.chain([(METRIC_NAME.to_owned(), name)])).unwrap();
            prop_assert_eq!(parse_series(&series.to_string()), Ok(series));
        }

        #[test]
        fn no_text_panics(text in "(?s).{0,40}", near in "[a{}=\"'`\\\\,é ux0]{0,24}") {
            for escapes in [Escapes::Promql, Escapes::Exposition] {
                let _ = (parse(&text, escapes), parse(&near, escapes));
            }
        }
    }
}

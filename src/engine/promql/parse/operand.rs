//! What operators stand between: numbers, texts, selectors, calls, parentheses, and the suffixes of a selection.

use std::sync::Arc;

use crate::engine::promql::ast::{Anchor, Instant, Range, Samples, Scalar, Subquery, Vector, When};
use crate::engine::promql::error::ParseErrorKind;
use crate::engine::promql::matcher::{Matcher, Selector};
use crate::engine::promql::scan::{self, Kind, Token};
use crate::engine::promql::separable;
use crate::model::METRIC_NAME;

use super::text::quoted;
use super::{Form, Operand, Parsed, Parser, Refusal, Typed};

/// Prometheus holds durations as nanoseconds in 64 bits.
const DURATION_SECONDS_MAX: f64 = 9_223_372_036.0;
/// Most steps of one subquery: a year of minutes, and again. The samples of an evaluation are bounded, too.
const STEPS_PER_SUBQUERY_MAX: i64 = 1_000_000;
/// Words that are never a metric's name.
const RESERVED: [&str; 5] = ["bool", "on", "ignoring", "group_left", "group_right"];

const UNMOVED: Form = Form::Selection { has_offset: false, has_at: false };

impl Parser<'_> {
    /// An operand with its suffixes.
    pub(super) fn operand(&mut self) -> Parsed {
        let operand = self.bare_operand()?;
        self.suffixes(operand)
    }

    fn suffixes(&mut self, mut operand: Box<Operand>) -> Parsed {
        loop {
            operand = if let Some(bracket) = self.take_mark("[") {
                self.range(*operand, bracket.at)?
            } else if let Some(word) = self.take_word("offset") {
                self.offset(operand, word.at)?
            } else if let Some(mark) = self.take_mark("@") {
                self.at(operand, mark.at)?
            } else if let Some(word) =
                self.peek().filter(|token| token.is_word("anchored") || token.is_word("smoothed"))
            {
                return Err(self.unsupported(word.at, &word.text.to_ascii_lowercase()));
            } else {
                return Ok(operand);
            }
        }
    }

    fn bare_operand(&mut self) -> Parsed {
        let Some(token) = self.peek() else { return Err(self.unexpected("an operand")) };
        match token.kind {
            Kind::Number(number) => {
                self.next += 1;
                self.operand_of(Typed::Scalar(Scalar::Number(number)), token.at, 1)
            }
            Kind::Text => self.text_operand(token),
            Kind::Word => self.word(token),
            Kind::Mark if token.is_mark("{") => self.selector(None, token.at),
            Kind::Mark if token.is_mark("(") => self.parenthesized(token.at),
            Kind::Mark => Err(self.unexpected("an operand")),
        }
    }

    fn text_operand(&mut self, token: Token<'_>) -> Parsed {
        self.next += 1;
        let bytes = self.unquoted(token)?;
        self.operand_of(Typed::Text(bytes.into()), token.at, 1)
    }

    fn parenthesized(&mut self, at: usize) -> Parsed {
        self.next += 1;
        let mut inside = self.expression(0)?;
        self.wants(")", "an operator or `)`")?;
        (inside.start, inside.end, inside.form) = (at, self.end(), Form::Other);
        Ok(inside)
    }

    fn word(&mut self, word: Token<'_>) -> Parsed {
        if let Some(aggregation) = self.aggregation()? {
            return Ok(aggregation);
        }
        if RESERVED.iter().any(|reserved| word.is_word(reserved)) {
            return Err(self.unexpected("an operand"));
        }
        self.next += 1;
        if self.peek().is_some_and(|token| token.is_mark("(")) {
            return self.call(word);
        }
        self.selector(Some(word.text), word.at)
    }

    fn selector(&mut self, name: Option<&str>, at: usize) -> Parsed {
        let mut matchers: Vec<Matcher> =
            name.map(|name| Matcher::equal(METRIC_NAME, name)).into_iter().collect();
        if self.take_mark("{").is_some() {
            self.matchers(name, &mut matchers)?;
        }
        if matchers.iter().all(|matcher| matcher.accepts("")) {
            return Err(self.invalid(at, "vector selector must contain at least one non-empty matcher"));
        }
        let selector = Arc::new(Selector::new(matchers));
        let value = Typed::Vector(Vector::Select(Instant { selector, when: When::default() }));
        self.selection_of(value, at, 1)
    }

    /// Up to and including the brace that closes.
    fn matchers(&mut self, name: Option<&str>, matchers: &mut Vec<Matcher>) -> Result<(), Refusal> {
        let mut named = name.map(|name| quoted(name.as_bytes()));
        while self.take_mark("}").is_none() {
            let Some(label) = self.take(|token| matches!(token.kind, Kind::Word | Kind::Text)) else {
                return Err(self.unexpected("a label or `}`"));
            };
            let operator = self.take(|token| ["=", "!=", "=~", "!~"].iter().any(|mark| token.is_mark(mark)));
            let matcher = match operator {
                Some(operator) => {
                    let Some(value) = self.take(|token| token.kind == Kind::Text) else {
                        return Err(self.unexpected("a text in quotes"));
                    };
                    self.matcher(label, operator, value)?
                }
                // A text by itself is the name of the metric.
                None if label.kind == Kind::Text => Matcher::equal(METRIC_NAME, &self.utf8(label)?),
                None => return Err(self.unexpected("`=`, `!=`, `=~` or `!~`")),
            };
            if matcher.label() == METRIC_NAME && (operator.is_none() || name.is_some()) {
                let value = quoted(matcher.equals().map_or("", AsRef::as_ref).as_bytes());
                if let Some(known) = named.replace(value.clone()) {
                    let message = format!("metric name must not be set twice: {known} or {value}");
                    return Err(self.invalid(label.at, &message));
                }
            }
            matchers.push(matcher);
            if self.take_mark(",").is_none() && !self.peek().is_some_and(|token| token.is_mark("}")) {
                return Err(self.unexpected("`,` or `}`"));
            }
        }
        Ok(())
    }

    fn matcher(&self, label: Token<'_>, operator: Token<'_>, value: Token<'_>) -> Result<Matcher, Refusal> {
        let name = if label.kind == Kind::Text { self.utf8(label)? } else { label.text.to_owned() };
        let text = self.utf8(value)?;
        let pattern = |wanted| {
            Matcher::pattern(&name, &text, wanted).map_err(|error| {
                self.invalid(value.at, &format!("`{text}` is no regular expression: {error}"))
            })
        };
        match operator.text {
            "=" => Ok(Matcher::equal(&name, &text)),
            "!=" => Ok(Matcher::not_equal(&name, &text)),
            "=~" => pattern(true),
            _ => pattern(false),
        }
    }

    /// The text of a token in quotes, for labels, which are UTF-8.
    fn utf8(&self, token: Token<'_>) -> Result<String, Refusal> {
        String::from_utf8(self.unquoted(token)?).map_err(|_| self.invalid(token.at, "this text is not UTF-8"))
    }

    /// `[5m]`, `[5m:1m]`, `[5m:]`
    fn range(&mut self, operand: Operand, bracket_at: usize) -> Parsed {
        let length_millis = self.length()?;
        let has_colon = self.take_mark(":").is_some();
        let has_step = has_colon && !self.peek().is_some_and(|token| token.is_mark("]"));
        let step_millis = if has_step { self.length()? } else { self.subquery_step_millis };
        self.wants("]", "`]`")?;
        let (start, depth) = (operand.start, operand.depth + 1);
        let samples = match (operand.value, operand.form, has_colon) {
            (Typed::Vector(vector), _, true) => {
                if length_millis / step_millis > STEPS_PER_SUBQUERY_MAX {
                    let message = format!("a subquery of more than {STEPS_PER_SUBQUERY_MAX} steps");
                    return Err(scan::refuse(self.text, bracket_at, ParseErrorKind::TooLarge, message).into());
                }
                let is_separable = separable::in_subquery(&vector);
                let when = When::default();
                Samples::Subquery(Box::new(Subquery {
                    vector,
                    when,
                    length_millis,
                    step_millis,
                    is_separable,
                }))
            }
            (value, _, true) => {
                let message =
                    format!("subquery is only allowed on instant vector, got {} instead", value.name());
                return Err(self.invalid(start, &message));
            }
            (Typed::Vector(Vector::Select(Instant { selector, when })), UNMOVED, false) => {
                Samples::Series(Range { selector, when, length_millis })
            }
            (Typed::Vector(_), Form::Selection { has_offset, .. }, false) => {
                let modifier = if has_offset { "offset" } else { "@" };
                let message = format!("no {modifier} modifiers allowed before range");
                return Err(self.invalid(bracket_at, &message));
            }
            (_, _, false) => return Err(self.invalid(bracket_at, "ranges only allowed for vector selectors")),
        };
        self.selection_of(Typed::Samples(samples), start, depth)
    }

    fn selection_of(&self, value: Typed, start: usize, depth: usize) -> Parsed {
        let mut selection = self.operand_of(value, start, depth)?;
        selection.form = UNMOVED;
        Ok(selection)
    }

    /// A length of time that is more than nothing, in milliseconds.
    fn length(&mut self) -> Result<i64, Refusal> {
        let at = self.peek().map_or(self.text.len(), |token| token.at);
        // A calculation here is an experiment of Prometheus.
        let operand = match self.peek().map(|token| token.kind) {
            Some(Kind::Text) | None => return Err(self.unexpected("a duration")),
            Some(Kind::Number(_) | Kind::Word | Kind::Mark) => self.expression(0)?,
        };
        let seconds = self.seconds(&operand, at)?;
        let millis = self.millis(seconds, at)?;
        if millis < 1 { Err(self.invalid(at, "duration must be greater than 0")) } else { Ok(millis) }
    }

    /// The number that a calculated duration is.
    fn seconds(&self, operand: &Operand, at: usize) -> Result<f64, Refusal> {
        match operand.value {
            Typed::Scalar(Scalar::Number(seconds)) => Ok(seconds),
            Typed::Scalar(_) => {
                Err(self.unsupported(at, "a duration calculated from the query's step or range"))
            }
            Typed::Vector(_) | Typed::Samples(_) | Typed::Text(_) => {
                Err(self.invalid(at, &format!("expected a duration, got {}", operand.value.name())))
            }
        }
    }

    fn millis(&self, seconds: f64, at: usize) -> Result<i64, Refusal> {
        if seconds.is_nan() || seconds.abs() > DURATION_SECONDS_MAX {
            return Err(self.invalid(at, "duration out of range"));
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "in range; Prometheus rounds to nanoseconds and truncates"
        )]
        let millis = ((seconds * 1e9).round() / 1e6) as i64;
        Ok(millis)
    }

    fn offset(&mut self, operand: Box<Operand>, word_at: usize) -> Parsed {
        let mut is_negative = false;
        while let Some(sign) = self.take(|token| token.is_mark("-") || token.is_mark("+")) {
            is_negative ^= sign.is_mark("-");
        }
        let at = self.peek().map_or(self.text.len(), |token| token.at);
        let is_length = self.peek().is_some_and(|token| match token.kind {
            Kind::Number(_) => true,
            Kind::Mark => token.is_mark("("),
            Kind::Word => self.is_followed_by("("),
            Kind::Text => false,
        });
        if !is_length {
            return Err(self.unexpected("a duration"));
        }
        let length = self.bare_operand()?;
        let seconds = self.seconds(&length, at)?;
        let millis = self.millis(seconds, at)?;
        let offset = if is_negative { -millis } else { millis };
        let Form::Selection { has_offset, has_at } = operand.form else {
            let message = "offset modifier must be preceded by an instant vector selector or range vector \
                selector or a subquery";
            return Err(self.invalid(word_at, message));
        };
        if has_offset {
            return Err(self.invalid(word_at, "offset may not be set multiple times"));
        }
        let form = Form::Selection { has_offset: true, has_at };
        Ok(self.moved(operand, form, |when| when.offset_millis = offset))
    }

    fn at(&mut self, operand: Box<Operand>, mark_at: usize) -> Parsed {
        let anchor = if self.take_word("start").is_some() {
            Some(Anchor::Start)
        } else {
            self.take_word("end").map(|_| Anchor::End)
        };
        let anchor = match anchor {
            Some(anchor) => {
                self.wants("(", "`()`")?;
                self.wants(")", "`()`")?;
                anchor
            }
            None => Anchor::Fixed(self.epoch_millis()?),
        };
        let Form::Selection { has_offset, has_at } = operand.form else {
            let message = "@ modifier must be preceded by an instant vector selector or range vector selector \
                or a subquery";
            return Err(self.invalid(mark_at, message));
        };
        if has_at {
            return Err(self.invalid(mark_at, "@ <timestamp> may not be set multiple times"));
        }
        let form = Form::Selection { has_offset, has_at: true };
        Ok(self.moved(operand, form, |when| when.anchor = anchor))
    }

    fn epoch_millis(&mut self) -> Result<i64, Refusal> {
        let at = self.peek().map_or(self.text.len(), |token| token.at);
        let millis = (self.signed_number("a time")? * 1e3).round();
        // Beyond, a number has no milliseconds any more.
        if !(-9.2e18..=9.2e18).contains(&millis) {
            return Err(
                self.invalid(at, &format!("timestamp out of bounds for @ modifier: {:.6}", millis / 1e3))
            );
        }
        #[expect(clippy::cast_possible_truncation, reason = "in range")]
        let millis = millis as i64;
        Ok(millis)
    }

    /// The selection at another time.
    fn moved(&self, mut operand: Box<Operand>, form: Form, change: impl FnOnce(&mut When)) -> Box<Operand> {
        match &mut operand.value {
            Typed::Vector(Vector::Select(instant)) => change(&mut instant.when),
            Typed::Samples(Samples::Series(range)) => change(&mut range.when),
            Typed::Samples(Samples::Subquery(subquery)) => change(&mut subquery.when),
            // Only these are selections.
            Typed::Vector(_) | Typed::Scalar(_) | Typed::Text(_) => {}
        }
        (operand.form, operand.end) = (form, self.end());
        operand
    }
}

//! The functions of templates: those of Go, and those that Prometheus adds.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::links;
use super::printf::{quoted, sprint, sprintf, sprintln};
use super::value::Value;
use super::{Data, Sample};
use crate::model::{humanize, number};

/// A function. `And` and `Or` are the interpreter's own: they leave arguments out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    And,
    Or,
    Not,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Len,
    Index,
    Slice,
    Print,
    Printf,
    Println,
    Html,
    Js,
    UrlQuery,
    Query,
    First,
    Label,
    Value,
    StrValue,
    Args,
    ReReplaceAll,
    SafeHtml,
    Match,
    Title,
    ToUpper,
    ToLower,
    GraphLink,
    TableLink,
    SortByLabel,
    StripPort,
    StripDomain,
    Humanize,
    Humanize1024,
    HumanizeDuration,
    HumanizePercentage,
    HumanizeTimestamp,
    ToTime,
    ToDuration,
    Now,
    PathPrefix,
    ExternalUrl,
    ParseDuration,
    Call,
}

/// Names, functions, and how many arguments each takes at least and at most.
const FUNCTIONS: [(&str, Function, usize, usize); 48] = [
    ("and", Function::And, 1, usize::MAX),
    ("or", Function::Or, 1, usize::MAX),
    ("not", Function::Not, 1, 1),
    ("eq", Function::Eq, 1, usize::MAX),
    ("ne", Function::Ne, 2, 2),
    ("lt", Function::Lt, 2, 2),
    ("le", Function::Le, 2, 2),
    ("gt", Function::Gt, 2, 2),
    ("ge", Function::Ge, 2, 2),
    ("len", Function::Len, 1, 1),
    ("index", Function::Index, 1, usize::MAX),
    ("slice", Function::Slice, 1, 4),
    ("print", Function::Print, 0, usize::MAX),
    ("printf", Function::Printf, 1, usize::MAX),
    ("println", Function::Println, 0, usize::MAX),
    ("html", Function::Html, 0, usize::MAX),
    ("js", Function::Js, 0, usize::MAX),
    ("urlquery", Function::UrlQuery, 0, usize::MAX),
    ("query", Function::Query, 1, 1),
    ("first", Function::First, 1, 1),
    ("label", Function::Label, 2, 2),
    ("value", Function::Value, 1, 1),
    ("strvalue", Function::StrValue, 1, 1),
    ("args", Function::Args, 0, usize::MAX),
    ("reReplaceAll", Function::ReReplaceAll, 3, 3),
    ("safeHtml", Function::SafeHtml, 1, 1),
    ("match", Function::Match, 2, 2),
    ("title", Function::Title, 1, 1),
    ("toUpper", Function::ToUpper, 1, 1),
    ("toLower", Function::ToLower, 1, 1),
    ("graphLink", Function::GraphLink, 1, 1),
    ("tableLink", Function::TableLink, 1, 1),
    ("sortByLabel", Function::SortByLabel, 2, 2),
    ("stripPort", Function::StripPort, 1, 1),
    ("stripDomain", Function::StripDomain, 1, 1),
    ("humanize", Function::Humanize, 1, 1),
    ("humanize1024", Function::Humanize1024, 1, 1),
    ("humanizeDuration", Function::HumanizeDuration, 1, 1),
    ("humanizePercentage", Function::HumanizePercentage, 1, 1),
    ("humanizeTimestamp", Function::HumanizeTimestamp, 1, 1),
    ("toTime", Function::ToTime, 1, 1),
    ("toDuration", Function::ToDuration, 1, 1),
    ("now", Function::Now, 0, 0),
    ("pathPrefix", Function::PathPrefix, 0, 0),
    ("externalURL", Function::ExternalUrl, 0, 0),
    ("parseDuration", Function::ParseDuration, 1, 1),
    ("urlQueryEscape", Function::UrlQuery, 1, 1),
    ("call", Function::Call, 1, usize::MAX),
];

impl Function {
    pub(super) fn named(name: &str) -> Option<Self> {
        FUNCTIONS.iter().find(|known| known.0 == name).map(|known| known.1)
    }

    /// Its name, and how many arguments it takes at least and at most.
    pub(super) fn shape(self) -> (&'static str, usize, usize) {
        FUNCTIONS
            .iter()
            .find(|known| known.1 == self)
            .map_or(("", 0, usize::MAX), |(name, _, least, most)| (name, *least, *most))
    }

    /// Its value for arguments whose number is right. `And` and `Or` have decided already: the last one counts.
    pub(super) fn call<'a>(self, data: &'a Data<'a>, arguments: &[Value<'a>]) -> Result<Value<'a>, String> {
        let argument = |index: usize| arguments.get(index).unwrap_or(&Value::Missing);
        let text = |index: usize| text_of(argument(index));
        let number = |index: usize| number_of(argument(index));
        let value = match self {
            Self::And | Self::Or => arguments.last().cloned().unwrap_or(Value::Missing),
            Self::Not => Value::Bool(!argument(0).is_true()),
            Self::Eq => Value::Bool(is_equal_to_any(arguments)?),
            Self::Ne => Value::Bool(!is_equal(argument(0), argument(1))?),
            Self::Lt => Value::Bool(order(argument(0), argument(1))?.is_some_and(Ordering::is_lt)),
            Self::Le => Value::Bool(order(argument(0), argument(1))?.is_some_and(Ordering::is_le)),
            Self::Gt => Value::Bool(order(argument(0), argument(1))?.is_some_and(Ordering::is_gt)),
            Self::Ge => Value::Bool(order(argument(0), argument(1))?.is_some_and(Ordering::is_ge)),
            Self::Len => Value::Int(length(argument(0))?),
            Self::Index => index(arguments)?,
            Self::Slice => slice(arguments)?,
            Self::Print => Value::text(sprint(arguments)),
            Self::Printf => Value::text(sprintf(text(0)?, arguments.get(1..).unwrap_or(&[]))),
            Self::Println => Value::text(sprintln(arguments)),
            Self::Html => Value::text(links::html(&joined(arguments))),
            Self::Js => Value::text(links::js(&joined(arguments))),
            Self::UrlQuery => Value::text(links::query_escape(&joined(arguments))),
            Self::Query => list((data.query)(text(0)?)?),
            Self::First => match argument(0) {
                Value::List(items) => {
                    items.first().cloned().ok_or("first() called on vector with no elements")?
                }
                other => return Err(wrong(other, "template.queryResult")),
            },
            Self::Label => Value::text(sample_of(argument(1))?.labels.get(text(0)?).unwrap_or("")),
            Self::Value => sample_of(argument(0)).map(|sample| Value::Float(sample.value))?,
            Self::StrValue => Value::text(sample_of(argument(0))?.text.as_deref().unwrap_or("")),
            Self::Args => arguments_of(arguments),
            Self::ReReplaceAll => {
                Value::text(pattern(text(0)?)?.replace_all(text(2)?, text(1)?).into_owned())
            }
            Self::SafeHtml => Value::text(text(0)?),
            Self::Match => Value::Bool(pattern(text(0)?)?.is_match(text(1)?)),
            Self::Title => Value::text(links::title(text(0)?)),
            Self::ToUpper => Value::text(text(0)?.to_uppercase()),
            Self::ToLower => Value::text(text(0)?.to_lowercase()),
            Self::GraphLink => {
                Value::text(format!("/graph?g0.expr={}&g0.tab=0", links::query_escape(text(0)?)))
            }
            Self::TableLink => {
                Value::text(format!("/graph?g0.expr={}&g0.tab=1", links::query_escape(text(0)?)))
            }
            Self::SortByLabel => sorted(text(0)?, argument(1))?,
            Self::StripPort => Value::text(links::without_port(text(0)?)),
            Self::StripDomain => Value::text(links::without_domain(text(0)?)),
            Self::Humanize => Value::text(humanize::humanize(number(0)?)),
            Self::Humanize1024 => Value::text(humanize::humanize1024(number(0)?)),
            Self::HumanizeDuration => Value::text(humanize::duration(number(0)?)),
            Self::HumanizePercentage => Value::text(humanize::percentage(number(0)?)),
            Self::HumanizeTimestamp => humanized_time(number(0)?)?,
            Self::ToTime => Value::Time(i128::from(nanos(number(0)?, "timestamp")?)),
            Self::ToDuration => Value::Duration(nanos(number(0)?, "duration")?),
            #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are exact in a double")]
            Self::Now => Value::Float(data.now.as_millis() as f64 / 1_000.0),
            Self::PathPrefix => Value::text(links::path_of(data.external_url)),
            Self::ExternalUrl => Value::text(data.external_url),
            Self::ParseDuration => Value::Float(parse_duration(text(0)?)?),
            Self::Call => return Err(format!("non-function of type {}", argument(0).type_name())),
        };
        Ok(value)
    }
}

fn wrong(value: &Value<'_>, expected: &str) -> String {
    format!("wrong type for value; expected {expected}; got {}", value.type_name())
}

fn text_of<'v>(value: &'v Value<'_>) -> Result<&'v str, String> {
    match value {
        Value::Text(text) => Ok(text),
        other => Err(wrong(other, "string")),
    }
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus computes in doubles")]
fn number_of(value: &Value<'_>) -> Result<f64, String> {
    match value {
        Value::Float(number) => Ok(*number),
        Value::Int(number) => Ok(*number as f64),
        Value::Duration(nanos) => Ok(*nanos as f64 / 1e9),
        Value::Text(text) => number::parse(text)
            .ok_or_else(|| format!("strconv.ParseFloat: parsing {}: invalid syntax", quoted(text))),
        other => Err(format!("can't convert {} to float", other.type_name())),
    }
}

fn sample_of<'v>(value: &'v Value<'_>) -> Result<&'v Sample, String> {
    match value {
        Value::Sample(sample) => Ok(sample),
        other => Err(wrong(other, "*template.sample")),
    }
}

/// What Go's `html` and the like make of their arguments before they escape them.
fn joined(arguments: &[Value<'_>]) -> String {
    match arguments {
        [Value::Text(text)] => text.to_string(),
        _ => sprint(arguments),
    }
}

fn list<'a>(samples: Vec<Sample>) -> Value<'a> {
    Value::List(samples.into_iter().map(|sample| Value::Sample(Arc::new(sample))).collect())
}

fn arguments_of<'a>(arguments: &[Value<'a>]) -> Value<'a> {
    let named = arguments.iter().enumerate().map(|(index, value)| (format!("arg{index}"), value.clone()));
    Value::Arguments(Arc::new(named.collect::<BTreeMap<_, _>>()))
}

fn pattern(text: &str) -> Result<regex::Regex, String> {
    regex::Regex::new(text).map_err(|_| format!("error parsing regexp: `{text}`"))
}

fn sorted<'a>(label: &str, value: &Value<'a>) -> Result<Value<'a>, String> {
    let Value::List(items) = value else { return Err(wrong(value, "template.queryResult")) };
    let key = |item: &Value<'a>| match item {
        Value::Sample(sample) => sample.labels.get(label).unwrap_or("").to_owned(),
        _ => String::new(),
    };
    let mut items = items.to_vec();
    items.sort_by_key(key);
    Ok(Value::List(items.into()))
}

fn is_equal_to_any(arguments: &[Value<'_>]) -> Result<bool, String> {
    let Some((first, others)) = arguments.split_first().filter(|(_, others)| !others.is_empty()) else {
        return Err("missing argument for comparison".to_owned());
    };
    for other in others {
        if is_equal(first, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[expect(clippy::float_cmp, reason = "what `eq` means")]
fn is_equal(one: &Value<'_>, other: &Value<'_>) -> Result<bool, String> {
    match (one, other) {
        (Value::Bool(one), Value::Bool(other)) => Ok(one == other),
        (Value::Int(one), Value::Int(other)) => Ok(one == other),
        (Value::Float(one), Value::Float(other)) => Ok(one == other),
        (Value::Text(one), Value::Text(other)) => Ok(one == other),
        (Value::Missing | Value::Nil, Value::Missing | Value::Nil) => Ok(true),
        (Value::Missing | Value::Nil, _) | (_, Value::Missing | Value::Nil) => Ok(false),
        _ if is_basic(one) && is_basic(other) => Err("incompatible types for comparison".to_owned()),
        _ => Err("non-comparable type".to_owned()),
    }
}

fn is_basic(value: &Value<'_>) -> bool {
    matches!(value, Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_))
}

fn order(one: &Value<'_>, other: &Value<'_>) -> Result<Option<Ordering>, String> {
    match (one, other) {
        (Value::Int(one), Value::Int(other)) => Ok(Some(one.cmp(other))),
        (Value::Float(one), Value::Float(other)) => Ok(one.partial_cmp(other)),
        (Value::Text(one), Value::Text(other)) => Ok(Some(one.cmp(other))),
        (
            Value::Int(_) | Value::Float(_) | Value::Text(_),
            Value::Int(_) | Value::Float(_) | Value::Text(_),
        ) => Err("incompatible types for comparison".to_owned()),
        _ => Err("invalid type for comparison".to_owned()),
    }
}

fn length(value: &Value<'_>) -> Result<i64, String> {
    let length = match value {
        Value::Text(text) => text.len(),
        Value::Labels(labels) => labels.len(),
        Value::List(items) => items.len(),
        Value::Arguments(arguments) => arguments.len(),
        Value::Missing | Value::Nil => return Err("len of nil pointer".to_owned()),
        other => return Err(format!("len of type {}", other.type_name())),
    };
    Ok(i64::try_from(length).unwrap_or(i64::MAX))
}

/// `index x 1 2`: `x[1][2]`.
fn index<'a>(arguments: &[Value<'a>]) -> Result<Value<'a>, String> {
    let Some((first, places)) = arguments.split_first() else { return Ok(Value::Missing) };
    let mut value = first.clone();
    for place in places {
        value = match (&value, place) {
            (Value::Labels(_), Value::Text(name)) => value.field(name)?,
            (Value::Arguments(arguments), Value::Text(name)) => {
                arguments.get(name.as_ref()).cloned().unwrap_or(Value::Missing)
            }
            (Value::List(items), Value::Int(at)) => usize::try_from(*at)
                .ok()
                .and_then(|at| items.get(at).cloned())
                .ok_or_else(|| format!("index out of range: {at}"))?,
            (Value::Text(text), Value::Int(at)) => usize::try_from(*at)
                .ok()
                .and_then(|at| text.as_bytes().get(at))
                .map(|byte| Value::Int(i64::from(*byte)))
                .ok_or_else(|| format!("index out of range: {at}"))?,
            (Value::Labels(_) | Value::Arguments(_), other) => {
                return Err(format!("value has type {}; should be string", other.type_name()));
            }
            (Value::List(_) | Value::Text(_), other) => {
                return Err(format!("cannot index slice/array with type {}", other.type_name()));
            }
            (Value::Missing | Value::Nil, _) => return Err("index of untyped nil".to_owned()),
            (other, _) => return Err(format!("can't index item of type {}", other.type_name())),
        };
    }
    Ok(value)
}

/// `slice x 1 3`: `x[1:3]`.
fn slice<'a>(arguments: &[Value<'a>]) -> Result<Value<'a>, String> {
    let Some((first, places)) = arguments.split_first() else { return Ok(Value::Missing) };
    let length = match first {
        Value::Text(text) => text.len(),
        Value::List(items) => items.len(),
        other => return Err(format!("can't slice item of type {}", other.type_name())),
    };
    let place = |index: usize, default: usize| match places.get(index) {
        None => Ok(default),
        Some(Value::Int(at)) => {
            let at = usize::try_from(*at).ok().filter(|at| *at <= length);
            at.ok_or_else(|| format!("index out of range: {}", places[index].printed()))
        }
        Some(other) => Err(format!("cannot index slice/array with type {}", other.type_name())),
    };
    let (from, to) = (place(0, 0)?, place(1, length)?);
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    match first {
        Value::Text(text) => text
            .get(from..to)
            .map(Value::text)
            .ok_or_else(|| format!("the slice {from}:{to} cuts a character in two")),
        Value::List(items) => Ok(Value::List(items[from..to].into())),
        _ => Ok(Value::Missing),
    }
}

fn humanized_time<'a>(seconds: f64) -> Result<Value<'a>, String> {
    if !seconds.is_finite() {
        return Ok(Value::text(number::general(seconds, Some(4))));
    }
    let nanos = nanos(seconds, "timestamp")?;
    Ok(Value::text(super::value::time_text(i128::from(nanos))))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "compared with the range first"
)]
fn nanos(seconds: f64, what: &str) -> Result<i64, String> {
    let nanos = seconds * 1e9;
    if nanos.is_nan() || nanos > i64::MAX as f64 || nanos < i64::MIN as f64 {
        return Err(format!(
            "{} cannot be represented as a nanoseconds {what} since it overflows int64",
            number::shortest(seconds)
        ));
    }
    Ok(nanos as i64)
}

/// A duration as Prometheus writes it, in seconds.
fn parse_duration(text: &str) -> Result<f64, String> {
    const UNITS: [(&str, u64); 7] = [
        ("y", 31_536_000_000),
        ("w", 604_800_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];
    let bad = || format!("not a valid duration string: {}", quoted(text));
    if text == "0" {
        return Ok(0.0);
    }
    let (sign, mut rest) = text.strip_prefix('-').map_or((1.0, text), |size| (-1.0, size));
    let mut total = 0_u64;
    let mut last = None;
    if rest.is_empty() {
        return Err("empty duration string".to_owned());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let count: u64 = rest[..digits].parse().map_err(|_| bad())?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let place = UNITS.iter().position(|(unit, _)| *unit == &rest[digits..unit_end]).ok_or_else(bad)?;
        if last.is_some_and(|last| place <= last) {
            return Err(bad());
        }
        last = Some(place);
        total = count.checked_mul(UNITS[place].1).and_then(|part| total.checked_add(part)).ok_or_else(bad)?;
        rest = &rest[unit_end..];
    }
    Ok(sign * Duration::from_millis(total).as_secs_f64())
}

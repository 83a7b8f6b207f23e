//! The functions that Prometheus adds to Go's.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::functions::Row;
use super::links;
use super::printf::quoted;
use super::value::{Value, time_text};
use super::{Data, Sample};
use crate::model::{humanize, number};

/// One of Prometheus' functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Addition {
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
    UrlQueryEscape,
}

/// All of them.
pub(super) const ADDITIONS: [Row<Addition>; 29] = [
    ("query", Addition::Query, 1, 1),
    ("first", Addition::First, 1, 1),
    ("label", Addition::Label, 2, 2),
    ("value", Addition::Value, 1, 1),
    ("strvalue", Addition::StrValue, 1, 1),
    ("args", Addition::Args, 0, usize::MAX),
    ("reReplaceAll", Addition::ReReplaceAll, 3, 3),
    ("safeHtml", Addition::SafeHtml, 1, 1),
    ("match", Addition::Match, 2, 2),
    ("title", Addition::Title, 1, 1),
    ("toUpper", Addition::ToUpper, 1, 1),
    ("toLower", Addition::ToLower, 1, 1),
    ("graphLink", Addition::GraphLink, 1, 1),
    ("tableLink", Addition::TableLink, 1, 1),
    ("sortByLabel", Addition::SortByLabel, 2, 2),
    ("stripPort", Addition::StripPort, 1, 1),
    ("stripDomain", Addition::StripDomain, 1, 1),
    ("humanize", Addition::Humanize, 1, 1),
    ("humanize1024", Addition::Humanize1024, 1, 1),
    ("humanizeDuration", Addition::HumanizeDuration, 1, 1),
    ("humanizePercentage", Addition::HumanizePercentage, 1, 1),
    ("humanizeTimestamp", Addition::HumanizeTimestamp, 1, 1),
    ("toTime", Addition::ToTime, 1, 1),
    ("toDuration", Addition::ToDuration, 1, 1),
    ("now", Addition::Now, 0, 0),
    ("pathPrefix", Addition::PathPrefix, 0, 0),
    ("externalURL", Addition::ExternalUrl, 0, 0),
    ("parseDuration", Addition::ParseDuration, 1, 1),
    ("urlQueryEscape", Addition::UrlQueryEscape, 1, 1),
];

impl Addition {
    /// Its value.
    pub(super) fn call<'a>(self, data: &'a Data<'a>, arguments: &[Value<'a>]) -> Result<Value<'a>, String> {
        let argument = |index: usize| arguments.get(index).unwrap_or(&Value::Missing);
        let text = |index: usize| argument(index).as_text();
        let number = |index: usize| number_of(argument(index));
        let value = match self {
            Self::Query => list((data.query)(text(0)?)?),
            Self::First => {
                let first = argument(0).as_list()?.first().cloned();
                first.ok_or("first() called on vector with no elements")?
            }
            Self::Label => Value::text(argument(1).as_sample()?.labels.get(text(0)?).unwrap_or("")),
            Self::Value => Value::Float(argument(0).as_sample()?.value),
            Self::StrValue => Value::text(argument(0).as_sample()?.text.as_deref().unwrap_or("")),
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
            Self::UrlQueryEscape => Value::text(links::query_escape(text(0)?)),
        };
        Ok(value)
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
        Value::Missing
        | Value::Nil
        | Value::Bool(_)
        | Value::Labels(_)
        | Value::Sample(_)
        | Value::List(_)
        | Value::Arguments(_)
        | Value::Data(_)
        | Value::Time(_) => Err(format!("can't convert {} to float", value.type_name())),
    }
}

fn list<'a>(samples: Vec<Sample>) -> Value<'a> {
    Value::List(samples.into_iter().map(|sample| Value::Sample(Rc::new(sample))).collect())
}

fn arguments_of<'a>(arguments: &[Value<'a>]) -> Value<'a> {
    let named = arguments.iter().enumerate().map(|(index, value)| (format!("arg{index}"), value.clone()));
    Value::Arguments(Rc::new(named.collect::<BTreeMap<_, _>>()))
}

fn pattern(text: &str) -> Result<regex::Regex, String> {
    regex::Regex::new(text).map_err(|_| format!("error parsing regexp: `{text}`"))
}

fn sorted<'a>(label: &str, value: &Value<'a>) -> Result<Value<'a>, String> {
    let key = |item: &Value<'a>| {
        item.as_sample()
            .map_or_else(|_| String::new(), |sample| sample.labels.get(label).unwrap_or("").to_owned())
    };
    let mut items = value.as_list()?.to_vec();
    items.sort_by_key(key);
    Ok(Value::List(items.into()))
}

fn humanized_time<'a>(seconds: f64) -> Result<Value<'a>, String> {
    if !seconds.is_finite() {
        return Ok(Value::text(number::general(seconds, Some(4))));
    }
    let nanos = nanos(seconds, "timestamp")?;
    Ok(Value::text(time_text(i128::from(nanos))))
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

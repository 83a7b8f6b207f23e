//! Values while a template is expanded, and how Go prints them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::rc::Rc;

use super::{Data, Sample};
use crate::model::{Labels, number};

/// A value.
#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    /// An argument that was not given.
    Missing,
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Cow<'a, str>),
    Labels(Cow<'a, Labels>),
    Sample(Rc<Sample>),
    List(Rc<[Value<'a>]>),
    Arguments(Rc<BTreeMap<String, Value<'a>>>),
    /// What a template is expanded with.
    Data(&'a Data<'a>),
    /// Nanoseconds since 1970.
    Time(i128),
    /// Nanoseconds.
    Duration(i64),
}

impl<'a> Value<'a> {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(Cow::Owned(text.into()))
    }

    pub(super) fn as_text(&self) -> Result<&str, String> {
        if let Self::Text(text) = self { Ok(text) } else { Err(self.is_not("string")) }
    }

    pub(super) fn as_list(&self) -> Result<&[Value<'a>], String> {
        if let Self::List(items) = self { Ok(items) } else { Err(self.is_not("template.queryResult")) }
    }

    pub(super) fn as_sample(&self) -> Result<&Sample, String> {
        if let Self::Sample(sample) = self { Ok(sample) } else { Err(self.is_not("*template.sample")) }
    }

    fn is_not(&self, expected: &str) -> String {
        format!("wrong type for value; expected {expected}; got {}", self.type_name())
    }

    /// The name of its type in Go.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Missing | Self::Nil => "<nil>",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::Text(_) => "string",
            Self::Labels(_) => "map[string]string",
            Self::Sample(_) => "*template.sample",
            Self::List(_) => "template.queryResult",
            Self::Arguments(_) => "map[string]interface {}",
            Self::Data(_) => {
                "struct { Labels map[string]string; ExternalLabels map[string]string; ExternalURL string; Value interface {} }"
            }
            Self::Time(_) => "*time.Time",
            Self::Duration(_) => "*time.Duration",
        }
    }

    /// What `if` makes of it.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Missing | Self::Nil => false,
            Self::Bool(is) => *is,
            Self::Int(number) => *number != 0,
            Self::Float(number) => *number != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::Labels(labels) => !labels.is_empty(),
            Self::List(items) => !items.is_empty(),
            Self::Arguments(arguments) => !arguments.is_empty(),
            Self::Sample(_) | Self::Data(_) | Self::Time(_) | Self::Duration(_) => true,
        }
    }

    /// A field, or the value of a map's key.
    pub(super) fn field(&self, name: &str) -> Result<Self, String> {
        let unknown = || Err(format!("can't evaluate field {name} in type {}", self.type_name()));
        match self {
            Self::Missing | Self::Nil => Err(format!("nil pointer evaluating interface {{}}.{name}")),
            // A label that is not there is empty.
            Self::Labels(Cow::Borrowed(labels)) => {
                Ok(Self::Text(Cow::Borrowed(labels.get(name).unwrap_or(""))))
            }
            Self::Labels(Cow::Owned(labels)) => Ok(Self::text(labels.get(name).unwrap_or(""))),
            Self::Arguments(arguments) => Ok(arguments.get(name).cloned().unwrap_or(Self::Missing)),
            Self::Sample(sample) => match name {
                "Labels" => Ok(Self::Labels(Cow::Owned(sample.labels.clone()))),
                "Value" => Ok(sample.value()),
                _ => unknown(),
            },
            Self::Data(data) => match name {
                "Labels" => Ok(Self::Labels(Cow::Borrowed(data.labels))),
                "ExternalLabels" => Ok(Self::Labels(Cow::Borrowed(data.external_labels))),
                "ExternalURL" => Ok(Self::Text(Cow::Borrowed(data.external_url))),
                "Value" => Ok(Self::Float(data.value)),
                _ => unknown(),
            },
            Self::Bool(_)
            | Self::Int(_)
            | Self::Float(_)
            | Self::Text(_)
            | Self::List(_)
            | Self::Time(_)
            | Self::Duration(_) => unknown(),
        }
    }

    /// As Go prints it with `%v`.
    pub(super) fn write(&self, text: &mut String) {
        match self {
            Self::Missing => text.push_str("<no value>"),
            Self::Nil => text.push_str("<nil>"),
            Self::Bool(is) => text.push_str(if *is { "true" } else { "false" }),
            Self::Int(number) => drop(write!(text, "{number}")),
            Self::Float(number) => text.push_str(&number::shortest(*number)),
            Self::Text(value) => text.push_str(value),
            Self::Labels(labels) => write_map(text, labels),
            Self::Sample(sample) => {
                text.push('{');
                write_map(text, &sample.labels);
                text.push(' ');
                sample.value().write(text);
                text.push('}');
            }
            Self::List(items) => {
                text.push('[');
                for (index, item) in items.iter().enumerate() {
                    text.push_str(if index > 0 { " " } else { "" });
                    item.write(text);
                }
                text.push(']');
            }
            Self::Arguments(arguments) => {
                text.push_str("map[");
                for (index, (name, value)) in arguments.iter().enumerate() {
                    text.push_str(if index > 0 { " " } else { "" });
                    let _ = write!(text, "{name}:");
                    value.write(text);
                }
                text.push(']');
            }
            Self::Data(data) => {
                text.push('{');
                write_map(text, data.labels);
                text.push(' ');
                write_map(text, data.external_labels);
                let _ = write!(text, " {} {}}}", data.external_url, number::shortest(data.value));
            }
            Self::Time(nanos) => text.push_str(&time_text(*nanos)),
            Self::Duration(nanos) => text.push_str(&duration_text(*nanos)),
        }
    }

    pub(super) fn printed(&self) -> String {
        let mut text = String::new();
        self.write(&mut text);
        text
    }
}

impl Sample {
    fn value<'a>(&self) -> Value<'a> {
        Value::Float(self.value)
    }
}

/// Go prints a map in the order of its keys.
fn write_map(text: &mut String, labels: &Labels) {
    text.push_str("map[");
    for (index, (name, value)) in labels.iter().enumerate() {
        let space = if index > 0 { " " } else { "" };
        let _ = write!(text, "{space}{name}:{value}");
    }
    text.push(']');
}

/// A time as Go's `Time.String` has it, in UTC: `2023-11-14 22:13:20.5 +0000 UTC`.
pub(super) fn time_text(nanos: i128) -> String {
    let (seconds, nanos) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    let Ok(time) = i64::try_from(seconds)
        .map_err(drop)
        .and_then(|seconds| time::OffsetDateTime::from_unix_timestamp(seconds).map_err(drop))
    else {
        return format!("{seconds} s");
    };
    let (hour, minute, second) = time.to_hms();
    let mut fraction = String::new();
    if nanos > 0 {
        fraction = format!(".{nanos:09}");
        fraction.truncate(fraction.trim_end_matches('0').len());
    }
    let (year, month, day) = time.to_calendar_date();
    format!("{year:04}-{:02}-{day:02} {hour:02}:{minute:02}:{second:02}{fraction} +0000 UTC", u8::from(month))
}

/// A duration as Go's `Duration.String` has it: `1h0m2.5s`, `20ms`.
pub(super) fn duration_text(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let size = nanos.unsigned_abs();
    let decimal = |unit: u64| {
        let mut text = format!("{}.{:0width$}", size / unit, size % unit, width = unit.ilog10() as usize);
        text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
        text
    };
    match size {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{size}ns"),
        1_000..1_000_000 => format!("{sign}{}µs", decimal(1_000)),
        1_000_000..1_000_000_000 => format!("{sign}{}ms", decimal(1_000_000)),
        _ => {
            let minutes = size / 60_000_000_000;
            let rest = size % 60_000_000_000;
            let mut seconds = format!("{}.{:09}", rest / 1_000_000_000, rest % 1_000_000_000);
            seconds.truncate(seconds.trim_end_matches('0').trim_end_matches('.').len());
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}s"),
                (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
                (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

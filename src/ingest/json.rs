//! Samples as JSON lines: one object a line.
//!
//! Taken are `{"metric":"up","labels":{"job":"a"},"timestamp":1700000000,"value":1}` (the metric also in PromQL
//! notation), `{"metric":{"__name__":"up","job":"a"},"timestamp":…,"value":1}` and VictoriaMetrics' export
//! `{"metric":{…},"values":[…],"timestamps":[…]}` with milliseconds. Other fields are not read. A number may be
//! quoted (`"NaN"`, `"+Inf"`, `"Infinity"`), and `null` is NaN, as VictoriaMetrics writes it.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use crate::model::{Labels, Sample, Timestamp};

use super::error::{RowError, excerpt};
use super::moment::parse_moment;
use super::series::parse_series;
use super::series_cache::{SeriesCache, push_part};

/// Reads the lines of one file.
#[derive(Default)]
pub(crate) struct JsonReader {
    cache: SeriesCache,
    /// Reused: what tells the line's series, as one text.
    key: Vec<u8>,
}

impl JsonReader {
    /// Appends the samples of a line, all or none.
    pub(crate) fn read(&mut self, line: &str, samples: &mut VecDeque<Sample>) -> Result<(), RowError> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let line: Line<'_> =
            serde_json::from_str(line).map_err(|error| RowError::Json(json_cause(&error)))?;
        let series = self.series(&line)?;
        match (line.value, line.timestamp, line.values, line.timestamps) {
            (Some(Number(value)), Some(at), None, None) => {
                let at = parse_moment(&at.0)?;
                samples.push_back(Sample { series, at, value });
                Ok(())
            }
            (None, None, Some(values), Some(timestamps)) if values.len() == timestamps.len() => {
                samples.extend(values.into_iter().zip(timestamps).map(|(Number(value), at)| Sample {
                    series: series.clone(),
                    at: Timestamp::from_millis(at),
                    value,
                }));
                Ok(())
            }
            (None, None, Some(values), Some(timestamps)) => {
                Err(RowError::Uneven { values: values.len(), timestamps: timestamps.len() })
            }
            (None, _, None, _) => Err(RowError::NoValue),
            (_, None, _, None) => Err(RowError::NoTime),
            _ => Err(RowError::Json(
                "a line holds `value` and `timestamp`, or `values` and `timestamps`, and no mixture"
                    .to_owned(),
            )),
        }
    }

    fn series(&mut self, line: &Line<'_>) -> Result<Labels, RowError> {
        let labels = line.labels.as_ref().map_or(&[][..], |labels| &labels.0);
        let (metric, inner): (Option<&str>, &[Pair<'_>]) = match &line.metric {
            None => (None, &[]),
            Some(Metric::Text(text)) => (Some(&text.0), &[]),
            Some(Metric::Labels(labels)) => (None, &labels.0),
        };
        self.key.clear();
        push_part(&mut self.key, metric.unwrap_or(""));
        for (name, value) in inner.iter().chain(labels) {
            push_part(&mut self.key, &name.0);
            push_part(&mut self.key, &value.0);
        }
        self.cache.series(&self.key, || {
            let base = metric.map(parse_series).transpose()?.unwrap_or_default();
            let pairs = inner.iter().chain(labels).map(|(name, value)| (&*name.0, &*value.0));
            let series = Labels::new(base.iter().chain(pairs))?;
            if series.metric_name().is_some() { Ok(series) } else { Err(RowError::NoMetric) }
        })
    }
}

/// Without the line number, which is always 1 here.
fn json_cause(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let cause = text.rsplit_once(" at line ").map_or(text.as_str(), |(cause, _)| cause);
    if error.column() == 0 {
        excerpt(cause)
    } else {
        format!("column {}: {}", error.column(), excerpt(cause))
    }
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, alias = "__name__")]
    metric: Option<Metric<'a>>,
    #[serde(borrow)]
    labels: Option<Pairs<'a>>,
    #[serde(borrow, alias = "time", alias = "ts")]
    timestamp: Option<Moment<'a>>,
    #[serde(default, deserialize_with = "some")]
    value: Option<Number>,
    values: Option<Vec<Number>>,
    timestamps: Option<Vec<i64>>,
}

/// A field that is there, also where it is `null`.
fn some<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Number>, D::Error> {
    Number::deserialize(deserializer).map(Some)
}

/// Text, borrowed from the line unless it holds escapes.
struct Text<'a>(Cow<'a, str>);

type Pair<'a> = (Text<'a>, Text<'a>);

struct Pairs<'a>(Vec<Pair<'a>>);

enum Metric<'a> {
    Text(Text<'a>),
    Labels(Pairs<'a>),
}

/// The text of a time; numbers are taken as they would be written.
struct Moment<'a>(Cow<'a, str>);

#[derive(Clone, Copy)]
struct Number(f64);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

fn pairs<'de, A: MapAccess<'de>>(mut map: A) -> Result<Pairs<'de>, A::Error> {
    let mut pairs = Vec::new();
    while let Some(pair) = map.next_entry()? {
        pairs.push(pair);
    }
    Ok(Pairs(pairs))
}

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Metric::deserialize(deserializer)? {
            Metric::Labels(pairs) => Ok(pairs),
            Metric::Text(_) => Err(D::Error::custom("labels are an object of texts")),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Metric<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MetricVisitor;
        impl<'de> Visitor<'de> for MetricVisitor {
            type Value = Metric<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a metric name or an object of labels")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Metric::Text(Text(Cow::Borrowed(text))))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Metric::Text(Text(Cow::Owned(text.to_owned()))))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                pairs(map).map(Metric::Labels)
            }
        }
        deserializer.deserialize_any(MetricVisitor)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Moment<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MomentVisitor;
        impl<'de> Visitor<'de> for MomentVisitor {
            type Value = Moment<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time as a number or text")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Moment(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Moment(Cow::Owned(text.to_owned())))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Moment(Cow::Owned(number.to_string())))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Moment(Cow::Owned(number.to_string())))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
                Ok(Moment(Cow::Owned(number.to_string())))
            }
        }
        deserializer.deserialize_any(MomentVisitor)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberVisitor;
        impl Visitor<'_> for NumberVisitor {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }
            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Number(number as f64))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Number(number as f64))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
                Ok(Number(number))
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Number(f64::NAN))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                let number = text.parse();
                number.map(Number).map_err(|_| E::custom(format_args!("`{}` is not a number", excerpt(text))))
            }
        }
        deserializer.deserialize_any(NumberVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Vec<(String, i64, String)>, String> {
        let mut samples = VecDeque::new();
        let result = JsonReader::default().read(line, &mut samples);
        let found =
            samples.into_iter().map(|s| (s.series.to_string(), s.at.as_millis(), s.value.to_string()));
        let found: Vec<_> = found.collect();
        result.map(|()| found).map_err(|cause| cause.to_string())
    }

    #[test]
    fn each_variant_gives_its_samples() {
        let up = [("up{job=\"a\"}".to_owned(), 1_700_000_000_000, "1".to_owned())];
        for line in [
            r#"{"metric":"up","labels":{"job":"a"},"timestamp":1700000000,"value":1}"#,
            r#"{"value":1.0,"timestamp":"2023-11-14T22:13:20Z","labels":{"job":"a"},"metric":"up","more":[{}]}"#,
            r#"{"metric":"up{job=\"a\"}","timestamp":1700000000000,"value":"1"}"#,
            r#"{"metric":{"__name__":"up","job":"a"},"value":1,"timestamp":1700000000.000}"#,
            r#"{"metric":{"__name__":"up"},"labels":{"job":"\u0061"},"value":1,"time":"1700000000"}"#,
            r#"{"__name__":"up","labels":{"job":"a"},"value":1,"ts":1700000000}"#,
            r#"{"metric":{"__name__":"up","job":"a"},"values":[1],"timestamps":[1700000000000]}"#,
            r#"{"labels":{"__name__":"up","job":"a"},"value":1,"timestamp":1.7e9}"#,
        ] {
            assert_eq!(read(line), Ok(up.to_vec()), "{line}");
        }
        assert_eq!(read("  "), Ok(vec![]));
    }

    #[test]
    fn victoria_metrics_writes_null_and_infinity() {
        let line = r#"{"metric":{"__name__":"up"},"values":[1,null,"Infinity","-Infinity",-2.5],"timestamps":[1,2,3,4,5]}"#;
        let expected = ["1", "NaN", "inf", "-inf", "-2.5"];
        let expected: Vec<_> = expected
            .into_iter()
            .zip(1..)
            .map(|(value, at)| ("up".to_owned(), at, value.to_owned()))
            .collect();
        assert_eq!(read(line), Ok(expected));
        assert_eq!(
            read(r#"{"metric":"up","timestamp":5,"value":null}"#),
            Ok(vec![("up".into(), 5_000, "NaN".into())])
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, cause) in [
            (r#"{"metric":"up","timestamp":1}"#, "the value is missing"),
            (r#"{"metric":"up","value":1}"#, "the sample has no timestamp"),
            (r#"{"timestamp":1,"value":1}"#, "the metric name is missing"),
            (r#"{"metric":{"job":"a"},"timestamp":1,"value":1}"#, "the metric name is missing"),
            (r#"{"metric":"a b","timestamp":1,"value":1}"#, "character 3 of `a b`: expected the end"),
            (
                r#"{"metric":"up","labels":{"__name__":"b"},"timestamp":1,"value":1}"#,
                "label `__name__` is given twice",
            ),
            (r#"{"metric":"up","timestamp":1,"value":"x"}"#, "column 40: `x` is not a number"),
            (r#"{"metric":"up","values":[1,2],"timestamps":[1]}"#, "2 values but 1 timestamps"),
            (
                r#"{"metric":"up","labels":{"a":1},"timestamp":1,"value":1}"#,
                "column 30: invalid type: integer `1`, expected text",
            ),
            (
                r#"{"metric":"up","labels":"a","timestamp":1,"value":1}"#,
                "column 27: labels are an object of texts",
            ),
            (r#"{"metric":"up","value":1,"value":2,"timestamp":1}"#, "column 32: duplicate field `value`"),
            (
                r#"{"metric":"up","value":1,"timestamp":1,"values":[],"timestamps":[]}"#,
                "a line holds `value` and `timestamp`, or `values` and `timestamps`, and no mixture",
            ),
            ("up 1", "column 1: expected value"),
            (r#"{"metric":"up""#, "column 14: EOF while parsing an object"),
        ] {
            assert_eq!(read(line), Err(cause.to_owned()), "{line}");
        }
    }
}

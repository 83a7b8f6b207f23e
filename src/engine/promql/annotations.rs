//! What an evaluation has to say beside its value: warnings and information, in the words of Prometheus.

use std::collections::BTreeMap;
use std::fmt;

use super::error::Place;

/// Most annotations of one evaluation that are kept: ten of a kind is what Prometheus shows; an expression over many
/// metrics could otherwise make one for each.
pub const ANNOTATIONS_MAX: usize = 20;

/// How serious an annotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The value is probably not what is wanted.
    Warning,
    /// Worth a look.
    Info,
}

/// One thing to say about a place of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    /// How serious it is.
    pub severity: Severity,
    /// Where in the expression.
    pub place: Place,
    /// In words, without the place.
    pub message: String,
}

impl fmt::Display for Annotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Info => "info",
        };
        write!(f, "PromQL {severity}: {} ({})", self.message, self.place)
    }
}

/// The annotations of one evaluation: each once, warnings first, in the order of their places, at most
/// [`ANNOTATIONS_MAX`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations {
    /// By severity, the bytes before the place, and the message.
    kept: BTreeMap<(Severity, usize, String), Place>,
    omitted: usize,
}

impl Annotations {
    /// All that are kept.
    pub fn iter(&self) -> impl Iterator<Item = Annotation> {
        self.kept.iter().map(|((severity, _, message), place)| Annotation {
            severity: *severity,
            place: *place,
            message: message.clone(),
        })
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// How many were left out because there were too many, those said several times counted each time.
    pub fn omitted(&self) -> usize {
        self.omitted
    }

    pub(super) fn add(&mut self, severity: Severity, text: &str, at: usize, message: String) {
        let key = (severity, at, message);
        if self.kept.contains_key(&key) {
            return;
        }
        if self.kept.len() < ANNOTATIONS_MAX {
            self.kept.insert(key, Place::new(text, at));
        } else {
            self.omitted += 1;
        }
    }
}

/// Words about a quantile outside of 0 to 1.
pub(super) fn invalid_quantile(quantile: f64) -> String {
    format!("quantile value should be between 0 and 1, got {}", short(quantile))
}

/// Words about a ratio outside of -1 to 1.
pub(super) fn invalid_ratio(ratio: f64, capped: f64) -> String {
    format!("ratio value should be between -1 and 1, got {}, capping to {}", short(ratio), short(capped))
}

/// Words about a metric that is treated as a counter and is not called like one.
pub(super) fn possible_non_counter(metric: &str) -> Option<String> {
    let is_counter = ["_total", "_sum", "_count", "_bucket"].iter().any(|suffix| metric.ends_with(suffix));
    (!is_counter && !metric.is_empty()).then(|| {
        format!("metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {metric:?}")
    })
}

/// Words about an element that has no readable upper bound.
pub(super) fn bad_bucket(metric: &str, bound: &str) -> String {
    let of = of_metric(metric);
    format!("bucket label \"le\" is missing or has a malformed value of {bound:?}{of}")
}

/// Words about buckets that count fewer than the ones below them.
pub(super) fn forced_monotonicity(metric: &str) -> String {
    let of = of_metric(metric);
    format!(
        "input to histogram_quantile needed to be fixed for monotonicity (see \
         https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile){of}"
    )
}

/// Words about an order that nobody will see.
pub(super) const SORT_IN_RANGE: &str =
    "sort is ineffective for range queries since results are always ordered by labels";

fn of_metric(metric: &str) -> String {
    if metric.is_empty() { String::new() } else { format!(" for metric name {metric:?}") }
}

/// A number as Go's `%g` writes those that occur here.
pub(super) fn short(number: f64) -> String {
    match number {
        _ if number == f64::INFINITY => "+Inf".into(),
        _ if number == f64::NEG_INFINITY => "-Inf".into(),
        _ if number.is_nan() || (1e-4..1e21).contains(&number.abs()) || number == 0.0 => number.to_string(),
        _ => {
            let text = format!("{number:e}");
            let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
            format!("{digits}e{sign}{exponent:0>2}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_said_once_and_no_more_than_the_limit() {
        let mut annotations = Annotations::default();
        annotations.add(Severity::Info, "a\nb", 2, "late".into());
        annotations.add(Severity::Info, "a\nb", 2, "late".into());
        annotations.add(Severity::Warning, "a\nb", 0, "bad".into());
        let said: Vec<String> = annotations.iter().map(|annotation| annotation.to_string()).collect();
        assert_eq!(said, ["PromQL warning: bad (1:1)", "PromQL info: late (2:1)"]);
        for number in 0..ANNOTATIONS_MAX {
            annotations.add(Severity::Info, "a", 0, number.to_string());
        }
        assert_eq!((annotations.iter().count(), annotations.omitted()), (ANNOTATIONS_MAX, 2));
    }

    #[test]
    fn numbers_are_written_as_prometheus_writes_them() {
        let cases = [
            (f64::NAN, "NaN"),
            (-1.0, "-1"),
            (1.001, "1.001"),
            (2e21, "2e+21"),
            (1e-7, "1e-07"),
            (f64::INFINITY, "+Inf"),
        ];
        for (number, expected) in cases {
            assert_eq!(short(number), expected);
        }
    }
}

//! Prometheus' exposition text 0.0.4 and OpenMetrics text: what scrapes return.
//!
//! `HELP`, `TYPE` and other comments are skipped, histograms and summaries are the plain series they consist of,
//! exemplars are dropped.

use std::collections::VecDeque;

use crate::model::{Labels, LabelsError, Sample, Timestamp};

use super::error::{RowError, excerpt};
use super::moment::{MomentError, epoch_seconds};
use super::series::{self, Escapes};
use super::series_cache::SeriesCache;

/// Which of the two texts it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// 0.0.4: timestamps are whole milliseconds.
    Prometheus,
    /// Timestamps are seconds, and `# EOF` ends it.
    OpenMetrics,
}

/// Reads the lines of one text.
pub(crate) struct ExpositionReader {
    dialect: Dialect,
    /// The time of samples that have none of their own.
    scraped_at: Option<Timestamp>,
    /// Put on each series; empty where the text comes from a file.
    target: Labels,
    cache: SeriesCache,
    ended: bool,
    /// Samples that had no time of their own.
    untimed: u64,
}

impl ExpositionReader {
    pub(crate) fn new(dialect: Dialect, scraped_at: Option<Timestamp>) -> Self {
        Self {
            dialect,
            scraped_at,
            target: Labels::empty(),
            cache: SeriesCache::default(),
            ended: false,
            untimed: 0,
        }
    }

    /// For texts that a target gives again and again: its labels are put on each series, and a series that it gave
    /// before is known. Call [`Self::start`] before each text.
    pub(crate) fn of_target(dialect: Dialect, target: Labels) -> Self {
        Self { target, ..Self::new(dialect, None) }
    }

    /// Makes ready for another text of the same target.
    pub(crate) fn start(&mut self, scraped_at: Timestamp) {
        self.scraped_at = Some(scraped_at);
        self.ended = false;
    }

    /// How many samples had no time of their own so far.
    pub(crate) fn untimed(&self) -> u64 {
        self.untimed
    }

    /// Appends the sample of a line, if it has one.
    pub(crate) fn read(&mut self, line: &str, samples: &mut VecDeque<Sample>) -> Result<(), RowError> {
        let line = line.trim_ascii();
        self.ended |= self.dialect == Dialect::OpenMetrics && line == "# EOF";
        if self.ended || line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let (text, rest) = line.split_at(series_length(line));
        let mut words = rest.split_ascii_whitespace().take_while(|word| !word.starts_with('#'));
        let value = words.next().ok_or(RowError::NoValue)?;
        let value = value.parse().map_err(|_| RowError::Value(excerpt(value)))?;
        let at = if let Some(word) = words.next() {
            self.moment(word)?
        } else {
            self.untimed += 1;
            self.scraped_at.ok_or(RowError::NoScrapeTime)?
        };
        if let Some(more) = words.next() {
            return Err(RowError::Trailing(excerpt(more)));
        }
        let series = self.cache.series(text.as_bytes(), || {
            let own = series::parse(text, Escapes::Exposition)?;
            if self.target.is_empty() {
                Ok(own)
            } else {
                of_target(&own, &self.target).map_err(RowError::from)
            }
        })?;
        samples.push_back(Sample { series, at, value });
        Ok(())
    }

    fn moment(&self, word: &str) -> Result<Timestamp, MomentError> {
        match self.dialect {
            Dialect::Prometheus => {
                word.parse().map(Timestamp::from_millis).map_err(|_| MomentError::NotMillis(excerpt(word)))
            }
            Dialect::OpenMetrics => epoch_seconds(word),
        }
    }
}

/// Both label sets; a label of the series that the target has too is kept as `exported_…`, as Prometheus does.
fn of_target(own: &Labels, target: &Labels) -> Result<Labels, LabelsError> {
    let kept = own.iter().map(|(name, value)| {
        let mut name = name.to_owned();
        if target.get(&name).is_some() {
            name.insert_str(0, "exported_");
            while own.get(&name).is_some() {
                name.insert_str(0, "exported_");
            }
        }
        (name, value)
    });
    Labels::new(kept.chain(target.iter().map(|(name, value)| (name.to_owned(), value))))
}

/// How many bytes the metric name and the labels take; all, where the braces are never closed.
fn series_length(line: &str) -> usize {
    let bytes = line.as_bytes();
    let name = bytes.iter().take_while(|byte| **byte != b'{' && !byte.is_ascii_whitespace()).count();
    let blanks = bytes[name..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let brace = name + blanks;
    if bytes.get(brace) != Some(&b'{') {
        return name;
    }
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, byte) in bytes.iter().enumerate().skip(brace + 1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = is_quoted,
            b'"' => is_quoted = !is_quoted,
            b'}' if !is_quoted => return at + 1,
            _ => {}
        }
    }
    line.len()
}

#[cfg(test)]
mod tests {
    use crate::model::METRIC_NAME;

    use super::*;

    const SCRAPED_AT: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    type Read = Result<(String, i64, f64), String>;

    fn read(dialect: Dialect, text: &str) -> Vec<Read> {
        let mut reader = ExpositionReader::new(dialect, Some(SCRAPED_AT));
        let mut found = Vec::new();
        for line in text.lines() {
            let mut samples = VecDeque::new();
            match reader.read(line, &mut samples) {
                Ok(()) => found.extend(samples.into_iter().map(|sample| {
                    Ok((
                        sample.series.to_string(),
                        sample.at.as_millis() - SCRAPED_AT.as_millis(),
                        sample.value,
                    ))
                })),
                Err(cause) => found.push(Err(cause.to_string())),
            }
        }
        found
    }

    #[expect(clippy::unnecessary_wraps, reason = "it stands beside refusals")]
    fn sample(series: &str, at: i64, value: f64) -> Read {
        Ok((series.to_owned(), at, value))
    }

    #[test]
    fn the_example_of_the_format_reads_as_it_says() {
        // https://prometheus.io/docs/instrumenting/exposition_formats/#text-format-example, times moved.
        let text = r#"
# HELP http_requests_total The total number of HTTP requests.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1700000000007
# Escaping in label values:
msdos_file_access_time_seconds{path="C:\\DIR\\FILE.TXT",error="Cannot find file:\n\"FILE.TXT\""} 1.458255915e9

# Minimalistic line:
metric_without_timestamp_and_labels 12.47
something_weird{problem="division by zero"} +Inf -3982045
http_request_duration_seconds_bucket{le="+Inf"} 144320
rpc_duration_seconds{quantile="0.99"} -Inf
"#;
        assert_eq!(
            read(Dialect::Prometheus, text),
            [
                sample(r#"http_requests_total{code="200",method="post"}"#, 7, 1027.0),
                sample(
                    r#"msdos_file_access_time_seconds{error="Cannot find file:\n\"FILE.TXT\"",path="C:\\DIR\\FILE.TXT"}"#,
                    0,
                    1.458_255_915e9
                ),
                sample("metric_without_timestamp_and_labels", 0, 12.47),
                sample(
                    r#"something_weird{problem="division by zero"}"#,
                    -3_982_045 - SCRAPED_AT.as_millis(),
                    f64::INFINITY
                ),
                sample(r#"http_request_duration_seconds_bucket{le="+Inf"}"#, 0, 144_320.0),
                sample(r#"rpc_duration_seconds{quantile="0.99"}"#, 0, f64::NEG_INFINITY),
            ]
        );
    }

    #[test]
    fn open_metrics_counts_seconds_drops_exemplars_and_ends() {
        let text = "foo_bucket{le=\"1\"} 5 1700000000.25 # {trace_id=\"x\"} 0.67 1700000000\nfoo 1 # {} 1\n# EOF\nbar 1";
        assert_eq!(
            read(Dialect::OpenMetrics, text),
            [sample("foo_bucket{le=\"1\"}", 250, 5.0), sample("foo", 0, 1.0)]
        );
    }

    #[test]
    fn braces_in_values_blanks_and_quoted_names_are_taken() {
        assert_eq!(
            read(Dialect::Prometheus, "a {b = \"}{ \\\" #\"}\t7\n{\"my.metric\", x=\"1\"} 2\nnan NaN").len(),
            3
        );
        assert_eq!(
            read(Dialect::Prometheus, "a {b = \"}{ \\\" #\"}\t7"),
            [sample("a{b=\"}{ \\\" #\"}", 0, 7.0)]
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, message) in [
            ("up", "the value is missing"),
            ("up # {a=\"b\"} 1", "the value is missing"),
            ("up x", "`x` is not a number"),
            ("up 1 2 3", "`3` follows the sample"),
            (
                "up 1 1700000000.5",
                "`1700000000.5` is not a time in whole milliseconds\nhint: seconds are OpenMetrics",
            ),
            ("up{a=\"1\" 1", "the value is missing"),
            ("1up 1", "character 1 of `1up`: expected a metric name or `{`"),
            ("up{a='1'} 1", ""),
        ] {
            let found = read(Dialect::Prometheus, line);
            if message.is_empty() {
                assert!(found[0].is_ok());
            } else {
                assert_eq!(found, [Err(message.to_owned())], "{line}");
            }
        }
    }

    #[test]
    fn a_label_that_the_target_has_too_is_exported() {
        let labels = |text: &str| series::parse(text, Escapes::Promql).unwrap();
        let target = Labels::new([("job", "web")]).unwrap();
        for (own, both) in [
            ("up", "up{job=\"web\"}"),
            ("up{job=\"a\"}", "up{exported_job=\"a\",job=\"web\"}"),
            (
                "up{job=\"a\",exported_job=\"b\"}",
                "up{exported_exported_job=\"a\",exported_job=\"b\",job=\"web\"}",
            ),
        ] {
            assert_eq!(of_target(&labels(own), &target), Ok(labels(both)));
        }
    }

    #[test]
    fn a_sample_without_any_time_is_refused() {
        let mut reader = ExpositionReader::new(Dialect::Prometheus, None);
        let mut samples = VecDeque::new();
        assert_eq!(reader.read("up 1", &mut samples), Err(RowError::NoScrapeTime));
        assert_eq!(reader.read("up 1 5", &mut samples), Ok(()));
        assert_eq!(samples[0].series, Labels::new([(METRIC_NAME, "up")]).unwrap());
    }
}

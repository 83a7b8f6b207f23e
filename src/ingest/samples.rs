//! One stream of samples out of a file, standard input or any reader.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use crate::model::{Sample, Timestamp};

use super::csv::{CsvReader, Refusal};
use super::error::{IngestError, RowError};
use super::exposition::{Dialect, ExpositionReader};
use super::format::{Format, metric_of_path};
use super::json::JsonReader;
use super::lines::{LineError, Lines};

/// Refused rows of one file that are reported one by one; the rest are counted and reported together at its end.
pub(super) const ERRORS_REPORTED_MAX: u64 = 100;

/// The metric of values from standard input that come without one.
const STDIN_METRIC: &str = "stdin";

/// How to read.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Instead of what the file's name says; needed for standard input.
    pub format: Option<Format>,
    /// The first refused row ends the reading.
    pub strict: bool,
    /// The time of exposition samples without one of their own, which are refused otherwise.
    pub scraped_at: Option<Timestamp>,
    /// The metric of CSV rows that name none, instead of the file's stem.
    pub metric: Option<String>,
}

/// Opens a file, or standard input for `-`. Compression is told by the content, the format by the options or the name.
pub fn open(path: &Path, options: &Options) -> Result<Samples, IngestError> {
    let is_stdin = path == Path::new("-");
    let file: Arc<str> = if is_stdin { "<stdin>".into() } else { path.to_string_lossy().into() };
    let Some(format) = options.format.or_else(|| Format::of_path(path)) else {
        return Err(IngestError::UnknownFormat { file });
    };
    let mut options = options.clone();
    options.metric.get_or_insert_with(|| if is_stdin { STDIN_METRIC.into() } else { metric_of_path(path) });
    if is_stdin {
        return from_reader(&file, io::stdin(), format, &options);
    }
    let reader = File::open(path).map_err(|cause| IngestError::Open { file: Arc::clone(&file), cause })?;
    from_reader(&file, reader, format, &options)
}

/// Reads samples from anything; `name` stands in the errors.
pub fn from_reader(
    name: &str,
    reader: impl Read + Send + 'static,
    format: Format,
    options: &Options,
) -> Result<Samples, IngestError> {
    let file: Arc<str> = name.into();
    let parser = match format {
        Format::Csv => {
            let metric = options.metric.clone().unwrap_or_else(|| metric_of_path(Path::new(name)));
            Parser::Csv(CsvReader::new(metric))
        }
        Format::Exposition => {
            Parser::Exposition(ExpositionReader::new(Dialect::Prometheus, options.scraped_at))
        }
        Format::OpenMetrics => {
            Parser::Exposition(ExpositionReader::new(Dialect::OpenMetrics, options.scraped_at))
        }
        Format::JsonLines => Parser::Json(JsonReader::default()),
    };
    let lines = Lines::new(reader).map_err(|cause| IngestError::Open { file: Arc::clone(&file), cause })?;
    Ok(Samples {
        file,
        lines,
        parser,
        ready: VecDeque::new(),
        refused: 0,
        strict: options.strict,
        ended: false,
    })
}

/// Samples in the order of their rows. A refused row is an `Err` in between.
pub struct Samples {
    file: Arc<str>,
    lines: Lines,
    parser: Parser,
    /// Of the line that was read last; more than one where a line holds several.
    ready: VecDeque<Sample>,
    refused: u64,
    strict: bool,
    ended: bool,
}

enum Parser {
    Csv(CsvReader),
    Exposition(ExpositionReader),
    Json(JsonReader),
}

impl Parser {
    fn read(&mut self, line: &str, ready: &mut VecDeque<Sample>) -> Result<(), Refusal> {
        match self {
            Self::Csv(reader) => reader.read(line, ready),
            Self::Exposition(reader) => Ok(reader.read(line, ready)?),
            Self::Json(reader) => Ok(reader.read(line, ready)?),
        }
    }
}

impl Samples {
    /// How many rows were refused so far.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// How many samples had no time of their own so far, and got the scrape's.
    pub fn untimed(&self) -> u64 {
        match &self.parser {
            Parser::Exposition(reader) => reader.untimed(),
            Parser::Csv(_) | Parser::Json(_) => 0,
        }
    }

    pub(crate) fn is_strict(&self) -> bool {
        self.strict
    }

    /// Counts a refused row; gives the report, where it is still reported.
    pub(crate) fn refuse(&mut self, cause: RowError) -> Option<IngestError> {
        self.refused += 1;
        self.ended |= self.strict;
        (self.refused <= ERRORS_REPORTED_MAX).then(|| IngestError::Row {
            file: Arc::clone(&self.file),
            line: self.lines.number(),
            cause,
        })
    }

    /// Reads one line into `ready`; an error to report, if there is one.
    fn read_line(&mut self) -> Option<IngestError> {
        let refusal = match self.lines.next() {
            Ok(Some(line)) => match self.parser.read(line, &mut self.ready) {
                Ok(()) => return None,
                Err(refusal) => refusal,
            },
            Ok(None) => {
                self.ended = true;
                let rows = self.refused.saturating_sub(ERRORS_REPORTED_MAX);
                return (rows > 0).then(|| IngestError::More { file: Arc::clone(&self.file), rows });
            }
            Err(LineError::Row(cause)) => Refusal::Row(cause),
            Err(LineError::Read(cause)) => {
                self.ended = true;
                let (file, line) = (Arc::clone(&self.file), self.lines.number());
                return Some(IngestError::Read { file, line, cause });
            }
        };
        match refusal {
            Refusal::Row(cause) => self.refuse(cause),
            Refusal::Layout(cause) => {
                self.ended = true;
                let (file, line) = (Arc::clone(&self.file), self.lines.number());
                Some(IngestError::Layout { file, line, cause })
            }
        }
    }
}

impl Iterator for Samples {
    type Item = Result<Sample, IngestError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(sample) = self.ready.pop_front() {
                return Some(Ok(sample));
            }
            if self.ended {
                return None;
            }
            if let Some(error) = self.read_line() {
                return Some(Err(error));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use crate::model::{Labels, METRIC_NAME};

    use super::*;

    fn from_text(text: impl Into<Vec<u8>>, format: Format, options: &Options) -> Samples {
        from_reader("dir/some.csv", Cursor::new(text.into()), format, options).unwrap()
    }

    fn lines(samples: Samples) -> Vec<String> {
        samples
            .map(|item| match item {
                Ok(sample) => format!("{} {} {}", sample.series, sample.at.as_millis(), sample.value),
                Err(error) => error.to_string(),
            })
            .collect()
    }

    #[test]
    fn a_refused_row_is_reported_with_file_and_line_in_its_place() {
        let samples = from_text("timestamp,value\n1,1\n2,x\n\n3,3", Format::Csv, &Options::default());
        assert_eq!(lines(samples), ["some 1000 1", "dir/some.csv:3: `x` is not a number", "some 3000 3"]);
    }

    #[test]
    fn strict_ends_at_the_first_refusal() {
        let options = Options { strict: true, ..Options::default() };
        let samples = from_text("1,1\n2,x\n3,3", Format::Csv, &options);
        assert_eq!(lines(samples), ["some 1000 1", "dir/some.csv:2: `x` is not a number"]);
    }

    #[test]
    fn reports_are_bounded_and_refusals_are_counted() {
        let text = format!("timestamp,value\n{}9,9", "x,1\n".repeat(250));
        let mut samples = from_text(text, Format::Csv, &Options::default());
        let items: Vec<_> = samples.by_ref().collect();
        assert_eq!(samples.refused(), 250);
        assert_eq!(items.len() as u64, ERRORS_REPORTED_MAX + 2);
        assert_eq!(
            items.last().unwrap().as_ref().unwrap_err().to_string(),
            "dir/some.csv: 150 more rows refused"
        );
    }

    #[test]
    fn a_file_of_no_known_layout_ends_with_one_error() {
        let mut samples = from_text("a,b\n1,2\n", Format::Csv, &Options::default());
        let error = samples.next().unwrap().unwrap_err();
        assert!(
            error.is_final()
                && error.to_string().starts_with("dir/some.csv:1: the first row starts with `a`")
        );
        assert!(samples.next().is_none());
    }

    #[test]
    fn options_give_what_the_text_does_not() {
        let options = Options {
            metric: Some("named".into()),
            scraped_at: Some(Timestamp::from_millis(7)),
            ..Options::default()
        };
        assert_eq!(lines(from_text("1,1", Format::Csv, &options)), ["named 1000 1"]);
        assert_eq!(lines(from_text("up 1\nup 2 8", Format::Exposition, &options)), ["up 7 1", "up 8 2"]);
        assert_eq!(
            lines(from_text("up 1\nup 2 8\n# EOF\nx", Format::OpenMetrics, &options)),
            ["up 7 1", "up 8000 2"]
        );
    }

    #[test]
    fn opening_says_what_is_missing() {
        let open = |path: &str| open(Path::new(path), &Options::default()).err().unwrap().to_string();
        assert_eq!(open("missing/file.csv"), "cannot open `missing/file.csv`");
        assert!(open("-").starts_with("the name of `<stdin>` does not tell its format\nhint: "));
        assert!(open("x.parquet").starts_with("the name of `x.parquet` does not tell its format\nhint: "));
    }

    fn any_sample() -> impl Strategy<Value = Sample> {
        let pairs = prop::collection::btree_map("[a-zA-Z_][a-z0-9_]{0,4}", "\\PC{0,6}", 0..4);
        let value = prop_oneof![any::<f64>(), Just(f64::NAN), Just(f64::INFINITY)];
        // From 1973 on, so that milliseconds are taken for milliseconds.
        ("[a-zA-Z_:][a-zA-Z0-9_:]{0,8}", pairs, 100_000_000_000_i64..100_000_000_000_000, value).prop_map(
            |(name, pairs, at, value)| Sample {
                series: Labels::new(pairs.into_iter().chain([(METRIC_NAME.to_owned(), name)])).unwrap(),
                at: Timestamp::from_millis(at),
                value,
            },
        )
    }

    fn write(format: Format, samples: &[Sample]) -> String {
        let row = |sample: &Sample| {
            let (series, at, value) = (sample.series.to_string(), sample.at.as_millis(), sample.value);
            match format {
                Format::Csv => format!("{at},\"{}\",{value}\n", series.replace('"', "\"\"")),
                Format::Exposition => format!("{series} {value} {at}\n"),
                Format::OpenMetrics => format!("{series} {value} {}.{:03}\n", at / 1_000, at % 1_000),
                Format::JsonLines => {
                    let labels: serde_json::Map<_, _> =
                        sample.series.iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
                    let value = value.to_string();
                    let line = serde_json::json!({"metric": labels, "timestamp": at, "value": value});
                    format!("{line}\n")
                }
            }
        };
        samples.iter().map(row).collect()
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(samples in prop::collection::vec(any_sample(), 1..20)) {
            for format in Format::ALL {
                let header = if format == Format::Csv { "timestamp,metric,value\n" } else { "" };
                let text = header.to_owned() + &write(format, &samples);
                let read: Result<Vec<Sample>, IngestError> =
                    from_text(text, format, &Options::default()).collect();
                let read = read.map_err(|error| TestCaseError::fail(format!("{format}: {error}")))?;
                prop_assert_eq!(read.len(), samples.len());
                for (read, written) in read.iter().zip(&samples) {
                    prop_assert_eq!((&read.series, read.at), (&written.series, written.at));
                    let same = read.value.to_bits() == written.value.to_bits();
                    prop_assert!(same || (read.value.is_nan() && written.value.is_nan()));
                }
            }
        }

        #[test]
        fn no_bytes_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            rows in "(timestamp|metric|value|up|[0-9\",.{}=:\n \\[\\]-]){0,60}",
        ) {
            for format in Format::ALL {
                let _ = from_text(bytes.clone(), format, &Options::default()).count();
                let _ = from_text(rows.clone(), format, &Options::default()).count();
            }
        }
    }
}

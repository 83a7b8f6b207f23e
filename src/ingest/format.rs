//! The formats samples are read from, and how a file's name tells its own.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// The words of [`Format`], for messages.
pub(crate) const FORMATS: &str = "csv, exposition, openmetrics or jsonl";
/// The endings that tell a format, for messages.
pub(crate) const EXTENSIONS: &str =
    ".csv, .prom, .txt, .metrics, .om, .json, .jsonl or .ndjson (each also with .gz)";

/// A text format for samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values: one sample a row, or one series a column.
    Csv,
    /// Prometheus' exposition text 0.0.4: timestamps are milliseconds.
    Exposition,
    /// OpenMetrics text: timestamps are seconds, `# EOF` ends it.
    OpenMetrics,
    /// One JSON object a line.
    JsonLines,
}

impl Format {
    /// All of them, in the order in which help lists them.
    pub const ALL: [Self; 4] = [Self::Csv, Self::Exposition, Self::OpenMetrics, Self::JsonLines];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Exposition => "exposition",
            Self::OpenMetrics => "openmetrics",
            Self::JsonLines => "jsonl",
        }
    }

    /// What the ending of a file's name says, `.gz` aside.
    pub fn of_path(path: &Path) -> Option<Self> {
        let name = without_gz(path.file_name()?.to_str()?);
        let (_, extension) = name.rsplit_once('.')?;
        match extension.to_ascii_lowercase().as_str() {
            "csv" => Some(Self::Csv),
            "prom" | "txt" | "metrics" => Some(Self::Exposition),
            "om" => Some(Self::OpenMetrics),
            "json" | "jsonl" | "ndjson" => Some(Self::JsonLines),
            _ => None,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|format| format.as_str() == word)
            .ok_or_else(|| UnknownFormat(word.to_owned()))
    }
}

/// A word that names no format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a format of samples; these are: {FORMATS}")]
pub struct UnknownFormat(String);

/// The metric name of a file whose rows name none: its stem, with what a name cannot hold replaced by `_`.
pub(crate) fn metric_of_path(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = without_gz(&name);
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    to_identifier(stem, ":")
}

/// The nearest name PromQL takes without quotes: ASCII letters, digits, `_` and what `also` holds, digits not first.
pub(crate) fn to_identifier(text: &str, also: &str) -> String {
    let mut name: String = text
        .trim()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' || also.contains(c) { c } else { '_' })
        .collect();
    if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) {
        name.insert(0, '_');
    }
    name
}

fn without_gz(name: &str) -> &str {
    name.strip_suffix(".gz").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_tells_the_format_and_gz_does_not_hide_it() {
        for (path, format) in [
            ("a/b.csv", Some(Format::Csv)),
            ("b.CSV", Some(Format::Csv)),
            ("a.b.csv.gz", Some(Format::Csv)),
            ("node.prom", Some(Format::Exposition)),
            ("export.jsonl.gz", Some(Format::JsonLines)),
            ("x.om", Some(Format::OpenMetrics)),
            ("noending", None),
            ("dir.csv/x.parquet", None),
            ("-", None),
        ] {
            assert_eq!(Format::of_path(Path::new(path)), format, "{path}");
        }
    }

    #[test]
    fn each_word_reads_back_and_others_are_refused() {
        for format in Format::ALL {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        assert_eq!("xml".parse::<Format>(), Err(UnknownFormat("xml".into())));
    }

    #[test]
    fn a_stem_becomes_a_metric_name() {
        for (path, name) in [
            ("d/ec2_cpu_utilization_24ae8d.csv", "ec2_cpu_utilization_24ae8d"),
            ("exchange-3_cpc_results.csv", "exchange_3_cpc_results"),
            ("05f10d3a-239c.csv.gz", "_05f10d3a_239c"),
            ("job:rate.csv", "job:rate"),
            ("naïve.csv", "na_ve"),
            (".csv", "_"),
        ] {
            assert_eq!(metric_of_path(Path::new(path)), name, "{path}");
        }
    }
}

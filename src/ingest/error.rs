//! Why a file, a line of it or a row was refused.

use std::io;
use std::sync::Arc;

use crate::model::{LabelsError, Timestamp};

use super::format::{EXTENSIONS, FORMATS};
use super::lines::LINE_BYTES_MAX;
use super::moment::MomentError;
use super::series::SeriesError;

/// What a reader of samples reports. A refused row is one item; reading goes on unless [`IngestError::is_final`].
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The file cannot be opened.
    #[error("cannot open `{file}`")]
    Open {
        /// The path as it was given.
        file: Arc<str>,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The name does not tell the format and none was given.
    #[error(
        "the name of `{file}` does not tell its format\nhint: --input-format {FORMATS} names it, and so does an end in {EXTENSIONS}"
    )]
    UnknownFormat {
        /// The path as it was given.
        file: Arc<str>,
    },
    /// The bytes end early, or a compressed file is damaged.
    #[error("{file}:{line}: cannot read on")]
    Read {
        /// The file.
        file: Arc<str>,
        /// The line that was being read, from 1.
        line: u64,
        /// What the system or the decompressor said.
        #[source]
        cause: io::Error,
    },
    /// The first row shows that this file is of no kind that is taken.
    #[error("{file}:{line}: {cause}")]
    Layout {
        /// The file.
        file: Arc<str>,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        cause: LayoutError,
    },
    /// One row is refused.
    #[error("{file}:{line}: {cause}")]
    Row {
        /// The file.
        file: Arc<str>,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        cause: RowError,
    },
    /// Rows that were refused after the first hundred had been reported one by one.
    #[error("{file}: {rows} more rows refused")]
    More {
        /// The file.
        file: Arc<str>,
        /// How many beyond those reported.
        rows: u64,
    },
}

impl IngestError {
    /// Whether nothing more of this file is read, whatever the options say.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Open { .. } | Self::UnknownFormat { .. } | Self::Read { .. } | Self::Layout { .. } => true,
            Self::Row { .. } | Self::More { .. } => false,
        }
    }
}

/// Why the first row of a CSV file cannot tell what its columns are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Neither a header nor a sample.
    #[error(
        "the first row starts with `{0}`: neither a header with a time column nor a time\n\
         hint: name the time column `timestamp`"
    )]
    NoTime(String),
    /// A time and nothing to go with it.
    #[error("the header names no `value` column and no metric of its own")]
    NoValue,
    /// Without a header, `time,value` and `time,metric,value` are taken.
    #[error(
        "without a header, {0} columns starting with a time are ambiguous\n\
         hint: put a header before them: timestamp,value | timestamp,metric,value | timestamp,value,LABEL,…"
    )]
    Ambiguous(usize),
    /// Two columns that would give the same label or series.
    #[error("the header names `{0}` twice")]
    Twice(String),
    /// A column without a name.
    #[error("column {0} of the header has no name")]
    NoName(usize),
    /// More columns than a row may have.
    #[error("{0} columns, at most {max} are taken", max = super::fields::COLUMNS_MAX)]
    TooManyColumns(usize),
    /// A column's name makes no label or metric name within the limits.
    #[error(transparent)]
    Labels(#[from] LabelsError),
    /// The first line is not text or a quote in it is never closed.
    #[error("the header cannot be read: {0}")]
    Row(Box<RowError>),
}

/// Why a row is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// The line is longer than a line may be.
    #[error("the line is longer than {} MiB", LINE_BYTES_MAX >> 20)]
    LineTooLong,
    /// Text is UTF-8.
    #[error("not UTF-8 from byte {0} on")]
    NotUtf8(usize),
    /// A quote that is never closed on its line, or text behind one.
    #[error("column {0}: the quotes are not closed, or text follows them (a field ends on its line)")]
    Quotes(usize),
    /// More or fewer fields than the header or the first row.
    #[error("{found} columns, where {expected} are expected")]
    Columns {
        /// As the header or the first row has.
        expected: usize,
        /// In this row.
        found: usize,
    },
    /// A time that cannot be read.
    #[error(transparent)]
    Moment(#[from] MomentError),
    /// A value that is no number.
    #[error("`{0}` is not a number")]
    Value(String),
    /// A value in a column of its own metric that is no number.
    #[error("`{text}` in column `{column}` is not a number")]
    Cell {
        /// The metric.
        column: String,
        /// What stands there.
        text: String,
    },
    /// A row that ends before its value, or an empty field.
    #[error("the value is missing")]
    NoValue,
    /// A metric name and labels that cannot be read.
    #[error(transparent)]
    Series(#[from] SeriesError),
    /// Labels that break a limit.
    #[error(transparent)]
    Labels(#[from] LabelsError),
    /// A series without a metric name.
    #[error("the metric name is missing")]
    NoMetric,
    /// A row that has to say when, and does not.
    #[error("the sample has no timestamp")]
    NoTime,
    /// A scrape without a time of its own, read without saying when it was taken.
    #[error(
        "the sample has no timestamp, and the time of the scrape was not given\nhint: --at TIME gives it"
    )]
    NoScrapeTime,
    /// Something behind a complete sample.
    #[error("`{0}` follows the sample")]
    Trailing(String),
    /// Not JSON, or JSON that is no sample.
    #[error("{0}")]
    Json(String),
    /// As many values as times are needed.
    #[error("{values} values but {timestamps} timestamps")]
    Uneven {
        /// How many values.
        values: usize,
        /// How many times.
        timestamps: usize,
    },
    /// Further out of order than the read-ahead can mend.
    #[error("{at} is before {passed}, which has been passed on already\nhint: sort the file by time first")]
    OutOfOrder {
        /// The row's time.
        at: Timestamp,
        /// The latest time passed on.
        passed: Timestamp,
    },
}

/// Enough of a user's text to find it, not enough to flood a terminal.
pub(crate) fn excerpt(text: &str) -> String {
    const EXCERPT_CHARACTERS_MAX: usize = 60;
    let mut short: String = text.chars().take(EXCERPT_CHARACTERS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

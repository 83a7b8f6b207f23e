//! Readers of samples: text from files, pipes and scrapes in, checked [`Sample`](crate::model::Sample)s out.
//!
//! Everything streams and is bounded: a line, a label set, the number of reported errors, the read-ahead that puts
//! several files in order of time. A bad row is refused with file, line and cause, counted, and the rest goes on.

mod csv;
mod error;
mod exposition;
mod fields;
mod format;
mod host;
mod json;
mod lines;
mod merge;
mod moment;
mod samples;
mod scrape;
mod series;
mod series_cache;

pub use error::{IngestError, LayoutError, RowError};
pub use format::{Format, UnknownFormat};
pub use host::{
    DiskReading, Host, HostError, HostReading, NetworkReading, PROCESSES_MAX, ProcessChoice, ProcessReading,
};
pub use merge::{Merged, SORT_WINDOW_SAMPLES_MAX, merge, merge_within};
pub use moment::{EPOCH_MILLIS_MAX, EPOCH_MILLIS_MIN, MomentError, parse_moment};
pub use samples::{ERRORS_REPORTED_MAX, Options, Samples, from_reader, open};
pub use scrape::{
    SCRAPE_BODY_BYTES_MAX, SCRAPE_TIMEOUT, Scrape, ScrapeBody, ScrapeClient, ScrapeError, ScrapeTarget,
};
pub use series::{SeriesError, parse_series};

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
pub use host::{DiskReading, Host, HostError, HostReading, NetworkReading, ProcessChoice, ProcessReading};
pub use merge::{Merged, merge};
pub use moment::{MomentError, parse_moment};
pub use samples::{Options, Samples, from_reader, open};
pub use scrape::{SCRAPE_TIMEOUT, Scrape, ScrapeBody, ScrapeClient, ScrapeError, ScrapeTarget};
pub(crate) use series::parse_beginning;
pub use series::{SeriesError, parse_series};

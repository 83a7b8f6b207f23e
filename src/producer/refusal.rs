//! Samples that are not taken, and why.

/// Why a sample is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A series is told to a bucket by its metric name.
    #[error("the series has no metric name")]
    NoMetric,
    /// See [`SERIES_MAX`](super::SERIES_MAX).
    #[error("the producer has as many series as it may have")]
    TooManySeries,
    /// See [`ROWS_WAITING_MAX`](super::ROWS_WAITING_MAX).
    #[error("more rows wait to be sent than may wait")]
    TooManyRows,
    /// A reference that another framer gave, or one to a series that was not used for so long that it was forgotten.
    #[error("the reference names no series of this producer")]
    UnknownSeries,
}

/// How many samples were refused, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// See [`Refusal::NoMetric`].
    pub no_metric: u64,
    /// See [`Refusal::TooManySeries`].
    pub too_many_series: u64,
    /// See [`Refusal::TooManyRows`].
    pub too_many_rows: u64,
    /// See [`Refusal::UnknownSeries`].
    pub unknown_series: u64,
}

impl Refusals {
    pub(super) fn count(&mut self, refusal: Refusal) {
        match refusal {
            Refusal::NoMetric => self.no_metric += 1,
            Refusal::TooManySeries => self.too_many_series += 1,
            Refusal::TooManyRows => self.too_many_rows += 1,
            Refusal::UnknownSeries => self.unknown_series += 1,
        }
    }
}

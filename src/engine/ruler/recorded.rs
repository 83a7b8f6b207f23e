//! The series that a rule gives: written into the store, and marked as stale when they are given no longer.

use std::collections::BTreeSet;

use super::{Given, RuleError};
use crate::engine::promql::{Appended, STALE, SeriesStore};
use crate::model::{Labels, Timestamp};

/// The series that a rule gave at its last evaluation.
#[derive(Clone, Debug, Default)]
pub(super) struct Recorded {
    series: BTreeSet<Labels>,
}

impl Recorded {
    /// Writes what a rule gives at a time, and an end where it gave a series the last time and does not any more. A
    /// sample that the store does not take fails the rule and leaves the others; an end that it does not take is one
    /// of a series that something else continues.
    pub(super) fn write(
        &mut self,
        store: &mut SeriesStore,
        at: Timestamp,
        given: Vec<Given>,
    ) -> Result<(), RuleError> {
        let (mut now, mut error) = (BTreeSet::new(), None);
        for (labels, value) in given {
            match append(store, &labels, at, value) {
                Ok(()) => drop(now.insert(labels)),
                Err(cause) => error = Some(cause),
            }
        }
        for gone in self.series.difference(&now) {
            let _ = append(store, gone, at, STALE);
        }
        self.series = now;
        error.map_or(Ok(()), Err)
    }
}

/// One sample. As in Prometheus nothing is written behind a series' newest sample.
fn append(store: &mut SeriesStore, labels: &Labels, at: Timestamp, value: f64) -> Result<(), RuleError> {
    let series = store.series(labels)?;
    if !store.samples(series, at, Timestamp::MAX).is_empty() {
        return Err(RuleError::OutOfOrder(labels.to_string()));
    }
    match store.append(series, at, value) {
        Appended::Stored | Appended::StoredLate | Appended::Duplicate => Ok(()),
        Appended::Conflict => Err(RuleError::Duplicate(labels.to_string())),
        Appended::TooOld => Err(RuleError::OutOfOrder(labels.to_string())),
        Appended::Full | Appended::Forgotten => Err(RuleError::NoRoom),
    }
}

//! Why a rule could not be evaluated. Texts in the words of Prometheus where it has some, so that they can be looked up.

use crate::engine::promql::{EvalError, StoreFull};
use crate::model::LabelsError;

/// Why a rule gives nothing this time, or not all of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The expression has no value.
    #[error(transparent)]
    Evaluation(EvalError),
    /// The expression's value is a text.
    #[error("rule result is not a vector or scalar")]
    NotAVector,
    /// The labels that the rule puts on are more than a series may have.
    #[error(transparent)]
    Labels(#[from] LabelsError),
    /// Two elements are the same series once the rule has put its labels on.
    #[error("vector contains metrics with the same labelset after applying {0} labels")]
    SameLabels(&'static str),
    /// The rule gives more than its group allows.
    #[error("exceeded limit of {limit} with {count} {what}")]
    Limit {
        /// What the group allows.
        limit: u64,
        /// What the rule would give.
        count: usize,
        /// Alerts or series.
        what: &'static str,
    },
    /// A series has another value at this time, from elsewhere.
    #[error("duplicate sample for timestamp: {0} has another value at this time")]
    Duplicate(String),
    /// A series has a newer sample, from elsewhere.
    #[error("out of order sample: {0} has a newer one")]
    OutOfOrder(String),
    /// There is no room for another series.
    #[error(transparent)]
    Full(#[from] StoreFull),
    /// There is no room for another sample.
    #[error("there is no room for more samples")]
    NoRoom,
}

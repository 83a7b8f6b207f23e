//! Why a role cannot go on.

use crate::bus::nats::{FeedError, WorkError};

/// Why a role cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    /// The ledger cannot be followed.
    #[error("the ledger cannot be followed")]
    Feed(#[from] FeedError),
    /// The shared queue cannot be used.
    #[error("the shared queue cannot be used")]
    Work(#[from] WorkError),
    /// The store cannot be used.
    #[error("knowledge cannot be kept: {0}")]
    Knowledge(String),
    /// A newer version has written the ledger: deciding without what it says would be deciding on half the truth.
    #[error("the ledger has a message of a newer version at {sequence}: {cause}\nhint: run this version or a newer one on all roles of the cell")]
    NewerLedger {
        /// Where.
        sequence: u64,
        /// What it is.
        cause: String,
    },
}

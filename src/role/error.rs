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
    /// The stream of samples cannot be read.
    #[error("a stream cannot be read")]
    Read(#[from] crate::bus::ReadError),
    /// The samples cannot be subscribed to.
    #[error("the samples cannot be subscribed to")]
    Listen(#[source] crate::bus::nats::ListenError),
    /// The object store cannot be used.
    #[error("the object store cannot be used")]
    Objects(#[from] crate::bus::nats::ObjectError),
    /// A lease cannot be asked for.
    #[error("a lease cannot be asked for")]
    Lease(#[from] crate::bus::nats::LeaseError),
    /// The service cannot be offered.
    #[error("the knowledge service cannot be offered")]
    Service(#[from] crate::bus::nats::ServiceError),
    /// Somebody else has what only one can have.
    #[error(
        "`{key}` is held by {holder}\nhint: one process at a time runs this role in a cell; stop that one, or leave the role out with --roles"
    )]
    Taken {
        /// What.
        key: String,
        /// By whom.
        holder: String,
    },
    /// Somebody else has taken over.
    #[error("the lease `{0}` was taken over by another process")]
    LeaseLost(String),
    /// A newer version has written the ledger: deciding without what it says would be deciding on half the truth.
    #[error(
        "the ledger has a message of a newer version at {sequence}: {cause}\nhint: run this version or a newer one on all roles of the cell"
    )]
    NewerLedger {
        /// Where.
        sequence: u64,
        /// What it is.
        cause: String,
    },
}

//! Why there is nothing to tell.

use std::time::Duration;

use crate::bus::nats;
use crate::bus::{PublishError, ReadError};
use crate::role::applying::ApplyError;
use crate::role::process::ProcessError;

/// A measurement that came to no end.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The private server does not run.
    #[error("the private server cannot be used")]
    Server(#[from] nats::ServerError),
    /// Its address is none.
    #[error("the private server cannot be addressed")]
    Settings(#[from] nats::SettingsError),
    /// It cannot be reached.
    #[error("the private server cannot be reached")]
    Connect(#[from] nats::ConnectError),
    /// Its streams cannot be made.
    #[error("the streams cannot be made")]
    Topology(#[from] nats::TopologyError),
    /// A prefix of ours is none.
    #[error("the subjects cannot be used")]
    Subjects(#[from] crate::wire::subject::SubjectError),
    /// A subject cannot be listened on.
    #[error("the effects cannot be listened for")]
    Listen(#[from] nats::ListenError),
    /// The ledger cannot be read.
    #[error("the ledger cannot be read")]
    Read(#[from] ReadError),
    /// The ledger cannot be followed.
    #[error("the ledger cannot be followed")]
    Feed(#[from] nats::FeedError),
    /// A shared queue cannot be used.
    #[error("a shared queue cannot be used")]
    Work(#[from] nats::WorkError),
    /// A message was not taken.
    #[error("a message was not taken")]
    Publish(#[from] PublishError),
    /// A frame cannot be written.
    #[error("a frame cannot be written")]
    Encode(#[from] crate::wire::EncodeError),
    /// The labels of a series are none.
    #[error("the labels of a series cannot be used")]
    Labels(#[from] crate::model::LabelsError),
    /// The configuration cannot be applied.
    #[error("the configuration cannot be applied")]
    Apply(#[from] ApplyError),
    /// The roles do not run.
    #[error("the roles cannot go on")]
    Process(#[from] ProcessError),
    /// The monitor cannot be asked.
    #[error("the monitor cannot be asked")]
    Scrape(#[from] crate::ingest::ScrapeError),
    /// A file or a process of the measurement.
    #[error("{what}")]
    Io {
        /// What was wanted.
        what: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Something that always happens did not.
    #[error("{what} did not happen within {waited:?}")]
    Late {
        /// What.
        what: &'static str,
        /// How long it was waited for.
        waited: Duration,
    },
    /// Something ended that has to run.
    #[error("{0} ended before the measurement")]
    Ended(&'static str),
    /// What was measured is not what was sent.
    #[error("the measurement does not count: {0}")]
    Invalid(String),
}

/// Waits for something that always happens.
pub(super) async fn soon<T>(
    what: &'static str,
    waited: Duration,
    wait: impl Future<Output = T>,
) -> Result<T, BenchError> {
    tokio::time::timeout(waited, wait).await.map_err(|_| BenchError::Late { what, waited })
}

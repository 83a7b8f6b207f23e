//! What can go wrong with the store, and what makes it doubtful.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::Table;
use super::change::{CHANGE_BYTES_MAX, RECORDS_PER_CHANGE_MAX, VALUE_BYTES_MAX};
use super::table::KEY_BYTES_MAX;

/// Why a call did not do what it was asked. Nothing was changed, except where a variant says so.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The path cannot be a store: it has no name, or holds something else.
    #[error("`{}` {problem}", dir.display())]
    NotAStore {
        /// As it was given.
        dir: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Another process kept the lock for as long as a dying predecessor could.
    #[error("the store `{}` is in use by another process\nhint: one process at a time: stop the one whose knowledge role runs on it", dir.display())]
    Locked {
        /// The store.
        dir: PathBuf,
    },
    /// So many folders were moved aside that something keeps damaging the store.
    #[error("{count} doubtful folders stand beside the store `{}`; look into them, then move or remove them", dir.display())]
    TooManyDoubtful {
        /// The store.
        dir: PathBuf,
        /// How many stand there.
        count: usize,
    },
    /// The operating system refused; it says nothing about the contents.
    #[error("the store cannot {doing} `{}`", path.display())]
    System {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The change may or may not be on disk; reads answer as of the sequence applied before it, or fail with the engine.
    #[error(
        "the change up to ledger sequence {applied} was not stored: {reason}; the store must be reopened"
    )]
    NotStored {
        /// The change's sequence.
        applied: u64,
        /// What went wrong.
        reason: String,
    },
    /// An earlier failure closed the store for writing; reads go on as long as the engine lets them.
    #[error("the store takes no writes until it is reopened: {reason}")]
    Refusing {
        /// The first failure.
        reason: String,
    },
    /// The store is as large as it may become.
    #[error("the store holds {rows} rows in {bytes} bytes and may not grow; retention must delete first")]
    Full {
        /// Rows after the change.
        rows: u64,
        /// Bytes of keys and values after the change.
        bytes: u64,
    },
    /// A key is empty or too long.
    #[error("key of {bytes} bytes in `{table}`; 1 to {KEY_BYTES_MAX} are allowed")]
    KeyLength {
        /// Where.
        table: Table,
        /// Its length.
        bytes: usize,
    },
    /// A value is too long.
    #[error("value of {bytes} bytes in `{table}`; up to {VALUE_BYTES_MAX} are allowed")]
    ValueTooLong {
        /// Where.
        table: Table,
        /// Its length.
        bytes: usize,
    },
    /// A change names too many records or bytes.
    #[error(
        "change of {records} records and {bytes} bytes; up to {RECORDS_PER_CHANGE_MAX} and {CHANGE_BYTES_MAX} are allowed"
    )]
    ChangeTooLarge {
        /// Records, with the refused one.
        records: usize,
        /// Bytes, with the refused one.
        bytes: usize,
    },
    /// The identity of the ledger does not fit the header.
    #[error("ledger identity of {bytes} bytes; up to 256 are allowed")]
    IdentityTooLong {
        /// Its length.
        bytes: usize,
    },
    /// What was read is not what was written; the store takes no writes until it is reopened and checked.
    #[error("the store is damaged: {problem}")]
    Damaged {
        /// Where and how.
        problem: String,
    },
    /// An export could not be written.
    #[error("the export cannot be written")]
    Export {
        /// What the system said.
        source: io::Error,
    },
    /// An export could not be read; the store is as it was.
    #[error("export refused at byte {offset}, record {record}: {problem}")]
    Import {
        /// Where the damaged frame begins.
        offset: u64,
        /// How many records stood before it.
        record: u64,
        /// What is wrong there.
        problem: String,
    },
}

impl StoreError {
    /// Whether room on the disk would mend it.
    pub fn is_full(&self) -> bool {
        match self {
            Self::System { source, .. } => is_full(source),
            Self::NotAStore { .. }
            | Self::Locked { .. }
            | Self::TooManyDoubtful { .. }
            | Self::NotStored { .. }
            | Self::Refusing { .. }
            | Self::Full { .. }
            | Self::KeyLength { .. }
            | Self::ValueTooLong { .. }
            | Self::ChangeTooLarge { .. }
            | Self::IdentityTooLong { .. }
            | Self::Damaged { .. }
            | Self::Export { .. }
            | Self::Import { .. } => false,
        }
    }

    /// For `map_err`: what was tried, and on what.
    pub(super) fn system(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { doing, path: path.to_owned(), source }
    }
}

/// Whether the disk is full, or what may be written to it.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Why a store was not believed. It was moved aside, and the view must be rebuilt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// Written in another format of this module.
    Format {
        /// The number in its header.
        found: u16,
    },
    /// Written by a fold with other records.
    Schema {
        /// The number in its header.
        found: u16,
        /// The caller's.
        wanted: u16,
    },
    /// A view of another ledger: the stream was created anew.
    OtherLedger,
    /// `CURRENT` is missing, unreadable or names nothing.
    Pointer(String),
    /// A record, the header or a file of sled is not what was written.
    Damaged(String),
    /// All records are well-formed, but they are not the ones the header counts.
    Totals {
        /// Rows counted and expected.
        rows: (u64, u64),
        /// Whether the sums of the rows' hashes agree.
        checksum_agrees: bool,
    },
    /// sled panicked on these files.
    Panicked(String),
    /// Opening and checking did not come back.
    TimedOut,
    /// The caller's own reason, for example a ledger that went back.
    Caller(String),
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format { found } => write!(f, "format {found}, not {}", super::header::FORMAT),
            Self::Schema { found, wanted } => write!(f, "schema {found}, not {wanted}"),
            Self::OtherLedger => f.write_str("a view of another ledger"),
            Self::Pointer(problem) | Self::Damaged(problem) => f.write_str(problem),
            Self::Totals { rows: (counted, expected), checksum_agrees } => {
                let sums = if *checksum_agrees { "agree" } else { "differ" };
                write!(f, "{counted} rows where {expected} were written, checksums {sums}")
            }
            Self::Panicked(message) => write!(f, "the engine panicked: {message}"),
            Self::TimedOut => f.write_str("opening it did not come to an end"),
            Self::Caller(reason) => f.write_str(reason),
        }
    }
}

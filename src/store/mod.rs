//! Keeps a view of the ledger on disk that can be thrown away and built again. The only module that names sled.
//!
//! Bytes in, bytes out, synchronous: callers run it on a thread of their own. A [`Change`] and the ledger sequence
//! it leads to become durable together or not at all. Opening reads every row and compares count and checksum with
//! what the last change recorded; a store with any doubt about it is moved aside, never served and never deleted,
//! and the caller folds the ledger again into an empty one.

mod change;
mod compaction;
mod engine;
mod error;
mod export;
mod folder;
mod fresh;
mod guard;
mod header;
mod import;
mod opening;
mod probe;
mod row;
#[expect(clippy::module_inception, reason = "the type this module is about")]
mod store;
mod table;
mod view;

pub use change::{Change, VALUE_BYTES_MAX};
pub use compaction::Compacted;
pub use error::{Doubt, StoreError};
pub use export::Copied;
pub use header::Identity;
pub use opening::{Found, Opened, Options};
pub use store::{Applied, Stats, Store};
pub use table::{KEY_BYTES_MAX, KeyRange, Record, Table};
pub use view::Page;

#[cfg(test)]
mod tests;

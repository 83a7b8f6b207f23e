//! What is on the bus, on disk and in the API: every noun of the model has one written form, and it is told here.
//!
//! Between processes bodies are MessagePack maps with named fields; readers ignore fields they do not know, and tell
//! a word they do not know ([`Fault::Unknown`]: a newer version wrote it) from nonsense ([`Fault::Malformed`]).

mod body;
pub mod bundle;
pub mod checkpoint;
pub mod envelope;
mod error;
pub mod files;
pub mod fold;
pub mod frame;
pub mod intake;
pub mod knowledge;
mod leaf;
pub mod ledger;
mod msgpack;
mod nouns;
pub mod subject;
pub mod table;
mod words;

pub use body::{ContentType, MESSAGE_BYTES_MAX, TEXT_BYTES_MAX};
pub use envelope::{Envelope, Headers, Message};
pub use error::{DecodeError, EncodeError, Fault};
pub use subject::{Intake, Subject, Subjects};

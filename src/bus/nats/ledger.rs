//! The ledger: published with compare-and-set, read from its leader, followed in order.
//!
//! A lock is decided on what the leader has: a direct read may come from a replica that is behind, even behind our own
//! write, so none is used here.

use std::future::Future;

use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{Info, LastRawMessageErrorKind, RawMessageError, Stream};
use serde_json::json;

use super::api::ApiError;
use super::connect::Connection;
use super::convert::{stored, timestamp};
use super::feed::Feed;
use super::publish::Publisher;
use super::topology::Names;
use crate::bus::{ReadError, Stored, Tail};
use crate::model::Timestamp;

/// The ledger of a cell. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ledger {
    connection: Connection,
    stream: Stream<()>,
    name: String,
    publisher: Publisher,
}

impl Ledger {
    /// The ledger that `names` names.
    pub async fn open(connection: Connection, names: &Names) -> Result<Self, ReadError> {
        Self::of_stream(connection, &names.ledger).await
    }

    /// Any stream, read and written as a ledger is.
    pub async fn of_stream(connection: Connection, name: &str) -> Result<Self, ReadError> {
        let stream = connection.jetstream.get_stream_no_info(name).await;
        let stream = stream.map_err(|error| ReadError::Refused(error.to_string()))?;
        let publisher = Publisher::new(connection.clone(), name);
        Ok(Self { connection, stream, name: name.to_owned(), publisher })
    }

    /// Publishes into it.
    pub const fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// The last message on a subject, as the leader has it.
    pub async fn last_on(&self, subject: &str) -> Result<Option<Stored>, ReadError> {
        self.read(self.stream.get_last_raw_message_by_subject(subject)).await
    }

    /// The message at a place, as the leader has it.
    pub async fn get(&self, sequence: u64) -> Result<Option<Stored>, ReadError> {
        self.read(self.stream.get_raw_message(sequence)).await
    }

    /// Where it begins and ends.
    pub async fn tail(&self) -> Result<Tail, ReadError> {
        let info = self.connection.api::<Info>(format!("STREAM.INFO.{}", self.name), &json!({})).await;
        let info = info.map_err(read_error)?;
        Ok(Tail {
            first_sequence: info.state.first_sequence,
            last_sequence: info.state.last_sequence,
            created: timestamp(info.created),
        })
    }

    /// Everything from a place on, in order; 0 begins with the oldest message there is. With `created`, another stream
    /// under the same name is an error instead of another history.
    pub fn feed(&self, from_sequence: u64, created: Option<Timestamp>) -> Feed {
        Feed::new(self.clone(), self.connection.clone(), self.name.clone(), from_sequence, created)
    }

    async fn read(
        &self,
        question: impl Future<Output = Result<StreamMessage, RawMessageError>>,
    ) -> Result<Option<Stored>, ReadError> {
        let Some(answer) = self.connection.answered(question).await else {
            return Err(ReadError::Unavailable("the connection was lost".into()));
        };
        let error = match answer {
            Ok(message) => return Ok(Some(stored(message))),
            Err(error) => error,
        };
        match error.kind() {
            LastRawMessageErrorKind::NoMessageFound => Ok(None),
            LastRawMessageErrorKind::InvalidSubject | LastRawMessageErrorKind::JetStream(_) => {
                Err(ReadError::Refused(error.to_string()))
            }
            LastRawMessageErrorKind::Other => Err(read_error(self.connection.unavailable(&error))),
        }
    }
}

fn read_error(error: ApiError) -> ReadError {
    match error {
        ApiError::Unavailable(text) => ReadError::Unavailable(text),
        ApiError::Answered { text, .. } => ReadError::Refused(text),
    }
}

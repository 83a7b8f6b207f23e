//! Publishing into a stream: compare-and-set, ids, an answer or a time-out, never more than so many in flight.
//!
//! Which of the two comes first differs: a stream with one replica checks the expected last sequence before the id, one
//! with three the id before the sequence (nats-server 2.15.1). So a message that is published again after its answer
//! was lost is answered as a wrong last sequence there and as a duplicate here: both mean "read what is stored".

use std::error::Error as _;
use std::future::{Future, IntoFuture as _};

use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, ErrorCode};
use async_nats::{HeaderValue, header};

use super::connect::Connection;
use super::convert::header_map;
use crate::bus::{Outgoing, PublishError, Published};

/// The server's word for "more messages than the stream's queue takes, try later" (since 2.11).
const TOO_MANY_REQUESTS: u64 = 10_167;

/// Publishes into one stream. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Publisher {
    connection: Connection,
    stream: Option<HeaderValue>,
}

impl Publisher {
    /// Publishes into the named stream and nowhere else: a subject that another stream stores is refused.
    pub fn new(connection: Connection, stream: &str) -> Self {
        Self { connection, stream: stream.parse().ok() }
    }

    /// Publishes and waits for the answer, at most the request timeout.
    pub async fn publish(&self, outgoing: Outgoing) -> Result<Published, PublishError> {
        self.send(outgoing).await?.await
    }

    /// Publishes and gives the answer as a future, so that many can be under way. It waits while too many are (1,024
    /// per connection), at most the request timeout; what it returned before that is not stored.
    pub async fn send(
        &self,
        outgoing: Outgoing,
    ) -> Result<impl Future<Output = Result<Published, PublishError>> + Send + 'static, PublishError> {
        let subject = outgoing.subject.clone();
        let message = self.message(outgoing)?;
        self.connection.observe();
        let lost = self.connection.events.lost();
        let sending = self.connection.jetstream.send_publish(subject, message);
        let answer = tokio::time::timeout(self.connection.timeout, sending)
            .await
            .map_err(|_| PublishError::Unavailable("too many publishes wait for their answers".into()))?
            // A time-out here is one of waiting for room in the connection's queue: it was never sent.
            .map_err(|error| match error.kind() {
                PublishErrorKind::TimedOut => PublishError::Unavailable("the connection is down".into()),
                PublishErrorKind::StreamNotFound
                | PublishErrorKind::WrongLastMessageId
                | PublishErrorKind::WrongLastSequence
                | PublishErrorKind::BrokenPipe
                | PublishErrorKind::MaxAckPending
                | PublishErrorKind::MaxPayloadExceeded
                | PublishErrorKind::Other => publish_error(&error),
            })?;
        Ok(async move {
            tokio::select! {
                biased;
                answer = answer.into_future() => match answer {
                    Ok(ack) => Ok(Published { sequence: ack.sequence, duplicate: ack.duplicate }),
                    Err(error) => Err(publish_error(&error)),
                },
                () = lost => Err(PublishError::TimedOut),
            }
        })
    }

    fn message(&self, outgoing: Outgoing) -> Result<PublishMessage, PublishError> {
        let mut headers = header_map(&outgoing.headers).map_err(PublishError::Refused)?;
        if !outgoing.id.is_empty() {
            let id = outgoing.id.parse::<HeaderValue>();
            let id = id.map_err(|_| PublishError::Refused("the message id has a line break".into()))?;
            headers.insert(header::NATS_MESSAGE_ID, id);
        }
        if let Some(stream) = &self.stream {
            headers.insert(header::NATS_EXPECTED_STREAM, stream.clone());
        }
        let mut message = PublishMessage::build().payload(outgoing.payload).headers(headers);
        if let Some(expected) = outgoing.expected_last_on_subject {
            message = message.expected_last_subject_sequence(expected);
        }
        Ok(message)
    }
}

fn publish_error(error: &jetstream::context::PublishError) -> PublishError {
    let answered = error.source().and_then(|source| source.downcast_ref::<jetstream::Error>());
    match error.kind() {
        PublishErrorKind::WrongLastSequence => {
            PublishError::WrongLastSequence { actual: answered.and_then(actual_sequence) }
        }
        PublishErrorKind::TimedOut => PublishError::TimedOut,
        PublishErrorKind::StreamNotFound => PublishError::Unavailable("no stream stores the subject".into()),
        PublishErrorKind::BrokenPipe | PublishErrorKind::MaxAckPending => {
            PublishError::Unavailable(error.to_string())
        }
        PublishErrorKind::MaxPayloadExceeded => PublishError::TooLarge(error.to_string()),
        PublishErrorKind::WrongLastMessageId => PublishError::Refused(error.to_string()),
        PublishErrorKind::Other => match answered {
            Some(answered) => answered_error(answered),
            None => PublishError::Refused(error.to_string()),
        },
    }
}

/// What JetStream answered, where the client library has no word of its own for it.
fn answered_error(error: &jetstream::Error) -> PublishError {
    let text = error.to_string();
    match error.error_code() {
        ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT => PublishError::WrongLastSequence { actual: None },
        ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM | ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM => {
            PublishError::TooLarge(text)
        }
        // Full, busy or without a leader: not stored, and another time it may be.
        ErrorCode::STREAM_STORE_FAILED
        | ErrorCode::INSUFFICIENT_RESOURCES
        | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
        | ErrorCode::CLUSTER_NOT_AVAILABLE => PublishError::Unavailable(text),
        code if code.0 == TOO_MANY_REQUESTS => PublishError::Unavailable(text),
        _ => PublishError::Refused(text),
    }
}

/// `wrong last sequence: 7 (code …)`
fn actual_sequence(error: &jetstream::Error) -> Option<u64> {
    let text = error.to_string();
    let digits = text.split_once("sequence: ")?.1.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u64, text: &str) -> jetstream::Error {
        let answer = serde_json::json!({ "code": 400, "err_code": code, "description": text });
        serde_json::from_value(answer).unwrap()
    }

    #[test]
    fn answers_of_the_server_become_what_a_role_branches_on() {
        let wrong = jetstream::context::PublishError::with_source(
            PublishErrorKind::WrongLastSequence,
            answer(10_071, "wrong last sequence: 7"),
        );
        assert_eq!(publish_error(&wrong), PublishError::WrongLastSequence { actual: Some(7) });
        for (code, expected) in [
            (10_164, "WrongLastSequence"),
            (10_054, "TooLarge"),
            (10_077, "Unavailable"),
            (10_167, "Unavailable"),
            (10_060, "Refused"),
        ] {
            let error = answered_error(&answer(code, "text"));
            assert!(format!("{error:?}").starts_with(expected), "{code}: {error:?}");
        }
    }
}

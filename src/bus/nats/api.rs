//! Questions to JetStream's interface, each with an answer, a refusal or a limit.

use std::future::Future;

use async_nats::jetstream::response::Response;
use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;

use super::connect::Connection;

/// What JetStream calls "there is no such stream".
pub(super) const STREAM_NOT_FOUND: u64 = 10_059;
/// What JetStream calls "there is no such consumer".
pub(super) const CONSUMER_NOT_FOUND: u64 = 10_014;
/// What JetStream calls "a consumer of this name has another configuration".
pub(super) const CONSUMER_ALREADY_EXISTS: u64 = 10_148;
/// What JetStream calls "a stream of this name has another configuration".
pub(super) const STREAM_NAME_EXIST: u64 = 10_058;

/// Why a question was not answered as hoped.
#[derive(Debug, Error)]
pub(super) enum ApiError {
    /// Nobody answered in time: the server is away, has no leader, or does not permit the question.
    #[error("{0}")]
    Unavailable(String),
    /// The answer was an error.
    #[error("{text}")]
    Answered {
        /// JetStream's number for it.
        code: u64,
        /// Its words.
        text: String,
    },
}

impl ApiError {
    pub(super) fn is(&self, wanted: u64) -> bool {
        matches!(self, Self::Answered { code, .. } if *code == wanted)
    }
}

impl Connection {
    /// Asks `<prefix>.<subject>`.
    pub(super) async fn api<T: DeserializeOwned>(
        &self,
        subject: String,
        question: &Value,
    ) -> Result<T, ApiError> {
        // Rare and large, so that whoever asks need not be large too.
        let asking = Box::pin(self.jetstream.request::<_, _, Response<T>>(subject, question));
        // A question that is not permitted is never answered.
        let answer = tokio::select! {
            answer = self.answered(asking) => answer,
            reason = self.events.fatal() => return Err(ApiError::Unavailable(reason.to_string())),
        };
        match answer {
            Some(Ok(Response::Ok(answer))) => Ok(answer),
            Some(Ok(Response::Err { error })) => {
                Err(ApiError::Answered { code: error.error_code().0, text: error.to_string() })
            }
            Some(Err(error)) => Err(self.unavailable(&error)),
            None => Err(ApiError::Unavailable("the connection was lost".into())),
        }
    }

    /// The answer, or `None` as soon as it cannot come any more because the connection was lost. The question has a
    /// limit of its own.
    pub(super) async fn answered<T>(&self, question: impl Future<Output = T>) -> Option<T> {
        self.observe();
        let lost = self.events.lost();
        tokio::select! {
            biased;
            answer = question => Some(answer),
            () = lost => None,
        }
    }

    /// A missing permission looks like a lost question; the events know better.
    pub(super) fn unavailable(&self, error: &dyn std::error::Error) -> ApiError {
        let missing = self.events.fatal_now().map(|reason| reason.to_string());
        ApiError::Unavailable(missing.unwrap_or_else(|| error.to_string()))
    }
}

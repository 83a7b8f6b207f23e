//! Questions and answers by NATS's service protocol (ADR-32): `nats micro` finds the service, lists its endpoints and
//! counts its answers.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use async_nats::service::{Request as ServiceRequest, ServiceExt as _, error::Error as ServiceErrorReply};
use async_nats::{RequestErrorKind, StatusCode};
use bytes::Bytes;
use futures::stream::SelectAll;
use futures::{FutureExt as _, StreamExt as _};
use thiserror::Error;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::connect::Connection;
use super::convert::{header_map, headers};
use super::work::one_line;

/// A status goes into a header.
const STATUS_BYTES_MAX: usize = 1_024;
/// After we stopped to take questions, those under way are answered for this long.
const LAST_TIMEOUT: Duration = Duration::from_secs(5);

/// What a service is called and what it can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Letters, digits, `-` and `_`.
    pub name: String,
    /// `1.2.3`
    pub version: String,
    /// For people.
    pub description: String,
    /// Each question goes to one process of the group.
    pub queue_group: String,
    /// Name and subject of each endpoint.
    pub endpoints: Vec<(String, String)>,
    /// Questions that are answered at the same time; more wait in the subscription.
    pub concurrency: usize,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The subject it was asked on.
    pub subject: String,
    /// Sorted by name.
    pub headers: Vec<(String, String)>,
    /// What is asked.
    pub payload: Bytes,
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Sorted by name when received.
    pub headers: Vec<(String, String)>,
    /// What is answered.
    pub payload: Bytes,
}

/// An answer that is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{status} ({code})")]
pub struct Refusal {
    /// As HTTP has them: 400 for a bad question, 503 for one that comes too early.
    pub code: u16,
    /// Why.
    pub status: String,
}

/// The service cannot be offered.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the service `{name}` cannot be offered: {reason}")]
pub struct ServiceError {
    name: String,
    reason: String,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AskError {
    /// Nobody offers the service.
    #[error(
        "nobody answers on `{0}`\nhint: is `homeostat run` with that role running, in the same account and with the same prefix?"
    )]
    Nobody(String),
    /// Not in time; it may have been seen or not.
    #[error("no answer on `{0}` in time")]
    TimedOut(String),
    /// The service says no.
    #[error("`{subject}` refuses: {refusal}")]
    Refused {
        /// Where.
        subject: String,
        /// Why.
        refusal: Refusal,
    },
    /// The question could not be sent.
    #[error("`{subject}` cannot be asked: {reason}")]
    Unavailable {
        /// Where.
        subject: String,
        /// What the client said.
        reason: String,
    },
}

/// Answers questions until it is told to stop; then finishes those it has begun, for five seconds at most.
pub async fn serve<F, A>(
    connection: &Connection,
    spec: ServiceSpec,
    stop: CancellationToken,
    answer: F,
) -> Result<(), ServiceError>
where
    F: Fn(Question) -> A,
    A: Future<Output = Result<Answer, Refusal>> + Send + 'static,
{
    let failed =
        |error: async_nats::Error| ServiceError { name: spec.name.clone(), reason: error.to_string() };
    let builder = connection.client.service_builder().description(&spec.description);
    let builder = builder.queue_group(&spec.queue_group);
    // Large, and only at the start.
    let service = Box::pin(builder.start(&spec.name, &spec.version)).await.map_err(failed)?;
    let mut questions = SelectAll::new();
    for (name, subject) in &spec.endpoints {
        let endpoint = service.endpoint_builder().name(name).add(subject).await.map_err(failed)?;
        questions.push(endpoint);
    }
    // Who asks after this got through finds us.
    connection.barrier().await;
    let mut answers = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            question = questions.next(), if answers.len() < spec.concurrency.max(1) => match question {
                Some(question) => {
                    let answering = answer(asked(&question));
                    answers.spawn(respond(question, answering));
                }
                None => break,
            },
            Some(_) = answers.join_next(), if !answers.is_empty() => {}
        }
    }
    drop(questions);
    // Those that take longer are aborted with the set; who asked them asks again.
    let _ = tokio::time::timeout(LAST_TIMEOUT, async { while answers.join_next().await.is_some() {} }).await;
    connection.barrier().await;
    let _ = service.stop().await;
    Ok(())
}

fn asked(request: &ServiceRequest) -> Question {
    Question {
        subject: request.message.subject.to_string(),
        headers: request.message.headers.as_ref().map(headers).unwrap_or_default(),
        payload: request.message.payload.clone(),
    }
}

/// A panic is an answer too: 500, and the next question is answered as ever.
async fn respond(request: ServiceRequest, answering: impl Future<Output = Result<Answer, Refusal>>) {
    let answer = AssertUnwindSafe(answering)
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Err(Refusal { code: 500, status: "the service failed on this question".into() }));
    let answer = answer.and_then(|answer| match header_map(&answer.headers) {
        Ok(headers) => Ok((headers, answer.payload)),
        Err(status) => Err(Refusal { code: 500, status }),
    });
    let (headers, answer) = match answer {
        Ok((headers, payload)) => (headers, Ok(payload)),
        Err(refusal) => {
            let status = one_line(&refusal.status, STATUS_BYTES_MAX);
            (async_nats::HeaderMap::new(), Err(ServiceErrorReply { code: refusal.code.into(), status }))
        }
    };
    if let Err(error) = request.respond_with_headers(answer, headers).await {
        tracing::debug!(%error, "an answer could not be sent");
    }
}

/// Asks, and waits for the answer at most so long. A connection that is down is an error at once: what is asked for now
/// must not be asked for when it is up again.
pub async fn ask(
    connection: &Connection,
    subject: &str,
    question: Answer,
    timeout: Duration,
) -> Result<Answer, AskError> {
    let unavailable = |reason: String| AskError::Unavailable { subject: subject.to_owned(), reason };
    connection.is_up().map_err(unavailable)?;
    let mut request = async_nats::Request::new().payload(question.payload).timeout(Some(timeout));
    if !question.headers.is_empty() {
        request = request.headers(header_map(&question.headers).map_err(unavailable)?);
    }
    let asking = connection.answered(connection.client.send_request(subject.to_owned(), request));
    // The limit of the request does not count the wait for room in the connection's queue.
    let Ok(Some(reply)) = tokio::time::timeout(timeout, asking).await else {
        return Err(AskError::TimedOut(subject.to_owned()));
    };
    let reply = reply.map_err(|error| match error.kind() {
        RequestErrorKind::NoResponders => AskError::Nobody(subject.to_owned()),
        RequestErrorKind::TimedOut => AskError::TimedOut(subject.to_owned()),
        RequestErrorKind::InvalidSubject | RequestErrorKind::MaxPayloadExceeded | RequestErrorKind::Other => {
            unavailable(error.to_string())
        }
    })?;
    if reply.status == Some(StatusCode::NO_RESPONDERS) {
        return Err(AskError::Nobody(subject.to_owned()));
    }
    let headers = reply.headers.as_ref().map(headers).unwrap_or_default();
    let header =
        |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    if let Some(code) = header("Nats-Service-Error-Code") {
        let status = header("Nats-Service-Error").unwrap_or_default();
        let refusal = Refusal { code: code.parse().unwrap_or(500), status };
        return Err(AskError::Refused { subject: subject.to_owned(), refusal });
    }
    Ok(Answer { headers, payload: reply.payload })
}

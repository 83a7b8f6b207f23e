//! What actions need of the bus: publish and request on subjects that are not the loop's own.

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::actuator::{
    Answer, Message, Messenger, MessengerError, SERVICE_ERROR_CODE_HEADER, SERVICE_ERROR_HEADER,
};
use crate::bus::nats::{self, AskError, Connection, Refusal};

/// Carries actions' messages over a connection.
#[derive(Clone, Debug)]
pub struct BusMessenger(pub Connection);

impl Messenger for BusMessenger {
    fn publish(&self, message: Message) -> BoxFuture<'_, Result<(), MessengerError>> {
        async move {
            let timeout = message.timeout;
            let sending = nats::say(&self.0, &message.subject, question(message.headers, message.payload));
            match tokio::time::timeout(timeout, sending).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(unanswered(error)),
                Err(_) => Err(MessengerError::Unanswered("the server did not confirm in time".to_owned())),
            }
        }
        .boxed()
    }

    fn request(&self, message: Message) -> BoxFuture<'_, Result<Answer, MessengerError>> {
        async move {
            let asked = question(message.headers, message.payload);
            match nats::ask(&self.0, &message.subject, asked, message.timeout).await {
                Ok(answer) => Ok(Answer { headers: answer.headers, payload: answer.payload }),
                Err(AskError::Refused { refusal, .. }) => Ok(said_no(refusal)),
                Err(error) => Err(unanswered(error)),
            }
        }
        .boxed()
    }
}

fn question(headers: Vec<(&'static str, String)>, payload: bytes::Bytes) -> nats::Answer {
    let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    nats::Answer { headers, payload }
}

/// A service that says no has answered: what it was asked for has not happened.
fn said_no(refusal: Refusal) -> Answer {
    let headers = vec![
        (SERVICE_ERROR_CODE_HEADER.to_owned(), refusal.code.to_string()),
        (SERVICE_ERROR_HEADER.to_owned(), refusal.status),
    ];
    Answer { headers, payload: Bytes::new() }
}

fn unanswered(error: AskError) -> MessengerError {
    match error {
        AskError::Nobody(_) => MessengerError::NoResponders,
        error @ AskError::Unavailable { .. } => MessengerError::NotSent(error.to_string()),
        error @ (AskError::TimedOut(_) | AskError::Refused { .. }) => {
            MessengerError::Unanswered(error.to_string())
        }
    }
}

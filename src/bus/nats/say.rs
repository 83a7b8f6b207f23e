//! A message on a subject that is no stream's, for targets of actions.

use super::connect::Connection;
use super::convert::header_map;
use super::service::{Answer, AskError};

/// Publishes, and returns when the server has the message: what the socket took alone may vanish with the connection.
/// Whether anybody listens is not known.
pub async fn say(connection: &Connection, subject: &str, message: Answer) -> Result<(), AskError> {
    let unavailable = |reason: String| AskError::Unavailable { subject: subject.to_owned(), reason };
    connection.is_up().map_err(unavailable)?;
    let headers = header_map(&message.headers).map_err(unavailable)?;
    let publishing = connection.client.publish_with_headers(subject.to_owned(), headers, message.payload);
    match tokio::time::timeout(connection.timeout, publishing).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(unavailable(error.to_string())),
        Err(_) => return Err(unavailable("the connection is down".to_owned())),
    }
    if connection.barrier().await { Ok(()) } else { Err(AskError::TimedOut(subject.to_owned())) }
}

//! How a command ends: 0 done, 1 finding, 2 usage, 3 outside failure.

use std::process::ExitCode;

/// Why a command did not end well.
#[derive(Debug)]
pub(super) enum Failure {
    /// It ran, and found something that has to be told; it was told already.
    Finding,
    /// What was asked for makes no sense.
    Usage(anyhow::Error),
    /// Something outside is not as it should be.
    Outside(anyhow::Error),
    /// Whoever read standard output has had enough, which is no failure: what is left to print is not printed.
    Unread,
}

/// What a command returns.
pub(super) type Outcome = Result<(), Failure>;

impl Failure {
    /// The exit code.
    pub(super) fn code(&self) -> ExitCode {
        match self {
            Self::Unread => ExitCode::SUCCESS,
            Self::Finding => ExitCode::from(1),
            Self::Usage(_) => ExitCode::from(2),
            Self::Outside(_) => ExitCode::from(3),
        }
    }

    /// The error as one chain, each cause once, a hint on a line of its own.
    pub(super) fn text(&self) -> Option<String> {
        let error = match self {
            Self::Finding | Self::Unread => return None,
            Self::Usage(error) | Self::Outside(error) => error,
        };
        let mut said: Vec<String> = Vec::new();
        let mut innermost: Option<String> = None;
        for cause in error.chain() {
            let text = cause.to_string();
            let (body, hint) = text.split_once("\nhint: ").unwrap_or((&text, ""));
            if !said.iter().any(|known| known.contains(body)) {
                said.push(body.to_owned());
            }
            // The innermost one is the most particular; a second one says the same in other words.
            if !hint.is_empty() {
                innermost = Some(hint.to_owned());
            }
        }
        let mut text = format!("error: {}", said.join(": "));
        if let Some(hint) = innermost {
            text.push_str("\nhint: ");
            text.push_str(&hint);
        }
        Some(text)
    }
}

/// Marks an error as one of the outside.
pub(super) fn outside(error: impl Into<anyhow::Error>) -> Failure {
    Failure::Outside(error.into())
}

/// Marks an error as one of usage.
pub(super) fn usage(error: impl Into<anyhow::Error>) -> Failure {
    Failure::Usage(error.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::nats::ConnectError;
    use crate::role::process::ProcessError;

    #[test]
    fn an_error_is_printed_once_as_a_chain_with_its_hint_last() {
        let inner = anyhow::anyhow!("connection refused\nhint: start a server");
        let failure = Failure::Outside(inner.context("the bus cannot be reached"));
        let text = failure.text().unwrap();
        assert_eq!(text, "error: the bus cannot be reached: connection refused\nhint: start a server");
    }

    #[test]
    fn that_there_is_no_server_is_said_once() {
        let (servers, reason) = ("nats://nowhere:4222".to_owned(), "connection refused".to_owned());
        let error = ProcessError::Connect(ConnectError::Unreachable { servers, reason });
        let text = outside(error).text().unwrap();
        assert_eq!(text.matches("cannot be reached").count(), 1, "{text}");
        assert!(text.starts_with("error: NATS at `nats://nowhere:4222` cannot be reached"), "{text}");
        assert_eq!(text.matches("\nhint: ").count(), 1, "{text}");
    }
}

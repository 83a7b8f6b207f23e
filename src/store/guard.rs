//! A fence around an engine that panics on damaged files, and that nobody has proved to come back.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How a fenced call ended, if not by returning.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Escape {
    /// With this message.
    Panicked(String),
    /// Not within its time; its thread goes on by itself.
    TimedOut,
}

/// Runs `call` here and turns a panic into a value. What `call` touched must not be trusted afterwards: the store
/// refuses writes then, until it has been reopened and checked.
pub(super) fn catch<T>(call: impl FnOnce() -> T) -> Result<T, Escape> {
    panic::catch_unwind(AssertUnwindSafe(call)).map_err(|payload| Escape::Panicked(message(&*payload)))
}

/// Runs `call` on a thread of its own and waits for at most `limit`.
pub(super) fn within<T: Send + 'static>(
    limit: Duration,
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Escape> {
    let (done, waiting) = mpsc::sync_channel(1);
    let run = move || {
        // Nobody listens any more only after a time-out.
        drop(done.send(catch(call)));
    };
    if let Err(error) = thread::Builder::new().name("store".to_owned()).spawn(run) {
        return Err(Escape::Panicked(format!("no thread could be started: {error}")));
    }
    waiting.recv_timeout(limit).unwrap_or(Err(Escape::TimedOut))
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_value_on_either_thread() {
        let escaped = Err::<(), _>(Escape::Panicked("at 7".to_owned()));
        assert_eq!(catch(|| panic!("at {}", 7)), escaped);
        assert_eq!(within(Duration::from_mins(1), || panic!("at {}", 7)), escaped);
        assert_eq!(within(Duration::from_mins(1), || 7), Ok(7));
    }

    #[test]
    fn a_call_that_does_not_come_back_is_left_behind() {
        let (release, blocked) = mpsc::channel::<()>();
        assert_eq!(within(Duration::ZERO, move || blocked.recv().is_ok()), Err(Escape::TimedOut));
        drop(release);
    }
}

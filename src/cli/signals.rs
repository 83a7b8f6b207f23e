//! Being told to stop: ctrl-C, and SIGTERM as a supervisor sends it.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Heard from when it is made, so that nothing is cut off that was begun after that.
pub(super) struct Signals {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
}

impl Signals {
    /// Listens from now on.
    pub(super) fn listen() -> Self {
        // Without one of them the system's own way of ending holds.
        Self {
            interrupt: signal(SignalKind::interrupt()).ok(),
            terminate: signal(SignalKind::terminate()).ok(),
        }
    }

    /// Waits until we are told to stop. Cancel safe.
    pub(super) async fn told_to_stop(&mut self) {
        tokio::select! {
            () = next(self.interrupt.as_mut()) => {}
            () = next(self.terminate.as_mut()) => {}
        }
    }
}

/// Waits for a signal; for ever where there is none to be had. Cancel safe.
pub(super) async fn next(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

//! The only place that asks what time it is.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::model::Timestamp;

/// The time of this process: the system's time when it was made, and since then what the monotonic clock counts. It does
/// not jump when the system's clock is set; a process that runs for months may be off by what that was set by, which the
/// skew of arrivals shows.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Start>);

#[derive(Debug)]
struct Start {
    instant: Instant,
    at: Timestamp,
}

/// Measures how long something takes.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Clock {
    /// Set by the system's clock.
    #[expect(clippy::disallowed_methods, reason = "this is the place where the time is asked for")]
    pub fn system() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = Timestamp::from_millis(0) + since;
        Self(Arc::new(Start { instant: Instant::now(), at }))
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        self.0.at + self.instant().saturating_duration_since(self.0.instant)
    }

    /// Now, for lengths of time within this process.
    #[expect(clippy::disallowed_methods, reason = "this is the place where the time is asked for")]
    pub fn instant(&self) -> Instant {
        Instant::now()
    }

    /// Begins to measure.
    pub fn stopwatch(&self) -> Stopwatch {
        Stopwatch(self.instant())
    }
}

impl Stopwatch {
    /// Since it was begun.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_forward() {
        let clock = Clock::system();
        let (first, second) = (clock.now(), clock.now());
        assert!(first <= second && first > Timestamp::from_millis(1_600_000_000_000));
    }
}

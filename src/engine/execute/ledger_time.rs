//! What time it is in the ledger, at least.
//!
//! Budgets count in the ledger's time, and a process's clock may be hours off it. A record that was read has been written
//! before, so each of them says how far the ledger's clock is ahead at least, and the largest of these is the best that
//! is known; what has passed since then the process's own clock, which does not jump, measures as well as any other.

use std::time::Duration;

use crate::model::Timestamp;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LedgerTime {
    /// How far the ledger's clock is ahead of ours at least, in milliseconds.
    ahead_millis: Option<i64>,
}

impl LedgerTime {
    /// A record of `stored_at` was read at `now` by our clock.
    pub(super) fn heard(&mut self, now: Timestamp, stored_at: Timestamp) {
        let ahead = stored_at.as_millis().saturating_sub(now.as_millis());
        self.ahead_millis = Some(self.ahead_millis.map_or(ahead, |known| known.max(ahead)));
    }

    /// The ledger's time is not before this. Where nothing was read, nothing was spent either, and any time will do.
    pub(super) fn at_least(self, now: Timestamp) -> Timestamp {
        let ahead = self.ahead_millis.unwrap_or(0);
        let by = Duration::from_millis(ahead.unsigned_abs());
        if ahead < 0 { now - by } else { now + by }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_hours_off_does_not_move_the_ledgers_time() {
        for off_millis in [-7_200_000, 0, 7_200_000] {
            let own = |at: i64| Timestamp::from_millis(at + off_millis);
            let ledger = Timestamp::from_millis;
            let mut time = LedgerTime::default();
            time.heard(own(1_005), ledger(1_000));
            assert_eq!(time.at_least(own(1_005)), ledger(1_000));
            assert_eq!(time.at_least(own(61_005)), ledger(61_000));
            // An old record that is read late says less, one that is read at once says more.
            time.heard(own(61_005), ledger(1_000));
            assert_eq!(time.at_least(own(61_005)), ledger(61_000));
            time.heard(own(61_006), ledger(61_005));
            assert_eq!(time.at_least(own(61_006)), ledger(61_005));
        }
    }
}

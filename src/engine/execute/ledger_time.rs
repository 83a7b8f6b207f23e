//! What time it is in the ledger, at least.
//!
//! Budgets count in the ledger's time, and a process's clock may be hours off it. A record that was read has been written
//! before, so each of them says how far the ledger's clock is ahead at least, and the largest of these is the best that
//! is known; what has passed since then the process's own clock, which does not jump, measures as well as any other.

use std::time::Duration;

use crate::model::Timestamp;

/// Servers that take turns in leading the ledger differ by less than this.
const CLOCK_GRACE: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LedgerTime {
    /// When the newest record was recorded.
    last: Option<Timestamp>,
    /// How far the ledger's clock is ahead of ours at least, in milliseconds.
    ahead_millis: Option<i64>,
}

impl LedgerTime {
    /// The next record, of `stored_at`, was read at `now` by our clock. A clock that was set back is a new one: what the
    /// old one said would spend budgets before their time.
    pub(super) fn heard(&mut self, now: Timestamp, stored_at: Timestamp) {
        let ahead = stored_at.as_millis().saturating_sub(now.as_millis());
        let is_set_back = self.last.is_some_and(|last| last.saturating_since(stored_at) > CLOCK_GRACE);
        self.last = Some(stored_at);
        let known = self.ahead_millis.filter(|_| !is_set_back);
        self.ahead_millis = Some(known.map_or(ahead, |known| known.max(ahead)));
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
    #[test]
    fn a_ledgers_clock_that_is_set_back_is_believed() {
        let at = Timestamp::from_millis;
        let mut time = LedgerTime::default();
        time.heard(at(10_000_000), at(10_000_000));
        // Servers that differ a little are one clock.
        time.heard(at(10_001_000), at(9_999_000));
        assert_eq!(time.at_least(at(10_001_000)), at(10_001_000));
        time.heard(at(10_002_000), at(6_402_000));
        assert_eq!(time.at_least(at(10_003_000)), at(6_403_000));
    }
}

//! How long the latest requests took.

use std::collections::VecDeque;
use std::time::Duration;

/// What counts as now: several readings long, and short enough that a repair shows at once.
const WINDOW: Duration = Duration::from_millis(250);
/// More requests than a window can hold at the worker's pace.
const KEPT_MAX: usize = 256;

/// The requests of the last moments.
#[derive(Default)]
pub(super) struct Recent {
    /// When each ended, and how long it took; oldest first.
    requests: VecDeque<(Duration, Duration)>,
}

impl Recent {
    pub(super) fn record(&mut self, ended: Duration, took: Duration) {
        if self.requests.len() == KEPT_MAX {
            self.requests.pop_front();
        }
        self.requests.push_back((ended, took));
    }

    /// 95 % of the requests that ended in the window took no longer. Where none did, the latest one counts, and
    /// before the first one nothing.
    pub(super) fn p95(&self, now: Duration) -> Duration {
        let since = now.saturating_sub(WINDOW);
        let fresh = self.requests.iter().filter(|(ended, _)| *ended >= since).map(|(_, took)| *took);
        let mut took: Vec<Duration> = fresh.collect();
        took.sort_unstable();
        let rank = (took.len() * 95).div_ceil(100);
        let latest = self.requests.back().map_or(Duration::ZERO, |(_, took)| *took);
        rank.checked_sub(1).map_or(latest, |index| took[index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_quantile_is_of_the_window_and_of_the_latest_request_where_it_is_empty() {
        let mut recent = Recent::default();
        assert_eq!(recent.p95(MS), Duration::ZERO);
        recent.record(MS, 900 * MS);
        (1..=100).for_each(|n| recent.record(1_000 * MS + n * MS, n * MS));
        assert_eq!(recent.p95(1_101 * MS), 95 * MS);
        assert_eq!(recent.p95(9_000 * MS), 100 * MS);
    }

    #[test]
    fn it_stays_bounded() {
        let mut recent = Recent::default();
        (0..10_000).for_each(|n| recent.record(n * MS, MS));
        assert_eq!(recent.requests.len(), KEPT_MAX);
    }
}

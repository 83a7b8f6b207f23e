//! From many measurements to the few figures that are told.

use std::time::Duration;

/// The middle and the far end of some times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantiles {
    /// Half are no longer.
    pub p50: Duration,
    /// All but one in a hundred are no longer.
    pub p99: Duration,
    /// How many there were.
    pub count: usize,
}

/// The quantiles of these times, by the nearest rank; `None` of no times.
pub fn quantiles(mut times: Vec<Duration>) -> Option<Quantiles> {
    times.sort_unstable();
    let rank = |percent: usize| times.get((times.len() * percent).div_ceil(100).max(1) - 1).copied();
    Some(Quantiles { p50: rank(50)?, p99: rank(99)?, count: times.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_times_that_were_measured() {
        let millis = |range: std::ops::RangeInclusive<u64>| range.map(Duration::from_millis).collect();
        let of = |range| quantiles(millis(range)).map(|q| (q.p50.as_millis(), q.p99.as_millis()));
        assert_eq!(of(1..=100), Some((50, 99)));
        assert_eq!(of(1..=1), Some((1, 1)));
        assert_eq!(of(1..=3), Some((2, 3)));
        assert_eq!(of(1..=1_000), Some((500, 990)));
        assert_eq!(quantiles(Vec::new()), None);
    }
}

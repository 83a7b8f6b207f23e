//! Sums, means and variances that do not lose small numbers beside large ones.

/// A sum with its rounding error carried along: Kahan's summation as improved by Neumaier ("Rundungsfehleranalyse
/// einiger Verfahren zur Summation endlicher Summen", 1974).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    sum: f64,
    compensation: f64,
}

impl Sum {
    #[inline]
    pub(super) fn add(&mut self, value: f64) {
        let total = self.sum + value;
        if total.is_infinite() {
            self.compensation = 0.0;
        } else if self.sum.abs() >= value.abs() {
            self.compensation += (self.sum - total) + value;
        } else {
            self.compensation += (value - total) + self.sum;
        }
        self.sum = total;
    }

    pub(super) fn total(self) -> f64 {
        self.sum + self.compensation
    }

    fn scaled(self, factor: f64) -> Self {
        Self { sum: self.sum * factor, compensation: self.compensation * factor }
    }

    fn divided(self, divisor: f64) -> Self {
        Self { sum: self.sum / divisor, compensation: self.compensation / divisor }
    }
}

/// A mean: the sum divided at the end, which is the most accurate, until the sum would overflow; from then on
/// carried as a mean.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mean {
    /// The sum, or the mean where `is_incremental`.
    state: Sum,
    count: f64,
    is_incremental: bool,
}

impl Mean {
    #[inline]
    pub(super) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if self.count <= 1.0 {
            // An infinity is a first value like any other.
            self.state.sum = value;
            return;
        }
        if !self.is_incremental {
            let mut next = self.state;
            next.add(value);
            if !next.sum.is_infinite() {
                self.state = next;
                return;
            }
            self.is_incremental = true;
            self.state = self.state.divided(self.count - 1.0);
        }
        self.state = self.state.scaled((self.count - 1.0) / self.count);
        self.state.add(value / self.count);
    }

    pub(super) fn mean(self) -> f64 {
        if self.is_incremental { self.state.total() } else { self.state.divided(self.count).total() }
    }
}

/// A variance with its rounding errors carried along: Welford's recurrence ("Note on a method for calculating
/// corrected sums of squares and products", 1962) on compensated sums.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spread {
    count: f64,
    mean: Sum,
    squares: Sum,
}

impl Spread {
    pub(super) fn add(&mut self, value: f64) {
        self.count += 1.0;
        let distance = value - self.mean.total();
        self.mean.add(distance / self.count);
        self.squares.add(distance * (value - self.mean.total()));
    }

    /// Of the population, as PromQL has it.
    pub(super) fn variance(self) -> f64 {
        self.squares.total() / self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(values: &[f64]) -> f64 {
        let mut sum = Sum::default();
        values.iter().for_each(|&value| sum.add(value));
        sum.total()
    }

    fn mean(values: &[f64]) -> f64 {
        let mut mean = Mean::default();
        values.iter().for_each(|&value| mean.add(value));
        mean.mean()
    }

    #[test]
    #[expect(clippy::float_cmp, reason = "that no bit is lost is what is tested")]
    fn small_numbers_survive_large_ones() {
        assert_eq!(sum(&[1.0, 1e100, 1.0, -1e100]), 2.0);
        assert_eq!(mean(&[1.0, 1e100, 1.0, -1e100]), 0.5);
    }

    #[test]
    #[expect(clippy::float_cmp, reason = "infinities are exact")]
    fn infinities_stay_infinite_and_opposite_ones_have_no_sum() {
        assert_eq!(sum(&[f64::INFINITY, 1.0]), f64::INFINITY);
        assert_eq!(mean(&[1.0, f64::INFINITY, f64::INFINITY]), f64::INFINITY);
        assert_eq!(mean(&[f64::INFINITY, 0.0, f64::INFINITY]), f64::INFINITY);
        assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
        assert!(mean(&[f64::NEG_INFINITY, 0.0, f64::INFINITY]).is_nan());
    }

    #[test]
    fn a_mean_does_not_overflow_where_its_sum_does() {
        let large = 9.988_465_674_311_58e307;
        let relative = (mean(&[large; 4]) - large).abs() / large;
        assert!(relative < 1e-15, "{relative}");
    }
}

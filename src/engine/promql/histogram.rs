//! Quantiles and fractions of classic histograms, whose buckets count what is not above their bound.

use super::signature::{Distinction, Groups, Item};

/// The label that holds a bucket's upper bound.
pub(super) const BOUND: &str = "le";
/// Counts that differ by less, relative to their size, differ by rounding alone.
const TOLERANCE: f64 = 1e-12;

/// How many were not above a bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bucket {
    pub bound: f64,
    pub count: f64,
}

/// The elements of one histogram: the first of them, and all buckets.
#[derive(Debug)]
pub(super) struct Buckets {
    /// Among the elements.
    pub first: usize,
    pub buckets: Vec<Bucket>,
}

/// Puts together the elements that differ in the bound alone. Tells `reject` of each that has no readable bound.
pub(super) fn histograms(items: &[Item<'_>], mut reject: impl FnMut(&Item<'_>)) -> Vec<Buckets> {
    let mut groups = Groups::new(Distinction::AllBut(BOUND), 0);
    let mut histograms: Vec<Buckets> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let Some(bound) = item.tag.get(BOUND).and_then(bound) else {
            reject(item);
            continue;
        };
        let (group, is_first) = groups.insert(items, index);
        if is_first {
            histograms.push(Buckets { first: index, buckets: Vec::new() });
        }
        histograms[group].buckets.push(Bucket { bound, count: item.value });
    }
    for histogram in &mut histograms {
        coalesce(&mut histogram.buckets);
    }
    histograms
}

/// A bound as Go reads numbers: decimal, with an exponent, or infinite.
fn bound(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|bound| !bound.is_nan())
}

/// Sorts by bound and adds up what has the same one.
#[expect(clippy::float_cmp, reason = "one bound may be written in two ways")]
fn coalesce(buckets: &mut Vec<Bucket>) {
    buckets.sort_by(|one, other| one.bound.total_cmp(&other.bound));
    buckets.dedup_by(|later, kept| {
        let is_same = later.bound == kept.bound;
        if is_same {
            kept.count += later.count;
        }
        is_same
    });
}

/// Makes counts grow with their bounds. Tells whether a decrease had to be evened out that rounding does not explain.
pub(super) fn make_monotonic(buckets: &mut [Bucket]) -> bool {
    let Some((first, rest)) = buckets.split_first_mut() else { return false };
    let (mut known, mut is_forced) = (first.count, false);
    for bucket in rest {
        let is_rounding = is_near(known, bucket.count);
        if is_rounding || bucket.count < known {
            is_forced |= !is_rounding;
            bucket.count = known;
        } else {
            known = bucket.count;
        }
    }
    is_forced
}

/// Whether there is something to tell a quantile from: at least two buckets, the last one without an end, and
/// something in it.
pub(super) fn is_telling(buckets: &[Bucket]) -> bool {
    let last = buckets.last().filter(|last| buckets.len() > 1 && last.bound == f64::INFINITY);
    last.is_some_and(|last| last.count != 0.0)
}

/// The quantile, found in proportion within its bucket; the lowest one begins at zero where it ends above. Needs
/// monotonic buckets in the order of their bounds. NaN where there is nothing to tell from.
pub(super) fn quantile(quantile: f64, buckets: &[Bucket]) -> f64 {
    if quantile.is_nan() {
        return f64::NAN;
    }
    if let Some(beyond) = super::functions::quantile::beyond(quantile) {
        return beyond;
    }
    let [.., before_last, last] = buckets else { return f64::NAN };
    if !is_telling(buckets) {
        return f64::NAN;
    }
    let rank = quantile * last.count;
    let finite = &buckets[..buckets.len() - 1];
    let index = search(finite, rank);
    let Some(&found) = finite.get(index) else { return before_last.bound };
    let below = match index.checked_sub(1) {
        Some(below) => buckets[below],
        None if found.bound <= 0.0 => return found.bound,
        None => Bucket { bound: 0.0, count: 0.0 },
    };
    below.bound + (found.bound - below.bound) * ((rank - below.count) / (found.count - below.count))
}

/// The first bucket in which a rank lies, halving as Go's `sort.Search` does: where a count is no number it depends on
/// the way that is taken.
fn search(buckets: &[Bucket], rank: f64) -> usize {
    let (mut from, mut to) = (0, buckets.len());
    while from < to {
        let middle = usize::midpoint(from, to);
        if buckets[middle].count >= rank {
            to = middle;
        } else {
            from = middle + 1;
        }
    }
    from
}

/// The share of what was counted that lies between two values. NaN where there is nothing to tell from.
pub(super) fn fraction(lower: f64, upper: f64, buckets: &[Bucket]) -> f64 {
    let Some(last) = buckets.last() else { return f64::NAN };
    let is_known = last.bound == f64::INFINITY && last.count != 0.0;
    if !is_known || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    (rank_of(upper, buckets) - rank_of(lower, buckets)) / last.count
}

/// How many were not above a value, in proportion within its bucket. Within a bucket without an end nothing is known:
/// of the one without a lower end all count, of the one without an upper end none.
fn rank_of(value: f64, buckets: &[Bucket]) -> f64 {
    let total = buckets.last().map_or(0.0, |last| last.count);
    // A count that is no number stays none.
    let capped = |rank| if rank > total { total } else { rank };
    let starts_at_zero = buckets.first().is_some_and(|first| first.bound > 0.0);
    let mut below = Bucket { bound: if starts_at_zero { 0.0 } else { f64::NEG_INFINITY }, count: 0.0 };
    for &bucket in buckets {
        if below.bound >= value {
            return capped(below.count);
        }
        if bucket.bound > value {
            let rank = if below.bound == f64::NEG_INFINITY {
                bucket.count
            } else {
                let share = (value - below.bound) / (bucket.bound - below.bound);
                below.count + (bucket.count - below.count) * share
            };
            return capped(rank);
        }
        below = bucket;
    }
    total
}

/// Whether two counts differ by rounding alone, as Prometheus compares them.
#[expect(clippy::float_cmp, reason = "equal numbers need no tolerance")]
fn is_near(one: f64, other: f64) -> bool {
    if one == other || (one.is_nan() && other.is_nan()) {
        return true;
    }
    let (difference, size) = ((one - other).abs(), one.abs() + other.abs());
    if one == 0.0 || other == 0.0 || size < f64::MIN_POSITIVE {
        return difference < TOLERANCE * f64::MIN_POSITIVE;
    }
    difference / size.min(f64::MAX) < TOLERANCE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(pairs: &[(f64, f64)]) -> Vec<Bucket> {
        pairs.iter().map(|&(bound, count)| Bucket { bound, count }).collect()
    }

    fn three() -> Vec<Bucket> {
        buckets(&[(1.0, 10.0), (2.0, 20.0), (f64::INFINITY, 40.0)])
    }

    #[test]
    #[expect(clippy::float_cmp, reason = "these are exact")]
    fn a_quantile_is_found_in_proportion_within_its_bucket() {
        let found = [0.0, 0.125, 0.25, 0.375, 0.5, 0.9, 1.0].map(|q| quantile(q, &three()));
        assert_eq!(found, [0.0, 0.5, 1.0, 1.5, 2.0, 2.0, 2.0]);
        assert_eq!([-0.1, 1.1].map(|q| quantile(q, &three())), [f64::NEG_INFINITY, f64::INFINITY]);
        let negative = buckets(&[(-1.0, 10.0), (0.0, 20.0), (f64::INFINITY, 20.0)]);
        assert_eq!([0.1, 0.75].map(|q| quantile(q, &negative)), [-1.0, -0.5]);
    }

    #[test]
    fn without_enough_to_tell_from_there_is_no_quantile() {
        let without_infinity = buckets(&[(1.0, 10.0), (2.0, 20.0)]);
        let alone = buckets(&[(f64::INFINITY, 20.0)]);
        let empty = buckets(&[(1.0, 0.0), (f64::INFINITY, 0.0)]);
        for buckets in [without_infinity, alone, empty, Vec::new()] {
            assert!(quantile(0.5, &buckets).is_nan(), "{buckets:?}");
        }
        assert!(quantile(f64::NAN, &three()).is_nan());
    }

    #[test]
    #[expect(clippy::float_cmp, reason = "these are exact")]
    fn a_fraction_is_what_lies_between() {
        let infinity = f64::INFINITY;
        let cases = [
            (0.0, 1.0, 0.25),
            (0.5, 1.5, 0.25),
            (-infinity, infinity, 1.0),
            (2.0, infinity, 0.5),
            (5.0, 6.0, 0.0),
            (1.0, 1.0, 0.0),
            (2.0, 1.0, 0.0),
        ];
        for (lower, upper, expected) in cases {
            assert_eq!(fraction(lower, upper, &three()), expected, "{lower} to {upper}");
        }
        assert!(fraction(f64::NAN, 1.0, &three()).is_nan());
    }

    #[test]
    fn decreases_are_evened_out_and_told_unless_they_are_rounding() {
        let mut rounded = buckets(&[(1.0, 10.0), (2.0, 10.0 - 1e-12), (f64::INFINITY, 20.0)]);
        assert!(!make_monotonic(&mut rounded));
        assert_eq!(rounded[1].count.to_bits(), 10.0_f64.to_bits());
        let mut wrong = buckets(&[(1.0, 10.0), (2.0, 5.0), (f64::INFINITY, 20.0)]);
        assert!(make_monotonic(&mut wrong));
        assert_eq!(wrong, buckets(&[(1.0, 10.0), (2.0, 10.0), (f64::INFINITY, 20.0)]));
    }

    #[test]
    fn equal_bounds_are_one_bucket() {
        let mut twice = buckets(&[(2.0, 1.0), (0.0, 3.0), (2.0, 4.0), (-0.0, 5.0)]);
        coalesce(&mut twice);
        assert_eq!(twice, buckets(&[(0.0, 8.0), (2.0, 5.0)]));
    }
}

//! Aggregations: many elements become one per group.

use super::ast::{Aggregation, Grouping};
use super::signature::{Distinction, Groups, Item, Tag};
use super::sum::{Mean, Sum};
use super::window::{larger, smaller};

/// One element per group, in the order in which the groups come.
pub(super) fn aggregate<'s>(
    aggregation: Aggregation,
    grouping: &Grouping,
    items: &[Item<'_>],
) -> Vec<Item<'s>> {
    let mut groups = Groups::new(Distinction::Grouping(grouping), 0);
    let mut states: Vec<State> = Vec::new();
    // The element whose name is leaving, where a group has one: then the group's is, too.
    let mut leaving: Vec<Option<usize>> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let (group, is_first) = groups.insert(items, index);
        if is_first {
            states.push(State::new(aggregation, item.value));
            leaving.push(None);
        } else {
            states[group].add(item.value);
        }
        if item.tag.is_leaving() {
            leaving[group] = Some(index);
        }
    }
    let element = |(group, state): (usize, &State)| {
        let labels = items[groups.first(group)].tag.grouped(grouping);
        let tag = match leaving[group] {
            Some(index) => items[index].tag.relabelled(labels),
            None => Tag::made(labels),
        };
        Item { tag, value: state.value() }
    };
    states.iter().enumerate().map(element).collect()
}

/// What has to be known of a group's elements so far.
#[derive(Debug)]
enum State {
    Sum(Sum),
    Average(Mean),
    Minimum(f64),
    Maximum(f64),
    Count(f64),
    Group,
    Variance { spread: Spread, is_deviation: bool },
}

impl State {
    fn new(aggregation: Aggregation, first: f64) -> Self {
        let mut state = match aggregation {
            Aggregation::Sum => Self::Sum(Sum::default()),
            Aggregation::Average => Self::Average(Mean::default()),
            Aggregation::Minimum => return Self::Minimum(first),
            Aggregation::Maximum => return Self::Maximum(first),
            Aggregation::Count => Self::Count(0.0),
            Aggregation::Group => Self::Group,
            Aggregation::Deviation => Self::Variance { spread: Spread::default(), is_deviation: true },
            Aggregation::Variance => Self::Variance { spread: Spread::default(), is_deviation: false },
        };
        state.add(first);
        state
    }

    fn add(&mut self, value: f64) {
        match self {
            Self::Sum(sum) => sum.add(value),
            Self::Average(mean) => mean.add(value),
            Self::Minimum(known) => *known = smaller(*known, value),
            Self::Maximum(known) => *known = larger(*known, value),
            Self::Count(count) => *count += 1.0,
            Self::Group => {}
            Self::Variance { spread, .. } => spread.add(value),
        }
    }

    fn value(&self) -> f64 {
        match self {
            Self::Sum(sum) => sum.total(),
            Self::Average(mean) => mean.mean(),
            Self::Minimum(value) | Self::Maximum(value) | Self::Count(value) => *value,
            Self::Group => 1.0,
            Self::Variance { spread, is_deviation: false } => spread.variance(),
            Self::Variance { spread, is_deviation: true } => spread.variance().sqrt(),
        }
    }
}

/// Welford's running variance ("Note on a method for calculating corrected sums of squares and products", 1962).
#[derive(Debug, Default)]
struct Spread {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Spread {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        let distance = value - self.mean;
        self.mean += distance / self.count;
        self.squares += distance * (value - self.mean);
    }

    /// Of the population, as PromQL has it.
    fn variance(&self) -> f64 {
        self.squares / self.count
    }
}

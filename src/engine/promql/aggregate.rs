//! Aggregations: many elements become one per group.

use crate::model::Labels;

use super::ast::{Aggregation, Grouping};
use super::error::EvalError;
use super::functions;
use super::functions::window::{larger, smaller};
use super::signature::{Distinction, Groups, Item, Tag};
use super::sum::{Mean, Spread, Sum};

/// One element per group, in the order in which the groups come.
pub(super) fn aggregate<'s>(
    aggregation: Aggregation,
    grouping: &Grouping,
    items: &[Item<'_>],
) -> Vec<Item<'s>> {
    let mut grouped = Grouped::new(Distinction::Grouping(grouping));
    let mut states: Vec<State> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        match grouped.insert(items, index) {
            (_, true) => states.push(State::new(aggregation, item.value)),
            (group, false) => states[group].add(item.value),
        }
    }
    let element = |(group, state): (usize, &State)| {
        let tag = grouped.tag(group, items, |tag| tag.grouped(grouping));
        Item { tag, value: state.value() }
    };
    states.iter().enumerate().map(element).collect()
}

/// The quantile of each group.
pub(super) fn quantile<'s>(quantile: f64, grouping: &Grouping, items: &[Item<'_>]) -> Vec<Item<'s>> {
    let mut grouped = Grouped::new(Distinction::Grouping(grouping));
    let mut values: Vec<Vec<f64>> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        match grouped.insert(items, index) {
            (_, true) => values.push(vec![item.value]),
            (group, false) => values[group].push(item.value),
        }
    }
    let element = |(group, values): (usize, &mut Vec<f64>)| {
        let tag = grouped.tag(group, items, |tag| tag.grouped(grouping));
        Item { tag, value: functions::quantile::quantile(quantile, values) }
    };
    values.iter_mut().enumerate().map(element).collect()
}

/// How many elements of each group have each value, which a label tells.
pub(super) fn count_values<'s>(
    label: &str,
    grouping: &Grouping,
    items: &[Item<'_>],
) -> Result<Vec<Item<'s>>, EvalError> {
    let labelled = |item: &Item<'_>| {
        let tag = item.tag.relabelled(item.tag.grouped(grouping)).with(label, &written(item.value))?;
        Ok(Item { tag, value: 1.0 })
    };
    let items = items.iter().map(labelled).collect::<Result<Vec<_>, EvalError>>()?;
    let mut groups = Groups::new(Distinction::All, items.len());
    let mut counts: Vec<Item<'s>> = Vec::new();
    for index in 0..items.len() {
        match groups.insert(&items, index) {
            (_, true) => counts.push(items[index].clone()),
            (group, false) => counts[group].value += 1.0,
        }
    }
    Ok(counts)
}

/// A number as a label has it: never with an exponent.
pub(super) fn written(value: f64) -> String {
    match value {
        f64::INFINITY => "+Inf".into(),
        f64::NEG_INFINITY => "-Inf".into(),
        value => value.to_string(),
    }
}

/// Groups that know whether a metric's name is leaving one of their elements: then it leaves theirs, too.
struct Grouped<'e> {
    groups: Groups<'e>,
    /// The element whose name is leaving, where a group has one.
    leaving: Vec<Option<usize>>,
}

impl<'e> Grouped<'e> {
    fn new(distinction: Distinction<'e>) -> Self {
        Self { groups: Groups::new(distinction, 0), leaving: Vec::new() }
    }

    /// The group of `items[index]`, and whether this is the first element of it.
    fn insert(&mut self, items: &[Item<'_>], index: usize) -> (usize, bool) {
        let (group, is_first) = self.groups.insert(items, index);
        if is_first {
            self.leaving.push(None);
        }
        if items[index].tag.is_leaving() {
            self.leaving[group] = Some(index);
        }
        (group, is_first)
    }

    /// The labels of a group, which `of` takes from its first element.
    fn tag<'s>(&self, group: usize, items: &[Item<'_>], of: impl Fn(&Tag<'_>) -> Labels) -> Tag<'s> {
        let labels = of(&items[self.groups.first(group)].tag);
        match self.leaving[group] {
            Some(index) => items[index].tag.relabelled(labels),
            None => Tag::made(labels),
        }
    }
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

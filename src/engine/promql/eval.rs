//! The pull evaluator: the value of an expression at one time, from the samples in a store.

use crate::model::{Labels, Timestamp};

use super::ast::{
    Aggregation, Grouping, Instant, Join, MapFunction, Node, Operator, Range, Scalar, Set, Vector,
    WindowFunction, WithScalar,
};
use super::error::EvalError;
use super::expr::LOOKBACK;
use super::index::Slot;
use super::matcher::Selector;
use super::series::is_stale;
use super::signature::{Item, NameRemoval, Tag, check_distinct};
use super::store::{SeriesId, SeriesStore};
use super::value::{Element, Value};
use super::{aggregate, binary, distinct, window};

/// Most samples that one evaluation reads: Prometheus' default.
pub(super) const SAMPLES_PER_EVALUATION_MAX: usize = 50_000_000;
/// Most elements of a vector: more cannot be a violation each.
pub(super) const ELEMENTS_PER_VECTOR_MAX: usize = 1_000_000;

/// Which series an evaluation reads.
#[derive(Clone, Copy, Debug)]
pub enum Scope<'a> {
    /// All that the selectors mean.
    All,
    /// Of those that the selectors mean, these.
    Only(&'a [SeriesId]),
}

/// Evaluates a tree.
pub(super) fn eval(
    root: &Node,
    store: &SeriesStore,
    at: Timestamp,
    scope: Scope<'_>,
    removal: NameRemoval,
) -> Result<Value, EvalError> {
    let only = match scope {
        Scope::All => None,
        Scope::Only(ids) => {
            let mut slots: Vec<Slot> =
                ids.iter().filter(|&&id| store.is_live(id)).map(|id| id.slot).collect();
            slots.sort_unstable();
            slots.dedup();
            Some(slots)
        }
    };
    let mut evaluation =
        Evaluation { store, at: at.as_millis(), only, removal, samples: 0, scratch: Vec::new() };
    match root {
        Node::Scalar(scalar) => evaluation.scalar(scalar).map(Value::Scalar),
        Node::Text(text) => Ok(Value::Text(std::sync::Arc::clone(text))),
        Node::Vector(vector) => {
            let items = evaluation.vector(vector)?;
            let mut elements: Vec<Element> = items
                .into_iter()
                .map(|item| Element { labels: item.tag.into_labels(), value: item.value })
                .collect();
            elements.sort_unstable_by(|one, other| one.labels.cmp(&other.labels));
            // Immediately removed names were checked with each operation; a delayed removal may make two one here.
            let has_twins = || elements.windows(2).any(|pair| pair[0].labels == pair[1].labels);
            if removal == NameRemoval::Delayed && has_twins() {
                return Err(EvalError::SameLabels);
            }
            Ok(Value::Vector(elements))
        }
    }
}

type Items<'s> = Result<Vec<Item<'s>>, EvalError>;

struct Evaluation<'s> {
    store: &'s SeriesStore,
    /// Milliseconds since the epoch.
    at: i64,
    only: Option<Vec<Slot>>,
    removal: NameRemoval,
    /// Read so far.
    samples: usize,
    /// A window without its stale markers.
    scratch: Vec<(Timestamp, f64)>,
}

impl<'s> Evaluation<'s> {
    fn scalar(&mut self, scalar: &Scalar) -> Result<f64, EvalError> {
        Ok(match scalar {
            Scalar::Number(number) => *number,
            Scalar::Time => self.at as f64 / 1_000.0,
            Scalar::Negate(argument) => -self.scalar(argument)?,
            Scalar::Only(vector) => match self.vector(vector)?.as_slice() {
                [only] => only.value,
                _ => f64::NAN,
            },
            Scalar::Binary { operator, left, right } => {
                let (left, right) = (self.scalar(left)?, self.scalar(right)?);
                match operator {
                    Operator::Arithmetic(arithmetic) => arithmetic.apply(left, right),
                    Operator::Comparison { comparison, .. } => f64::from(comparison.holds(left, right)),
                }
            }
        })
    }

    fn vector(&mut self, vector: &Vector) -> Items<'s> {
        let items = self.operation(vector)?;
        if items.len() > ELEMENTS_PER_VECTOR_MAX { Err(EvalError::TooManyElements) } else { Ok(items) }
    }

    /// Calls and nothing else: what an arm needs on the stack would be there for every level of an expression.
    fn operation(&mut self, vector: &Vector) -> Items<'s> {
        match vector {
            Vector::Select(instant) => self.select(instant),
            Vector::Window { function, range } => self.window(vector, *function, range),
            Vector::Of(scalar) => self.of_scalar(scalar),
            Vector::Negate(argument) => self.negate(argument),
            Vector::Map { function, argument } => self.map(function, argument),
            Vector::Absent { argument, labels } => self.absent(argument, labels),
            Vector::Aggregate { aggregation, grouping, argument } => {
                self.aggregate(*aggregation, grouping, argument)
            }
            Vector::WithScalar(operation) => self.with_scalar(operation),
            Vector::Join(join) => self.join(join),
            Vector::Set(set) => self.set(set),
        }
    }

    fn of_scalar(&mut self, scalar: &Scalar) -> Items<'s> {
        let value = self.scalar(scalar)?;
        Ok(vec![Item { tag: Tag::made(Labels::empty()), value }])
    }

    fn negate(&mut self, argument: &Vector) -> Items<'s> {
        let items = self.vector(argument)?;
        self.nameless(argument, items, |value| -value)
    }

    fn absent(&mut self, argument: &Vector, labels: &Labels) -> Items<'s> {
        let is_absent = self.vector(argument)?.is_empty();
        let element = is_absent.then(|| Item { tag: Tag::made(labels.clone()), value: 1.0 });
        Ok(element.into_iter().collect())
    }

    fn aggregate(&mut self, aggregation: Aggregation, grouping: &Grouping, argument: &Vector) -> Items<'s> {
        let items = self.vector(argument)?;
        Ok(aggregate::aggregate(aggregation, grouping, &items))
    }

    fn join(&mut self, join: &Join) -> Items<'s> {
        let left = self.vector(&join.left)?;
        let right = self.vector(&join.right)?;
        let results = binary::join(join, left, right, self.removal)?;
        self.check(distinct::of_join(join), &results)?;
        Ok(results)
    }

    fn set(&mut self, set: &Set) -> Items<'s> {
        let left = self.vector(&set.left)?;
        let right = self.vector(&set.right)?;
        Ok(binary::set(set, left, right))
    }

    fn select(&mut self, instant: &Instant) -> Items<'s> {
        let store = self.store;
        let reference = instant.when.reference(self.at);
        let lookback = i64::try_from(LOOKBACK.as_millis()).unwrap_or(i64::MAX);
        let slots = self.slots(&instant.selector);
        self.count(slots.len())?;
        let item = |&slot: &Slot| {
            let value = store.series_at(slot)?.latest(reference, lookback)?;
            Some(Item { tag: Tag::series(store.labels_at(slot)?), value })
        };
        Ok(slots.iter().filter_map(item).collect())
    }

    fn window(&mut self, whole: &Vector, function: WindowFunction, range: &Range) -> Items<'s> {
        let until = range.when.reference(self.at);
        let after = until.saturating_sub(range.length_millis);
        let store = self.store;
        let mut items = Vec::new();
        for &slot in self.slots(&range.selector).iter() {
            let (Some(series), Some(labels)) = (store.series_at(slot), store.labels_at(slot)) else {
                continue;
            };
            let mut samples = series.window(after, until);
            self.count(samples.len())?;
            if series.has_stale() {
                self.scratch.clear();
                self.scratch.extend(samples.iter().filter(|(_, value)| !is_stale(*value)));
                samples = &self.scratch;
            }
            if let Some(value) = window::apply(function, samples, after, until) {
                let tag = Tag::series(labels);
                let tag = if function.keeps_name() { tag } else { tag.nameless(self.removal) };
                items.push(Item { tag, value });
            }
        }
        if !function.keeps_name() {
            self.check(distinct::without_name(whole), &items)?;
        }
        Ok(items)
    }

    fn map(&mut self, function: &MapFunction, argument: &Vector) -> Items<'s> {
        let items = self.vector(argument)?;
        let (lowest, highest) = match function {
            MapFunction::Absolute => return self.nameless(argument, items, f64::abs),
            MapFunction::Ceiling => return self.nameless(argument, items, f64::ceil),
            MapFunction::Floor => return self.nameless(argument, items, f64::floor),
            MapFunction::Clamp { lowest, highest } => (self.scalar(lowest)?, self.scalar(highest)?),
        };
        if highest < lowest {
            return Ok(Vec::new());
        }
        self.nameless(argument, items, |value| clamped(value, lowest, highest))
    }

    fn with_scalar(&mut self, operation: &WithScalar) -> Items<'s> {
        let WithScalar { operator, vector, scalar, scalar_is_left, .. } = operation;
        let mut items = self.vector(vector)?;
        let scalar = self.scalar(scalar)?;
        let sides = |value: f64| if *scalar_is_left { (scalar, value) } else { (value, scalar) };
        match *operator {
            Operator::Comparison { comparison, to_bool: false } => {
                items.retain(|item| {
                    let (left, right) = sides(item.value);
                    comparison.holds(left, right)
                });
                Ok(items)
            }
            Operator::Comparison { comparison, to_bool: true } => self.nameless(vector, items, |value| {
                let (left, right) = sides(value);
                f64::from(comparison.holds(left, right))
            }),
            Operator::Arithmetic(arithmetic) => self.nameless(vector, items, |value| {
                let (left, right) = sides(value);
                arithmetic.apply(left, right)
            }),
        }
    }

    /// The elements of `of` with other values, which are not the metric's any more.
    fn nameless(&self, of: &Vector, items: Vec<Item<'s>>, change: impl Fn(f64) -> f64) -> Items<'s> {
        let items: Vec<Item<'s>> = items
            .into_iter()
            .map(|item| Item { tag: item.tag.nameless(self.removal), value: change(item.value) })
            .collect();
        self.check(distinct::without_name(of), &items)?;
        Ok(items)
    }

    /// Whether no two elements have the same labels, which is searched for only where the expression leaves it open.
    fn check(&self, is_known_distinct: bool, items: &[Item<'s>]) -> Result<(), EvalError> {
        if (is_known_distinct && !self.store.has_type_labels()) || self.removal == NameRemoval::Delayed {
            return Ok(());
        }
        check_distinct(items)
    }

    fn slots(&self, selector: &Selector) -> std::borrow::Cow<'s, [Slot]> {
        let store = self.store;
        match &self.only {
            None => store.slots(selector),
            Some(slots) => slots
                .iter()
                .copied()
                .filter(|&slot| store.labels_at(slot).is_some_and(|labels| selector.matches(labels)))
                .collect(),
        }
    }

    fn count(&mut self, samples: usize) -> Result<(), EvalError> {
        self.samples += samples;
        if self.samples > SAMPLES_PER_EVALUATION_MAX { Err(EvalError::TooManySamples) } else { Ok(()) }
    }
}

/// Not `f64::clamp`, which panics on NaN bounds, where PromQL gives NaN.
pub(super) fn clamped(value: f64, lowest: f64, highest: f64) -> f64 {
    if lowest.is_nan() || highest.is_nan() || value.is_nan() {
        return f64::NAN;
    }
    value.min(highest).max(lowest)
}

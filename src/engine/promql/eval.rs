//! The pull evaluator: the value of an expression at one time, from the samples in a store.

use crate::model::{Labels, Timestamp};

use super::annotations::{self, Annotations, Severity};
use super::ast::{
    Aggregation, Grouping, Histogram, HistogramFunction, Join, Moment, Quantile, Rank, Scalar, Set, Vector,
    WithScalar,
};
use super::error::EvalError;
use super::functions::map::MapFunction;
use super::functions::order::Order;
use super::functions::{labels, order, quantile};
use super::histogram::BOUND;
use super::index::Slot;
use super::operator::Operator;
use super::signature::{Item, NameRemoval, Tag, check_distinct};
use super::store::{SeriesId, SeriesStore};
use super::value::Element;
use super::{aggregate, binary, distinct, histogram, rank};

/// Most samples that one evaluation reads: Prometheus' default. A step of a subquery counts as one.
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

pub(super) type Items<'s> = Result<Vec<Item<'s>>, EvalError>;

/// One evaluation, or several in a row of one query.
pub(super) struct Evaluation<'s> {
    pub(super) store: &'s SeriesStore,
    pub(super) moment: Moment,
    pub(super) only: Option<Vec<Slot>>,
    pub(super) removal: NameRemoval,
    /// Read so far.
    samples: usize,
    /// A window without its stale markers.
    pub(super) scratch: Vec<(Timestamp, f64)>,
    /// The expression, and what there is to say about it, where somebody wants to know.
    notes: Option<(&'s str, Annotations)>,
}

impl<'s> Evaluation<'s> {
    /// Reads what `scope` lets it; notes annotations where it is told the text they are about.
    pub(super) fn new(
        store: &'s SeriesStore,
        moment: Moment,
        scope: Scope<'_>,
        removal: NameRemoval,
        text: Option<&'s str>,
    ) -> Self {
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
        let notes = text.map(|text| (text, Annotations::default()));
        Self { store, moment, only, removal, samples: 0, scratch: Vec::new(), notes }
    }

    /// Goes on to another time of the same query, with a new allowance of samples.
    pub(super) fn move_to(&mut self, at: i64) {
        self.moment = self.moment.moved(at);
        self.samples = 0;
    }

    /// What there was to say.
    pub(super) fn into_annotations(self) -> Annotations {
        self.notes.map(|(_, annotations)| annotations).unwrap_or_default()
    }

    /// The elements as they are handed out, in the order in which they were made.
    pub(super) fn elements(&mut self, vector: &Vector) -> Result<Vec<Element>, EvalError> {
        let items = self.vector(vector)?;
        let elements: Vec<Element> = items
            .into_iter()
            .map(|item| Element { labels: item.tag.into_labels(), value: item.value })
            .collect();
        // Immediately removed names were checked with each operation; a delayed removal may make two one here.
        if self.removal == NameRemoval::Delayed {
            let made = |element: &Element| Item { tag: Tag::made(element.labels.clone()), value: 0.0 };
            check_distinct(&elements.iter().map(made).collect::<Vec<_>>())?;
        }
        Ok(elements)
    }

    pub(super) fn scalar(&mut self, scalar: &Scalar) -> Result<f64, EvalError> {
        Ok(match scalar {
            Scalar::Number(number) => *number,
            Scalar::Time => self.moment.at as f64 / 1_000.0,
            Scalar::OfQuery(what) => self.moment.of_query(*what),
            Scalar::Negate(argument) => -self.scalar(argument)?,
            Scalar::Only(vector) => match self.vector(vector)?.as_slice() {
                [only] => only.value,
                _ => f64::NAN,
            },
            Scalar::Binary { operator, left, right } => {
                let left = self.scalar(left)?;
                operator.apply(left, self.scalar(right)?)
            }
        })
    }

    pub(super) fn vector(&mut self, vector: &Vector) -> Items<'s> {
        let items = self.operation(vector)?;
        if items.len() > ELEMENTS_PER_VECTOR_MAX { Err(EvalError::TooManyElements) } else { Ok(items) }
    }

    /// Calls and nothing else: what an arm needs on the stack would be there for every level of an expression.
    fn operation(&mut self, vector: &Vector) -> Items<'s> {
        match vector {
            Vector::Select(instant) => self.select(instant),
            Vector::Timestamp(instant) => self.timestamp(vector, instant),
            Vector::Window(window) => self.window(vector, window),
            Vector::AbsentOverTime { samples, labels } => self.absent_over_time(samples, labels),
            Vector::Of(scalar) => self.of_scalar(scalar),
            Vector::Negate(argument) => self.negate(argument),
            Vector::Map { function, argument } => self.map(function, argument),
            Vector::Absent { argument, labels } => self.absent(argument, labels),
            Vector::Aggregate { aggregation, grouping, argument } => {
                self.aggregate(*aggregation, grouping, argument)
            }
            Vector::Quantile(quantile) => self.quantile(quantile),
            Vector::Rank(rank) => self.rank(rank),
            Vector::CountValues { label, grouping, argument } => self.count_values(label, grouping, argument),
            Vector::Relabel { relabel, argument } => self.relabel(relabel, argument),
            Vector::Sort { order, argument, at } => self.sort(order, argument, *at),
            Vector::Histogram(histogram) => self.histogram(histogram),
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

    fn map(&mut self, function: &MapFunction<Scalar>, argument: &Vector) -> Items<'s> {
        let items = self.vector(argument)?;
        let function = function.resolve(|number| self.scalar(number))?;
        if function.drops_all() {
            return Ok(Vec::new());
        }
        let at = self.moment.at;
        self.nameless(argument, items, |value| function.apply(value, at))
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

    fn quantile(&mut self, Quantile { quantile, quantile_at, grouping, argument }: &Quantile) -> Items<'s> {
        let quantile = self.scalar(quantile)?;
        self.check_quantile(quantile, *quantile_at);
        let items = self.vector(argument)?;
        Ok(aggregate::quantile(quantile, grouping, &items))
    }

    fn rank(&mut self, Rank { ranking, count, count_at, grouping, argument }: &Rank) -> Items<'s> {
        let number = self.scalar(count)?;
        let choice = ranking.choice(number)?;
        if let rank::Choice::Share(share) = choice
            && share.to_bits() != number.to_bits()
        {
            self.note(Severity::Warning, *count_at, || annotations::invalid_ratio(number, share));
        }
        let items = self.vector(argument)?;
        Ok(rank::rank(choice, grouping, items))
    }

    fn count_values(&mut self, label: &str, grouping: &Grouping, argument: &Vector) -> Items<'s> {
        let items = self.vector(argument)?;
        aggregate::count_values(label, grouping, &items)
    }

    fn relabel(&mut self, relabel: &labels::Relabel, argument: &Vector) -> Items<'s> {
        let items = self.vector(argument)?;
        let items = labels::relabel(relabel, items)?;
        // Even where names are removed late: labels that are the same already stay the same.
        check_distinct(&items)?;
        Ok(items)
    }

    fn sort(&mut self, order: &Order, argument: &Vector, at: usize) -> Items<'s> {
        let mut items = self.vector(argument)?;
        if self.moment.start < self.moment.end {
            self.note(Severity::Warning, at, || annotations::SORT_IN_RANGE.into());
        } else {
            order::sort(order, &mut items);
        }
        Ok(items)
    }

    fn histogram(&mut self, Histogram { function, argument, argument_at }: &Histogram) -> Items<'s> {
        let quantiles = self.histogram_quantiles(function)?;
        let items = self.vector(argument)?;
        let mut rejected = Vec::new();
        let histograms = histogram::histograms(&items, |item| {
            rejected.push((item.tag.metric_name().to_owned(), item.tag.get(BOUND).unwrap_or("").to_owned()));
        });
        for (metric, bound) in rejected {
            self.note(Severity::Warning, *argument_at, || annotations::bad_bucket(&metric, &bound));
        }
        let mut results = Vec::new();
        for mut known in histograms {
            let tag = items[known.first].tag.without(BOUND).nameless(self.removal);
            if let HistogramFunction::Fraction { lower, upper } = function {
                let (lower, upper) = (self.scalar(lower)?, self.scalar(upper)?);
                results.push(Item { tag, value: histogram::fraction(lower, upper, &known.buckets) });
                continue;
            }
            if histogram::make_monotonic(&mut known.buckets)
                && histogram::is_telling(&known.buckets)
                && quantiles.iter().any(|q| quantile::is_valid(*q))
            {
                let metric = items[known.first].tag.metric_name();
                self.note(Severity::Info, *argument_at, || annotations::forced_monotonicity(metric));
            }
            for &quantile in &quantiles {
                let value = histogram::quantile(quantile, &known.buckets);
                let tag = match function {
                    HistogramFunction::Quantiles { label, .. } => {
                        tag.clone().with(label, &aggregate::written(quantile))?
                    }
                    HistogramFunction::Quantile(..) | HistogramFunction::Fraction { .. } => tag.clone(),
                };
                results.push(Item { tag, value });
            }
        }
        let is_one_each = !matches!(function, HistogramFunction::Quantiles { .. });
        self.check(is_one_each && distinct::without_name(argument), &results)?;
        Ok(results)
    }

    /// The quantiles that are wanted of each histogram.
    fn histogram_quantiles(&mut self, function: &HistogramFunction) -> Result<Vec<f64>, EvalError> {
        let wanted: Vec<(&Scalar, usize)> = match function {
            HistogramFunction::Quantile(quantile, at) => vec![(quantile, *at)],
            HistogramFunction::Fraction { .. } => Vec::new(),
            HistogramFunction::Quantiles { quantiles, .. } => {
                quantiles.iter().map(|(quantile, at)| (quantile, *at)).collect()
            }
        };
        let mut quantiles = Vec::new();
        for (quantile, at) in wanted {
            let quantile = self.scalar(quantile)?;
            self.check_quantile(quantile, at);
            quantiles.push(quantile);
        }
        Ok(quantiles)
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

    fn with_scalar(&mut self, operation: &WithScalar) -> Items<'s> {
        let WithScalar { operator, vector, scalar, scalar_is_left, .. } = operation;
        let mut items = self.vector(vector)?;
        let scalar = self.scalar(scalar)?;
        let sides = |value: f64| if *scalar_is_left { (scalar, value) } else { (value, scalar) };
        if let Operator::Comparison { comparison, to_bool: false } = *operator {
            items.retain(|item| {
                let (left, right) = sides(item.value);
                comparison.holds(left, right)
            });
            return Ok(items);
        }
        self.nameless(vector, items, |value| {
            let (left, right) = sides(value);
            operator.apply(left, right)
        })
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
    pub(super) fn check(&self, is_known_distinct: bool, items: &[Item<'s>]) -> Result<(), EvalError> {
        if (is_known_distinct && !self.store.has_type_labels()) || self.removal == NameRemoval::Delayed {
            return Ok(());
        }
        check_distinct(items)
    }

    pub(super) fn count(&mut self, samples: usize) -> Result<(), EvalError> {
        self.samples = self.samples.saturating_add(samples);
        if self.samples > SAMPLES_PER_EVALUATION_MAX { Err(EvalError::TooManySamples) } else { Ok(()) }
    }

    pub(super) fn check_quantile(&mut self, quantile: f64, at: usize) {
        if !quantile::is_valid(quantile) {
            self.note(Severity::Warning, at, || annotations::invalid_quantile(quantile));
        }
    }

    /// Whether somebody wants to know.
    pub(super) fn is_noting(&self) -> bool {
        self.notes.is_some()
    }

    pub(super) fn note(&mut self, severity: Severity, at: usize, message: impl FnOnce() -> String) {
        if let Some((text, annotations)) = &mut self.notes {
            annotations.add(severity, text, at, message());
        }
    }
}

//! The value of a separable expression for one series, without a vector: what a rule asks at every sample.

use crate::model::Timestamp;

use super::ast::{Instant, Moment, Node, Range, Samples, Scalar, Vector, Window};
use super::expr::Expr;
use super::functions::window;
use super::matcher::Selector;
use super::operator::Operator;
use super::read::{frame, grid, lookback_millis};
use super::series::Series;
use super::store::{SeriesId, SeriesStore};

impl Expr {
    /// The value of the element that comes from this series, where there is one: what [`eval`](Self::eval) gives with
    /// [`Scope::Only`](super::Scope::Only), without the labels. The series has to be one that the expression
    /// [reads](Self::matches), which is not looked at again; an expression that is not
    /// [separable](Self::is_separable) has no such element.
    pub fn value_of(&self, store: &SeriesStore, at: Timestamp, series: SeriesId) -> Option<f64> {
        if !store.is_live(series) {
            return None;
        }
        let Node::Vector(vector) = self.root() else { return None };
        value(vector, store.series_at(series.slot)?, Moment::instant(at.as_millis()))
    }
}

pub(super) fn value(vector: &Vector, series: &Series, moment: Moment) -> Option<f64> {
    match vector {
        Vector::Select(instant) => {
            let (_, value) = series.latest_at(instant.when.reference(moment), lookback_millis())?;
            Some(value)
        }
        Vector::Timestamp(instant) => {
            let (at, _) = series.latest_at(instant.when.reference(moment), lookback_millis())?;
            Some(at as f64 / 1_000.0)
        }
        Vector::Window(window) => windowed(window, series, moment),
        Vector::Negate(argument) => value(argument, series, moment).map(|value| -value),
        Vector::Map { function, argument } => {
            let value = value(argument, series, moment)?;
            let function = function.resolve(|scalar| number(scalar, moment).ok_or(())).ok()?;
            (!function.drops_all()).then(|| function.apply(value, moment.at))
        }
        Vector::WithScalar(operation) => {
            let value = value(&operation.vector, series, moment)?;
            let scalar = number(&operation.scalar, moment)?;
            let (left, right) = if operation.scalar_is_left { (scalar, value) } else { (value, scalar) };
            match operation.operator {
                Operator::Comparison { comparison, to_bool: false } => {
                    comparison.holds(left, right).then_some(value)
                }
                operator @ (Operator::Arithmetic(_) | Operator::Comparison { to_bool: true, .. }) => {
                    Some(operator.apply(left, right))
                }
            }
        }
        Vector::AbsentOverTime { .. }
        | Vector::Of(_)
        | Vector::Absent { .. }
        | Vector::Aggregate { .. }
        | Vector::Quantile(_)
        | Vector::Rank(_)
        | Vector::CountValues { .. }
        | Vector::Relabel { .. }
        | Vector::Sort { .. }
        | Vector::Histogram(_)
        | Vector::Join(_)
        | Vector::Set(_) => None,
    }
}

fn windowed(window: &Window, series: &Series, moment: Moment) -> Option<f64> {
    let function = window.function.resolve(|scalar| number(scalar, moment).ok_or(())).ok()?;
    let frame = frame(&window.samples, moment);
    match &window.samples {
        Samples::Series(_) => {
            let samples = series.window(frame.after, frame.until);
            let mut kept = Vec::new();
            let samples = window::without_stale(samples, series.has_stale(), &mut kept);
            window::checked(function, samples, frame).ok().flatten()
        }
        Samples::Subquery(subquery) => {
            let value =
                |at| Some((Timestamp::from_millis(at), value(&subquery.vector, series, moment.moved(at))?));
            let samples: Vec<_> = grid(subquery, frame).filter_map(value).collect();
            window::checked(function, &samples, frame).ok().flatten()
        }
    }
}

/// A number without a vector on its way.
fn number(scalar: &Scalar, moment: Moment) -> Option<f64> {
    Some(match scalar {
        Scalar::Number(number) => *number,
        Scalar::Time => moment.at as f64 / 1_000.0,
        Scalar::OfQuery(what) => moment.of_query(*what),
        Scalar::Negate(argument) => -number(argument, moment)?,
        Scalar::Binary { operator, left, right } => {
            operator.apply(number(left, moment)?, number(right, moment)?)
        }
        Scalar::Only(_) => return None,
    })
}

/// The one place at which a separable vector reads.
#[derive(Clone, Copy)]
pub(super) struct Leaf<'e> {
    pub selector: &'e Selector,
    range: Option<&'e Range>,
}

impl Leaf<'_> {
    /// How many samples a series has for it at a time.
    pub(super) fn samples_per_step(&self, series: &Series, moment: Moment) -> usize {
        let Some(range) = self.range else { return 1 };
        let until = range.when.reference(moment);
        series.window(until.saturating_sub(range.length_millis), until).len()
    }
}

/// Where a separable vector reads; `None` for one that is not.
pub(super) fn leaf(vector: &Vector) -> Option<Leaf<'_>> {
    match vector {
        Vector::Select(Instant { selector, .. }) | Vector::Timestamp(Instant { selector, .. }) => {
            Some(Leaf { selector, range: None })
        }
        Vector::Window(window) => match &window.samples {
            Samples::Series(range) => Some(Leaf { selector: &range.selector, range: Some(range) }),
            Samples::Subquery(subquery) => leaf(&subquery.vector),
        },
        Vector::Negate(argument) | Vector::Map { argument, .. } => leaf(argument),
        Vector::WithScalar(operation) => leaf(&operation.vector),
        Vector::AbsentOverTime { .. }
        | Vector::Of(_)
        | Vector::Absent { .. }
        | Vector::Aggregate { .. }
        | Vector::Quantile(_)
        | Vector::Rank(_)
        | Vector::CountValues { .. }
        | Vector::Relabel { .. }
        | Vector::Sort { .. }
        | Vector::Histogram(_)
        | Vector::Join(_)
        | Vector::Set(_) => None,
    }
}

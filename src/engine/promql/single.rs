//! The value of a separable expression for one series, without a vector: what a rule asks at every sample.

use crate::model::Timestamp;

use super::ast::{MapFunction, Node, Operator, Scalar, Vector};
use super::expr::{Expr, LOOKBACK};
use super::series::{Series, is_stale};
use super::store::{SeriesId, SeriesStore};
use super::{eval, window};

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
        value(vector, store.series_at(series.slot)?, at.as_millis())
    }
}

fn value(vector: &Vector, series: &Series, at: i64) -> Option<f64> {
    match vector {
        Vector::Select(instant) => {
            let lookback = i64::try_from(LOOKBACK.as_millis()).unwrap_or(i64::MAX);
            series.latest(instant.when.reference(at), lookback)
        }
        Vector::Window { function, range } => {
            let until = range.when.reference(at);
            let after = until.saturating_sub(range.length_millis);
            let samples = series.window(after, until);
            if !series.has_stale() {
                return window::apply(*function, samples, after, until);
            }
            let kept: Vec<_> = samples.iter().copied().filter(|(_, value)| !is_stale(*value)).collect();
            window::apply(*function, &kept, after, until)
        }
        Vector::Negate(argument) => value(argument, series, at).map(|value| -value),
        Vector::Map { function, argument } => {
            let value = value(argument, series, at)?;
            Some(match function {
                MapFunction::Absolute => value.abs(),
                MapFunction::Ceiling => value.ceil(),
                MapFunction::Floor => value.floor(),
                MapFunction::Clamp { lowest, highest } => {
                    let (lowest, highest) = (number(lowest, at)?, number(highest, at)?);
                    if highest < lowest {
                        return None;
                    }
                    eval::clamped(value, lowest, highest)
                }
            })
        }
        Vector::WithScalar(operation) => {
            let value = value(&operation.vector, series, at)?;
            let scalar = number(&operation.scalar, at)?;
            let (left, right) = if operation.scalar_is_left { (scalar, value) } else { (value, scalar) };
            match operation.operator {
                Operator::Comparison { comparison, to_bool: false } => {
                    comparison.holds(left, right).then_some(value)
                }
                Operator::Comparison { comparison, to_bool: true } => {
                    Some(f64::from(comparison.holds(left, right)))
                }
                Operator::Arithmetic(arithmetic) => Some(arithmetic.apply(left, right)),
            }
        }
        Vector::Of(_)
        | Vector::Absent { .. }
        | Vector::Aggregate { .. }
        | Vector::Join(_)
        | Vector::Set(_) => None,
    }
}

/// A number that reads no series.
fn number(scalar: &Scalar, at: i64) -> Option<f64> {
    Some(match scalar {
        Scalar::Number(number) => *number,
        Scalar::Time => at as f64 / 1_000.0,
        Scalar::Negate(argument) => -number(argument, at)?,
        Scalar::Binary { operator, left, right } => {
            let (left, right) = (number(left, at)?, number(right, at)?);
            match operator {
                Operator::Arithmetic(arithmetic) => arithmetic.apply(left, right),
                Operator::Comparison { comparison, .. } => f64::from(comparison.holds(left, right)),
            }
        }
        Scalar::Only(_) => return None,
    })
}

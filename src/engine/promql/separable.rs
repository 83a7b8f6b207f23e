//! Which expressions can be evaluated series by series, and which have a value without any.

use super::ast::{Cardinality, Samples, Scalar, Vector};
use super::distinct;
use super::operator::{Operator, SetOperator};
use super::walk::Part;

/// Whether each element comes from exactly one series and depends on no other.
pub(super) fn is_separable(vector: &Vector) -> bool {
    match vector {
        Vector::Select(_) => true,
        // Where dropping the metric's name could make two elements one, the whole vector decides.
        Vector::Timestamp(_) => distinct::without_name(vector),
        Vector::Window(window) => {
            let of_series = match &window.samples {
                Samples::Series(_) => true,
                Samples::Subquery(subquery) => subquery.is_separable,
            };
            of_series && window.function.numbers().all(is_plain) && distinct::without_name(vector)
        }
        Vector::Negate(argument) => is_separable(argument) && distinct::without_name(argument),
        Vector::Map { function, argument } => {
            function.numbers().all(is_plain) && is_separable(argument) && distinct::without_name(argument)
        }
        Vector::WithScalar(operation) => {
            let keeps_name = matches!(operation.operator, Operator::Comparison { to_bool: false, .. });
            is_plain(&operation.scalar)
                && is_separable(&operation.vector)
                && (keeps_name || distinct::without_name(&operation.vector))
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
        | Vector::Set(_) => false,
    }
}

/// Whether a subquery of it gives the samples of one series for each series. Not of another subquery: the product of
/// their steps would have no limit.
pub(super) fn in_subquery(vector: &Vector) -> bool {
    let has_subquery = Part::Vector(vector).has(&|part| matches!(part, Part::Subquery(_)));
    !has_subquery && is_separable(vector) && distinct::without_name(vector)
}

/// Whether the elements of a separable vector are still called as their metric.
pub(super) fn keeps_name(vector: &Vector) -> bool {
    match vector {
        Vector::Select(_) => true,
        Vector::Window(window) => {
            let of_samples = match &window.samples {
                Samples::Series(_) => true,
                Samples::Subquery(subquery) => keeps_name(&subquery.vector),
            };
            window.function.keeps_name() && of_samples
        }
        Vector::WithScalar(operation) => {
            let keeps = matches!(operation.operator, Operator::Comparison { to_bool: false, .. });
            keeps && keeps_name(&operation.vector)
        }
        Vector::Timestamp(_)
        | Vector::AbsentOverTime { .. }
        | Vector::Of(_)
        | Vector::Negate(_)
        | Vector::Map { .. }
        | Vector::Absent { .. }
        | Vector::Aggregate { .. }
        | Vector::Quantile(_)
        | Vector::Rank(_)
        | Vector::CountValues { .. }
        | Vector::Relabel { .. }
        | Vector::Sort { .. }
        | Vector::Histogram(_)
        | Vector::Join(_)
        | Vector::Set(_) => false,
    }
}

/// Whether a number is calculated from numbers and times alone, without a vector on the way.
fn is_plain(scalar: &Scalar) -> bool {
    !Part::Scalar(scalar).has(&|part| matches!(part, Part::Vector(_)))
}

/// Whether it can have an element where there are no samples at all.
pub(super) fn holds_without_samples(vector: &Vector) -> bool {
    match vector {
        Vector::Select(_) | Vector::Timestamp(_) | Vector::Histogram(_) => false,
        Vector::Of(_) | Vector::Absent { .. } | Vector::AbsentOverTime { .. } => true,
        Vector::Window(window) => match &window.samples {
            Samples::Series(_) => false,
            Samples::Subquery(subquery) => holds_without_samples(&subquery.vector),
        },
        Vector::Negate(argument)
        | Vector::Map { argument, .. }
        | Vector::Aggregate { argument, .. }
        | Vector::CountValues { argument, .. }
        | Vector::Relabel { argument, .. }
        | Vector::Sort { argument, .. } => holds_without_samples(argument),
        Vector::Quantile(quantile) => holds_without_samples(&quantile.argument),
        Vector::Rank(rank) => holds_without_samples(&rank.argument),
        Vector::WithScalar(operation) => holds_without_samples(&operation.vector),
        Vector::Join(join) => {
            let (left, right) = (holds_without_samples(&join.left), holds_without_samples(&join.right));
            let (many, one) = match join.cardinality {
                Cardinality::OneToOne | Cardinality::ManyToOne(_) => (left, right),
                Cardinality::OneToMany(_) => (right, left),
            };
            (many && (one || join.fill.right.is_some())) || (one && join.fill.left.is_some())
        }
        Vector::Set(set) => {
            let (left, right) = (holds_without_samples(&set.left), holds_without_samples(&set.right));
            match set.operator {
                SetOperator::And => left && right,
                SetOperator::Or => left || right,
                SetOperator::Unless => left,
            }
        }
    }
}

//! Whether a vector's elements can be told apart without the metric's name. Where that is known from the expression
//! alone, dropping the name needs no search for duplicates, which would cost more than most functions do.

use super::ast::{Cardinality, Grouping, Join, SetOperator, Vector};
use super::matcher::Selector;
use super::value::is_metadata;

/// Whether no two elements differ in nothing but the metric's name. Of the type and unit labels that go with the name
/// an expression says nothing: where they are in use, the elements have to be looked at.
pub(super) fn without_name(vector: &Vector) -> bool {
    match vector {
        Vector::Select(instant) => has_one_name(&instant.selector),
        Vector::Window { range, .. } => has_one_name(&range.selector),
        Vector::Of(_) | Vector::Absent { .. } => true,
        Vector::Negate(argument) | Vector::Map { argument, .. } => without_name(argument),
        Vector::WithScalar(operation) => without_name(&operation.vector),
        Vector::Aggregate { grouping: Grouping::By(labels), .. } => {
            !labels.iter().any(|label| is_metadata(label))
        }
        Vector::Join(join) => of_join(join),
        Vector::Set(set) => match set.operator {
            SetOperator::And | SetOperator::Unless => without_name(&set.left),
            SetOperator::Or => false,
        },
        Vector::Aggregate { grouping: Grouping::Without(_), .. } => false,
    }
}

/// Whether a join's results can be told apart, given that no two elements met the same one.
pub(super) fn of_join(join: &Join) -> bool {
    match (&join.cardinality, &join.grouping) {
        (Cardinality::OneToOne, Grouping::By(labels)) => !labels.iter().any(|label| is_metadata(label)),
        (Cardinality::OneToOne, Grouping::Without(_)) => true,
        (Cardinality::ManyToOne(_) | Cardinality::OneToMany(_), _) => false,
    }
}

fn has_one_name(selector: &Selector) -> bool {
    selector.metric_name().is_some()
}

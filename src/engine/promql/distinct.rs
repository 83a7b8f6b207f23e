//! Whether a vector's elements can be told apart without the metric's name. Where that is known from the expression
//! alone, dropping the name needs no search for duplicates, which would cost more than most functions do.

use std::sync::Arc;

use super::ast::{Cardinality, Grouping, Join, Samples, Vector};
use super::matcher::Selector;
use super::operator::SetOperator;
use super::value::is_metadata;

/// Whether no two elements differ in nothing but the metric's name. Of the type and unit labels that go with the name
/// an expression says nothing: where they are in use, the elements have to be looked at.
pub(super) fn without_name(vector: &Vector) -> bool {
    match vector {
        Vector::Select(instant) | Vector::Timestamp(instant) => has_one_name(&instant.selector),
        Vector::Window(window) => match &window.samples {
            Samples::Series(range) => has_one_name(&range.selector),
            Samples::Subquery(subquery) => without_name(&subquery.vector),
        },
        Vector::Of(_) | Vector::Absent { .. } | Vector::AbsentOverTime { .. } => true,
        Vector::Rank(rank) => without_name(&rank.argument),
        // Of histograms that differ in the name alone two results would be the same.
        Vector::Histogram(histogram) => without_name(&histogram.argument),
        Vector::Negate(argument) | Vector::Map { argument, .. } | Vector::Sort { argument, .. } => {
            without_name(argument)
        }
        Vector::WithScalar(operation) => without_name(&operation.vector),
        Vector::Aggregate { grouping: Grouping::By(labels), .. } => is_free_of_metadata(labels),
        Vector::Quantile(quantile) => match &quantile.grouping {
            Grouping::By(labels) => is_free_of_metadata(labels),
            Grouping::Without(_) => false,
        },
        Vector::Join(join) => of_join(join),
        Vector::Set(set) => match set.operator {
            SetOperator::And | SetOperator::Unless => without_name(&set.left),
            SetOperator::Or => false,
        },
        Vector::Aggregate { grouping: Grouping::Without(_), .. }
        | Vector::CountValues { .. }
        | Vector::Relabel { .. } => false,
    }
}

/// Whether a join's results can be told apart, given that no two elements met the same one.
pub(super) fn of_join(join: &Join) -> bool {
    match (&join.cardinality, &join.grouping) {
        (Cardinality::OneToOne, Grouping::By(labels)) => is_free_of_metadata(labels),
        (Cardinality::OneToOne, Grouping::Without(_)) => true,
        (Cardinality::ManyToOne(_) | Cardinality::OneToMany(_), _) => false,
    }
}

fn is_free_of_metadata(labels: &[Arc<str>]) -> bool {
    !labels.iter().any(|label| is_metadata(label))
}

fn has_one_name(selector: &Selector) -> bool {
    selector.metric_name().is_some()
}

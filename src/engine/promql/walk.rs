//! What an expression is made of, for questions that go through all of it.

use super::ast::{HistogramFunction, Instant, Range, Samples, Scalar, Subquery, Vector};

/// A part that an expression is made of.
#[derive(Clone, Copy)]
pub(super) enum Part<'e> {
    Scalar(&'e Scalar),
    Vector(&'e Vector),
    Instant(&'e Instant),
    Range(&'e Range),
    Subquery(&'e Subquery),
}

impl<'e> Part<'e> {
    /// Visits the parts of this one, in the order of the text.
    pub(super) fn parts(self, visit: &mut dyn FnMut(Part<'e>)) {
        match self {
            Self::Scalar(scalar) => of_scalar(scalar, visit),
            Self::Vector(vector) => of_vector(vector, visit),
            Self::Subquery(subquery) => visit(Part::Vector(&subquery.vector)),
            Self::Instant(_) | Self::Range(_) => {}
        }
    }

    /// Whether it, or a part of it, is such a one.
    pub(super) fn has(self, is_one: &dyn Fn(Part<'e>) -> bool) -> bool {
        let mut found = is_one(self);
        if !found {
            self.parts(&mut |part| found = found || part.has(is_one));
        }
        found
    }
}

impl<'e> From<&'e Samples> for Part<'e> {
    fn from(samples: &'e Samples) -> Self {
        match samples {
            Samples::Series(range) => Self::Range(range),
            Samples::Subquery(subquery) => Self::Subquery(subquery),
        }
    }
}

fn of_scalar<'e>(scalar: &'e Scalar, visit: &mut dyn FnMut(Part<'e>)) {
    match scalar {
        Scalar::Number(_) | Scalar::Time | Scalar::OfQuery(_) => {}
        Scalar::Only(vector) => visit(Part::Vector(vector)),
        Scalar::Negate(argument) => visit(Part::Scalar(argument)),
        Scalar::Binary { left, right, .. } => {
            visit(Part::Scalar(left));
            visit(Part::Scalar(right));
        }
    }
}

fn of_vector<'e>(vector: &'e Vector, visit: &mut dyn FnMut(Part<'e>)) {
    match vector {
        Vector::Select(instant) | Vector::Timestamp(instant) => visit(Part::Instant(instant)),
        Vector::Window(window) => {
            visit(Part::from(&window.samples));
            window.function.numbers().for_each(|number| visit(Part::Scalar(number)));
        }
        Vector::AbsentOverTime { samples, .. } => visit(Part::from(samples)),
        Vector::Of(scalar) => visit(Part::Scalar(scalar)),
        Vector::Negate(argument)
        | Vector::Absent { argument, .. }
        | Vector::Aggregate { argument, .. }
        | Vector::CountValues { argument, .. }
        | Vector::Relabel { argument, .. }
        | Vector::Sort { argument, .. } => visit(Part::Vector(argument)),
        Vector::Map { function, argument } => {
            visit(Part::Vector(argument));
            function.numbers().for_each(|number| visit(Part::Scalar(number)));
        }
        Vector::Quantile(quantile) => {
            visit(Part::Scalar(&quantile.quantile));
            visit(Part::Vector(&quantile.argument));
        }
        Vector::Rank(rank) => {
            visit(Part::Scalar(&rank.count));
            visit(Part::Vector(&rank.argument));
        }
        Vector::Histogram(histogram) => {
            match &histogram.function {
                HistogramFunction::Quantile(quantile, _) => visit(Part::Scalar(quantile)),
                HistogramFunction::Fraction { lower, upper } => {
                    visit(Part::Scalar(lower));
                    visit(Part::Scalar(upper));
                }
                HistogramFunction::Quantiles { quantiles, .. } => {
                    quantiles.iter().for_each(|(quantile, _)| visit(Part::Scalar(quantile)));
                }
            }
            visit(Part::Vector(&histogram.argument));
        }
        Vector::WithScalar(operation) if operation.scalar_is_left => {
            visit(Part::Scalar(&operation.scalar));
            visit(Part::Vector(&operation.vector));
        }
        Vector::WithScalar(operation) => {
            visit(Part::Vector(&operation.vector));
            visit(Part::Scalar(&operation.scalar));
        }
        Vector::Join(join) => {
            visit(Part::Vector(&join.left));
            visit(Part::Vector(&join.right));
        }
        Vector::Set(set) => {
            visit(Part::Vector(&set.left));
            visit(Part::Vector(&set.right));
        }
    }
}

//! The expression as the evaluator walks it, typed so that a vector cannot stand where a number belongs.

use std::ops::Range as TextRange;
use std::sync::Arc;

use crate::model::Labels;

use super::functions::labels::Relabel;
use super::functions::map::MapFunction;
use super::functions::order::Order;
use super::functions::window::WindowFunction;
use super::matcher::Selector;
use super::operator::{Operator, SetOperator};
use super::rank::Ranking;

/// What an expression's value is.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Scalar(Scalar),
    Vector(Vector),
    /// Only a query may have it for its value, a rule may not.
    Samples(Samples),
    Text(Arc<str>),
}

/// An expression whose value is a number.
#[derive(Clone, Debug)]
pub(super) enum Scalar {
    Number(f64),
    /// `time()`
    Time,
    /// `start()`, `end()`, `step()`, `range()`
    OfQuery(OfQuery),
    /// `scalar(v)`
    Only(Box<Vector>),
    Negate(Box<Scalar>),
    Binary {
        operator: Operator,
        left: Box<Scalar>,
        right: Box<Scalar>,
    },
}

/// What the query is that an evaluation is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OfQuery {
    Start,
    End,
    Step,
    Range,
}

/// An expression whose value is an instant vector.
#[derive(Clone, Debug)]
pub(super) enum Vector {
    Select(Instant),
    /// `timestamp(selector)`: when the samples were read.
    Timestamp(Instant),
    /// A function of the samples in a window.
    Window(Box<Window>),
    AbsentOverTime {
        samples: Samples,
        labels: Labels,
    },
    /// `vector(s)`
    Of(Box<Scalar>),
    Negate(Box<Vector>),
    /// A function of each element by itself.
    Map {
        function: MapFunction<Scalar>,
        argument: Box<Vector>,
    },
    Absent {
        argument: Box<Vector>,
        labels: Labels,
    },
    Aggregate {
        aggregation: Aggregation,
        grouping: Grouping,
        argument: Box<Vector>,
    },
    /// `quantile(q, v)`
    Quantile(Box<Quantile>),
    /// `topk(k, v)` and the like.
    Rank(Box<Rank>),
    CountValues {
        label: Arc<str>,
        grouping: Grouping,
        argument: Box<Vector>,
    },
    /// `label_replace`, `label_join`
    Relabel {
        relabel: Box<Relabel>,
        argument: Box<Vector>,
    },
    Sort {
        order: Order,
        argument: Box<Vector>,
        /// Where the function stands in the text, in bytes.
        at: usize,
    },
    /// A function of the buckets of classic histograms.
    Histogram(Box<Histogram>),
    WithScalar(Box<WithScalar>),
    Join(Box<Join>),
    Set(Box<Set>),
}

/// A function of the samples in a window.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub function: WindowFunction<Scalar>,
    pub samples: Samples,
    /// Where the samples stand in the text, in bytes.
    pub samples_at: usize,
    /// Where the first number does, for a function that takes one.
    pub number_at: usize,
}

/// `quantile(q, v)`
#[derive(Clone, Debug)]
pub(super) struct Quantile {
    pub quantile: Scalar,
    /// Where it stands in the text, in bytes.
    pub quantile_at: usize,
    pub grouping: Grouping,
    pub argument: Vector,
}

/// Elements chosen among those of their group.
#[derive(Clone, Debug)]
pub(super) struct Rank {
    pub ranking: Ranking,
    pub count: Scalar,
    /// Where it stands in the text, in bytes.
    pub count_at: usize,
    pub grouping: Grouping,
    pub argument: Vector,
}

/// A function of the buckets of classic histograms.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    pub function: HistogramFunction,
    pub argument: Vector,
    /// Where the buckets stand in the text, in bytes.
    pub argument_at: usize,
}

#[derive(Clone, Debug)]
pub(super) enum HistogramFunction {
    /// With its place in the text.
    Quantile(Scalar, usize),
    Fraction {
        lower: Scalar,
        upper: Scalar,
    },
    /// One element per quantile, which the label tells. An experiment of Prometheus.
    Quantiles {
        label: Arc<str>,
        quantiles: Box<[(Scalar, usize)]>,
    },
}

/// An operation between a vector and a number.
#[derive(Clone, Debug)]
pub(super) struct WithScalar {
    pub operator: Operator,
    pub vector: Vector,
    pub scalar: Scalar,
    pub scalar_is_left: bool,
    /// Where the vector stands in the text, in bytes.
    pub vector_text: TextRange<usize>,
}

/// An operation between two vectors, element by matching element.
#[derive(Clone, Debug)]
pub(super) struct Join {
    pub operator: Operator,
    pub left: Vector,
    pub right: Vector,
    pub grouping: Grouping,
    pub cardinality: Cardinality,
    pub fill: Fill,
    /// Where the left vector stands in the text, in bytes.
    pub left_text: TextRange<usize>,
}

/// The values that stand in for elements which meet none: `fill`, `fill_left`, `fill_right`. With `group_right` the
/// left one stands in on the right side, and the other way round: a quirk of Prometheus, which its scripts hold fast.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Fill {
    pub left: Option<f64>,
    pub right: Option<f64>,
}

/// `and`, `or`, `unless`.
#[derive(Clone, Debug)]
pub(super) struct Set {
    pub operator: SetOperator,
    pub left: Vector,
    pub right: Vector,
    pub grouping: Grouping,
}

/// Which side of a join may match several times; it may take labels over from the other side.
#[derive(Clone, Debug)]
pub(super) enum Cardinality {
    OneToOne,
    /// `group_left(…)`
    ManyToOne(Box<[Arc<str>]>),
    /// `group_right(…)`
    OneToMany(Box<[Arc<str>]>),
}

/// By which labels elements are put together. Sorted, without duplicates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Grouping {
    /// `by (…)`, `on (…)`
    By(Box<[Arc<str>]>),
    /// `without (…)`, `ignoring (…)`
    Without(Box<[Arc<str>]>),
}

/// A selector's newest sample at a time.
#[derive(Clone, Debug)]
pub(super) struct Instant {
    pub selector: Arc<Selector>,
    pub when: When,
}

/// What a function of a window is given.
#[derive(Clone, Debug)]
pub(super) enum Samples {
    Series(Range),
    Subquery(Box<Subquery>),
}

/// A selector's samples in a window that ends at a time.
#[derive(Clone, Debug)]
pub(super) struct Range {
    pub selector: Arc<Selector>,
    pub when: When,
    pub length_millis: i64,
}

/// The values of an expression at the multiples of a step in a window that ends at a time.
#[derive(Clone, Debug)]
pub(super) struct Subquery {
    pub vector: Vector,
    pub when: When,
    pub length_millis: i64,
    pub step_millis: i64,
    /// Whether the samples of each series come from one series, see [`super::separable`].
    pub is_separable: bool,
}

/// `@` and `offset`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct When {
    pub anchor: Anchor,
    /// How far to go back from there; negative to go forward.
    pub offset_millis: i64,
}

/// Where a time is counted from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Anchor {
    #[default]
    Evaluation,
    /// `@ start()`
    Start,
    /// `@ end()`
    End,
    /// `@ 1000`, in milliseconds since the epoch.
    Fixed(i64),
}

/// The times an evaluation knows, in milliseconds: its own, and those of the query it is part of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub at: i64,
    pub start: i64,
    pub end: i64,
    pub step: i64,
}

impl Moment {
    /// Of an evaluation by itself.
    pub(super) fn instant(at: i64) -> Self {
        Self { at, start: at, end: at, step: 0 }
    }

    /// Of the same query, evaluated at another time.
    pub(super) fn moved(self, at: i64) -> Self {
        Self { at, ..self }
    }

    /// In seconds.
    pub(super) fn of_query(self, what: OfQuery) -> f64 {
        let millis = match what {
            OfQuery::Start => self.start,
            OfQuery::End => self.end,
            OfQuery::Step => self.step,
            OfQuery::Range => self.end.saturating_sub(self.start),
        };
        millis as f64 / 1_000.0
    }
}

impl When {
    /// The time that is meant, in milliseconds.
    #[inline]
    pub(super) fn reference(self, moment: Moment) -> i64 {
        let anchor = match self.anchor {
            Anchor::Evaluation => moment.at,
            Anchor::Start => moment.start,
            Anchor::End => moment.end,
            Anchor::Fixed(at) => at,
        };
        anchor.saturating_sub(self.offset_millis)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aggregation {
    Sum,
    Average,
    Minimum,
    Maximum,
    Count,
    Group,
    Deviation,
    Variance,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_time_is_at_less_the_offset() {
        let when = |anchor, offset_millis| When { anchor, offset_millis };
        let moment = Moment { at: 100, start: 50, end: 200, step: 10 };
        assert_eq!(when(Anchor::Evaluation, 5).reference(moment), 95);
        assert_eq!(when(Anchor::Fixed(7), -5).reference(moment), 12);
        assert_eq!(when(Anchor::Start, 1).reference(moment), 49);
        assert_eq!(when(Anchor::End, 0).reference(moment), 200);
        assert_eq!(when(Anchor::Evaluation, 5).reference(Moment::instant(i64::MIN)), i64::MIN);
    }

    #[test]
    fn an_evaluation_by_itself_is_a_query_without_length() {
        let moment = Moment::instant(1_500);
        let all = [OfQuery::Start, OfQuery::End, OfQuery::Step, OfQuery::Range];
        assert_eq!(all.map(|what| moment.of_query(what).to_string()), ["1.5", "1.5", "0", "0"]);
    }
}

//! The expression as the evaluator walks it, typed so that a vector cannot stand where a number belongs.

use std::sync::Arc;

use super::matcher::Selector;

/// What an expression's value is.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Scalar(Scalar),
    Vector(Vector),
    Text(Arc<str>),
}

/// An expression whose value is a number.
#[derive(Clone, Debug)]
pub(super) enum Scalar {
    Number(f64),
    /// `time()`
    Time,
    /// `scalar(v)`
    Only(Box<Vector>),
    Negate(Box<Scalar>),
    Binary {
        operator: Operator,
        left: Box<Scalar>,
        right: Box<Scalar>,
    },
}

/// An expression whose value is an instant vector.
#[derive(Clone, Debug)]
pub(super) enum Vector {
    Select(Instant),
    /// A function of the samples in a window.
    Window {
        function: WindowFunction,
        range: Range,
    },
    /// `vector(s)`
    Of(Box<Scalar>),
    Negate(Box<Vector>),
    /// A function of each element by itself.
    Map {
        function: MapFunction,
        argument: Box<Vector>,
    },
    Absent {
        argument: Box<Vector>,
        labels: crate::model::Labels,
    },
    Aggregate {
        aggregation: Aggregation,
        grouping: Grouping,
        argument: Box<Vector>,
    },
    WithScalar(Box<WithScalar>),
    Join(Box<Join>),
    Set(Box<Set>),
}

/// An operation between a vector and a number.
#[derive(Clone, Debug)]
pub(super) struct WithScalar {
    pub operator: Operator,
    pub vector: Vector,
    pub scalar: Scalar,
    pub scalar_is_left: bool,
    /// Where the operator stands in the text, in bytes.
    pub operator_at: usize,
}

/// An operation between two vectors, element by matching element.
#[derive(Clone, Debug)]
pub(super) struct Join {
    pub operator: Operator,
    pub left: Vector,
    pub right: Vector,
    pub grouping: Grouping,
    pub cardinality: Cardinality,
    /// Where the operator stands in the text, in bytes.
    pub operator_at: usize,
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

/// Operators that give a number for two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Arithmetic(Arithmetic),
    Comparison { comparison: Comparison, to_bool: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Power,
}

impl Arithmetic {
    pub(super) fn apply(self, left: f64, right: f64) -> f64 {
        match self {
            Self::Add => left + right,
            Self::Subtract => left - right,
            Self::Multiply => left * right,
            Self::Divide => left / right,
            Self::Remainder => left % right,
            Self::Power => left.powf(right),
        }
    }
}

/// The six comparisons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Comparison {
    /// Whether it holds; between NaN and anything only `!=` does.
    #[expect(clippy::float_cmp, reason = "PromQL's `==` is exact")]
    pub fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
        }
    }

    /// The comparison that holds with its sides swapped.
    #[must_use]
    pub const fn swapped(self) -> Self {
        match self {
            Self::Equal => Self::Equal,
            Self::NotEqual => Self::NotEqual,
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
        }
    }

    /// As PromQL writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SetOperator {
    And,
    Or,
    Unless,
}

/// A selector's newest sample at a time.
#[derive(Clone, Debug)]
pub(super) struct Instant {
    pub selector: Arc<Selector>,
    pub when: When,
}

/// A selector's samples in a window that ends at a time.
#[derive(Clone, Debug)]
pub(super) struct Range {
    pub selector: Arc<Selector>,
    pub when: When,
    pub length_millis: i64,
}

/// `@` and `offset`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct When {
    /// Milliseconds since the epoch, instead of the time of the evaluation.
    pub fixed: Option<i64>,
    /// How far to go back from there; negative to go forward.
    pub offset_millis: i64,
}

impl When {
    /// The time that is meant when the evaluation is at `at`, in milliseconds.
    pub(super) fn reference(self, at: i64) -> i64 {
        self.fixed.unwrap_or(at).saturating_sub(self.offset_millis)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WindowFunction {
    Rate,
    Increase,
    Delta,
    InstantRate,
    InstantDelta,
    Average,
    Minimum,
    Maximum,
    Sum,
    Count,
    Last,
    Changes,
    Resets,
}

impl WindowFunction {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "rate" => Self::Rate,
            "increase" => Self::Increase,
            "delta" => Self::Delta,
            "irate" => Self::InstantRate,
            "idelta" => Self::InstantDelta,
            "avg_over_time" => Self::Average,
            "min_over_time" => Self::Minimum,
            "max_over_time" => Self::Maximum,
            "sum_over_time" => Self::Sum,
            "count_over_time" => Self::Count,
            "last_over_time" => Self::Last,
            "changes" => Self::Changes,
            "resets" => Self::Resets,
            _ => return None,
        })
    }

    /// Whether the result is a sample of the series, so that the metric's name still fits.
    pub(super) fn keeps_name(self) -> bool {
        matches!(self, Self::Last)
    }
}

#[derive(Clone, Debug)]
pub(super) enum MapFunction {
    Absolute,
    Ceiling,
    Floor,
    /// `clamp`, `clamp_min`, `clamp_max`.
    Clamp {
        lowest: Scalar,
        highest: Scalar,
    },
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

impl Aggregation {
    /// Aggregations are keywords: the case of their letters does not matter.
    pub(super) fn named(name: &str) -> Option<Self> {
        let all = [
            ("sum", Self::Sum),
            ("avg", Self::Average),
            ("min", Self::Minimum),
            ("max", Self::Maximum),
            ("count", Self::Count),
            ("group", Self::Group),
            ("stddev", Self::Deviation),
            ("stdvar", Self::Variance),
        ];
        all.into_iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, aggregation)| aggregation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swapped_comparison_holds_for_swapped_sides() {
        use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
        for comparison in [Equal, NotEqual, Less, LessOrEqual, Greater, GreaterOrEqual] {
            for (left, right) in [(1.0, 2.0), (2.0, 1.0), (1.0, 1.0), (f64::NAN, 1.0)] {
                assert_eq!(comparison.holds(left, right), comparison.swapped().holds(right, left));
            }
        }
    }

    #[test]
    fn the_reference_time_is_at_less_the_offset() {
        assert_eq!(When { fixed: None, offset_millis: 5 }.reference(100), 95);
        assert_eq!(When { fixed: Some(7), offset_millis: -5 }.reference(100), 12);
        assert_eq!(When { fixed: None, offset_millis: 5 }.reference(i64::MIN), i64::MIN);
    }
}

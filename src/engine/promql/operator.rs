//! Operators that give a number for two.

/// An operator between numbers, or between the values of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Arithmetic(Arithmetic),
    Comparison { comparison: Comparison, to_bool: bool },
}

impl Operator {
    /// What becomes of an element: its value, or nothing where a comparison filters it away.
    #[inline]
    pub(super) fn apply(self, left: f64, right: f64) -> f64 {
        match self {
            Self::Arithmetic(arithmetic) => arithmetic.apply(left, right),
            Self::Comparison { comparison, .. } => f64::from(comparison.holds(left, right)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Power,
    /// `atan2`
    ArcTangent,
    /// `min_of(…)`
    Smaller,
    /// `max_of(…)`
    Larger,
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
            Self::ArcTangent => left.atan2(right),
            Self::Smaller | Self::Larger if left.is_nan() || right.is_nan() => f64::NAN,
            Self::Smaller => left.min(right),
            Self::Larger => left.max(right),
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
}

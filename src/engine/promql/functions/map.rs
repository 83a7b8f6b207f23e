//! Functions of each element by itself.

use std::f64::consts::PI;

use super::calendar::Calendar;

/// A function of a value, with the numbers it takes beside: expressions as written, numbers once evaluated.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine::promql) enum MapFunction<N> {
    Math(Math),
    /// A part of the time that the value is, in seconds since the epoch.
    Calendar(Calendar),
    /// `timestamp` of what is not a selector: the time of the evaluation.
    EvaluationTime,
    /// `round(v, to_nearest)`
    Round(N),
    /// `clamp`, `clamp_min`, `clamp_max`
    Clamp {
        lowest: N,
        highest: N,
    },
}

impl<N> MapFunction<N> {
    /// The same with the numbers evaluated.
    pub(in crate::engine::promql) fn resolve<E>(
        &self,
        mut number: impl FnMut(&N) -> Result<f64, E>,
    ) -> Result<MapFunction<f64>, E> {
        Ok(match self {
            Self::Math(math) => MapFunction::Math(*math),
            Self::Calendar(part) => MapFunction::Calendar(*part),
            Self::EvaluationTime => MapFunction::EvaluationTime,
            Self::Round(nearest) => MapFunction::Round(number(nearest)?),
            Self::Clamp { lowest, highest } => {
                MapFunction::Clamp { lowest: number(lowest)?, highest: number(highest)? }
            }
        })
    }

    /// The numbers it takes, as they stand in the text.
    pub(in crate::engine::promql) fn numbers(&self) -> impl Iterator<Item = &N> {
        let (first, second) = match self {
            Self::Math(_) | Self::Calendar(_) | Self::EvaluationTime => (None, None),
            Self::Round(nearest) => (Some(nearest), None),
            Self::Clamp { lowest, highest } => (Some(lowest), Some(highest)),
        };
        first.into_iter().chain(second)
    }
}

impl MapFunction<f64> {
    /// Whether no element is left: a clamp whose lowest is above its highest.
    pub(in crate::engine::promql) fn drops_all(self) -> bool {
        matches!(self, Self::Clamp { lowest, highest } if highest < lowest)
    }

    /// Its value for one element, in an evaluation at `at_millis`.
    pub(in crate::engine::promql) fn apply(self, value: f64, at_millis: i64) -> f64 {
        match self {
            Self::Math(math) => math.apply(value),
            Self::Calendar(part) => part.of(value),
            Self::EvaluationTime => at_millis as f64 / 1_000.0,
            Self::Round(nearest) => round(value, nearest),
            Self::Clamp { lowest, highest } => clamped(value, lowest, highest),
        }
    }
}

/// Functions of a number and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine::promql) enum Math {
    Absolute,
    Ceiling,
    Floor,
    Sign,
    SquareRoot,
    Exponential,
    Logarithm,
    Logarithm2,
    Logarithm10,
    Sine,
    Cosine,
    Tangent,
    ArcSine,
    ArcCosine,
    ArcTangent,
    HyperbolicSine,
    HyperbolicCosine,
    HyperbolicTangent,
    AreaSine,
    AreaCosine,
    AreaTangent,
    Degrees,
    Radians,
}

impl Math {
    pub(in crate::engine::promql) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "abs" => Self::Absolute,
            "ceil" => Self::Ceiling,
            "floor" => Self::Floor,
            "sgn" => Self::Sign,
            "sqrt" => Self::SquareRoot,
            "exp" => Self::Exponential,
            "ln" => Self::Logarithm,
            "log2" => Self::Logarithm2,
            "log10" => Self::Logarithm10,
            "sin" => Self::Sine,
            "cos" => Self::Cosine,
            "tan" => Self::Tangent,
            "asin" => Self::ArcSine,
            "acos" => Self::ArcCosine,
            "atan" => Self::ArcTangent,
            "sinh" => Self::HyperbolicSine,
            "cosh" => Self::HyperbolicCosine,
            "tanh" => Self::HyperbolicTangent,
            "asinh" => Self::AreaSine,
            "acosh" => Self::AreaCosine,
            "atanh" => Self::AreaTangent,
            "deg" => Self::Degrees,
            "rad" => Self::Radians,
            _ => return None,
        })
    }

    fn apply(self, value: f64) -> f64 {
        match self {
            Self::Absolute => value.abs(),
            Self::Ceiling => value.ceil(),
            Self::Floor => value.floor(),
            Self::Sign if value > 0.0 => 1.0,
            Self::Sign if value < 0.0 => -1.0,
            // Zero and NaN are their own.
            Self::Sign => value,
            Self::SquareRoot => value.sqrt(),
            Self::Exponential => value.exp(),
            Self::Logarithm => value.ln(),
            Self::Logarithm2 => value.log2(),
            Self::Logarithm10 => value.log10(),
            Self::Sine => value.sin(),
            Self::Cosine => value.cos(),
            Self::Tangent => value.tan(),
            Self::ArcSine => value.asin(),
            Self::ArcCosine => value.acos(),
            Self::ArcTangent => value.atan(),
            Self::HyperbolicSine => value.sinh(),
            Self::HyperbolicCosine => value.cosh(),
            Self::HyperbolicTangent => value.tanh(),
            Self::AreaSine => value.asinh(),
            Self::AreaCosine => value.acosh(),
            Self::AreaTangent => value.atanh(),
            Self::Degrees => value * 180.0 / PI,
            Self::Radians => value * PI / 180.0,
        }
    }
}

/// To a multiple of `nearest`, halves up. Divided by its inverse, as Prometheus does, so that 0.1 rounds to tenths and
/// not to what is nearest to a tenth.
fn round(value: f64, nearest: f64) -> f64 {
    let inverse = 1.0 / nearest;
    (value * inverse + 0.5).floor() / inverse
}

/// Not `f64::clamp`, which panics on NaN bounds, where PromQL gives NaN.
fn clamped(value: f64, lowest: f64, highest: f64) -> f64 {
    if lowest.is_nan() || highest.is_nan() || value.is_nan() {
        return f64::NAN;
    }
    value.min(highest).max(lowest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "these are exact")]
    fn halves_are_rounded_up() {
        assert_eq!([2.5, -2.5, 0.5, -0.5].map(|value| round(value, 1.0)), [3.0, -2.0, 1.0, 0.0]);
        assert_eq!([2.149, 2.15].map(|value| round(value, 0.1)), [2.1, 2.2]);
        assert_eq!(round(7.0, 5.0), 5.0);
        assert!(round(7.0, 0.0).is_nan());
    }

    #[test]
    fn every_function_has_a_name_and_takes_nan() {
        let names = "abs ceil floor sgn sqrt exp ln log2 log10 sin cos tan asin acos atan sinh cosh tanh asinh \
            acosh atanh deg rad";
        for name in names.split_whitespace() {
            assert!(Math::named(name).unwrap().apply(f64::NAN).is_nan(), "{name}");
        }
        assert_eq!(Math::named("time"), None);
    }

    #[test]
    fn a_clamp_without_bounds_is_nan() {
        assert!(clamped(1.0, f64::NAN, 2.0).is_nan());
        assert!(MapFunction::Clamp { lowest: 5.0, highest: -5.0 }.drops_all());
        assert!(!MapFunction::Clamp { lowest: f64::NAN, highest: -5.0 }.drops_all());
    }
}

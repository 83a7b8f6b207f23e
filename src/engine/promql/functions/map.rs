//! Functions of each element by itself.

use std::f64::consts::{LN_2, PI};

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

/// Beyond it `asinh` and `acosh` are a logarithm to the last digit, and calculated otherwise they overflow.
const AREA_IS_LOGARITHM: f64 = 268_435_456.0;

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
            Self::AreaSine if value.abs() > AREA_IS_LOGARITHM => (value.abs().ln() + LN_2).copysign(value),
            Self::AreaSine => value.asinh(),
            Self::AreaCosine if value > AREA_IS_LOGARITHM => value.ln() + LN_2,
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

/// Not `f64::clamp`, which panics on NaN bounds. A NaN bound gives NaN, but infinity stays beyond it, as Go's `math.Max`
/// and `math.Min` have it.
fn clamped(value: f64, lowest: f64, highest: f64) -> f64 {
    larger(lowest, smaller(highest, value))
}

fn larger(one: f64, other: f64) -> f64 {
    match (one, other) {
        _ if one == f64::INFINITY || other == f64::INFINITY => f64::INFINITY,
        _ if one.is_nan() || other.is_nan() => f64::NAN,
        _ => one.max(other),
    }
}

fn smaller(one: f64, other: f64) -> f64 {
    -larger(-one, -other)
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
    fn area_functions_do_not_overflow() {
        let found = [Math::AreaSine, Math::AreaCosine].map(|math| math.apply(1.797e308));
        assert!(found.iter().all(|value| (value - 710.475_474_430_527_4).abs() < 1e-9), "{found:?}");
        assert!((Math::AreaSine.apply(-1e300) + Math::AreaSine.apply(1e300)).abs() < 1e-12);
        assert!((Math::AreaSine.apply(1e10) - 1e10_f64.asinh()).abs() < 1e-12);
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
    #[expect(clippy::float_cmp, reason = "infinities are exact")]
    fn a_clamp_without_bounds_is_nan_but_for_infinity() {
        assert!(clamped(1.0, f64::NAN, 2.0).is_nan() && clamped(1.0, 0.0, f64::NAN).is_nan());
        assert!(clamped(f64::NAN, 0.0, 1.0).is_nan());
        assert_eq!(clamped(f64::NEG_INFINITY, f64::NEG_INFINITY, f64::NAN), f64::NEG_INFINITY);
        assert_eq!(clamped(f64::INFINITY, f64::NAN, f64::INFINITY), f64::INFINITY);
        assert!(MapFunction::Clamp { lowest: 5.0, highest: -5.0 }.drops_all());
        assert!(!MapFunction::Clamp { lowest: f64::NAN, highest: -5.0 }.drops_all());
    }
}

//! The common form of the two sides' answers, and what counts as a difference between them.

use std::collections::BTreeMap;
use std::fmt;

/// How far two numbers may be apart, relative to the larger.
const TOLERANCE: f64 = 1e-9;

/// What we say and Prometheus only says in later versions than the one that is asked: a part of it, and since when.
const SAID_LATER: &[(&str, &str)] = &[("sort is ineffective for range queries", "prometheus#18498")];

/// The labels of an element.
pub(crate) type Names = BTreeMap<String, String>;

/// An answer with what was said about it.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub value: Value,
    /// Warnings; only their presence is compared.
    pub warnings: Vec<String>,
    /// And information.
    pub infos: Vec<String>,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// Refused when read or failed when evaluated. The texts are not compared.
    Failed(String),
    Scalar(f64),
    Text(String),
    Vector(Vec<(Names, f64)>),
    Matrix(Vec<(Names, Vec<(i64, f64)>)>),
}

/// What part of the order of a vector's elements is defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    None,
    /// Of the values.
    Values,
    /// Of everything.
    Labels,
}

impl Answer {
    /// An answer that is a failure.
    pub(crate) fn failed(message: impl fmt::Display) -> Self {
        Self { value: Value::Failed(message.to_string()), warnings: Vec::new(), infos: Vec::new() }
    }

    /// How the other one differs, in words; `None` where it does not.
    pub(crate) fn difference(&self, other: &Self, order: Order) -> Option<String> {
        self.value.difference(&other.value, order).or_else(|| {
            if matches!(self.value, Value::Failed(_)) {
                return None;
            }
            let says = |words: &[String]| words.iter().any(|text| !is_said_later(text));
            let differs = |one: &[String], other: &[String]| says(one) != says(other);
            let words = if differs(&self.warnings, &other.warnings) {
                "warnings"
            } else if differs(&self.infos, &other.infos) {
                "infos"
            } else {
                return None;
            };
            Some(format!("only one side has {words}"))
        })
    }
}

fn is_said_later(text: &str) -> bool {
    SAID_LATER.iter().any(|(part, _)| text.contains(part))
}

impl Value {
    fn difference(&self, other: &Self, order: Order) -> Option<String> {
        match (self, other) {
            (Self::Failed(_), Self::Failed(_)) => None,
            (Self::Failed(_), _) | (_, Self::Failed(_)) => Some("only one side fails".to_owned()),
            (Self::Scalar(one), Self::Scalar(other)) => numbers(*one, *other),
            (Self::Text(one), Self::Text(other)) => {
                (one != other).then(|| format!("{one:?} is not {other:?}"))
            }
            (Self::Vector(one), Self::Vector(other)) => {
                of_maps(&by_labels(one), &by_labels(other), |one, other| numbers(*one, *other))
                    .or_else(|| in_order(one, other, order))
            }
            (Self::Matrix(one), Self::Matrix(other)) => {
                of_maps(&by_labels(one), &by_labels(other), |one, other| rows(one, other))
            }
            (
                Self::Scalar(_) | Self::Text(_) | Self::Vector(_) | Self::Matrix(_),
                Self::Scalar(_) | Self::Text(_) | Self::Vector(_) | Self::Matrix(_),
            ) => Some("the types differ".to_owned()),
        }
    }
}

fn by_labels<T>(elements: &[(Names, T)]) -> BTreeMap<&Names, &T> {
    elements.iter().map(|(labels, value)| (labels, value)).collect()
}

fn of_maps<T>(
    one: &BTreeMap<&Names, &T>,
    other: &BTreeMap<&Names, &T>,
    compare: impl Fn(&T, &T) -> Option<String>,
) -> Option<String> {
    let missing = |from: &BTreeMap<&Names, &T>, labels: &Names| !from.contains_key(labels);
    if let Some(labels) = one.keys().find(|labels| missing(other, labels)) {
        return Some(format!("only the first has {}", Shown(labels)));
    }
    if let Some(labels) = other.keys().find(|labels| missing(one, labels)) {
        return Some(format!("only the second has {}", Shown(labels)));
    }
    one.iter().find_map(|(labels, value)| {
        compare(value, other[labels]).map(|text| format!("{}: {text}", Shown(labels)))
    })
}

fn rows(one: &[(i64, f64)], other: &[(i64, f64)]) -> Option<String> {
    let times = |row: &[(i64, f64)]| row.iter().map(|&(at, _)| at).collect::<Vec<_>>();
    let (mine, theirs) = (times(one), times(other));
    if mine != theirs {
        let lonely =
            mine.iter().find(|at| !theirs.contains(at)).or(theirs.iter().find(|at| !mine.contains(at)));
        return Some(format!(
            "{} and {} samples, one at {lonely:?} ms on one side only",
            one.len(),
            other.len()
        ));
    }
    one.iter()
        .zip(other)
        .find_map(|(&(at, one), &(_, other))| numbers(one, other).map(|text| format!("at {at} ms {text}")))
}

fn in_order(one: &[(Names, f64)], other: &[(Names, f64)], order: Order) -> Option<String> {
    let place = match order {
        Order::None => return None,
        Order::Values => one.iter().zip(other).position(|(one, other)| numbers(one.1, other.1).is_some()),
        Order::Labels => one.iter().zip(other).position(|(one, other)| one.0 != other.0),
    };
    place.map(|place| format!("the order differs from element {place} on"))
}

fn numbers(one: f64, other: f64) -> Option<String> {
    #[expect(clippy::float_cmp, reason = "infinities and zeros are equal or they are not")]
    let is_same = one == other
        || (one.is_nan() && other.is_nan())
        || (one - other).abs() <= TOLERANCE * one.abs().max(other.abs());
    // Infinite differences would pass for small ones.
    let is_same = is_same && one.is_infinite() == other.is_infinite();
    (!is_same).then(|| format!("{one:e} is not {other:e}"))
}

struct Shown<'a>(&'a Names);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> = self.0.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        write!(f, "{{{}}}", pairs.join(", "))
    }
}

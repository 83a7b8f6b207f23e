//! The functions of Go's templates.

use std::cmp::Ordering;

use super::functions::Row;
use super::links;
use super::printf::{sprint, sprintf, sprintln};
use super::value::Value;

/// One of Go's functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Builtin {
    And,
    Or,
    Not,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Len,
    Index,
    Slice,
    Print,
    Printf,
    Println,
    Html,
    Js,
    UrlQuery,
    Call,
}

/// All of them.
pub(super) const BUILTINS: [Row<Builtin>; 20] = [
    ("and", Builtin::And, 1, usize::MAX),
    ("or", Builtin::Or, 1, usize::MAX),
    ("not", Builtin::Not, 1, 1),
    ("eq", Builtin::Eq, 1, usize::MAX),
    ("ne", Builtin::Ne, 2, 2),
    ("lt", Builtin::Lt, 2, 2),
    ("le", Builtin::Le, 2, 2),
    ("gt", Builtin::Gt, 2, 2),
    ("ge", Builtin::Ge, 2, 2),
    ("len", Builtin::Len, 1, 1),
    ("index", Builtin::Index, 1, usize::MAX),
    ("slice", Builtin::Slice, 1, 4),
    ("print", Builtin::Print, 0, usize::MAX),
    ("printf", Builtin::Printf, 1, usize::MAX),
    ("println", Builtin::Println, 0, usize::MAX),
    ("html", Builtin::Html, 0, usize::MAX),
    ("js", Builtin::Js, 0, usize::MAX),
    ("urlquery", Builtin::UrlQuery, 0, usize::MAX),
    ("urlQueryEscape", Builtin::UrlQuery, 1, 1),
    ("call", Builtin::Call, 1, usize::MAX),
];

impl Builtin {
    /// Its value. Of `and` and `or` it is the last argument: the ones before have decided nothing.
    pub(super) fn call<'a>(self, arguments: &[Value<'a>]) -> Result<Value<'a>, String> {
        let argument = |index: usize| arguments.get(index).unwrap_or(&Value::Missing);
        let compared = |holds: fn(Ordering) -> bool| {
            order(argument(0), argument(1)).map(|order| Value::Bool(order.is_some_and(holds)))
        };
        let value = match self {
            Self::And | Self::Or => arguments.last().cloned().unwrap_or(Value::Missing),
            Self::Not => Value::Bool(!argument(0).is_true()),
            Self::Eq => Value::Bool(is_equal_to_any(arguments)?),
            Self::Ne => Value::Bool(!is_equal(argument(0), argument(1))?),
            Self::Lt => compared(Ordering::is_lt)?,
            Self::Le => compared(Ordering::is_le)?,
            Self::Gt => compared(Ordering::is_gt)?,
            Self::Ge => compared(Ordering::is_ge)?,
            Self::Len => Value::Int(length(argument(0))?),
            Self::Index => index(arguments)?,
            Self::Slice => slice(arguments)?,
            Self::Print => Value::text(sprint(arguments)),
            Self::Printf => Value::text(sprintf(argument(0).as_text()?, arguments.get(1..).unwrap_or(&[]))),
            Self::Println => Value::text(sprintln(arguments)),
            Self::Html => Value::text(links::html(&joined(arguments))),
            Self::Js => Value::text(links::js(&joined(arguments))),
            Self::UrlQuery => Value::text(links::query_escape(&joined(arguments))),
            Self::Call => return Err(format!("non-function of type {}", argument(0).type_name())),
        };
        Ok(value)
    }
}

/// What Go's `html` and the like make of their arguments before they escape them.
fn joined(arguments: &[Value<'_>]) -> String {
    match arguments {
        [Value::Text(text)] => text.to_string(),
        _ => sprint(arguments),
    }
}

fn is_equal_to_any(arguments: &[Value<'_>]) -> Result<bool, String> {
    let Some((first, others)) = arguments.split_first().filter(|(_, others)| !others.is_empty()) else {
        return Err("missing argument for comparison".to_owned());
    };
    for other in others {
        if is_equal(first, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[expect(clippy::float_cmp, reason = "what `eq` means")]
fn is_equal(one: &Value<'_>, other: &Value<'_>) -> Result<bool, String> {
    match (one, other) {
        (Value::Bool(one), Value::Bool(other)) => Ok(one == other),
        (Value::Int(one), Value::Int(other)) => Ok(one == other),
        (Value::Float(one), Value::Float(other)) => Ok(one == other),
        (Value::Text(one), Value::Text(other)) => Ok(one == other),
        (Value::Missing | Value::Nil, Value::Missing | Value::Nil) => Ok(true),
        (Value::Missing | Value::Nil, _) | (_, Value::Missing | Value::Nil) => Ok(false),
        _ if is_basic(one) && is_basic(other) => Err("incompatible types for comparison".to_owned()),
        _ => Err("non-comparable type".to_owned()),
    }
}

fn is_basic(value: &Value<'_>) -> bool {
    matches!(value, Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_))
}

fn order(one: &Value<'_>, other: &Value<'_>) -> Result<Option<Ordering>, String> {
    match (one, other) {
        (Value::Int(one), Value::Int(other)) => Ok(Some(one.cmp(other))),
        (Value::Float(one), Value::Float(other)) => Ok(one.partial_cmp(other)),
        (Value::Text(one), Value::Text(other)) => Ok(Some(one.cmp(other))),
        (
            Value::Int(_) | Value::Float(_) | Value::Text(_),
            Value::Int(_) | Value::Float(_) | Value::Text(_),
        ) => Err("incompatible types for comparison".to_owned()),
        _ => Err("invalid type for comparison".to_owned()),
    }
}

fn length(value: &Value<'_>) -> Result<i64, String> {
    let length = match value {
        Value::Text(text) => text.len(),
        Value::Labels(labels) => labels.len(),
        Value::List(items) => items.len(),
        Value::Arguments(arguments) => arguments.len(),
        Value::Missing | Value::Nil => return Err("len of nil pointer".to_owned()),
        Value::Bool(_)
        | Value::Int(_)
        | Value::Float(_)
        | Value::Sample(_)
        | Value::Data(_)
        | Value::Time(_)
        | Value::Duration(_) => return Err(format!("len of type {}", value.type_name())),
    };
    Ok(i64::try_from(length).unwrap_or(i64::MAX))
}

/// `index x 1 2`: `x[1][2]`.
fn index<'a>(arguments: &[Value<'a>]) -> Result<Value<'a>, String> {
    let Some((first, places)) = arguments.split_first() else { return Ok(Value::Missing) };
    let mut value = first.clone();
    for place in places {
        value = match (&value, place) {
            (Value::Labels(_), Value::Text(name)) => value.field(name)?,
            (Value::Arguments(arguments), Value::Text(name)) => {
                arguments.get(name.as_ref()).cloned().unwrap_or(Value::Missing)
            }
            (Value::List(items), Value::Int(at)) => usize::try_from(*at)
                .ok()
                .and_then(|at| items.get(at).cloned())
                .ok_or_else(|| format!("index out of range: {at}"))?,
            (Value::Text(text), Value::Int(at)) => usize::try_from(*at)
                .ok()
                .and_then(|at| text.as_bytes().get(at))
                .map(|byte| Value::Int(i64::from(*byte)))
                .ok_or_else(|| format!("index out of range: {at}"))?,
            (Value::Labels(_) | Value::Arguments(_), other) => {
                return Err(format!("value has type {}; should be string", other.type_name()));
            }
            (Value::List(_) | Value::Text(_), other) => {
                return Err(format!("cannot index slice/array with type {}", other.type_name()));
            }
            (Value::Missing | Value::Nil, _) => return Err("index of untyped nil".to_owned()),
            (other, _) => return Err(format!("can't index item of type {}", other.type_name())),
        };
    }
    Ok(value)
}

/// `slice x 1 3`: `x[1:3]`.
fn slice<'a>(arguments: &[Value<'a>]) -> Result<Value<'a>, String> {
    let Some((first, places)) = arguments.split_first() else { return Ok(Value::Missing) };
    if !matches!(first, Value::Text(_) | Value::List(_)) {
        return Err(format!("can't slice item of type {}", first.type_name()));
    }
    let length = usize::try_from(length(first)?).unwrap_or(0);
    let place = |index: usize, default: usize| match places.get(index) {
        None => Ok(default),
        Some(Value::Int(at)) => {
            let at = usize::try_from(*at).ok().filter(|at| *at <= length);
            at.ok_or_else(|| format!("index out of range: {}", places[index].printed()))
        }
        Some(other) => Err(format!("cannot index slice/array with type {}", other.type_name())),
    };
    let (from, to) = (place(0, 0)?, place(1, length)?);
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    if let Value::List(items) = first {
        return Ok(Value::List(items[from..to].into()));
    }
    let cut = first.as_text()?.get(from..to);
    cut.map(Value::text).ok_or_else(|| format!("the slice {from}:{to} cuts a character in two"))
}

//! The functions of templates: Go's own, and those that Prometheus adds.

use super::Data;
use super::builtins::Builtin;
use super::prometheus::Addition;
use super::value::Value;

/// A function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Go(Builtin),
    Prometheus(Addition),
}

/// A row of a table of functions: the name, the function, and how many arguments it takes at least and at most.
pub(super) type Row<T> = (&'static str, T, usize, usize);

impl Function {
    pub(super) fn named(name: &str) -> Option<Self> {
        row_named(&super::builtins::BUILTINS, name)
            .map(Self::Go)
            .or_else(|| row_named(&super::prometheus::ADDITIONS, name).map(Self::Prometheus))
    }

    /// Its name, and how many arguments it takes at least and at most.
    pub(super) fn shape(self) -> (&'static str, usize, usize) {
        match self {
            Self::Go(builtin) => shape_of(&super::builtins::BUILTINS, builtin),
            Self::Prometheus(addition) => shape_of(&super::prometheus::ADDITIONS, addition),
        }
    }

    /// Whether the arguments behind this one are not looked at any more.
    pub(super) fn is_decided_by(self, argument: &Value<'_>) -> bool {
        match self {
            Self::Go(Builtin::And) => !argument.is_true(),
            Self::Go(Builtin::Or) => argument.is_true(),
            Self::Go(_) | Self::Prometheus(_) => false,
        }
    }

    /// Its value for arguments whose number is right.
    pub(super) fn call<'a>(self, data: &'a Data<'a>, arguments: &[Value<'a>]) -> Result<Value<'a>, String> {
        match self {
            Self::Go(builtin) => builtin.call(arguments),
            Self::Prometheus(addition) => addition.call(data, arguments),
        }
    }
}

fn row_named<T: Copy>(table: &[Row<T>], name: &str) -> Option<T> {
    table.iter().find(|row| row.0 == name).map(|row| row.1)
}

fn shape_of<T: Copy + PartialEq>(table: &[Row<T>], function: T) -> (&'static str, usize, usize) {
    let row = table.iter().find(|row| row.1 == function);
    row.map_or(("", 0, usize::MAX), |(name, _, least, most)| (name, *least, *most))
}

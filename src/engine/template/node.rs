//! What a template consists of.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::functions::Function;

/// Where something stands: first byte, and the one behind the last.
pub(super) type Span = (usize, usize);

/// Nodes one after the other.
pub(super) type List = Vec<Node>;

/// A template and those that it defines.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tree {
    pub(super) body: List,
    pub(super) defined: BTreeMap<Arc<str>, List>,
}

/// A part of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Text(Arc<str>),
    /// `{{ pipeline }}`: its value is written, unless it is kept in a variable.
    Action(Pipeline),
    If(Branch),
    With(Branch),
    Range(Branch),
    /// `{{ template "name" pipeline }}`.
    Call {
        name: Arc<str>,
        argument: Option<Pipeline>,
        span: Span,
    },
    Break,
    Continue,
}

/// A condition and what depends on it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Branch {
    pub(super) pipeline: Pipeline,
    pub(super) then: List,
    pub(super) otherwise: List,
}

/// Commands, the value of each the last argument of the next.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pipeline {
    /// The variables that take the value.
    pub(super) variables: Vec<Arc<str>>,
    /// Whether they are there already, `=` and not `:=`.
    pub(super) assigns: bool,
    pub(super) commands: Vec<Command>,
    pub(super) span: Span,
}

/// A value, or a function with its arguments.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Command {
    pub(super) operands: Vec<Operand>,
}

/// One operand, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Operand {
    pub(super) kind: OperandKind,
    pub(super) span: Span,
}

/// What an operand is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum OperandKind {
    Dot,
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Arc<str>),
    Function(Function),
    /// `.a.b`: of the dot.
    Fields(Vec<Arc<str>>),
    /// `$x.a.b`.
    Variable(Arc<str>, Vec<Arc<str>>),
    /// `(pipeline).a.b`.
    Nested(Box<Pipeline>, Vec<Arc<str>>),
}

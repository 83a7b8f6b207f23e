//! What an evaluation gives.

use std::sync::Arc;

use crate::model::{Labels, METRIC_NAME};

/// The value of an expression at one time.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number.
    Scalar(f64),
    /// Elements in the order of their labels, no two with the same.
    Vector(Vec<Element>),
    /// A text.
    Text(Arc<str>),
}

/// One element of an instant vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Element {
    /// Its labels; the metric's name is among them only where the value still is the metric's.
    pub labels: Labels,
    /// Its value.
    pub value: f64,
}

/// The labels that say what kind of number a value is. They go when an operation makes it another one.
pub(super) fn is_metadata(label: &str) -> bool {
    label.starts_with("__") && matches!(label, METRIC_NAME | "__type__" | "__unit__")
}

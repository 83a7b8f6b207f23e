//! From a bundle to a configuration, expressions included.

use crate::engine::promql::Expr;
use crate::model::{Bundle, Generation};
use crate::wire::files::{self, ExprError, Loaded};

/// Reads a bundle: what could be used, and what was refused with file, line and column.
pub fn load(bundle: &Bundle, generation: Generation) -> Loaded {
    files::load(bundle, generation, &check_expression)
}

/// Whether the monitor can evaluate an expression.
fn check_expression(text: &str) -> Result<(), ExprError> {
    match Expr::parse(text) {
        Ok(_) => Ok(()),
        Err(error) => Err(ExprError { offset: error.place.byte, cause: error.message }),
    }
}

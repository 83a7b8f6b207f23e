//! PromQL over series in memory: the pull evaluator, which is the reference, and the store it reads.
//!
//! ```
//! use homeostat::engine::promql::{Expr, Limits, Scope, SeriesStore, Value};
//! use homeostat::model::{Labels, Timestamp};
//!
//! let mut store = SeriesStore::new(Limits::default());
//! let series = store.series(&Labels::new([("__name__", "up"), ("job", "api")])?)?;
//! store.append(series, Timestamp::from_millis(1_000), 0.0);
//!
//! let expr = Expr::parse("up == 0")?;
//! let Value::Vector(down) = expr.eval(&store, Timestamp::from_millis(2_000), Scope::All)? else { panic!() };
//! assert_eq!(down[0].labels.get("job"), Some("api"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Semantics are those of Prometheus 3: windows and the lookback are open on the left, rates extrapolate, sums
//! compensate their rounding errors, stale markers end a series. What is not evaluated is refused when it is read.

mod aggregate;
mod annotations;
mod ast;
mod binary;
mod distinct;
mod error;
mod eval;
mod expr;
mod functions;
mod histogram;
mod index;
#[cfg(test)]
mod laws;
mod matcher;
mod operator;
mod parse;
mod pattern;
#[cfg(test)]
mod properties;
mod query;
mod rank;
mod read;
mod reads;
mod scan;
mod separable;
mod series;
mod signature;
mod single;
mod store;
mod sum;
mod value;
mod walk;

pub use annotations::{ANNOTATIONS_MAX, Annotation, Annotations, Severity};
pub use error::{EvalError, ParseError, ParseErrorKind, Place};
pub use eval::Scope;
pub use expr::{Expr, LOOKBACK, Metrics, SUBQUERY_STEP, Threshold};
pub use matcher::{Matcher, Selector};
pub use operator::Comparison;
pub use query::{Answer, Outcome, Query, Row, STEPS_PER_QUERY_MAX, Steps};
pub use reads::Read;
pub use series::{STALE, is_stale};
pub use signature::NameRemoval;
pub use store::{Appended, Counters, Limits, SeriesId, SeriesStore, StoreFull};
pub use value::{Element, Value};

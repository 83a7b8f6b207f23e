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
//! The language is the stable one of Prometheus 3 on float samples and classic histograms, and those of its experiments
//! that cost nothing: windows and the lookback are open on the left, rates extrapolate, sums compensate their rounding
//! errors, stale markers end a series. A subquery that names no step takes [`SUBQUERY_STEP`], as Prometheus takes its
//! global evaluation interval. What is not evaluated (native histograms, `info`, `anchored`, `smoothed`) is refused
//! when it is read, by name and place.
//!
//! A rule has an [`Expr`], which also says what it reads and whether it can be evaluated series by series; a person or
//! a tool asks a [`Query`], at one time or in a range of times, and is told what there is to say beside the value:
//!
//! ```
//! use homeostat::engine::promql::{Limits, NameRemoval, Query, SeriesStore};
//! use homeostat::model::Timestamp;
//!
//! let store = SeriesStore::new(Limits::default());
//! let answer = Query::parse("quantile(7, up)")?.instant(&store, Timestamp::default(), NameRemoval::Immediate)?;
//! let said: Vec<String> = answer.annotations.iter().map(|annotation| annotation.to_string()).collect();
//! assert_eq!(said, ["PromQL warning: quantile value should be between 0 and 1, got 7 (1:10)"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

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

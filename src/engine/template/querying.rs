//! Answers the queries of templates from the series in memory.

use super::Sample;
use crate::engine::promql::{NameRemoval, Outcome, Query, SeriesStore};
use crate::model::{Labels, Timestamp};

/// What an expression finds at a time. As in Prometheus a number has no labels, and a range of samples is refused.
pub fn query_store(store: &SeriesStore, at: Timestamp, expr: &str) -> Result<Vec<Sample>, String> {
    let query = Query::parse(expr).map_err(|error| error.to_string())?;
    let answer = query.instant(store, at, NameRemoval::Immediate).map_err(|error| error.to_string())?;
    match answer.outcome {
        Outcome::Vector(elements) => {
            let sample = |element: crate::engine::promql::Element| Sample {
                labels: element.labels,
                value: element.value,
                text: None,
            };
            Ok(elements.into_iter().map(sample).collect())
        }
        Outcome::Scalar(value) => Ok(vec![Sample { labels: Labels::empty(), value, text: None }]),
        Outcome::Text(text) => Ok(vec![Sample { labels: Labels::empty(), value: 0.0, text: Some(text) }]),
        Outcome::Matrix(_) => Err("query result is not a vector or scalar".to_owned()),
    }
}

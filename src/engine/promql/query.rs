//! A query: an expression that a person or a tool asks once, at one time or at many.
//!
//! Unlike a rule's expression it may have a range vector for its value, its elements come in the order that a sort
//! gave them, and it knows where the range of times begins and ends that it is asked for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Labels, Timestamp};

use super::annotations::Annotations;
use super::ast::{Moment, Node, Vector};
use super::error::{EvalError, ParseError};
use super::eval::{Evaluation, Scope};
use super::expr::{SUBQUERY_STEP, step_millis};
use super::reads::{Read, ReadOf};
use super::signature::NameRemoval;
use super::store::SeriesStore;
use super::value::Element;
use super::{parse, reads};

/// Most points in time of one query: the limit of Prometheus' API, a point for each minute of a week.
pub const STEPS_PER_QUERY_MAX: i64 = 11_000;

/// A PromQL expression as a query.
#[derive(Clone, Debug)]
pub struct Query {
    text: Arc<str>,
    root: Node,
    reads: Box<[ReadOf]>,
}

/// The times of a range query: from the start in steps up to the end.
#[derive(Clone, Copy, Debug)]
pub struct Steps {
    /// The first time.
    pub start: Timestamp,
    /// The last time, where a step meets it.
    pub end: Timestamp,
    /// How far it is from one to the next.
    pub step: Duration,
}

/// What a query gives.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The value.
    pub outcome: Outcome,
    /// What there is to say about it.
    pub annotations: Annotations,
}

/// The value of a query.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A number.
    Scalar(f64),
    /// A text.
    Text(Arc<str>),
    /// Elements, no two with the same labels: in the order of `sort`, `topk` and the like where the expression is one,
    /// in the order of their labels otherwise.
    Vector(Vec<Element>),
    /// Series with their samples, in the order of their labels: of a range vector, or of a range query.
    Matrix(Vec<Row>),
}

/// One series of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its labels.
    pub labels: Labels,
    /// Its samples, oldest first.
    pub samples: Vec<(Timestamp, f64)>,
}

impl Query {
    /// Reads an expression. What is not supported is refused by name and place.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        Self::parse_with(text, SUBQUERY_STEP)
    }

    /// As [`parse`](Self::parse), with the step of subqueries that name none.
    pub fn parse_with(text: &str, subquery_step: Duration) -> Result<Self, ParseError> {
        let root = parse::parse(text, step_millis(subquery_step))?;
        Ok(Self { text: text.into(), reads: reads::of(&root), root })
    }

    /// Its selectors, as they stand in the text, each with how far it looks back from a time it is evaluated at.
    pub fn reads(&self) -> impl Iterator<Item = Read<'_>> {
        self.reads.iter().map(ReadOf::as_read)
    }

    /// The value at one time.
    pub fn instant(
        &self,
        store: &SeriesStore,
        at: Timestamp,
        removal: NameRemoval,
    ) -> Result<Answer, EvalError> {
        let moment = Moment::instant(at.as_millis());
        let mut evaluation = Evaluation::new(store, moment, Scope::All, removal, Some(&self.text));
        let outcome = match &self.root {
            Node::Scalar(scalar) => Outcome::Scalar(evaluation.scalar(scalar)?),
            Node::Text(text) => Outcome::Text(Arc::clone(text)),
            Node::Vector(vector) => {
                let mut elements = evaluation.elements(vector)?;
                if !is_ordered(vector) {
                    elements.sort_unstable_by(|one, other| one.labels.cmp(&other.labels));
                }
                Outcome::Vector(elements)
            }
            Node::Samples(samples) => {
                let rows = evaluation.rows(samples)?.into_iter();
                let mut rows: Vec<Row> =
                    rows.map(|(item, samples)| Row { labels: item.tag.into_labels(), samples }).collect();
                rows.sort_unstable_by(|one, other| one.labels.cmp(&other.labels));
                if rows.windows(2).any(|pair| pair[0].labels == pair[1].labels) {
                    return Err(EvalError::SameLabels);
                }
                Outcome::Matrix(rows)
            }
        };
        Ok(Answer { outcome, annotations: evaluation.into_annotations() })
    }

    /// The values at many times, each within the limits of one evaluation. A number is a series without labels.
    pub fn range(
        &self,
        store: &SeriesStore,
        steps: Steps,
        removal: NameRemoval,
    ) -> Result<Answer, EvalError> {
        let (start, end, step) = (steps.start.as_millis(), steps.end.as_millis(), step_millis(steps.step));
        if end.saturating_sub(start) / step > STEPS_PER_QUERY_MAX {
            return Err(EvalError::TooManySteps);
        }
        let moment = Moment { at: start, start, end, step };
        let mut evaluation = Evaluation::new(store, moment, Scope::All, removal, Some(&self.text));
        let mut rows: BTreeMap<Labels, Vec<(Timestamp, f64)>> = BTreeMap::new();
        let times = std::iter::successors(Some(start), |at| at.checked_add(step)).take_while(|at| *at <= end);
        for at in times {
            evaluation.move_to(at);
            let elements = match &self.root {
                Node::Scalar(scalar) => {
                    vec![Element { labels: Labels::empty(), value: evaluation.scalar(scalar)? }]
                }
                Node::Vector(vector) => evaluation.elements(vector)?,
                Node::Samples(_) => return Err(EvalError::NotInRange("range vector")),
                Node::Text(_) => return Err(EvalError::NotInRange("string")),
            };
            for Element { labels, value } in elements {
                rows.entry(labels).or_default().push((Timestamp::from_millis(at), value));
            }
        }
        let rows = rows.into_iter().map(|(labels, samples)| Row { labels, samples }).collect();
        Ok(Answer { outcome: Outcome::Matrix(rows), annotations: evaluation.into_annotations() })
    }
}

/// Whether the order of the elements is part of the value.
fn is_ordered(vector: &Vector) -> bool {
    match vector {
        Vector::Sort { .. } => true,
        Vector::Rank(rank) => rank.ranking.is_ordered(),
        Vector::Select(_)
        | Vector::Timestamp(_)
        | Vector::Window(_)
        | Vector::AbsentOverTime { .. }
        | Vector::Of(_)
        | Vector::Negate(_)
        | Vector::Map { .. }
        | Vector::Absent { .. }
        | Vector::Aggregate { .. }
        | Vector::Quantile(_)
        | Vector::CountValues { .. }
        | Vector::Relabel { .. }
        | Vector::Histogram(_)
        | Vector::WithScalar(_)
        | Vector::Join(_)
        | Vector::Set(_) => false,
    }
}

//! A question that both sides are asked, and our side of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use homeostat::engine::promql::{
    Annotation, Answer as OurAnswer, EvalError, NameRemoval, Outcome, Query, SeriesStore, Severity, Steps,
};
use homeostat::model::{Labels, Timestamp};

use crate::answer::{Answer, Names, Order, Value};
use crate::expression::{Expression, Hazard, Kind};

/// An expression with the times it is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub expression: Expression,
    pub when: When,
}

/// In milliseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Instant(i64),
    Range { start: i64, end: i64, step: i64 },
}

impl When {
    /// All times that are meant.
    pub(crate) fn times(self) -> Vec<i64> {
        match self {
            Self::Instant(at) => vec![at],
            Self::Range { start, end, step } => {
                std::iter::successors(Some(start), |at| Some(at + step)).take_while(|at| *at <= end).collect()
            }
        }
    }
}

impl Question {
    /// A text at one time.
    pub(crate) fn instant(text: &str, at: i64) -> Self {
        let expression = Expression::new(Kind::Vector, "", []).with_text(text);
        Self { expression, when: When::Instant(at) }
    }

    /// What our evaluator answers. A panic is an answer that no other equals.
    pub(crate) fn ask_us(&self, store: &SeriesStore) -> Answer {
        let text = self.expression.to_string();
        let query = match Query::parse(&text) {
            Ok(query) => query,
            Err(error) => return Answer::failed(error),
        };
        match catch_unwind(AssertUnwindSafe(|| self.evaluate(&query, store))) {
            Ok(Ok(answer)) => ours(answer),
            Ok(Err(error)) => Answer::failed(error),
            Err(_) => Answer { value: Value::Text("a panic".to_owned()), ..Answer::failed("") },
        }
    }

    fn evaluate(&self, query: &Query, store: &SeriesStore) -> Result<OurAnswer, EvalError> {
        let at = Timestamp::from_millis;
        match self.when {
            When::Instant(time) => query.instant(store, at(time), NameRemoval::Immediate),
            When::Range { start, end, step } => {
                let step = Duration::from_millis(step.unsigned_abs());
                let steps = Steps { start: at(start), end: at(end), step };
                query.range(store, steps, NameRemoval::Immediate)
            }
        }
    }

    /// What part of the order of the elements is defined.
    pub(crate) fn order(&self) -> Order {
        // Its outermost call, where it is one.
        match self.expression.head().split_once('(').map(|(name, _)| name.trim()) {
            Some("sort" | "sort_desc" | "topk" | "bottomk") => Order::Values,
            Some("sort_by_label" | "sort_by_label_desc") => Order::Labels,
            _ => Order::None,
        }
    }

    /// Whether its answer is not defined.
    pub(crate) fn is_hazardous(&self, store: &SeriesStore) -> bool {
        self.has_ties(store)
            || self.has_ambiguous_filter(store)
            || self.is_ill_conditioned(store)
            || self.may_merge(store)
    }

    /// Whether a choice among elements would be one among equals, at any of its times: then neither side's answer is
    /// the right one.
    fn has_ties(&self, store: &SeriesStore) -> bool {
        let parts = self.expression.parts().into_iter();
        let choices = parts.filter(|part| part.hazard == Some(Hazard::Choice));
        let mut chosen_from = choices.flat_map(Expression::children).filter(|part| part.kind == Kind::Vector);
        chosen_from.any(|part| {
            let answer = Self { expression: part.clone(), ..self.clone() }.ask_us(store);
            match answer.value {
                Value::Failed(_) | Value::Scalar(_) | Value::Text(_) => false,
                Value::Vector(elements) => are_tied(elements.into_iter().map(|(_, value)| value).collect()),
                Value::Matrix(rows) => {
                    let mut samples: Vec<(i64, f64)> = rows.into_iter().flat_map(|(_, row)| row).collect();
                    samples.sort_by_key(|&(at, _)| at);
                    let mut steps = samples.chunk_by(|one, other| one.0 == other.0);
                    steps.any(|step| are_tied(step.iter().map(|&(_, value)| value).collect()))
                }
            }
        })
    }

    /// Whether the last digit of some value decides about the answer.
    fn is_ill_conditioned(&self, store: &SeriesStore) -> bool {
        let nudged = self.expression.nudged();
        if nudged.is_empty() {
            return false;
        }
        let answer = self.ask_us(store);
        nudged.into_iter().any(|expression| {
            let other = Self { expression, ..self.clone() }.ask_us(store);
            answer.difference(&other, Order::None).is_some()
        })
    }

    /// Whether fewer series come out of a part, over all times, than go in. Some may just have no value there.
    fn may_merge(&self, store: &SeriesStore) -> bool {
        if matches!(self.when, When::Instant(_)) {
            return false;
        }
        let rows = |expression: &Expression| {
            let samples = (expression.kind == Kind::Matrix)
                .then(|| Expression::new(Kind::Vector, "last_over_time({})", [expression.clone()]));
            let expression = samples.unwrap_or_else(|| expression.clone());
            match (Self { expression, ..self.clone() }).ask_us(store).value {
                Value::Matrix(rows) => rows.len(),
                Value::Failed(_) | Value::Scalar(_) | Value::Text(_) | Value::Vector(_) => 0,
            }
        };
        let parts = self.expression.parts().into_iter().filter(|part| part.hazard == Some(Hazard::Merge));
        let is_series = |part: &&Expression| matches!(part.kind, Kind::Matrix | Kind::Vector);
        parts.into_iter().any(|part| {
            let series: usize = part.children().filter(is_series).map(rows).sum();
            series > rows(part)
        })
    }

    /// Whether several elements of a comparison that filters match the same one.
    fn has_ambiguous_filter(&self, store: &SeriesStore) -> bool {
        let is_ambiguous = |answer: &Answer| match &answer.value {
            Value::Failed(message) => message.starts_with("multiple matches for labels"),
            Value::Scalar(_) | Value::Text(_) | Value::Vector(_) | Value::Matrix(_) => false,
        };
        self.expression.has(Hazard::Filter) && is_ambiguous(&self.ask_us(store))
    }
}

/// Whether any two are equal, or so near that rounding errors decide.
fn are_tied(mut values: Vec<f64>) -> bool {
    values.sort_by(f64::total_cmp);
    let nans = values.iter().filter(|value| value.is_nan()).count();
    let near = |pair: &[f64]| (pair[0] - pair[1]).abs() <= 1e-9 * pair[0].abs().max(pair[1].abs());
    nans > 1 || values.windows(2).any(|pair| pair[0].to_bits() == pair[1].to_bits() || near(pair))
}

fn ours(answer: OurAnswer) -> Answer {
    let value = match answer.outcome {
        Outcome::Scalar(number) => Value::Scalar(number),
        Outcome::Text(text) => Value::Text(text.to_string()),
        Outcome::Vector(elements) => {
            Value::Vector(elements.iter().map(|element| (names(&element.labels), element.value)).collect())
        }
        Outcome::Matrix(rows) => {
            let millis = |(at, value): &(Timestamp, f64)| (at.as_millis(), *value);
            let row = |labels: &Labels, samples: &[(Timestamp, f64)]| {
                (names(labels), samples.iter().map(millis).collect())
            };
            Value::Matrix(rows.iter().map(|each| row(&each.labels, &each.samples)).collect())
        }
    };
    let said = |severity| {
        let of =
            answer.annotations.iter().filter(move |annotation: &Annotation| annotation.severity == severity);
        of.map(|annotation| annotation.to_string()).collect()
    };
    Answer { value, warnings: said(Severity::Warning), infos: said(Severity::Info) }
}

fn names(labels: &Labels) -> Names {
    labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

//! A PromQL expression: read once, asked what it reads and what it depends on, evaluated often.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Labels, Timestamp};

use super::annotations::Annotations;
use super::ast::{Anchor, Moment, Node, Scalar, Vector, When, WithScalar};
use super::error::{EvalError, ParseError, ParseErrorKind};
use super::eval::{Evaluation, Scope};
use super::matcher::Selector;
use super::operator::{Comparison, Operator};
use super::reads::{Read, ReadOf};
use super::series::is_stale;
use super::signature::NameRemoval;
use super::store::SeriesStore;
use super::value::Value;
use super::{parse, reads, scan, separable};

/// How old a sample may be and still be a series' value: Prometheus' default.
pub const LOOKBACK: Duration = Duration::from_mins(5);

/// The step of a subquery that names none: Prometheus' default `evaluation_interval`, which is what it takes.
pub const SUBQUERY_STEP: Duration = Duration::from_mins(1);

/// A PromQL expression whose value a rule can have: no range vector.
#[derive(Clone, Debug)]
pub struct Expr {
    text: Arc<str>,
    root: Node,
    reads: Box<[ReadOf]>,
    /// Of subqueries that name none.
    subquery_step: Duration,
}

/// The metrics an expression reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Metrics {
    /// These and no others.
    Named(BTreeSet<Arc<str>>),
    /// At least one selector does not name its metric.
    Any,
}

/// `selector CMP number`: decided for a sample by comparing it, without a store.
#[derive(Clone, Debug)]
pub struct Threshold {
    /// The comparison, the sample on its left.
    pub comparison: Comparison,
    /// The number on its right.
    pub bound: f64,
    /// The series it is about.
    pub selector: Arc<Selector>,
}

impl Threshold {
    /// Whether the expression has an element for a series whose newest sample has this value.
    #[inline]
    pub fn holds(&self, value: f64) -> bool {
        self.comparison.holds(value, self.bound) && !is_stale(value)
    }
}

impl Expr {
    /// Reads an expression. What is not supported is refused by name and place.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        Self::parse_with(text, SUBQUERY_STEP)
    }

    /// As [`parse`](Self::parse), with the step of subqueries that name none. Prometheus takes its global
    /// `evaluation_interval`, whatever the interval of a rule's group.
    pub fn parse_with(text: &str, subquery_step: Duration) -> Result<Self, ParseError> {
        let root = parse::parse(text, step_millis(subquery_step))?;
        if matches!(root, Node::Samples(_)) {
            let message = "a range vector is the argument of a function, or a query".into();
            return Err(scan::refuse(text, 0, ParseErrorKind::Invalid, message));
        }
        Ok(Self { text: text.into(), reads: reads::of(&root), root, subquery_step })
    }

    /// The value at a time. With [`Scope::Only`] the elements that come from these series and no others; that
    /// needs [`is_separable`](Self::is_separable).
    pub fn eval(&self, store: &SeriesStore, at: Timestamp, scope: Scope<'_>) -> Result<Value, EvalError> {
        self.eval_noting(store, at, scope, NameRemoval::Immediate, false).map(|(value, _)| value)
    }

    /// As [`eval`](Self::eval), with what there is to say about it.
    pub fn eval_annotated(
        &self,
        store: &SeriesStore,
        at: Timestamp,
        scope: Scope<'_>,
    ) -> Result<(Value, Annotations), EvalError> {
        self.eval_noting(store, at, scope, NameRemoval::Immediate, true)
    }

    /// As [`eval`](Self::eval), with a choice of when metric names are removed.
    pub fn eval_removing(
        &self,
        store: &SeriesStore,
        at: Timestamp,
        scope: Scope<'_>,
        removal: NameRemoval,
    ) -> Result<Value, EvalError> {
        self.eval_noting(store, at, scope, removal, false).map(|(value, _)| value)
    }

    fn eval_noting(
        &self,
        store: &SeriesStore,
        at: Timestamp,
        scope: Scope<'_>,
        removal: NameRemoval,
        is_noting: bool,
    ) -> Result<(Value, Annotations), EvalError> {
        if matches!(scope, Scope::Only(_)) && !self.is_separable() {
            return Err(EvalError::NotSeparable);
        }
        let moment = Moment::instant(at.as_millis());
        let mut evaluation = Evaluation::new(store, moment, scope, removal, is_noting.then_some(&*self.text));
        let value = match &self.root {
            Node::Scalar(scalar) => Value::Scalar(evaluation.scalar(scalar)?),
            Node::Text(text) => Value::Text(Arc::clone(text)),
            Node::Vector(vector) => {
                let mut elements = evaluation.elements(vector)?;
                elements.sort_unstable_by(|one, other| one.labels.cmp(&other.labels));
                Value::Vector(elements)
            }
            // Refused when it was read.
            Node::Samples(_) => Value::Vector(Vec::new()),
        };
        Ok((value, evaluation.into_annotations()))
    }

    /// The expression as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The metrics it reads.
    pub fn metric_names(&self) -> Metrics {
        let mut names = BTreeSet::new();
        for read in &self.reads {
            match read.selector.metric_names() {
                Some(known) => names.extend(known.iter().cloned()),
                None => return Metrics::Any,
            }
        }
        Metrics::Named(names)
    }

    /// Its selectors, as they stand in the text.
    pub fn reads(&self) -> impl Iterator<Item = Read<'_>> {
        self.reads.iter().map(ReadOf::as_read)
    }

    /// The longest of its selectors' windows: so long samples are needed. Zero where it reads nothing.
    pub fn longest_window(&self) -> Duration {
        self.reads.iter().map(|read| read.window).max().unwrap_or(Duration::ZERO)
    }

    /// Whether it reads by one selector only.
    pub fn reads_one_selector(&self) -> bool {
        self.reads.len() == 1
    }

    /// Whether one of its selectors means this series.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.reads.iter().any(|read| read.selector.matches(labels))
    }

    /// Whether each element of its value comes from exactly one series and depends on no other, so that it can be
    /// evaluated for the series that have new samples alone.
    pub fn is_separable(&self) -> bool {
        match &self.root {
            Node::Vector(vector) => separable::is_separable(vector),
            Node::Scalar(_) | Node::Text(_) | Node::Samples(_) => false,
        }
    }

    /// Whether it can have a value where there are no samples at all, as `absent(up)` has.
    pub fn can_hold_without_samples(&self) -> bool {
        match &self.root {
            Node::Vector(vector) => separable::holds_without_samples(vector),
            Node::Scalar(_) => true,
            Node::Text(_) | Node::Samples(_) => false,
        }
    }

    /// The threshold it is, where it is one and no more.
    pub fn as_threshold(&self) -> Option<Threshold> {
        let Node::Vector(Vector::WithScalar(operation)) = &self.root else { return None };
        let WithScalar { operator, vector, scalar, scalar_is_left, .. } = operation.as_ref();
        let Operator::Comparison { comparison, to_bool: false } = *operator else { return None };
        let (Vector::Select(instant), &Scalar::Number(bound)) = (vector, scalar) else { return None };
        let When { anchor: Anchor::Evaluation, offset_millis: 0 } = instant.when else { return None };
        let comparison = if *scalar_is_left { comparison.swapped() } else { comparison };
        Some(Threshold { comparison, bound, selector: Arc::clone(&instant.selector) })
    }

    pub(super) fn root(&self) -> &Node {
        &self.root
    }

    /// What stands on the left of the comparison, where the expression is one: the values that a verification
    /// report shows. A number on the left is passed over for the vector on the right.
    pub fn left_of_comparison(&self) -> Option<Self> {
        let Node::Vector(root) = &self.root else { return None };
        let (operator, text) = match root {
            Vector::WithScalar(operation) => (operation.operator, &operation.vector_text),
            Vector::Join(join) => (join.operator, &join.left_text),
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
            | Vector::Rank(_)
            | Vector::CountValues { .. }
            | Vector::Relabel { .. }
            | Vector::Sort { .. }
            | Vector::Histogram(_)
            | Vector::Set(_) => return None,
        };
        let is_comparison = matches!(operator, Operator::Comparison { .. });
        let text = self.text.get(text.clone()).filter(|_| is_comparison)?;
        Self::parse_with(text, self.subquery_step).ok()
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// At least one.
pub(super) fn step_millis(step: Duration) -> i64 {
    i64::try_from(step.as_millis()).unwrap_or(i64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expr(text: &str) -> Expr {
        Expr::parse(text).expect(text)
    }

    #[test]
    fn metrics_are_named_where_every_selector_names_them() {
        let named = |names: &[&str]| Metrics::Named(names.iter().map(|&name| name.into()).collect());
        assert_eq!(expr("sum(a) / b > 1").metric_names(), named(&["a", "b"]));
        assert_eq!(expr("{__name__=~\"a|b\"}").metric_names(), named(&["a", "b"]));
        assert_eq!(expr("a or {job=\"x\"}").metric_names(), Metrics::Any);
        assert_eq!(expr("{__name__=~\"a.*\"}").metric_names(), Metrics::Any);
        assert_eq!(expr("vector(1)").metric_names(), named(&[]));
    }

    #[test]
    fn the_longest_window_counts_the_lookback_and_the_offset() {
        let cases = [
            ("x", 300),
            ("x offset 1h", 3_900),
            ("x offset -1h", 300),
            ("rate(x[10m] offset 5m) + y", 900),
            ("rate(x[1m])", 60),
            ("clamp_min(rate(x[1m]), scalar(y))", 300),
            ("max_over_time(rate(x[5m])[1h:1m])", 3_900),
            ("max_over_time(x[1h:] offset 1d)", 90_300),
            ("max_over_time(max_over_time(x[10m:])[1h:])", 4_500),
            ("max_over_time((x @ end())[1h:1m])", 300),
            ("1", 0),
        ];
        for (text, seconds) in cases {
            assert_eq!(expr(text).longest_window(), Duration::from_secs(seconds), "{text}");
        }
        assert_eq!(expr("x @ 100").longest_window(), Duration::MAX);
    }

    #[test]
    fn an_expression_is_separable_where_each_element_comes_from_one_series() {
        for text in [
            "x > 5",
            "x",
            "abs(-x) * 2 + time()",
            "rate(x[5m]) > bool 1",
            "5 < clamp(x, 0, 1)",
            "round(sqrt(x), 0.1)",
            "quantile_over_time(0.9, x[5m]) > 1",
            "predict_linear(x[1h], 4 * 3600) < 0",
            "timestamp(x) < time() - 60",
            "max_over_time(rate(x[5m])[1h:1m]) > 1",
        ] {
            assert!(expr(text).is_separable(), "{text}");
        }
        for text in [
            "sum(x) > 5",
            "x > y",
            "absent(x)",
            "x and x",
            "vector(1)",
            "1",
            "x > scalar(y)",
            "x > scalar(vector(1))",
            "topk(3, x)",
            "sort(x)",
            "label_replace(x, \"a\", \"b\", \"\", \"\")",
            "histogram_quantile(0.9, x)",
            "absent_over_time(x[5m])",
            "max_over_time(sum(x)[1h:1m])",
            "max_over_time(max_over_time(x[1h:1m])[1h:1m])",
            // Two metrics may become one element, and then neither is.
            "rate({job=\"a\"}[5m])",
            "-{__name__=~\"a|b\"}",
        ] {
            assert!(!expr(text).is_separable(), "{text}");
        }
    }

    #[test]
    fn only_some_expressions_hold_without_samples() {
        for text in [
            "absent(x)",
            "vector(1)",
            "1",
            "time() > bool 5",
            "x or absent(y)",
            "vector(1) unless x",
            "absent_over_time(x[5m])",
            "hour() > 5",
            "max_over_time(absent(x)[5m:])",
            "vector(1) + fill_right(0) x",
        ] {
            assert!(expr(text).can_hold_without_samples(), "{text}");
        }
        for text in [
            "x",
            "absent(x) and y",
            "x or y",
            "count(x) == 0",
            "vector(1) * x",
            "\"text\"",
            "vector(1) + fill_left(0) x",
        ] {
            assert!(!expr(text).can_hold_without_samples(), "{text}");
        }
    }

    #[test]
    fn a_threshold_is_a_selector_compared_with_a_number() {
        let threshold = expr("10 * 1024 <= x{job=\"a\"}").as_threshold().unwrap();
        assert_eq!(
            (threshold.comparison, threshold.selector.metric_name()),
            (Comparison::GreaterOrEqual, Some("x"))
        );
        assert!(threshold.holds(10_240.0) && !threshold.holds(10_239.0) && !threshold.holds(f64::NAN));
        let unequal = expr("(x) != 1").as_threshold().unwrap();
        assert!(unequal.holds(f64::NAN) && !unequal.holds(super::super::STALE));
        for text in
            ["x > bool 1", "x > time()", "x offset 1m > 1", "x @ 5 > 1", "rate(x[5m]) > 1", "x > y", "x"]
        {
            assert!(expr(text).as_threshold().is_none(), "{text}");
        }
    }

    #[test]
    fn the_left_of_a_comparison_is_an_expression_of_its_own() {
        let cases = [
            ("rate(x[5m]) > 1", Some("rate(x[5m])")),
            ("(a / on (job) b > 1)", Some("a / on (job) b")),
            ("((x{a=\"(\"}) > bool 1)", Some("(x{a=\"(\"})")),
            ("5 < bool (x)", Some("(x)")),
            ("(5 < boolean)", Some("boolean")),
            ("sum(a) > ignoring (b) c", Some("sum(a)")),
            ("a + 1", None),
            ("a and b", None),
            ("1 > bool 2", None),
        ];
        for (text, left) in cases {
            let found = expr(text).left_of_comparison();
            assert_eq!(found.as_ref().map(Expr::text), left, "{text}");
            if let Some(found) = found {
                let read: Vec<_> = found.reads().map(|read| read.selector.key().to_owned()).collect();
                let again = expr(found.text());
                assert!(again.reads().map(|read| read.selector.key()).eq(read.iter().map(String::as_str)));
            }
        }
    }

    #[test]
    fn an_expression_matches_the_series_that_one_of_its_selectors_means() {
        let expr = expr("a{job=\"x\"} / ignoring (job) b");
        assert!(expr.matches(&Labels::new([("__name__", "b")]).unwrap()));
        assert!(!expr.matches(&Labels::new([("__name__", "a")]).unwrap()));
        assert!(!expr.reads_one_selector());
    }
}

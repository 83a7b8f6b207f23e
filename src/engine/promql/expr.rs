//! A PromQL expression: read once, asked what it reads and what it depends on, evaluated often.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Labels, Timestamp};

use super::ast::{Comparison, MapFunction, Node, Operator, Scalar, SetOperator, Vector, When, WithScalar};
use super::error::{EvalError, ParseError};
use super::eval::{self, Scope};
use super::matcher::Selector;
use super::series::is_stale;
use super::signature::NameRemoval;
use super::store::SeriesStore;
use super::value::Value;
use super::{distinct, parse, scan};

/// How old a sample may be and still be a series' value: Prometheus' default.
pub const LOOKBACK: Duration = Duration::from_mins(5);

/// A PromQL expression of the supported set.
#[derive(Clone, Debug)]
pub struct Expr {
    text: Arc<str>,
    root: Node,
    reads: Box<[ReadOf]>,
}

/// The metrics an expression reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Metrics {
    /// These and no others.
    Named(BTreeSet<Arc<str>>),
    /// At least one selector does not name its metric.
    Any,
}

/// One selector of an expression, and how far it looks back.
#[derive(Clone, Copy, Debug)]
pub struct Read<'e> {
    /// The series.
    pub selector: &'e Selector,
    /// Range or lookback, and offset. [`Duration::MAX`] where an `@` with a fixed time ties it to the past.
    pub window: Duration,
}

#[derive(Clone, Debug)]
struct ReadOf {
    selector: Arc<Selector>,
    window: Duration,
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
        parse::parse(text).map(|root| Self::new(text.into(), root))
    }

    /// The value at a time. With [`Scope::Only`] the elements that come from these series and no others; that
    /// needs [`is_separable`](Self::is_separable).
    pub fn eval(&self, store: &SeriesStore, at: Timestamp, scope: Scope<'_>) -> Result<Value, EvalError> {
        self.eval_removing(store, at, scope, NameRemoval::Immediate)
    }

    /// As [`eval`](Self::eval), with a choice of when metric names are removed.
    pub fn eval_removing(
        &self,
        store: &SeriesStore,
        at: Timestamp,
        scope: Scope<'_>,
        removal: NameRemoval,
    ) -> Result<Value, EvalError> {
        match scope {
            Scope::Only(_) if !self.is_separable() => Err(EvalError::NotSeparable),
            Scope::Only(_) | Scope::All => eval::eval(&self.root, store, at, scope, removal),
        }
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
        self.reads.iter().map(|read| Read { selector: &read.selector, window: read.window })
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
            Node::Vector(vector) => is_separable(vector),
            Node::Scalar(_) | Node::Text(_) => false,
        }
    }

    /// Whether it can have a value where there are no samples at all, as `absent(up)` has.
    pub fn can_hold_without_samples(&self) -> bool {
        match &self.root {
            Node::Vector(vector) => holds_without_samples(vector),
            Node::Scalar(_) => true,
            Node::Text(_) => false,
        }
    }

    /// The threshold it is, where it is one and no more.
    pub fn as_threshold(&self) -> Option<Threshold> {
        let Node::Vector(Vector::WithScalar(operation)) = &self.root else { return None };
        let WithScalar { operator, vector, scalar, scalar_is_left, .. } = operation.as_ref();
        let Operator::Comparison { comparison, to_bool: false } = *operator else { return None };
        let (Vector::Select(instant), &Scalar::Number(bound)) = (vector, scalar) else { return None };
        let When { fixed: None, offset_millis: 0 } = instant.when else { return None };
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
        let (operator, vector, text) = match root {
            Vector::WithScalar(operation) if operation.scalar_is_left => {
                let from = operation.operator_at + operator_bytes(operation.operator);
                (operation.operator, &operation.vector, self.text.get(from..)?)
            }
            Vector::WithScalar(operation) => {
                (operation.operator, &operation.vector, self.text.get(..operation.operator_at)?)
            }
            Vector::Join(join) => (join.operator, &join.left, self.text.get(..join.operator_at)?),
            Vector::Select(_)
            | Vector::Window { .. }
            | Vector::Of(_)
            | Vector::Negate(_)
            | Vector::Map { .. }
            | Vector::Absent { .. }
            | Vector::Aggregate { .. }
            | Vector::Set(_) => return None,
        };
        let is_comparison = matches!(operator, Operator::Comparison { .. });
        is_comparison.then(|| Self::new(balanced(text).into(), Node::Vector(vector.clone())))
    }

    fn new(text: Arc<str>, root: Node) -> Self {
        let mut reads = Vec::new();
        match &root {
            Node::Vector(vector) => collect_vector(vector, &mut reads),
            Node::Scalar(scalar) => collect_scalar(scalar, &mut reads),
            Node::Text(_) => {}
        }
        Self { text, root, reads: reads.into() }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn is_separable(vector: &Vector) -> bool {
    match vector {
        Vector::Select(_) => true,
        // Where dropping the metric's name could make two elements one, the whole vector decides.
        Vector::Window { .. } => distinct::without_name(vector),
        Vector::Negate(argument) => is_separable(argument) && distinct::without_name(argument),
        Vector::Map { function, argument } => {
            let bounds_read_nothing = match function {
                MapFunction::Absolute | MapFunction::Ceiling | MapFunction::Floor => true,
                MapFunction::Clamp { lowest, highest } => reads_nothing(lowest) && reads_nothing(highest),
            };
            bounds_read_nothing && is_separable(argument) && distinct::without_name(argument)
        }
        Vector::WithScalar(operation) => {
            let keeps_name = matches!(operation.operator, Operator::Comparison { to_bool: false, .. });
            reads_nothing(&operation.scalar)
                && is_separable(&operation.vector)
                && (keeps_name || distinct::without_name(&operation.vector))
        }
        Vector::Of(_)
        | Vector::Absent { .. }
        | Vector::Aggregate { .. }
        | Vector::Join(_)
        | Vector::Set(_) => false,
    }
}

fn reads_nothing(scalar: &Scalar) -> bool {
    let mut reads = Vec::new();
    collect_scalar(scalar, &mut reads);
    reads.is_empty()
}

fn holds_without_samples(vector: &Vector) -> bool {
    match vector {
        Vector::Select(_) | Vector::Window { .. } => false,
        Vector::Of(_) | Vector::Absent { .. } => true,
        Vector::Negate(argument) | Vector::Map { argument, .. } | Vector::Aggregate { argument, .. } => {
            holds_without_samples(argument)
        }
        Vector::WithScalar(operation) => holds_without_samples(&operation.vector),
        Vector::Join(join) => holds_without_samples(&join.left) && holds_without_samples(&join.right),
        Vector::Set(set) => {
            let (left, right) = (holds_without_samples(&set.left), holds_without_samples(&set.right));
            match set.operator {
                SetOperator::And => left && right,
                SetOperator::Or => left || right,
                SetOperator::Unless => left,
            }
        }
    }
}

fn collect_vector(vector: &Vector, reads: &mut Vec<ReadOf>) {
    match vector {
        Vector::Select(instant) => reads.push(read_of(&instant.selector, instant.when, LOOKBACK)),
        Vector::Window { range, .. } => {
            let length = Duration::from_millis(range.length_millis.unsigned_abs());
            reads.push(read_of(&range.selector, range.when, length));
        }
        Vector::Of(scalar) => collect_scalar(scalar, reads),
        Vector::Negate(argument)
        | Vector::Absent { argument, .. }
        | Vector::Aggregate { argument, .. }
        | Vector::Map {
            function: MapFunction::Absolute | MapFunction::Ceiling | MapFunction::Floor,
            argument,
        } => collect_vector(argument, reads),
        Vector::Map { function: MapFunction::Clamp { lowest, highest }, argument } => {
            collect_vector(argument, reads);
            collect_scalar(lowest, reads);
            collect_scalar(highest, reads);
        }
        Vector::WithScalar(operation) if operation.scalar_is_left => {
            collect_scalar(&operation.scalar, reads);
            collect_vector(&operation.vector, reads);
        }
        Vector::WithScalar(operation) => {
            collect_vector(&operation.vector, reads);
            collect_scalar(&operation.scalar, reads);
        }
        Vector::Join(join) => {
            collect_vector(&join.left, reads);
            collect_vector(&join.right, reads);
        }
        Vector::Set(set) => {
            collect_vector(&set.left, reads);
            collect_vector(&set.right, reads);
        }
    }
}

fn collect_scalar(scalar: &Scalar, reads: &mut Vec<ReadOf>) {
    match scalar {
        Scalar::Number(_) | Scalar::Time => {}
        Scalar::Only(vector) => collect_vector(vector, reads),
        Scalar::Negate(argument) => collect_scalar(argument, reads),
        Scalar::Binary { left, right, .. } => {
            collect_scalar(left, reads);
            collect_scalar(right, reads);
        }
    }
}

fn read_of(selector: &Arc<Selector>, when: When, length: Duration) -> ReadOf {
    let window = match when.fixed {
        Some(_) => Duration::MAX,
        // A negative offset reads what is newer, which needs nothing older.
        None => length + Duration::from_millis(u64::try_from(when.offset_millis).unwrap_or(0)),
    };
    ReadOf { selector: Arc::clone(selector), window }
}

fn operator_bytes(operator: Operator) -> usize {
    match operator {
        Operator::Comparison { comparison, .. } => comparison.as_str().len(),
        Operator::Arithmetic(_) => 1,
    }
}

/// One side of a comparison without the parentheses that belong to the whole of it.
fn balanced(side: &str) -> &str {
    let mut side = side.trim();
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':');
    if let Some(rest) = side.strip_prefix("bool").filter(|rest| !rest.starts_with(is_word)) {
        side = rest.trim_start();
    }
    loop {
        let (opened, closed) = scan::parentheses(side);
        let stripped = match opened.cmp(&closed) {
            std::cmp::Ordering::Greater => side.strip_prefix('('),
            std::cmp::Ordering::Less => side.strip_suffix(')'),
            std::cmp::Ordering::Equal => None,
        };
        match stripped {
            Some(rest) => side = rest.trim(),
            None => return side,
        }
    }
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
            ("1", 0),
        ];
        for (text, seconds) in cases {
            assert_eq!(expr(text).longest_window(), Duration::from_secs(seconds), "{text}");
        }
        assert_eq!(expr("x @ 100").longest_window(), Duration::MAX);
    }

    #[test]
    fn an_expression_is_separable_where_each_element_comes_from_one_series() {
        for text in ["x > 5", "x", "abs(-x) * 2 + time()", "rate(x[5m]) > bool 1", "5 < clamp(x, 0, 1)"] {
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
            // Two metrics may become one element, and then neither is.
            "rate({job=\"a\"}[5m])",
            "-{__name__=~\"a|b\"}",
        ] {
            assert!(!expr(text).is_separable(), "{text}");
        }
    }

    #[test]
    fn only_some_expressions_hold_without_samples() {
        for text in ["absent(x)", "vector(1)", "1", "time() > bool 5", "x or absent(y)", "vector(1) unless x"]
        {
            assert!(expr(text).can_hold_without_samples(), "{text}");
        }
        for text in ["x", "absent(x) and y", "x or y", "count(x) == 0", "vector(1) * x", "\"text\""] {
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

//! From text to the evaluator's tree. The syntax is the `promql-parser` crate's, whose types do not leave this file;
//! places, limits and the supported set are ours.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use promql_parser::label::{MatchOp, Matcher as CrateMatcher};
use promql_parser::parser::{
    self as syntax, AtModifier, BinModifier, Expr as Tree, LabelModifier, Offset, VectorMatchCardinality,
};

use crate::model::{Labels, METRIC_NAME};

use super::ast::{
    Aggregation, Arithmetic, Cardinality, Comparison, Grouping, Instant, Join, MapFunction, Node, Operator,
    Range, Scalar, Set, SetOperator, Vector, When, WindowFunction, WithScalar,
};
use super::error::{ParseError, ParseErrorKind};
use super::matcher::{Matcher, Selector};
use super::places::Places;
use super::scan::{self, Token};
use super::syntax as order;

/// Deepest nesting: expressions are walked on the stack, of which a thread has two megabytes, and a debug build's
/// frames take up to seven kilobytes a level. The deepest of the public rule collections has eleven.
pub(super) const NESTING_MAX: usize = 128;

/// Reads an expression.
pub(super) fn parse(text: &str) -> Result<Node, ParseError> {
    let tokens = scan::scan(text)?;
    let tree = syntax::parse(&scan::spell(&tokens)).map_err(|message| locate(text, &tokens, &message))?;
    Converter { text, places: Places::new(&tokens), depth: 0 }.node(&tree)
}

/// The parser's message has no place: the order of the tokens has one, and so have the names in the message.
fn locate(text: &str, tokens: &[Token<'_>], message: &str) -> ParseError {
    if let Some(unexpected) = order::first_unexpected(tokens) {
        let at = unexpected.token.map_or(text.len(), |token| token.at);
        return match unexpected.feature() {
            Some(feature) => unsupported(text, at, feature),
            None => scan::refuse(text, at, ParseErrorKind::Invalid, unexpected.message()),
        };
    }
    // The second argument of `info` may select nothing in particular, which the parser does not know.
    let info = tokens.iter().find(|token| token.is_word("info"));
    if let Some(info) = info.filter(|_| message.starts_with("vector selector")) {
        return unsupported(text, info.at, "info");
    }
    let name = message.split('\'').nth(1);
    let words: &[&str] = match () {
        () if message.starts_with("bool modifier") => &["bool"],
        () if message.starts_with("comparisons between scalars") => &["==", "!=", "<=", "<", ">=", ">"],
        () if message.starts_with("vector matching only") => &["on", "ignoring"],
        () if message.starts_with("no grouping allowed") => &["group_left", "group_right"],
        () if message.contains("range") || message.starts_with("subquery") => &["["],
        () if message.starts_with("offset") => &["offset"],
        () if message.starts_with('@') => &["@"],
        () if message.starts_with("vector selector") => &["{"],
        () if message.starts_with("unary") => &["-"],
        () => &[],
    };
    let of_name = tokens.iter().find(|token| name.is_some_and(|name| token.text.eq_ignore_ascii_case(name)));
    let of_word =
        tokens.iter().find(|token| words.iter().any(|word| token.is_mark(word) || token.is_word(word)));
    let at = of_word.or(of_name).map_or(0, |token| token.at);
    let message = match message.strip_prefix("unknown function with name ") {
        Some(_) => format!("there is no function `{}`", name.unwrap_or("")),
        None => message.replace('\'', "`"),
    };
    ParseError { name: name.map(Into::into), ..scan::refuse(text, at, ParseErrorKind::Invalid, message) }
}

struct Converter<'t> {
    text: &'t str,
    places: Places<'t>,
    depth: usize,
}

impl Converter<'_> {
    fn node(&mut self, tree: &Tree) -> Result<Node, ParseError> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            let message = format!("nested more than {NESTING_MAX} deep");
            return Err(scan::refuse(self.text, self.places.here(), ParseErrorKind::TooLarge, message));
        }
        let node = match tree {
            Tree::Paren(paren) => self.node(&paren.expr),
            Tree::NumberLiteral(number) => {
                self.places.number();
                Ok(Node::Scalar(Scalar::Number(number.val)))
            }
            Tree::StringLiteral(text) => {
                self.places.text();
                Ok(Node::Text(text.val.as_str().into()))
            }
            Tree::VectorSelector(selector) => {
                self.instant(selector).map(|instant| Node::Vector(Vector::Select(instant)))
            }
            Tree::Unary(unary) => self.negate(&unary.expr),
            Tree::Binary(binary) => self.binary(binary),
            Tree::Aggregate(aggregate) => self.aggregate(aggregate).map(Node::Vector),
            Tree::Call(call) => self.call(call),
            Tree::Subquery(subquery) => {
                self.node(&subquery.expr)?;
                let at = self.places.mark("[");
                Err(self.unsupported(at, "a subquery"))
            }
            Tree::MatrixSelector(matrix) => {
                let at = self.places.selector(matrix.vs.name.as_deref());
                Err(self.invalid(at, "a range selector is the argument of a function or nothing"))
            }
            Tree::Extension(_) => Err(self.invalid(0, "not an expression of PromQL")),
        };
        self.depth -= 1;
        node
    }

    fn vector(&mut self, tree: &Tree) -> Result<Vector, ParseError> {
        match self.node(tree)? {
            Node::Vector(vector) => Ok(vector),
            Node::Scalar(_) | Node::Text(_) => Err(self.invalid(0, "expected an instant vector")),
        }
    }

    fn scalar(&mut self, tree: &Tree) -> Result<Scalar, ParseError> {
        match self.node(tree)? {
            Node::Scalar(scalar) => Ok(scalar),
            Node::Vector(_) | Node::Text(_) => Err(self.invalid(0, "expected a number")),
        }
    }

    fn negate(&mut self, argument: &Tree) -> Result<Node, ParseError> {
        let at = self.places.mark("-");
        Ok(match self.node(argument)? {
            Node::Scalar(Scalar::Number(number)) => Node::Scalar(Scalar::Number(-number)),
            Node::Scalar(scalar) => Node::Scalar(Scalar::Negate(Box::new(scalar))),
            Node::Vector(vector) => Node::Vector(Vector::Negate(Box::new(vector))),
            Node::Text(_) => return Err(self.invalid(at, "a text has no negative")),
        })
    }

    fn binary(&mut self, tree: &syntax::BinaryExpr) -> Result<Node, ParseError> {
        let left = self.node(&tree.lhs)?;
        let written = tree.op.to_string();
        let operator_at = self.places.mark(&written);
        let modifier = tree.modifier.clone().unwrap_or_default();
        if modifier.fill_values.lhs.is_some() || modifier.fill_values.rhs.is_some() {
            return Err(self.unsupported(operator_at, "fill"));
        }
        let right = self.node(&tree.rhs)?;
        if let Some(operator) = set_operator(&written) {
            let (Node::Vector(left), Node::Vector(right)) = (left, right) else {
                return Err(self.invalid(operator_at, "set operators stand between vectors"));
            };
            let set = Set { operator, left, right, grouping: matching(&modifier) };
            return Ok(Node::Vector(Vector::Set(Box::new(set))));
        }
        let Some(operator) = operator(&written, modifier.return_bool) else {
            return Err(self.unsupported(operator_at, &written));
        };
        let with_scalar = |vector, scalar, scalar_is_left| {
            let operation = WithScalar { operator, vector, scalar, scalar_is_left, operator_at };
            Node::Vector(Vector::WithScalar(Box::new(operation)))
        };
        Ok(match (left, right) {
            (Node::Scalar(left), Node::Scalar(right)) => Node::Scalar(fold(operator, left, right)),
            (Node::Vector(vector), Node::Scalar(scalar)) => with_scalar(vector, scalar, false),
            (Node::Scalar(scalar), Node::Vector(vector)) => with_scalar(vector, scalar, true),
            (Node::Vector(left), Node::Vector(right)) => {
                let (grouping, cardinality) = (matching(&modifier), cardinality(&modifier));
                let join = Join { operator, left, right, grouping, cardinality, operator_at };
                Node::Vector(Vector::Join(Box::new(join)))
            }
            (Node::Text(_), _) | (_, Node::Text(_)) => {
                return Err(self.invalid(operator_at, "a text cannot be calculated with"));
            }
        })
    }

    fn aggregate(&mut self, tree: &syntax::AggregateExpr) -> Result<Vector, ParseError> {
        let name = tree.op.to_string();
        let at = self.places.word(&name);
        let Some(aggregation) = Aggregation::named(&name) else { return Err(self.unsupported(at, &name)) };
        let grouping = match &tree.modifier {
            None => Grouping::By([].into()),
            Some(modifier) => grouping(modifier),
        };
        let argument = Box::new(self.vector(&tree.expr)?);
        Ok(Vector::Aggregate { aggregation, grouping, argument })
    }

    fn call(&mut self, tree: &syntax::Call) -> Result<Node, ParseError> {
        let name = tree.func.name;
        let at = self.places.word(name);
        let arguments: Vec<&Tree> = tree.args.args.iter().map(|argument| unwrapped(argument)).collect();
        match (name, arguments.as_slice(), WindowFunction::named(name)) {
            (_, [argument], Some(function)) => self.window(function, argument),
            ("time", [], _) => Ok(Node::Scalar(Scalar::Time)),
            ("vector", [argument], _) => {
                self.scalar(argument).map(|scalar| Node::Vector(Vector::Of(Box::new(scalar))))
            }
            ("scalar", [argument], _) => {
                self.vector(argument).map(|vector| Node::Scalar(Scalar::Only(Box::new(vector))))
            }
            ("absent", [argument], _) => self.absent(at, argument),
            ("abs" | "ceil" | "floor" | "clamp" | "clamp_min" | "clamp_max", [argument, bounds @ ..], _) => {
                self.map(at, name, argument, bounds)
            }
            _ => Err(self.unsupported(at, name)),
        }
    }

    fn window(&mut self, function: WindowFunction, argument: &Tree) -> Result<Node, ParseError> {
        self.range(argument).map(|range| Node::Vector(Vector::Window { function, range }))
    }

    fn absent(&mut self, at: usize, argument: &Tree) -> Result<Node, ParseError> {
        let labels = self.absent_labels(at, argument)?;
        let argument = Box::new(self.vector(argument)?);
        Ok(Node::Vector(Vector::Absent { argument, labels }))
    }

    fn map(&mut self, at: usize, name: &str, argument: &Tree, bounds: &[&Tree]) -> Result<Node, ParseError> {
        let argument = Box::new(self.vector(argument)?);
        let bounds: Vec<Scalar> = bounds.iter().map(|bound| self.scalar(bound)).collect::<Result<_, _>>()?;
        let function = match name {
            "abs" => Some(MapFunction::Absolute),
            "ceil" => Some(MapFunction::Ceiling),
            "floor" => Some(MapFunction::Floor),
            "clamp_min" => clamp(bounds, None, Some(f64::INFINITY)),
            "clamp_max" => clamp(bounds, Some(f64::NEG_INFINITY), None),
            _ => clamp(bounds, None, None),
        };
        let function = function.ok_or_else(|| self.invalid(at, "wrong number of arguments"))?;
        Ok(Node::Vector(Vector::Map { function, argument }))
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the parser's enum, not ours")]
    fn range(&mut self, tree: &Tree) -> Result<Range, ParseError> {
        match tree {
            Tree::MatrixSelector(matrix) => {
                let Instant { selector, when } = self.instant(&matrix.vs)?;
                self.places.mark("[");
                Ok(Range { selector, when, length_millis: millis(matrix.range) })
            }
            // Says itself that a subquery is not supported, and where.
            tree => {
                self.node(tree)?;
                Err(self.invalid(0, "expected a range selector"))
            }
        }
    }

    fn instant(&mut self, tree: &syntax::VectorSelector) -> Result<Instant, ParseError> {
        let at = self.places.selector(tree.name.as_deref());
        if !tree.matchers.or_matchers.is_empty() {
            return Err(self.invalid(at, "`or` does not stand between braces"));
        }
        let name = tree.name.iter().map(|name| Ok(Matcher::equal(METRIC_NAME, name)));
        let rest = tree.matchers.matchers.iter().map(|matcher| self.matcher(at, matcher));
        let matchers = name.chain(rest).collect::<Result<Vec<_>, _>>()?;
        let offset_millis = match &tree.offset {
            None => 0,
            Some(Offset::Pos(offset)) => millis(*offset),
            Some(Offset::Neg(offset)) => -millis(*offset),
        };
        let fixed = match &tree.at {
            // The first and the last time of a query are one for a query at one time.
            None | Some(AtModifier::Start | AtModifier::End) => None,
            Some(AtModifier::At(at)) => Some(epoch_millis(*at)),
        };
        Ok(Instant { selector: Arc::new(Selector::new(matchers)), when: When { fixed, offset_millis } })
    }

    fn matcher(&self, at: usize, matcher: &CrateMatcher) -> Result<Matcher, ParseError> {
        let (label, value) = (&*matcher.name, &*matcher.value);
        let pattern = |regex: &str, wanted| {
            Matcher::pattern(label, value, regex, wanted)
                .map_err(|error| self.invalid(at, &format!("`{value}` is no regular expression: {error}")))
        };
        match &matcher.op {
            MatchOp::Equal => Ok(Matcher::equal(label, value)),
            MatchOp::NotEqual => Ok(Matcher::not_equal(label, value)),
            MatchOp::Re(regex) => pattern(regex.as_str(), true),
            MatchOp::NotRe(regex) => pattern(regex.as_str(), false),
        }
    }

    /// What is known about the series that is not there: the labels that its selector wants equal to something. A
    /// label that is asked about again afterwards is not known, as Prometheus has it for the sake of its past.
    fn absent_labels(&self, at: usize, argument: &Tree) -> Result<Labels, ParseError> {
        let Tree::VectorSelector(selector) = argument else { return Ok(Labels::empty()) };
        let (mut known, mut seen) = (BTreeMap::new(), BTreeSet::new());
        for matcher in selector.matchers.matchers.iter().filter(|matcher| matcher.name != METRIC_NAME) {
            let label = matcher.name.as_str();
            if matches!(matcher.op, MatchOp::Equal) && seen.insert(label) {
                known.insert(label, matcher.value.as_str());
            } else {
                known.remove(label);
            }
        }
        Labels::new(known).map_err(|error| self.invalid(at, &error.to_string()))
    }

    fn invalid(&self, at: usize, message: &str) -> ParseError {
        scan::refuse(self.text, at, ParseErrorKind::Invalid, message.into())
    }

    fn unsupported(&self, at: usize, name: &str) -> ParseError {
        unsupported(self.text, at, name)
    }
}

/// A feature with a space in its name is described by it, any other one is called so.
fn unsupported(text: &str, at: usize, name: &str) -> ParseError {
    let quote = if name.contains(' ') { "" } else { "`" };
    let message = format!("{quote}{name}{quote} is not supported yet");
    ParseError { name: Some(name.into()), ..scan::refuse(text, at, ParseErrorKind::Unsupported, message) }
}

/// The bounds of a clamp, the missing one filled in.
fn clamp(bounds: Vec<Scalar>, lowest: Option<f64>, highest: Option<f64>) -> Option<MapFunction> {
    let mut bounds = bounds.into_iter();
    let mut take = |fixed: Option<f64>| fixed.map(Scalar::Number).or_else(|| bounds.next());
    Some(MapFunction::Clamp { lowest: take(lowest)?, highest: take(highest)? })
}

/// Thresholds are often written as products; a number is one wherever it can be.
fn fold(operator: Operator, left: Scalar, right: Scalar) -> Scalar {
    match (operator, &left, &right) {
        (Operator::Arithmetic(arithmetic), &Scalar::Number(left), &Scalar::Number(right)) => {
            Scalar::Number(arithmetic.apply(left, right))
        }
        _ => Scalar::Binary { operator, left: Box::new(left), right: Box::new(right) },
    }
}

fn operator(written: &str, to_bool: bool) -> Option<Operator> {
    let arithmetic = |arithmetic| Some(Operator::Arithmetic(arithmetic));
    let comparison = |comparison| Some(Operator::Comparison { comparison, to_bool });
    match written {
        "+" => arithmetic(Arithmetic::Add),
        "-" => arithmetic(Arithmetic::Subtract),
        "*" => arithmetic(Arithmetic::Multiply),
        "/" => arithmetic(Arithmetic::Divide),
        "%" => arithmetic(Arithmetic::Remainder),
        "^" => arithmetic(Arithmetic::Power),
        "==" => comparison(Comparison::Equal),
        "!=" => comparison(Comparison::NotEqual),
        "<" => comparison(Comparison::Less),
        "<=" => comparison(Comparison::LessOrEqual),
        ">" => comparison(Comparison::Greater),
        ">=" => comparison(Comparison::GreaterOrEqual),
        _ => None,
    }
}

fn set_operator(written: &str) -> Option<SetOperator> {
    match written {
        "and" => Some(SetOperator::And),
        "or" => Some(SetOperator::Or),
        "unless" => Some(SetOperator::Unless),
        _ => None,
    }
}

fn matching(modifier: &BinModifier) -> Grouping {
    modifier.matching.as_ref().map_or_else(|| Grouping::Without([].into()), grouping)
}

fn grouping(modifier: &LabelModifier) -> Grouping {
    let mut labels: Vec<Arc<str>> =
        modifier.labels().labels.iter().map(|label| label.as_str().into()).collect();
    labels.sort_unstable();
    labels.dedup();
    if modifier.is_include() { Grouping::By(labels.into()) } else { Grouping::Without(labels.into()) }
}

fn cardinality(modifier: &BinModifier) -> Cardinality {
    let include = |labels: &promql_parser::label::Labels| {
        labels.labels.iter().map(|label| label.as_str().into()).collect()
    };
    match &modifier.card {
        VectorMatchCardinality::OneToOne | VectorMatchCardinality::ManyToMany => Cardinality::OneToOne,
        VectorMatchCardinality::ManyToOne(labels) => Cardinality::ManyToOne(include(labels)),
        VectorMatchCardinality::OneToMany(labels) => Cardinality::OneToMany(include(labels)),
    }
}

fn unwrapped(mut tree: &Tree) -> &Tree {
    while let Tree::Paren(paren) = tree {
        tree = &paren.expr;
    }
    tree
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn epoch_millis(at: SystemTime) -> i64 {
    match at.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => millis(since),
        Err(before) => -millis(before.duration()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::promql::{Expr, Scope, SeriesStore};
    use crate::model::Timestamp;

    /// Refusals as `place: message`, then the name they are about.
    fn refusal(text: &str) -> (String, Option<String>) {
        let error = Expr::parse(text).expect_err(text);
        (error.to_string(), error.name)
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name_and_place() {
        let cases = [
            ("histogram_quantile(0.9, rate(x[5m]))", "1:1", "histogram_quantile"),
            ("sum by (rate) (rate(x[5m])) > on () topk(3, x)", "1:37", "topk"),
            ("1 +\n  label_replace(x, \"a\", \"\", \"b\", \"\")", "2:3", "label_replace"),
            ("max_over_time(rate(x[5m])[1h:1m])", "1:26", "a subquery"),
            ("x + fill(0) y", "1:3", "fill"),
            ("x atan2 y", "1:3", "atan2"),
            ("rate(x[5m+1m])", "1:10", "a calculated duration"),
            ("rate(x[5m] smoothed)", "1:12", "smoothed"),
            ("h </ 5", "1:3", "</"),
            ("info(x, {data=~\".*\"})", "1:1", "info"),
        ];
        for (text, place, name) in cases {
            let error = Expr::parse(text).expect_err(text);
            assert_eq!(error.kind, ParseErrorKind::Unsupported, "{text}: {error}");
            assert_eq!(
                (error.place.to_string().as_str(), error.name.as_deref()),
                (place, Some(name)),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_wrong_is_refused_where_it_is_wrong() {
        let cases = [
            ("", "1:1: the expression ends where an operand is expected"),
            ("x +", "1:4: the expression ends where an operand is expected"),
            ("sum(x", "1:6: the expression ends where `)` is expected"),
            ("sum(x))", "1:7: unexpected `)`, expected an operator"),
            ("x y", "1:3: unexpected `y`, expected an operator"),
            ("x{a=b}", "1:5: unexpected `b`, expected a text in quotes"),
            ("x{a}", "1:4: unexpected `}`, expected `=`, `!=`, `=~` or `!~`"),
            ("x{a=\"1\" b=\"2\"}", "1:9: unexpected `b`, expected `,` or `}`"),
            ("x[5m", "1:5: the expression ends where `]` is expected"),
            ("x offset y", "1:10: unexpected `y`, expected a duration"),
            ("sum by (a b) (x)", "1:11: unexpected `b`, expected `,` or `)`"),
            ("rate(x)", "1:1: expected type matrix in call to function `rate`, got vector"),
            ("1 + rtae(x[5m])", "1:5: there is no function `rtae`"),
            ("1 > 2", "1:3: comparisons between scalars must use BOOL modifier"),
            ("x + bool y", "1:5: bool modifier can only be used on comparison operators"),
            ("x and 1", "1:3: set operator `and` not allowed in binary scalar expression"),
            ("{a=~\".*\"}", "1:1: vector selector must contain at least one non-empty matcher"),
            ("x[5m]", "1:1: a range selector is the argument of a function or nothing"),
            ("sum(\"x\")", "1:1: expected type vector in aggregation expression, got string"),
        ];
        for (text, expected) in cases {
            let error = Expr::parse(text).expect_err(text);
            assert_eq!(error.to_string(), expected, "{text}");
            assert_eq!(error.kind, ParseErrorKind::Invalid, "{text}");
        }
        assert!(refusal("x{a=~\"(\"}").0.contains("illegal regex"));
    }

    #[test]
    fn a_small_stack_is_enough_for_the_deepest_expressions() {
        let work = || {
            let store = SeriesStore::new(crate::engine::promql::Limits::default());
            let nested = |start: &str, end: &str, times: usize| {
                format!("{}x{}", start.repeat(times), end.repeat(times))
            };
            for text in [
                nested("abs(", ")", NESTING_MAX - 1),
                nested("sum(", ")", NESTING_MAX - 1),
                nested("-(", ")", NESTING_MAX / 2 - 1),
                nested("", " + x", NESTING_MAX - 1),
                nested("x > (", ")", NESTING_MAX / 2 - 1),
            ] {
                let expr = Expr::parse(&text).expect(&text);
                assert!(expr.eval(&store, Timestamp::default(), Scope::All).is_ok(), "{text}");
            }
            for (start, end) in [("(", ")"), ("-", ""), ("abs(", ")"), ("", " or x"), ("x ^ ", "")] {
                let error = Expr::parse(&nested(start, end, scan::OPERATORS_MAX)).unwrap_err();
                assert_eq!(error.kind, ParseErrorKind::TooLarge, "{start}x{end}");
            }
        };
        // Half of what a thread has, for a debug build.
        std::thread::Builder::new().stack_size(1 << 20).spawn(work).unwrap().join().unwrap();
    }

    #[test]
    fn keywords_and_odd_names_are_names_where_prometheus_takes_them_for_names() {
        for text in [
            "sum",
            "offset - 5",
            "by + without",
            "{\"my.metric\", \"label.name\"=\"x\"}",
            ":rule:record",
            "x{sum=\"1\", or=\"2\"}",
            "sum by (\"a.b\", job,) (x)",
            "SUM(x) BY (job)",
            "x{a=~`\\d+`}",
        ] {
            Expr::parse(text).expect(text);
        }
    }
}

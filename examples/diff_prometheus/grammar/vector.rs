//! Expressions whose value is an instant vector.

use crate::expression::{Expression, Hazard, Kind};
use crate::fleet::choose;

use super::{Grammar, rounding};

const WINDOW_FUNCTIONS: [&str; 23] = [
    "rate",
    "increase",
    "delta",
    "irate",
    "idelta",
    "deriv",
    "changes",
    "resets",
    "avg_over_time",
    "min_over_time",
    "max_over_time",
    "sum_over_time",
    "count_over_time",
    "last_over_time",
    "present_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "absent_over_time",
    "ts_of_min_over_time",
    "ts_of_max_over_time",
    "rate",
    "increase",
    "ts_of_last_over_time",
];
/// Of which no two libraries have the same last digit.
const TRANSCENDENTAL_FUNCTIONS: [&str; 18] = [
    "exp", "ln", "log2", "log10", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh",
    "asinh", "acosh", "atanh", "ln", "exp",
];
const MATH_FUNCTIONS: [&str; 10] =
    ["abs", "ceil", "floor", "sqrt", "sgn", "deg", "rad", "round", "absent", "timestamp"];
const CALENDAR_FUNCTIONS: [&str; 8] =
    ["minute", "hour", "day_of_week", "day_of_month", "day_of_year", "days_in_month", "month", "year"];
const AGGREGATIONS: [&str; 8] = ["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar"];
const LABEL_LISTS: [&str; 9] = [
    "job",
    "instance",
    "job, instance",
    "zone",
    "job, zone",
    "",
    "version, job",
    "nothing",
    "job, instance, zone, le",
];
const ARITHMETIC: [&str; 7] = ["+", "-", "*", "/", "%", "^", "atan2"];
const COMPARISONS: [&str; 6] = ["==", "!=", "<", "<=", ">", ">="];

fn vector(template: &str, parts: impl IntoIterator<Item = Expression>) -> Expression {
    Expression::new(Kind::Vector, template, parts)
}

/// Whether Prometheus may take a vector for one that does not change with time.
fn may_be_fixed(argument: &Expression) -> bool {
    let text = argument.to_string();
    text.contains('@') || text.contains("vector(")
}

/// The function, or another one where this one is not asked about the argument, see `NOT_ASKED`.
fn asked(function: &'static str, argument: &Expression) -> &'static str {
    match function {
        "absent" if argument.to_string().contains('!') => "abs",
        "absent_over_time" if argument.to_string().contains('!') => "present_over_time",
        _ => function,
    }
}

impl Grammar<'_> {
    pub(super) fn vector(&mut self, depth: usize) -> Expression {
        if depth == 0 {
            return self.selector();
        }
        match self.rng.u8(..100) {
            0..8 => self.selector(),
            8..30 => self.window(depth).with_hazard(Some(Hazard::Merge)),
            30..40 => self.math(depth),
            40..42 => self.calendar(),
            42..60 => self.aggregation(depth),
            60..65 => self.choice(depth),
            65..77 => self.join(depth),
            77..86 => self.with_scalar(depth),
            86..89 => self.relabelled(depth).with_hazard(Some(Hazard::Merge)),
            89..93 => self.histogram(depth),
            93 => self.sorted(depth),
            94 => vector("vector({})", [self.scalar(depth - 1)]),
            95 => vector("-{}", [self.vector(depth - 1)]).with_hazard(Some(Hazard::Merge)),
            _ => vector("({})", [self.vector(depth - 1)]),
        }
    }

    /// A vector whose order is defined, or would be in an instant query.
    pub(super) fn sorted(&mut self, depth: usize) -> Expression {
        match self.rng.u8(..6) {
            0..2 => vector("sort({})", [self.vector(depth.saturating_sub(1))]),
            2..4 => vector("sort_desc({})", [self.vector(depth.saturating_sub(1))]),
            4 => vector("sort_by_label({}, \"instance\")", [self.instances()]),
            _ => vector("sort_by_label_desc({}, \"job\", \"instance\")", [self.instances()]),
        }
    }

    fn window(&mut self, depth: usize) -> Expression {
        if self.rng.u8(..30) == 0 {
            let samples = Expression::new(Kind::Matrix, "{}[10m]", [self.instances()]);
            return vector("mad_over_time({})", [samples]);
        }
        let samples = self.matrix(depth - 1);
        match self.rng.u8(..10) {
            0 => {
                let quantile = self.parameter();
                vector("quantile_over_time({}, {})", [quantile, samples])
            }
            1 => {
                let seconds = self.parameter();
                vector("predict_linear({}, {})", [samples, seconds])
            }
            2 => {
                let factors =
                    ["0.1", "0.5", "0.9", "0.3", "0.7", "0.25", "-1", "2", "NaN", "time()", "(1/3)"];
                let mut factor = || Expression::new(Kind::Scalar, choose(self.rng, &factors), []);
                let (level, trend) = (factor(), factor());
                vector("double_exponential_smoothing({}, {}, {})", [samples, level, trend])
            }
            _ => {
                let is_subquery = samples.children().next().is_some();
                let functions = &WINDOW_FUNCTIONS[..WINDOW_FUNCTIONS.len() - usize::from(is_subquery)];
                let function = asked(choose(self.rng, functions), &samples);
                vector(&format!("{function}({{}})"), [samples])
            }
        }
    }

    fn math(&mut self, depth: usize) -> Expression {
        let argument = self.vector(depth - 1);
        let (first, second) = (self.parameter(), self.parameter());
        match self.rng.u8(..12) {
            0 => vector("round({}, {})", [argument, first]),
            1 => vector("clamp({}, {}, {})", [argument, first, second]),
            2 => vector("clamp_min({}, {})", [argument, first]),
            3 => vector("clamp_max({}, {})", [argument, first]),
            4..8 => {
                let function = choose(self.rng, &TRANSCENDENTAL_FUNCTIONS);
                vector(&format!("{function}({{}})"), [argument]).with_hazard(Some(Hazard::Rounding))
            }
            _ => {
                let text = argument.to_string();
                let has_both = text.contains('@') && text.contains("offset");
                let functions = &MATH_FUNCTIONS[..MATH_FUNCTIONS.len() - usize::from(has_both)];
                let function = asked(choose(self.rng, functions), &argument);
                vector(&format!("{function}({{}})"), [argument])
            }
        }
    }

    /// Of times, near and far.
    fn calendar(&mut self) -> Expression {
        let function = choose(self.rng, &CALENDAR_FUNCTIONS);
        let argument = match self.rng.u8(..4) {
            0 => return vector(&format!("{function}()"), []),
            1 => vector("timestamp({})", [self.selector_without_modifiers()]),
            2 => vector("queue_length * 1e6", []),
            _ => vector("vector(time() * 12345.678)", []),
        };
        vector(&format!("{function}({{}})"), [argument])
    }

    fn grouping(&mut self) -> String {
        let labels = choose(self.rng, &LABEL_LISTS);
        match self.rng.u8(..4) {
            0 => String::new(),
            1 => format!(" without ({labels})"),
            _ => format!(" by ({labels})"),
        }
    }

    fn aggregation(&mut self, depth: usize) -> Expression {
        let grouping = self.grouping();
        match self.rng.u8(..12) {
            0 => {
                let argument = self.vector(depth - 1);
                let quantile = self.parameter_beside(&argument);
                vector(&format!("quantile{grouping} ({{}}, {{}})"), [quantile, argument])
            }
            1 => {
                let argument = self.selector();
                vector(&format!("count_values{grouping} (\"seen\", {{}})"), [argument])
            }
            _ => {
                let (aggregation, mut argument) = (choose(self.rng, &AGGREGATIONS), self.vector(depth - 1));
                if aggregation.starts_with("std") {
                    // Of values that are nearly the same only the last digits count.
                    argument = vector("({})", [argument]).with_hazard(Some(Hazard::Rounding));
                }
                let template = if self.rng.bool() {
                    format!("{aggregation}{grouping} ({{}})")
                } else {
                    format!("{aggregation}({{}}){grouping}")
                };
                vector(&template, [argument])
            }
        }
    }

    fn choice(&mut self, depth: usize) -> Expression {
        let grouping = self.grouping();
        // A subquery asks at times of its own, at which nobody looks for ties.
        if self.subqueries > 0 || self.rng.u8(..5) == 0 {
            let argument = self.selector_without_modifiers();
            let count = self.count_beside(&argument);
            return vector(&format!("limitk{grouping} ({{}}, {{}})"), [count, argument]);
        }
        let argument = self.vector(depth - 1);
        let count = self.count_beside(&argument);
        let function = choose(self.rng, &["topk", "bottomk"]);
        vector(&format!("{function}{grouping} ({{}}, {{}})"), [count, argument])
            .with_hazard(Some(Hazard::Choice))
    }

    /// How many to choose, see `NOT_ASKED`.
    fn count_beside(&mut self, argument: &Expression) -> Expression {
        let counts = ["1", "2", "3", "5", "0", "-1", "1.9", "(time() / 1e3)"];
        let is_fixed = may_be_fixed(argument);
        let count = choose(self.rng, &counts[..counts.len() - usize::from(is_fixed)]);
        Expression::new(Kind::Scalar, count, [])
    }

    /// The number of an aggregation: one that may change only where the vector may, see `NOT_ASKED`.
    fn parameter_beside(&mut self, argument: &Expression) -> Expression {
        let parameter = if may_be_fixed(argument) { self.number() } else { self.parameter() };
        if parameter.to_string().contains('@') { self.number() } else { parameter }
    }

    fn with_scalar(&mut self, depth: usize) -> Expression {
        let (element, number) = (self.vector(depth - 1), self.parameter());
        let (operator, hazard) = match self.rng.u8(..3) {
            0 => (choose(self.rng, &COMPARISONS).to_owned(), None),
            1 => (format!("{} bool", choose(self.rng, &COMPARISONS)), None),
            _ => {
                let operator = choose(self.rng, &ARITHMETIC);
                (operator.to_owned(), rounding(operator))
            }
        };
        let parts = if self.rng.bool() { [element, number] } else { [number, element] };
        vector(&self.binary(&operator), parts).with_hazard(hazard)
    }

    /// An operation between vectors, mostly one that finds matches.
    fn join(&mut self, depth: usize) -> Expression {
        match self.rng.u8(..4) {
            0 => {
                let operator = choose(self.rng, &COMPARISONS).to_owned();
                self.join_by(operator, depth).with_hazard(Some(Hazard::Filter))
            }
            1 => {
                let operator = format!("{} bool", choose(self.rng, &COMPARISONS));
                self.join_by(operator, depth)
            }
            _ => {
                let operator = choose(self.rng, &ARITHMETIC);
                self.join_by(operator.to_owned(), depth).with_hazard(rounding(operator))
            }
        }
    }

    fn join_by(&mut self, operator: String, depth: usize) -> Expression {
        let set = choose(self.rng, &["and", "or", "unless"]);
        let labels = choose(self.rng, &["job", "job, instance", "instance", ""]);
        let (left, right) = (self.vector(depth - 1), self.vector(depth - 1));
        let grouped = |part: Expression| vector(&format!("max by ({labels}) ({{}})"), [part]);
        match self.rng.u8(..12) {
            0..3 => {
                let matching = choose(self.rng, &["", " on(job)", " ignoring(zone, instance)", " on()"]);
                vector(&self.binary(&format!("{set}{matching}")), [left, right])
            }
            3 => vector(&self.binary(&operator), [left, right]),
            4 => vector(&self.binary(&operator), [left.clone(), left]),
            5..8 => {
                let matching = if self.rng.bool() { format!("{operator} on({labels})") } else { operator };
                vector(&self.binary(&matching), [grouped(left), grouped(right)])
            }
            8 => vector(&self.binary(&format!("{operator} ignoring(zone, version)")), [left, right]),
            9 => {
                let operator = format!("{operator} on(instance, job) group_left(version)");
                vector(&self.binary(&operator), [left, vector("build_info", [])])
            }
            10 => {
                let taken = choose(self.rng, &["", "()", "(zone)", "(job)"]);
                let operator = format!("{operator} on({labels}) group_left{taken}");
                vector(&self.binary(&operator), [left, grouped(right)])
            }
            _ => {
                let operator = format!("{operator} on({labels}) group_right(zone)");
                vector(&self.binary(&operator), [grouped(left), right])
            }
        }
    }

    /// With or without parentheses around the operands: without, precedence decides what they are.
    fn binary(&mut self, operator: &str) -> String {
        match self.rng.u8(..4) {
            0 => format!("{{}} {operator} {{}}"),
            1 => format!("({{}} {operator} {{}})"),
            _ => format!("({{}}) {operator} ({{}})"),
        }
    }

    fn relabelled(&mut self, depth: usize) -> Expression {
        let argument = self.vector(depth - 1);
        // A subquery asks at times of its own, at which nobody looks.
        let calls = [
            r#"label_replace({}, "first", "$1-x", "job", "(.).*")"#,
            r#"label_replace({}, "instance", "${n}", "instance", "c(?P<n>\\d+)")"#,
            r#"label_replace({}, "née", "$0", "zone", "(z)?.*")"#,
            r#"label_join({}, "joined", "-", "job", "instance", "zone")"#,
            r#"label_replace({}, "zone", "", "zone", ".*")"#,
            r#"label_replace({}, "job", "all", "", "")"#,
            r#"label_replace({}, "__name__", "renamed", "job", "api")"#,
            r#"label_join({}, "job", "")"#,
            r#"label_join({}, "zone", ",", "nothing")"#,
        ];
        let calls = if self.subqueries > 0 { &calls[..4] } else { &calls[..] };
        vector(choose(self.rng, calls), [argument])
    }

    fn histogram(&mut self, depth: usize) -> Expression {
        if self.rng.u8(..4) == 0 {
            // Not within the lowest bucket: see `NOT_ASKED`.
            let limits = ["-Inf", "0.1", "0.3", "0.5", "0.9", "1", "2", "7", "100", "Inf", "NaN"];
            let mut limit = || Expression::new(Kind::Scalar, choose(self.rng, &limits), []);
            let (lower, upper) = (limit(), limit());
            let buckets = self.whole_buckets();
            return vector("histogram_fraction({}, {}, {})", [lower, upper, buckets]);
        }
        let (number, buckets) = (self.parameter(), self.buckets(depth));
        vector("histogram_quantile({}, {})", [number, buckets])
    }
}

//! Random expressions that are typed, so that most of them have a value, and about the series of a fleet, so that most
//! of the values are not empty.
//!
//! What has no defined answer is not asked: see [`NOT_ASKED`]. What depends on the values is found by the caller, who
//! knows them: see [`Hazard`].

mod leaf;
mod vector;

use fastrand::Rng;

use crate::expression::{Expression, Hazard, Kind};
use crate::fleet::{SPAN_SECONDS, choose};
use crate::question::{Question, When};

/// What is left out of the expressions, and why.
pub(crate) const NOT_ASKED: &[(&str, &str)] = &[
    ("limit_ratio", "an experiment: which elements it takes depends on Prometheus' own hash of their labels"),
    (
        "limitk over anything but a selector",
        "an experiment: it takes the first elements in an order that is not told",
    ),
    ("count_values of calculated numbers", "the last digit of a rounding error becomes a label"),
    (
        "hour() and the like of anything but times",
        "beyond the range of integers the result is the processor's",
    ),
    ("a text in parentheses", "an internal error of Prometheus 3.5"),
    (
        "an aggregation with a number that changes, of a vector that does not",
        "the number is not looked at again",
    ),
    ("`@` in the number of an aggregation", "it is not heeded"),
    (
        "`@` within a subquery that has a modifier",
        "another time is meant where the subquery begins at the time of the question",
    ),
    ("ts_of_last_over_time of a subquery", "an experiment: times before 1970 become 1970"),
    ("timestamp() of a selector with both `@` and `offset`", "the offset is forgotten"),
    (
        "absent() of selectors with negative conditions",
        "its storage changes their order, and with it the labels, if it has samples of about that time",
    ),
    ("subnormal numbers", "Go's logarithm for amd64 is wrong about them"),
    ("a letter behind a space within brackets", "taken for a colon"),
    ("topk of NaN and infinitely many", "an error only where there are elements until prometheus#16725"),
    ("smoothing factors of 0 and 1", "refused in 3.5, taken since"),
    (
        "mad_over_time of NaN",
        "an experiment: NaN was the smallest number in 3.5, and makes the result NaN since",
    ),
    (
        "sort_by_label by a label that is missing",
        "an experiment: an element without it is neither before nor after another",
    ),
    ("histogram_fraction from or to a place in the lowest bucket", "NaN until prometheus#17424"),
    ("histogram_avg, _count, _sum, _stddev, _stdvar", "read native histograms, which we refuse by name"),
    (
        "info, start(), end(), step(), range(), min_of, max_of, fill",
        "later than the Prometheus that is asked, or refused",
    ),
];

/// Deepest nesting of a generated expression.
const DEPTH_MAX: usize = 4;
/// Most steps of a range query: a step costs as much as an instant query.
const STEPS_MAX: i64 = 20;
/// One in so many texts is damaged, so that it is mostly refused.
const DAMAGED_ONE_IN: u32 = 40;

/// The hazard of an operator.
fn rounding(operator: &str) -> Option<Hazard> {
    matches!(operator, "^" | "atan2").then_some(Hazard::Rounding)
}

/// Makes questions.
pub(crate) struct Grammar<'r> {
    rng: &'r mut Rng,
    /// Subqueries around the place where the generator is: each multiplies the cost.
    subqueries: usize,
}

impl<'r> Grammar<'r> {
    /// With this source of chance.
    pub(crate) fn new(rng: &'r mut Rng) -> Self {
        Self { rng, subqueries: 0 }
    }

    /// A question.
    pub(crate) fn question(&mut self) -> Question {
        let depth = self.rng.usize(0..=DEPTH_MAX);
        let is_range = self.rng.u8(..5) < 2;
        let expression = match self.rng.u8(..100) {
            0..5 => self.scalar(depth),
            5..10 => self.matrix(depth.min(2)),
            10 => self.text(),
            11..20 => self.sorted(depth),
            _ => self.vector(depth),
        };
        // Of a text nobody knows what its hazards are.
        let is_known = !expression.has(Hazard::Choice) && !expression.has(Hazard::Rounding);
        let is_damaged = self.rng.u32(..DAMAGED_ONE_IN) == 0 && is_known;
        let expression = if is_damaged { self.damaged(&expression) } else { expression };
        let parts = expression.parts();
        let has_subquery = parts.iter().any(|part| part.kind == Kind::Matrix && part.children().count() > 0);
        let when = if is_range { self.range(has_subquery) } else { When::Instant(self.time()) };
        Question { expression, when }
    }

    /// Of a subquery Prometheus evaluates all steps between the first and the last time, whether a window has them or
    /// not, and tells what there is to say about all: so there are none that no window has.
    fn range(&mut self, has_subquery: bool) -> When {
        let start = self.time();
        let steps = [1_000, 7_500, 15_000, 30_000, 60_000, 61_001, 300_000];
        let step = choose(self.rng, &steps[..steps.len() - usize::from(has_subquery)]);
        let rest = if has_subquery { 0 } else { self.rng.i64(0..step) };
        When::Range { start, end: start + step * self.rng.i64(0..=STEPS_MAX) + rest, step }
    }

    /// In milliseconds; mostly on the grid of a quarter of a minute.
    fn time(&mut self) -> i64 {
        let end = SPAN_SECONDS + 600;
        match self.rng.u8(..10) {
            0 => self.rng.i64(0..end * 1_000),
            1 => self.rng.i64(0..end) * 1_000,
            _ => self.rng.i64(0..end / 15) * 15_000,
        }
    }

    fn scalar(&mut self, depth: usize) -> Expression {
        if depth == 0 {
            return self.number();
        }
        let scalar = |template: &str, parts: Vec<Expression>| Expression::new(Kind::Scalar, template, parts);
        match self.rng.u8(..10) {
            0..3 => self.number(),
            3 => scalar("time()", vec![]),
            4 => scalar("pi()", vec![]),
            5..7 => {
                let vector = self.vector(depth - 1);
                let aggregated = Expression::new(Kind::Vector, "sum({})", [vector.clone()]);
                scalar("scalar({})", vec![if self.rng.bool() { vector } else { aggregated }])
            }
            7 => scalar("-{}", vec![self.scalar(depth - 1)]),
            _ => {
                let operators = ["+", "-", "*", "/", "%", "^", "atan2", "== bool", "<= bool", "> bool", "<"];
                let operator = choose(self.rng, &operators);
                let (left, right) = (self.scalar(depth - 1), self.scalar(depth - 1));
                let template = if self.rng.bool() { "({} OP {})" } else { "{} OP {}" };
                scalar(&template.replace("OP", operator), vec![left, right]).with_hazard(rounding(operator))
            }
        }
    }

    /// What a function takes beside a vector: mostly simple.
    fn parameter(&mut self) -> Expression {
        let depth = self.rng.usize(..2);
        self.scalar(depth)
    }

    /// A number near the values of the series.
    fn number(&mut self) -> Expression {
        let numbers = [
            "0", "1", "2", "-1", "0.5", "0.25", "0.9", "3", "10", "100", "1e3", "-2.5", "1.5", "NaN", "Inf",
            "-Inf", "0x1F", "5m", "1e-3", "1_000", "+7", ".5",
        ];
        let number =
            if self.rng.u8(..3) == 0 { choose(self.rng, &numbers) } else { numbers[self.rng.usize(..9)] };
        Expression::new(Kind::Scalar, number, [])
    }

    fn text(&mut self) -> Expression {
        let texts = ["\"a\"", "'b\\n'", "`c\\n`", "\"\\u00fc\""];
        Expression::new(Kind::Text, choose(self.rng, &texts), [])
    }

    /// A text that somebody mistyped: some characters left out, doubled or swapped.
    fn damaged(&mut self, expression: &Expression) -> Expression {
        let mut characters: Vec<char> = expression.to_string().chars().collect();
        for _ in 0..self.rng.usize(1..3) {
            let at = self.rng.usize(..characters.len().max(1));
            match self.rng.u8(..4) {
                _ if characters.len() < 2 => {}
                0 => _ = characters.remove(at),
                1 => characters.insert(at, characters[at]),
                2 => characters.swap(at, at.saturating_sub(1)),
                _ => characters.insert(at, choose(self.rng, &[')', '(', ',', '[', ']', '-', '"', '@', ':'])),
            }
        }
        let text: String = characters.into_iter().collect();
        let hazard = expression.has(Hazard::Filter).then_some(Hazard::Filter);
        Expression::new(expression.kind, "", []).with_text(&text).with_hazard(hazard)
    }
}

//! Selectors, windows and their times.

use crate::expression::{Expression, Kind};
use crate::fleet::{INSTANCES, JOBS, SPAN_SECONDS, ZONES, choose};

use super::Grammar;

/// Metrics of a fleet; those that come several times are chosen as often.
const METRICS: [&str; 18] = [
    "requests_total",
    "requests_total",
    "errors_total",
    "errors_total",
    "cpu_seconds_total",
    "queue_length",
    "queue_length",
    "balance",
    "temperature",
    "up",
    "build_info",
    "magnitude",
    "odd",
    "limit",
    "once",
    "latency_seconds_sum",
    "latency_seconds_count",
    "latency_seconds_bucket",
];
/// Metrics whose labels are the same.
const TWINS: [&str; 4] = [
    "{__name__=~\"requests_total|errors_total\"}",
    "{__name__=~\"queue_.*|up\"}",
    "{__name__!=\"odd\", job=\"api\", instance=\"a\"}",
    "{job=\"db\", __name__=~\".*_total\"}",
];
const LENGTHS: [&str; 12] =
    ["5m", "5m", "1m", "2m", "90s", "10m", "15m", "30m", "1h", "15s", "1m30s500ms", "150.5"];

impl Grammar<'_> {
    /// A selector, mostly with a modifier or matchers.
    pub(super) fn selector(&mut self) -> Expression {
        let text = self.selector_text();
        let modifiers = self.modifiers();
        Expression::new(Kind::Vector, "", []).with_text(&format!("{text}{modifiers}"))
    }

    /// A selector of the evaluation's own time.
    pub(super) fn selector_without_modifiers(&mut self) -> Expression {
        let text = self.selector_text();
        Expression::new(Kind::Vector, "", []).with_text(&text)
    }

    /// Series of numbers, each of one instance.
    pub(super) fn instances(&mut self) -> Expression {
        let metric = choose(self.rng, &["requests_total", "queue_length", "balance", "temperature"]);
        let matchers = choose(self.rng, &["", "{job=\"api\"}", "{instance!=\"a\"}"]);
        Expression::new(Kind::Vector, "", []).with_text(&format!("{metric}{matchers}"))
    }

    /// The buckets of a histogram, or what was made of some.
    pub(super) fn buckets(&mut self, depth: usize) -> Expression {
        if self.rng.u8(..10) == 0 { self.vector(depth.saturating_sub(1)) } else { self.whole_buckets() }
    }

    /// All buckets of histograms.
    pub(super) fn whole_buckets(&mut self) -> Expression {
        let metric = choose(self.rng, &["latency_seconds_bucket", "latency_seconds_bucket", "broken_bucket"]);
        let matchers = if self.rng.u8(..3) == 0 { "{job=~\"api|web\"}" } else { "" };
        let selector = Expression::new(Kind::Vector, "", []).with_text(&format!("{metric}{matchers}"));
        match self.rng.u8(..3) {
            0 => selector,
            1 => {
                let function = choose(self.rng, &["rate", "increase", "delta", "last_over_time"]);
                let window = Expression::new(Kind::Matrix, "", [])
                    .with_text(&format!("{metric}{matchers}[{}]", choose(self.rng, &LENGTHS)));
                Expression::new(Kind::Vector, &format!("{function}({{}})"), [window])
            }
            _ => {
                let labels = choose(self.rng, &["by (le)", "by (job, le)", "without (instance)", "by (job)"]);
                Expression::new(Kind::Vector, &format!("sum {labels} ({{}})"), [selector])
            }
        }
    }

    /// Samples of a window: of a selector, or of a subquery.
    pub(super) fn matrix(&mut self, depth: usize) -> Expression {
        let is_subquery = depth > 0 && self.subqueries < 2 && self.rng.u8(..4) == 0;
        if !is_subquery {
            let text = self.selector_text();
            let length = choose(self.rng, &LENGTHS);
            let modifiers = self.modifiers();
            return Expression::new(Kind::Matrix, "", []).with_text(&format!("{text}[{length}]{modifiers}"));
        }
        self.subqueries += 1;
        let inner = self.vector(depth - 1);
        self.subqueries -= 1;
        let lengths = ["5m", "2m30s", "10m", "20m"];
        let steps = ["1m", "", "45s", "30s", "2m", "17s500ms"];
        // The steps of a subquery within another multiply.
        let is_inner = self.subqueries > 0;
        let length = choose(self.rng, if is_inner { &lengths[..2] } else { &lengths });
        let step = choose(self.rng, if is_inner { &steps[..3] } else { &steps });
        // See `NOT_ASKED`.
        let modifiers = if inner.to_string().contains('@') { String::new() } else { self.modifiers() };
        let template = format!("({{}})[{length}:{step}]{modifiers}");
        Expression::new(Kind::Matrix, &template, [inner])
    }

    fn selector_text(&mut self) -> String {
        // A subquery asks at times of its own, at which nobody looks whether two series become one.
        if self.subqueries == 0 && self.rng.u8(..12) == 0 {
            return choose(self.rng, &TWINS).to_owned();
        }
        let metric = choose(self.rng, &METRICS);
        let count = choose(self.rng, &[0, 0, 0, 1, 1, 2]);
        let mut matchers: Vec<String> = (0..count).map(|_| self.matcher()).collect();
        match self.rng.u8(..12) {
            0 => {
                matchers.insert(0, format!("\"{metric}\""));
                format!("{{{}}}", matchers.join(","))
            }
            1 => {
                matchers.push(format!("__name__=\"{metric}\""));
                format!("{{{}}}", matchers.join(", "))
            }
            _ if matchers.is_empty() => metric.to_owned(),
            _ => format!("{metric}{{{}}}", matchers.join(", ")),
        }
    }

    fn matcher(&mut self) -> String {
        let (label, values): (&str, &[&str]) = match self.rng.u8(..8) {
            0..3 => ("job", &JOBS),
            3..6 => ("instance", &INSTANCES),
            6 => ("zone", &ZONES),
            _ => ("nothing", &["", "x"]),
        };
        let operator = choose(self.rng, &["=", "=", "!=", "=~", "!~"]);
        let value = choose(self.rng, values).replace('\\', "\\\\").replace('"', "\\\"");
        let patterns =
            [".+", ".*", "a|b", "api|web", "[ab].*", "", "c(9|10)", "(?i)API", "z.rich", "eu-\\\\d"];
        let is_pattern = operator.ends_with('~') && self.rng.bool();
        let value = if is_pattern { choose(self.rng, &patterns).to_owned() } else { value };
        format!("{label}{operator}\"{value}\"")
    }

    /// `offset`, `@`, both in either order, or nothing.
    fn modifiers(&mut self) -> String {
        let offset =
            format!(" offset {}", choose(self.rng, &["1m", "-1m", "5m", "30s", "-90s", "12m", "1h"]));
        let at = match self.rng.u8(..4) {
            0 => " @ start()".to_owned(),
            1 => " @ end()".to_owned(),
            _ => format!(" @ {}", self.rng.i64(0..SPAN_SECONDS * 10) as f64 / 10.0),
        };
        match self.rng.u8(..24) {
            0..3 => offset,
            3..5 => at,
            5 => offset + &at,
            6 => at + &offset,
            _ => String::new(),
        }
    }
}

//! Runs unit tests of rules as `promtool test rules` does, with its verdicts.
//!
//! A test brings series of its own. All groups of all rule files are evaluated at each `evaluation_interval`, whatever
//! interval a group names, in the order of `group_eval_order` and of the files. Alerts are checked at the last evaluation
//! that is not later than the `eval_time` asked for, expressions at that time itself, on what is known after the last
//! evaluation. A rule that cannot be evaluated ends its test.
//!
//! Native histograms are not understood: a check that is about one, or about what a rule makes of one, is *listed*, not
//! judged.

mod comparing;
mod loading;
mod paths;
mod running;
mod told;
mod why;
mod world;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use crate::wire::files::UnknownFields;
use crate::wire::files::parse_rule_tests;

/// What a file of tests came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Checks that hold.
    pub passed: usize,
    /// Checks that do not.
    pub failures: Vec<Failure>,
    /// What kept the file, or a test of it, from being run to its end.
    pub errors: Vec<String>,
    /// Checks that are not judged, and why.
    pub listed: Vec<String>,
    /// What does not count, and is hardly meant so.
    pub warnings: Vec<String>,
}

/// A check that does not hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Where it stands in the file, from 1.
    pub line: u64,
    /// The test it belongs to, where that has a name.
    pub test: Option<Arc<str>>,
    /// What is checked.
    pub check: Check,
    /// When, from the start of the test.
    pub eval_time: Duration,
    /// What is expected.
    pub expected: Vec<String>,
    /// What there is.
    pub got: Vec<String>,
    /// How they differ.
    pub difference: Vec<String>,
    /// Of alerts: how the rule came to it.
    pub why: Vec<String>,
}

/// What a check is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// The alerts of this name.
    Alert(Arc<str>),
    /// This expression.
    Expr(Arc<str>),
}

impl Report {
    /// Whether promtool would say `SUCCESS`.
    pub fn has_passed(&self) -> bool {
        self.failures.is_empty() && self.errors.is_empty()
    }
}

/// Runs the tests of a file.
pub fn run(path: &Path, unknown: UnknownFields) -> std::io::Result<Report> {
    let text = std::fs::read_to_string(path)?;
    let mut report = Report::default();
    let file = match parse_rule_tests(&path.to_string_lossy(), &text) {
        Ok(file) => file,
        Err(error) => {
            report.errors.push(error.to_string());
            return Ok(report);
        }
    };
    let rules = loading::load(path, &file, unknown, &mut report.warnings);
    match rules {
        // As with promtool, rules that nothing tests are not looked at.
        Err(_) if file.tests.is_empty() => {}
        Err(errors) => report.errors.extend(errors),
        Ok(rules) => {
            for test in &file.tests {
                running::run(&file, test, &rules, &mut report);
            }
        }
    }
    Ok(report)
}

impl std::fmt::Display for Failure {
    /// For people.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let test = self.test.as_ref().map(|name| format!("{name}: ")).unwrap_or_default();
        let at = told::duration(self.eval_time);
        match &self.check {
            Check::Alert(name) => write!(f, "{}: {test}alert {name} at {at}", self.line)?,
            Check::Expr(expr) => write!(f, "{}: {test}{expr} at {at}", self.line)?,
        }
        for line in &self.difference {
            write!(f, "\n    {line}")?;
        }
        if !self.why.is_empty() {
            write!(f, "\n    why:")?;
        }
        for line in &self.why {
            write!(f, "\n      {line}")?;
        }
        Ok(())
    }
}

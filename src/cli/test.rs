//! `test`: Prometheus' test files, with its verdicts.

use std::path::Path;

use serde_json::{Value, json};

use super::exit::{Failure, Outcome, outside};
use super::output::{self, Format};
use super::{Context, args, printed};
use crate::engine::promql::NameRemoval;
use crate::promtest::script;
use crate::promtest::unit::{self, Check, UnknownFields};

/// Runs unit tests of rules, and tells what each file came to.
pub(super) fn rules(args: &args::TestRules, context: &Context) -> Outcome {
    let unknown = unknown_fields(args.ignore_unknown_fields);
    let mut has_passed = true;
    for file in &args.files {
        let report = unit::run(file, unknown).map_err(|error| unreadable(file, error))?;
        has_passed &= report.has_passed();
        let told = match context.format {
            Format::Table => tell(file, &report),
            Format::Json | Format::Jsonl | Format::Yaml => {
                output::next(context.format, &object(file, &report))
            }
        };
        told.or_else(printed)?;
    }
    if has_passed { Ok(()) } else { Err(Failure::Finding) }
}

/// Runs PromQL test scripts, counted in `eval` commands over all files.
pub(super) fn promql(args: &args::TestPromql, context: &Context) -> Outcome {
    let (mut passed, mut listed, mut failures) = (0, 0, Vec::new());
    for file in &args.files {
        let text = std::fs::read_to_string(file).map_err(|error| unreadable(file, error))?;
        let tally = script::run(&text, NameRemoval::Delayed);
        let of_file: usize = tally.listed.values().sum();
        passed += tally.passed;
        listed += of_file;
        if context.format == Format::Table {
            for failure in &tally.failures {
                output::note(format_args!("{}:{failure}", file.display()));
            }
            let failed = tally.failures.len();
            let name = file.display();
            output::line(format_args!("{name}: {} passed, {failed} failed, {of_file} listed", tally.passed))
                .or_else(printed)?;
            for (reason, count) in &tally.listed {
                output::line(format_args!("  {count:4} listed: {reason}")).or_else(printed)?;
            }
        }
        failures.extend(tally.failures.into_iter().map(|failure| {
            json!({
                "file": file.to_string_lossy(),
                "line": failure.line,
                "expr": failure.expr,
                "reason": failure.reason,
            })
        }));
    }
    let failed = failures.len();
    let told = match context.format {
        Format::Table => output::line(format_args!("{passed} passed, {failed} failed, {listed} listed")),
        Format::Json | Format::Jsonl | Format::Yaml => {
            let tally = json!({ "passed": passed, "failed": failed, "listed": listed, "failures": failures });
            output::one(context.format, &tally)
        }
    };
    if failed == 0 { told.or_else(printed) } else { Err(Failure::Finding) }
}

/// What a flag says about fields that are not known.
pub(super) fn unknown_fields(are_ignored: bool) -> UnknownFields {
    if are_ignored { UnknownFields::Ignored } else { UnknownFields::Refused }
}

fn unreadable(file: &Path, error: std::io::Error) -> Failure {
    outside(anyhow::Error::new(error).context(format!("`{}` cannot be read", file.display())))
}

/// For people: what failed on standard error, what it came to on standard output.
fn tell(file: &Path, report: &unit::Report) -> std::io::Result<()> {
    let name = file.display();
    for warning in &report.warnings {
        output::note(format_args!("{name}: warning: {warning}"));
    }
    for error in &report.errors {
        // Some errors name the file themselves.
        let is_named = error.starts_with(&*file.to_string_lossy());
        let prefix = if is_named { String::new() } else { format!("{name}: ") };
        output::note(format_args!("{prefix}{error}"));
    }
    for failure in &report.failures {
        output::note(format_args!("{name}:{failure}"));
    }
    for listed in &report.listed {
        output::note(format_args!("{name}:{listed} are not understood: not judged"));
    }
    let failed = report.failures.len();
    let not_judged = match report.listed.len() {
        0 => String::new(),
        count => format!(", {count} not judged"),
    };
    let cut_short = if report.errors.is_empty() { "" } else { ", not run to its end" };
    let checks = output::count(report.passed as u64, "check");
    output::line(format_args!("{name}: {checks} passed, {failed} failed{not_judged}{cut_short}"))
}

/// For programs. What kept a test from being run counts as a failure, so that only a file without any has passed.
fn object(file: &Path, report: &unit::Report) -> Value {
    let failures: Vec<Value> = report.failures.iter().map(failure).collect();
    json!({
        "file": file.to_string_lossy(),
        "passed": report.passed,
        "failed": report.failures.len() + report.errors.len(),
        "listed": report.listed.len(),
        "errors": report.errors,
        "failures": failures,
        "warnings": report.warnings,
    })
}

fn failure(failure: &unit::Failure) -> Value {
    let (kind, of) = match &failure.check {
        Check::Alert(name) => ("alert", name),
        Check::Expr(expr) => ("expr", expr),
    };
    json!({
        "line": failure.line,
        "test": failure.test,
        kind: of,
        "eval_time_seconds": failure.eval_time.as_secs_f64(),
        "expected": failure.expected,
        "got": failure.got,
        "difference": failure.difference,
        "why": failure.why,
    })
}

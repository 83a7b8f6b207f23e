//! A case as a PromQL script, which `promtool`'s library and our own test runner take.

use std::fmt::Write;

use homeostat::engine::promql::is_stale;
use homeostat::model::METRIC_NAME;

use crate::answer::{Answer, Names, Value};
use crate::fleet::{Fleet, Series};
use crate::question::{Question, When};

/// `load … eval …`, with the answer of Prometheus as what is expected and ours as a comment.
pub(crate) fn write(fleet: &Fleet, question: &Question, theirs: &Answer, ours: &Answer) -> String {
    let mut script = String::from("load 1s\n");
    for series in &fleet.0 {
        let names = series.labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let _ = writeln!(script, "  {} {}", element(&names), notation(series));
    }
    let seconds = |millis: i64| format!("{}s{}ms", millis / 1_000, millis % 1_000);
    let when = match question.when {
        When::Instant(at) => format!("instant at {}", seconds(at)),
        When::Range { start, end, step } => {
            format!("range from {} to {} step {}", seconds(start), seconds(end), seconds(step))
        }
    };
    let _ = writeln!(script, "\neval {when} {}", question.expression);
    script.push_str(&lines(theirs, question.when).join("\n"));
    let _ = writeln!(script, "\n\n# homeostat answers:");
    for line in lines(ours, question.when) {
        let _ = writeln!(script, "# {line}");
    }
    for (side, answer) in [("Prometheus", theirs), ("homeostat", ours)] {
        for said in answer.warnings.iter().chain(&answer.infos) {
            let _ = writeln!(script, "# {side} says: {said}");
        }
    }
    script
}

fn notation(series: &Series) -> String {
    let mut words = Vec::new();
    let mut next = 0;
    for &(at, value) in &series.samples {
        match at - next {
            ..=0 => {}
            1 => words.push("_".to_owned()),
            gap => words.push(format!("_x{gap}")),
        }
        words.push(if is_stale(value) { "stale".to_owned() } else { number(value) });
        next = at + 1;
    }
    words.join(" ")
}

fn number(value: f64) -> String {
    match value {
        _ if value.is_nan() => "NaN".to_owned(),
        _ if value.is_infinite() => if value > 0.0 { "Inf" } else { "-Inf" }.to_owned(),
        _ if value == 0.0 || (1e-5..1e15).contains(&value.abs()) => value.to_string(),
        _ => format!("{value:e}"),
    }
}

fn element(names: &Names) -> String {
    let metric = names.get(METRIC_NAME).map_or("", String::as_str);
    let others = names.iter().filter(|(name, _)| *name != METRIC_NAME);
    let quoted = |name: &str| name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<String> = others.map(|(name, value)| format!("{name}=\"{}\"", quoted(value))).collect();
    format!("{metric}{{{}}}", pairs.join(", "))
}

fn lines(answer: &Answer, when: When) -> Vec<String> {
    match &answer.value {
        Value::Failed(message) => vec!["  expect fail".to_owned(), format!("  # {message}")],
        Value::Scalar(value) => vec![format!("  {}", number(*value))],
        Value::Text(text) => vec![format!("  expect string {text:?}")],
        Value::Vector(elements) => {
            elements.iter().map(|(names, value)| format!("  {} {}", element(names), number(*value))).collect()
        }
        Value::Matrix(rows) => {
            // A script has no words for a range vector whose samples come at no even pace.
            let mark = if matches!(when, When::Instant(_)) { "# " } else { "" };
            let line = |(names, samples): &(Names, Vec<_>)| {
                format!("  {mark}{} {}", element(names), row(samples, when))
            };
            rows.iter().map(line).collect()
        }
    }
}

fn row(samples: &[(i64, f64)], when: When) -> String {
    if let When::Instant(_) = when {
        let sample = |(at, value): &(i64, f64)| format!("{}@{at}ms", number(*value));
        return samples.iter().map(sample).collect::<Vec<_>>().join(" ");
    }
    let at_step = |at: i64| samples.iter().find(|(known, _)| *known == at).map(|(_, value)| number(*value));
    let values = when.times().into_iter().map(|at| at_step(at).unwrap_or_else(|| "_".to_owned()));
    values.collect::<Vec<_>>().join(" ")
}

//! Results on standard output: as a table for people, as JSON or YAML for programs.

use std::fmt::Display;
use std::io::{self, Write};

use serde_json::Value;

/// How results are printed: columns for people, one document, one object a line. Without a text for each, help stays short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    Table,
    Json,
    Jsonl,
    Yaml,
}

/// A column of a table: its heading, and the field it shows.
pub(super) type Column = (&'static str, &'static str);

/// Prints a line.
pub(super) fn line(text: impl Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// Tells something on standard error; where nobody listens, nobody is told.
pub(super) fn note(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Prints one object of many that come one after the other: a line of JSON each, or a document of YAML.
pub(super) fn next(format: Format, value: &Value) -> io::Result<()> {
    match format {
        Format::Table | Format::Json | Format::Jsonl => line(value),
        Format::Yaml => write!(io::stdout().lock(), "---\n{}", yaml(value)),
    }
}

/// A number with its noun: `1 file`, `2 files`.
pub(super) fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Prints a list of objects.
pub(super) fn list(format: Format, rows: &[Value], columns: &[Column]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match format {
        Format::Table => writeln!(out, "{}", table(rows, columns)),
        Format::Json => writeln!(out, "{}", pretty(&Value::Array(rows.to_vec()))),
        Format::Jsonl => rows.iter().try_for_each(|row| writeln!(out, "{row}")),
        Format::Yaml => write!(out, "{}", yaml(&Value::Array(rows.to_vec()))),
    }
}

/// Prints one object.
pub(super) fn one(format: Format, value: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match format {
        Format::Table => {
            let rows: Vec<Value> = value
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, value)| serde_json::json!({ "name": name, "value": value }))
                .collect();
            writeln!(out, "{}", table(&rows, &[("", "name"), ("", "value")]))
        }
        Format::Json => writeln!(out, "{}", pretty(value)),
        Format::Jsonl => writeln!(out, "{value}"),
        Format::Yaml => write!(out, "{}", yaml(value)),
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string())
}

fn yaml(value: &Value) -> String {
    serde_saphyr::to_string(value).unwrap_or_else(|_| format!("{value}\n"))
}

fn table(rows: &[Value], columns: &[Column]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    if columns.iter().any(|(heading, _)| !heading.is_empty()) {
        table.set_header(columns.iter().map(|(heading, _)| *heading));
    }
    for row in rows {
        table.add_row(columns.iter().map(|(_, field)| cell(&row[*field])));
    }
    table.to_string()
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => format!("{float:.3}"),
            _ => number.to_string(),
        },
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        Value::Object(pairs) => {
            let pairs = pairs.iter().map(|(name, value)| format!("{name}={}", cell(value)));
            pairs.collect::<Vec<_>>().join(",")
        }
        Value::Bool(_) => value.to_string(),
    }
}

//! `replay`: the whole loop over recorded samples, without a server.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};

use serde_json::{Value, json};

use super::exit::{Failure, Outcome, outside, usage};
use super::output::Format;
use super::{Context, args, check, printed};
use crate::config;
use crate::engine::Configuration;
use crate::ingest;
use crate::model::{Bundle, Entry, Generation, Record};
use crate::role::replay::Replay;
use crate::wire;

/// Refused rows that are told one by one.
const REFUSALS_TOLD_MAX: u64 = 10;

/// Runs the loop and prints what it decides.
pub(super) fn replay(args: &args::Replay, context: &Context) -> Outcome {
    let configuration = load(args)?;
    let options = ingest::Options {
        format: args.input.input_format,
        strict: args.input.strict,
        metric: args.input.metric.clone(),
        scraped_at: None,
    };
    let sources: Result<Vec<_>, _> = args.samples.iter().map(|path| ingest::open(path, &options)).collect();
    let mut replay: Option<Replay<'_>> = None;
    let mut teller = Teller::new(context.format);
    let mut refused = 0;
    for sample in ingest::merge(sources.map_err(outside)?) {
        match sample {
            Ok(sample) => {
                let replay = replay.get_or_insert_with(|| Replay::new(configuration.clone(), sample.at));
                replay.push(sample);
                if !teller.tell(&replay.news())? {
                    return Ok(());
                }
            }
            Err(error) if error.is_final() => return Err(outside(error)),
            Err(error) => {
                refused += 1;
                if refused <= REFUSALS_TOLD_MAX {
                    eprintln!("{error}");
                }
            }
        }
    }
    let Some(mut replay) = replay else {
        return Err(outside(anyhow::anyhow!("there is no sample in the files")));
    };
    let summary = replay.finish();
    teller.tell(&replay.news())?;
    teller.summary(summary.samples, refused)
}

fn load(args: &args::Replay) -> Result<Configuration, Failure> {
    if args.config.is_none() && args.rules.is_empty() {
        return Err(usage(anyhow::anyhow!(
            "there is nothing to decide by\nhint: --config DIR has rules and playbooks, --rules FILE rules alone"
        )));
    }
    let mut files = Vec::new();
    for path in args.config.iter().chain(&args.rules) {
        files.extend(check::read(path)?.files);
    }
    let loaded = config::load(&Bundle::new(files), Generation(1));
    for error in &loaded.refused {
        eprintln!("{error}");
    }
    Ok(loaded.configuration)
}

/// Prints what was decided, in the order of the ledger.
struct Teller {
    format: Format,
    out: BufWriter<io::StdoutLock<'static>>,
    counts: BTreeMap<String, u64>,
}

impl Teller {
    fn new(format: Format) -> Self {
        Self { format, out: BufWriter::new(io::stdout().lock()), counts: BTreeMap::new() }
    }

    /// Whether anybody still reads.
    fn tell(&mut self, records: &[std::sync::Arc<Record>]) -> Result<bool, Failure> {
        for line in records.iter().flat_map(|record| lines(record)) {
            let kind = line["kind"].as_str().unwrap_or_default().to_owned();
            *self.counts.entry(kind).or_default() += 1;
            let written = match self.format {
                Format::Table => writeln!(self.out, "{}", readable(&line)),
                Format::Json | Format::Jsonl => writeln!(self.out, "{line}"),
                Format::Yaml => writeln!(self.out, "---").and_then(|()| {
                    write!(self.out, "{}", serde_saphyr::to_string(&line).unwrap_or_default())
                }),
            };
            match written {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(false),
                Err(error) => return Err(outside(error)),
            }
        }
        Ok(true)
    }

    fn summary(&mut self, samples: u64, refused: u64) -> Outcome {
        if self.format == Format::Table {
            let mut rows = vec![("samples".to_owned(), samples), ("refused rows".to_owned(), refused)];
            rows.extend(self.counts.iter().map(|(kind, count)| (format!("{kind} lines"), *count)));
            for (name, count) in rows {
                writeln!(self.out, "{name:<20}{count:>10}").or_else(printed_io)?;
            }
        }
        self.out.flush().or_else(printed)
    }
}

fn printed_io(error: io::Error) -> Outcome {
    printed(error)
}

/// A record's entries, one object each, and the actions that a plan would have had.
fn lines(record: &Record) -> Vec<Value> {
    // Copies for subscribers say nothing new.
    if matches!(record.topic, crate::model::Topic::Incidents(_)) {
        return Vec::new();
    }
    let mut lines = Vec::new();
    for entry in &record.batch.entries {
        let mut alone = record.clone();
        alone.batch.entries = vec![entry.clone()];
        let body = wire::ledger::to_json(&alone);
        let at = record.stored_at.to_rfc3339();
        let Some((kind, fields)) = body["entries"][0].as_object().and_then(|entry| entry.iter().next())
        else {
            continue;
        };
        let mut line = json!({ "at": at, "kind": kind });
        if let (Some(line), Some(fields)) = (line.as_object_mut(), fields.as_object()) {
            for (name, value) in fields {
                let name =
                    if matches!(name.as_str(), "at" | "kind") { format!("own_{name}") } else { name.clone() };
                line.insert(name, value.clone());
            }
        }
        lines.push(line);
        if let Entry::Plan(plan) = entry {
            for step in &plan.steps {
                lines.push(json!({
                    "at": at,
                    "kind": "action",
                    "id": step.id.to_string(),
                    "name": &*step.name,
                    "does": step.spec.kind(),
                    "plan": plan.id.to_string(),
                    "incident": plan.incident.to_string(),
                    "mode": "shadow",
                    "executed": false,
                    "outcome": "not executed",
                    "verdict": "inconclusive",
                    "reason": "not executed",
                }));
            }
        }
    }
    lines
}

fn readable(line: &Value) -> String {
    let text = |name: &str| match &line[name] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => other.to_string(),
    };
    let kind = text("kind");
    let rest = match kind.as_str() {
        "violation" => {
            format!("{} {} {} value {}", text("phase"), line["rule"]["alert"], text("labels"), text("value"))
        }
        "incident" => {
            format!("{} {} {} violations {}", text("phase"), text("id"), text("scope"), text("violations"))
        }
        "analysis" => match line["causes"].get(0) {
            Some(cause) => {
                format!("{} cause {} confidence {}", text("incident"), cause["name"], cause["confidence"])
            }
            None => format!("{} no cause", text("incident")),
        },
        "plan" => {
            format!("{} {} answers {} on {}", text("id"), text("playbook"), text("cause"), text("scope"))
        }
        "action" => format!("{} would {} ({}): not executed", text("plan"), text("name"), text("does")),
        "report" => format!("{}: {}", text("reason"), text("text")),
        _ => line.to_string(),
    };
    format!("{} {kind:<10} {rest}", text("at"))
}

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
use crate::model::{Action, Bundle, Entry, Generation, Plan, Record, Topic};
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

/// What a record says, one object each with `at`, `kind` and `body`, and the actions that a plan would have had.
fn lines(record: &Record) -> Vec<Value> {
    let at = record.stored_at.to_rfc3339();
    let line = |kind: &str, body: Value| json!({ "at": at, "kind": kind, "body": body });
    let mut lines = Vec::new();
    // An incident and what is thought of it are one decision.
    let mut analysis = serde_json::Map::new();
    for entry in &record.batch.entries {
        let body = wire::ledger::entry_to_json(entry);
        match entry {
            Entry::Violation(_) => lines.push(line("violation", body)),
            Entry::Incident(_) => drop(analysis.insert("incident".to_owned(), body)),
            Entry::Analysis(_) => drop(analysis.insert("analysis".to_owned(), body)),
            Entry::Plan(plan) => {
                lines.push(line("plan", body));
                lines.extend(plan.steps.iter().map(|step| line("action", not_executed(plan, step))));
            }
            Entry::Report(_) => lines.push(line("report", body)),
            // Nothing is admitted in a replay, and nobody applies or changes anything.
            Entry::Admission(_)
            | Entry::Outcome(_)
            | Entry::Verdict(_)
            | Entry::Change(_)
            | Entry::Applied { .. } => {}
        }
    }
    // Copies for subscribers of incidents say nothing new.
    if !analysis.is_empty() && !matches!(record.topic, Topic::Incidents(_)) {
        lines.push(line("analysis", Value::Object(analysis)));
    }
    lines
}

fn not_executed(plan: &Plan, step: &Action) -> Value {
    json!({
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
    })
}

fn readable(line: &Value) -> String {
    fn text(value: &Value) -> String {
        value.as_str().map_or_else(|| value.to_string(), str::to_owned)
    }
    let kind = text(&line["kind"]);
    let body = &line["body"];
    let said = |name: &str| text(&body[name]);
    let rest = match kind.as_str() {
        "violation" => {
            format!("{} {} {} value {}", said("phase"), body["rule"]["alert"], said("labels"), said("value"))
        }
        "analysis" => {
            let incident = &body["incident"];
            let cause = match body["analysis"]["causes"].get(0) {
                Some(cause) => format!("cause {} confidence {}", cause["name"], cause["confidence"]),
                None => "no cause".to_owned(),
            };
            format!("{} {} {} {cause}", text(&incident["phase"]), text(&incident["id"]), incident["scope"])
        }
        "plan" => {
            format!("{} {} answers {} on {}", said("id"), said("playbook"), said("cause"), said("scope"))
        }
        "action" => format!("{} would {} ({}): not executed", said("plan"), said("name"), said("does")),
        "report" => format!("{}: {}", said("reason"), said("text")),
        _ => body.to_string(),
    };
    format!("{} {kind:<10} {rest}", text(&line["at"]))
}

//! `replay`: the whole loop over recorded samples, without a server.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::{Value, json};

use super::exit::{Failure, Outcome, usage};
use super::input::{Input, Untimed};
use super::output::{self, Format};
use super::{Context, args, check, printed, words};
use crate::config;
use crate::engine::Configuration;
use crate::model::{Action, Bundle, Entry, Generation, Plan, Record, Topic};
use crate::role::replay::Replay;
use crate::wire;

/// Runs the loop and prints what it decides.
pub(super) fn replay(args: &args::Replay, context: &Context) -> Outcome {
    let (configuration, is_whole) = load(args)?;
    let mut input = Input::open(&args.samples, &args.input, Untimed::FileTime)?;
    let mut replay: Option<Replay<'_>> = None;
    let mut teller = Teller::new(context.format);
    let note = |text: &str| output::note(text);
    while let Some(sample) = input.next(&note)? {
        let replay = replay.get_or_insert_with(|| Replay::new(configuration.clone(), sample.at));
        replay.push(sample);
        teller.tell(&replay.news())?;
    }
    match replay {
        _ if input.is_cut_short() => {
            teller.close()?;
            Err(Failure::Finding)
        }
        None => {
            output::note("there is no sample in the files");
            Err(Failure::Finding)
        }
        Some(mut replay) => {
            let summary = replay.finish();
            teller.tell(&replay.news())?;
            teller.summary(summary.samples, input.refused())?;
            if is_whole { Ok(()) } else { Err(Failure::Finding) }
        }
    }
}

/// What to decide by, and whether nothing of it was refused.
fn load(args: &args::Replay) -> Result<(Configuration, bool), Failure> {
    if args.config.is_none() && args.rules.is_empty() {
        return Err(usage(anyhow::anyhow!(
            "there is nothing to decide by\nhint: --config DIR has rules and playbooks, --rules FILE rules alone"
        )));
    }
    let mut files = Vec::new();
    let mut roots: BTreeMap<std::sync::Arc<str>, &Path> = BTreeMap::new();
    for path in args.config.iter().chain(&args.rules) {
        let found = check::read(path)?.files;
        roots.extend(found.iter().map(|file| (std::sync::Arc::clone(&file.path), path.as_path())));
        files.extend(found);
    }
    let loaded = config::load(&Bundle::new(files), Generation(1));
    for error in &loaded.refused {
        let root = roots.get(&*error.file).copied().unwrap_or(Path::new(""));
        output::note(check::text(&check::refusal(root, error)));
    }
    Ok((loaded.configuration, loaded.refused.is_empty()))
}

/// Prints what was decided, in the order of the ledger.
struct Teller {
    format: Format,
    out: BufWriter<io::StdoutLock<'static>>,
    counts: BTreeMap<String, u64>,
    /// Lines so far.
    told: u64,
}

impl Teller {
    fn new(format: Format) -> Self {
        Self { format, out: BufWriter::new(io::stdout().lock()), counts: BTreeMap::new(), told: 0 }
    }

    fn tell(&mut self, records: &[std::sync::Arc<Record>]) -> Outcome {
        for line in records.iter().flat_map(|record| lines(record)) {
            let kind = line["kind"].as_str().unwrap_or_default().to_owned();
            *self.counts.entry(kind).or_default() += 1;
            self.write(&line).or_else(printed)?;
            self.told += 1;
        }
        Ok(())
    }

    fn write(&mut self, line: &Value) -> io::Result<()> {
        match self.format {
            Format::Table => writeln!(self.out, "{}", readable(line)),
            Format::Jsonl => writeln!(self.out, "{line}"),
            // One document, written as it comes.
            Format::Json => write!(self.out, "{}\n  {line}", if self.told == 0 { "[" } else { "," }),
            Format::Yaml => {
                let line = serde_saphyr::to_string(line).unwrap_or_default();
                writeln!(self.out, "---").and_then(|()| write!(self.out, "{line}"))
            }
        }
    }

    /// Ends what was begun.
    fn close(&mut self) -> Outcome {
        if self.format == Format::Json {
            let end = if self.told == 0 { "[]" } else { "\n]" };
            writeln!(self.out, "{end}").or_else(printed)?;
        }
        self.out.flush().or_else(printed)
    }

    fn summary(&mut self, samples: u64, refused: u64) -> Outcome {
        if self.format == Format::Table {
            let mut rows = vec![("samples".to_owned(), samples), ("refused rows".to_owned(), refused)];
            rows.extend(self.counts.iter().map(|(kind, count)| (format!("{kind} lines"), *count)));
            for (name, count) in rows {
                writeln!(self.out, "{name:<20}{count:>10}").or_else(printed)?;
            }
        }
        self.close()
    }
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
                Some(cause) => {
                    format!("cause {} confidence {}", cause["name"], words::confidence(&cause["confidence"]))
                }
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

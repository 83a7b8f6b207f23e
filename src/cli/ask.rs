//! What the loop remembers: questions to the knowledge service.

use std::time::Duration;

use serde_json::{Value, json};

use super::exit::{Failure, Outcome, outside};
use super::output::{self, Column, Format};
use super::{Context, args, bus, printed};
use crate::bus::nats::{self, Answer, Objects};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);

const INCIDENTS: [Column; 8] = [
    ("INCIDENT", "id"),
    ("PHASE", "phase"),
    ("SEVERITY", "severity"),
    ("SCOPE", "scope"),
    ("VIOLATIONS", "violations"),
    ("CAUSE", "cause"),
    ("CONFIDENCE", "confidence"),
    ("OPENED", "opened_at"),
];
const PLANS: [Column; 8] = [
    ("PLAN", "id"),
    ("PLAYBOOK", "playbook"),
    ("CAUSE", "cause"),
    ("MODE", "mode"),
    ("VERDICT", "verdict"),
    ("END", "end"),
    ("ACTIONS", "actions"),
    ("AT", "at"),
];
const LEARNED: [Column; 7] = [
    ("PLAYBOOK", "playbook"),
    ("CAUSE", "cause"),
    ("SCOPE", "scope"),
    ("HELPED", "helped"),
    ("FAILED", "failed"),
    ("EXPECTED", "expected"),
    ("AT LEAST", "at_least"),
];

pub(super) async fn incidents(args: args::Listing, context: &Context) -> Outcome {
    let answer = ask(&args.bus, context, "incidents", json!({ "limit": args.limit })).await?;
    list(&answer, &INCIDENTS, context)
}

pub(super) async fn plans(args: args::Listing, context: &Context) -> Outcome {
    let answer = ask(&args.bus, context, "plans", json!({ "limit": args.limit })).await?;
    list(&answer, &PLANS, context)
}

pub(super) async fn explain(args: args::Explain, context: &Context) -> Outcome {
    let answer = ask(&args.bus, context, "explain", json!({ "id": args.id })).await?;
    let chain = answer["chain"].as_array().cloned().unwrap_or_default();
    match context.format {
        Format::Table => output::line(chain.iter().map(step).collect::<Vec<_>>().join("\n")).or_else(printed),
        Format::Jsonl => output::list(Format::Jsonl, &chain, &[]).or_else(printed),
        format @ (Format::Json | Format::Yaml) => output::one(format, &answer).or_else(printed),
    }
}

pub(super) async fn kb(command: args::Kb, context: &Context) -> Outcome {
    match command {
        args::Kb::Stats(args) => {
            let answer = ask(&args.bus, context, "stats", Value::Null).await?;
            output::one(context.format, &answer).or_else(printed)
        }
        args::Kb::Learned(args) => {
            let answer = ask(&args.bus, context, "learned", Value::Null).await?;
            list(&answer, &LEARNED, context)
        }
        args::Kb::Export { bus, file } => {
            let answer = ask(&bus, context, "export", Value::Null).await?;
            let object = answer["object"].as_str().unwrap_or_default().to_owned();
            let reached = bus::reach(&bus, context).await?;
            let objects = Objects::open(reached.connection.clone(), &reached.topology.names()).await;
            let bytes = objects.map_err(outside)?.get(&object).await.map_err(outside)?;
            let bytes = bytes.ok_or_else(|| outside(anyhow::anyhow!("the export is gone: `{object}`")))?;
            std::fs::write(&file, &bytes).map_err(outside)?;
            let told = json!({ "bytes": bytes.len(), "file": file.to_string_lossy() });
            done(context, &format!("{} bytes written to {}", bytes.len(), file.display()), &told)
        }
        args::Kb::Import { file, data, bus } => import(&file, data, &bus, context).await,
    }
}

async fn import(
    file: &std::path::Path,
    data: Option<std::path::PathBuf>,
    bus: &args::Bus,
    context: &Context,
) -> Outcome {
    let usual = || context.environment.state_home.clone().map(|home| home.join("homeostat"));
    let data =
        data.or_else(usual).ok_or_else(|| outside(anyhow::anyhow!("--data says where the store is")))?;
    let ledger = bus::reach(bus, context).await?.ledger().await?;
    let created = ledger.tail().await.map_err(outside)?.created;
    let mut input = std::fs::File::open(file).map_err(outside)?;
    let knowledge =
        crate::role::knowledge::Knowledge::open(&data.join("knowledge"), created).map_err(outside)?;
    let copied = knowledge.store().import(&mut input).map_err(outside)?;
    let told = json!({ "records": copied.records, "applied": copied.applied });
    done(
        context,
        &format!("{} records read, as of ledger sequence {}", copied.records, copied.applied),
        &told,
    )
}

/// What was done: a sentence for people, its figures for programs.
fn done(context: &Context, text: &str, told: &Value) -> Outcome {
    match context.format {
        Format::Table => output::line(text),
        format @ (Format::Json | Format::Jsonl | Format::Yaml) => output::one(format, told),
    }
    .or_else(printed)
}

async fn ask(bus: &args::Bus, context: &Context, endpoint: &str, question: Value) -> Result<Value, Failure> {
    let reached = bus::reach(bus, context).await?;
    let subject = format!("{}.kb.{endpoint}", reached.subjects);
    let payload = if question.is_null() { String::new() } else { question.to_string() };
    let question = Answer { headers: Vec::new(), payload: payload.into() };
    let answer = nats::ask(&reached.connection, &subject, question, TIMEOUT).await.map_err(outside)?;
    serde_json::from_slice(&answer.payload).map_err(outside)
}

fn list(answer: &Value, columns: &[Column], context: &Context) -> Outcome {
    let rows = answer.as_array().cloned().unwrap_or_default();
    output::list(context.format, &rows, columns).or_else(printed)
}

/// A record of the chain, for people.
fn step(record: &Value) -> String {
    let at = record["stored_at"].as_str().map_or_else(|| record["stored_at"].to_string(), str::to_owned);
    let entries = record["entries"].as_array().cloned().unwrap_or_default();
    let told: Vec<String> = entries.iter().map(told).collect();
    format!(
        "{at:<26} #{:<6} {:<22} {}",
        record["sequence"],
        record["topic"].as_str().unwrap_or_default(),
        told.join("; ")
    )
}

fn told(entry: &Value) -> String {
    let Some((kind, body)) = entry.as_object().and_then(|entry| entry.iter().next()) else {
        return entry.to_string();
    };
    let text = |name: &str| match &body[name] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => other.to_string(),
    };
    match kind.as_str() {
        "violation" => format!(
            "{} {} value {}",
            body["rule"]["alert"].as_str().unwrap_or_default(),
            text("phase"),
            text("value")
        ),
        "incident" => format!("incident {} {}", text("phase"), text("scope")),
        "analysis" => {
            let cause = &body["causes"][0];
            format!("cause {} with confidence {}: {}", cause["name"], cause["confidence"], cause["evidence"])
        }
        "plan" => format!("plan {} against {} ({})", text("playbook"), text("cause"), text("mode")),
        "outcome" => format!("{} {}", text("result"), text("output")),
        "verdict" => format!(
            "{}: {} (before {}, after {})",
            text("kind"),
            text("reason"),
            text("before"),
            text("after")
        ),
        "report" => format!("{}: {}", text("reason"), text("text")),
        _ => body.to_string(),
    }
}

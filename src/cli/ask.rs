//! What the loop remembers: questions to the knowledge service.

use std::time::Duration;

use serde_json::{Value, json};

use super::exit::{Failure, Outcome, outside, usage};
use super::output::{self, Column, Format};
use super::{Context, args, bus, printed, words};
use crate::bus::nats::{self, Answer, AskError};

/// What the knowledge service says of what it does not know.
const NOT_FOUND: u16 = 404;
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
const CHAIN: [Column; 4] = [("AT", "at"), ("SEQUENCE", "sequence"), ("ENTRY", "kind"), ("WHAT", "what")];

pub(super) async fn incidents(args: args::Listing, context: &Context) -> Outcome {
    let answer = ask(&args.bus, context, "incidents", json!({ "limit": args.limit })).await?;
    list(&answer, &INCIDENTS, context)
}

pub(super) async fn plans(args: args::Listing, context: &Context) -> Outcome {
    let answer = ask(&args.bus, context, "plans", json!({ "limit": args.limit })).await?;
    list(&answer, &PLANS, context)
}

pub(super) async fn explain(args: args::Explain, context: &Context) -> Outcome {
    let known = ["in-", "ep-", "an-", "pl-", "ac-", "at-"];
    if !known.iter().any(|prefix| args.id.starts_with(prefix)) {
        let text = format!(
            "`{}` is not an id of anything that can be explained\nhint: it begins with in-, ep-, an-, pl-, ac- or at-; `homeostat incidents` and `homeostat plans` list some",
            args.id
        );
        return Err(usage(anyhow::anyhow!(text)));
    }
    let answer = match ask(&args.bus, context, "explain", json!({ "id": args.id })).await {
        Err(Failure::Outside(error)) if is_unknown(&error) => {
            output::note(format_args!(
                "nothing is known under the id `{}`\nhint: `homeostat incidents` and `homeostat plans` list what is known; the oldest is forgotten",
                args.id
            ));
            return Err(Failure::Finding);
        }
        answer => answer?,
    };
    let chain = answer["chain"].as_array().cloned().unwrap_or_default();
    match context.format {
        Format::Table => {
            let rows: Vec<Value> = chain.iter().flat_map(steps).collect();
            output::list(Format::Table, &rows, &CHAIN).or_else(printed)?;
            match answer["left_out"].as_u64() {
                None | Some(0) => Ok(()),
                Some(more) => {
                    let text =
                        format_args!("{} left out: an answer is one message", output::count(more, "record"));
                    output::line(text).or_else(printed)
                }
            }
        }
        Format::Jsonl => output::list(Format::Jsonl, &chain, &[]).or_else(printed),
        format @ (Format::Json | Format::Yaml) => output::one(format, &answer).or_else(printed),
    }
}

/// Whether the answer was that there is no such thing.
fn is_unknown(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(AskError::Refused { refusal, .. }) if refusal.code == NOT_FOUND)
}

pub(super) async fn ask(
    bus: &args::Bus,
    context: &Context,
    endpoint: &str,
    question: Value,
) -> Result<Value, Failure> {
    ask_on(&bus::reach(bus, context).await?, endpoint, question, TIMEOUT).await
}

/// As [`ask`], on a connection that is there.
pub(super) async fn ask_on(
    reached: &bus::Reached,
    endpoint: &str,
    question: Value,
    timeout: Duration,
) -> Result<Value, Failure> {
    let subject = format!("{}.kb.{endpoint}", reached.subjects);
    let payload = if question.is_null() { String::new() } else { question.to_string() };
    let question = Answer { headers: Vec::new(), payload: payload.into() };
    let answer = nats::ask(&reached.connection, &subject, question, timeout).await.map_err(outside)?;
    serde_json::from_slice(&answer.payload).map_err(outside)
}

pub(super) fn list(answer: &Value, columns: &[Column], context: &Context) -> Outcome {
    let rows = answer.as_array().cloned().unwrap_or_default();
    output::list(context.format, &rows, columns).or_else(printed)
}

/// What a record of the chain says, a row for each entry.
fn steps(record: &Value) -> Vec<Value> {
    let entries = record["entries"].as_array().cloned().unwrap_or_default();
    let row = |entry: &Value| {
        let (kind, what) = words::told(entry);
        json!({ "at": record["stored_at"], "sequence": record["sequence"], "kind": kind, "what": what })
    };
    entries.iter().map(row).collect()
}

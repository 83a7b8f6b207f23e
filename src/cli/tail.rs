//! `tail`: what goes over the bus, decoded, one JSON object a line.

use serde_json::{Value, json};

use super::exit::{Outcome, outside};
use super::{Context, args, bus, printed};
use crate::bus::Stored;
use crate::bus::nats::Listener;
use crate::role::read_record;
use crate::wire::{self, Subject, Subjects};

/// Messages taken at once.
const AT_ONCE_MAX: usize = 256;

pub(super) async fn tail(args: args::Tail, context: &Context) -> Outcome {
    let reached = bus::reach(&args.bus, context).await?;
    let mut left = args.count.unwrap_or(u64::MAX);
    if let Some(from) = args.from {
        let mut feed = reached.ledger().await?.feed(from, None);
        while left > 0 {
            for stored in feed.next_batch(AT_ONCE_MAX).await.map_err(outside)? {
                print(&shown(&reached.subjects, &stored))?;
                left = left.saturating_sub(1);
                if left == 0 {
                    break;
                }
            }
        }
        return Ok(());
    }
    let wanted = if args.subjects.is_empty() {
        let kinds =
            ["violations.*", "incidents.*", "analyses.*", "plans", "admission", "outcomes.*", "verdicts.*"];
        let more = ["reports.*", "changes", "control", "intake.>", "dlq.*"];
        kinds.iter().chain(&more).map(|kind| (*kind).to_owned()).collect()
    } else {
        args.subjects
    };
    let subjects: Vec<String> =
        wanted.iter().map(|subject| format!("{}.{subject}", reached.subjects)).collect();
    let mut listener = Listener::open(&reached.connection, &subjects).await.map_err(outside)?;
    while left > 0 {
        let Some(batch) = listener.next_batch(AT_ONCE_MAX).await else { break };
        for message in batch {
            let stored = Stored {
                subject: message.subject,
                headers: message.headers,
                payload: message.payload,
                sequence: 0,
                stored_at: context.clock.now(),
            };
            print(&shown(&reached.subjects, &stored))?;
            left = left.saturating_sub(1);
            if left == 0 {
                break;
            }
        }
    }
    Ok(())
}

fn print(line: &Value) -> Outcome {
    use std::io::Write as _;
    writeln!(std::io::stdout().lock(), "{line}").or_else(printed)
}

fn shown(subjects: &Subjects, stored: &Stored) -> Value {
    let body = match subjects.parse(&stored.subject) {
        Ok(Subject::Ledger(_)) => read_record(subjects, stored).map(|record| wire::ledger::to_json(&record)),
        Ok(Subject::Samples(_)) => wire::frame::decode(&stored.payload).ok().map(|(frame, table)| {
            json!({
                "producer": &*frame.producer,
                "sequence": frame.sequence,
                "rows": frame.rows.len(),
                "series": table.map(|table| table.series.len()),
            })
        }),
        Ok(Subject::Intake(_) | Subject::Dlq(_) | Subject::Tables(_)) | Err(_) => None,
    };
    let body = body.or_else(|| serde_json::from_slice(&stored.payload).ok());
    let body = body.unwrap_or_else(|| json!({ "bytes": stored.payload.len() }));
    let headers: serde_json::Map<String, Value> =
        stored.headers.iter().map(|(name, value)| (name.clone(), Value::String(value.clone()))).collect();
    json!({ "subject": stored.subject, "headers": headers, "body": body })
}

//! `tail`: what goes over the bus, decoded, one JSON object a line.

use serde_json::{Value, json};

use super::exit::{Outcome, outside, usage};
use super::{Context, args, bus, output, printed};
use crate::bus::Stored;
use crate::bus::nats::{FeedError, Listener, SUBJECT_HEADER};
use crate::model::{OperatorRequest, Timestamp};
use crate::role::read_record;
use crate::wire::intake::Received;
use crate::wire::{self, Message, Subject, Subjects};

/// Messages taken at once.
const AT_ONCE_MAX: usize = 256;
/// Below the prefix and the version: what the ledger keeps.
const LEDGER: [&str; 10] = [
    "violations.*",
    "incidents.*",
    "analyses.*",
    "plans",
    "admission",
    "outcomes.*",
    "verdicts.*",
    "reports.*",
    "changes",
    "control",
];
/// What else there is.
const BESIDE: [&str; 3] = ["samples.*", "intake.>", "dlq.*"];

pub(super) async fn tail(args: args::Tail, context: &Context) -> Outcome {
    for subject in &args.subjects {
        let is_known = |known: &&str| overlap(subject, known);
        if LEDGER.iter().any(&is_known) {
            continue;
        }
        if args.from.is_some() {
            let text = format!(
                "`{subject}` is not in the ledger, which --from reads\nhint: without --from, what comes from now on is shown"
            );
            return Err(usage(anyhow::anyhow!(text)));
        }
        if !BESIDE.iter().any(&is_known) {
            let known = LEDGER.into_iter().chain(BESIDE).collect::<Vec<_>>().join(" ");
            output::note(format_args!(
                "nothing of ours is on `{subject}`\nhint: subjects are given below the prefix and v1: {known}"
            ));
        }
    }
    let reached = bus::reach(&args.bus, context).await?;
    let left = args.count.unwrap_or(u64::MAX);
    match args.from {
        Some(from) => tail_ledger(&reached, from, &args.subjects, left, context).await,
        None => tail_live(&reached, args.subjects, left, context).await,
    }
}

/// What the ledger has from a sequence on, and then what comes.
async fn tail_ledger(
    reached: &bus::Reached,
    from: u64,
    subjects: &[String],
    mut left: u64,
    context: &Context,
) -> Outcome {
    let wanted: Vec<String> =
        subjects.iter().map(|subject| format!("{}.{subject}", reached.subjects)).collect();
    let is_wanted =
        |stored: &Stored| wanted.is_empty() || wanted.iter().any(|wanted| overlap(wanted, &stored.subject));
    let ledger = reached.ledger().await?;
    let last = ledger.tail().await.map_err(outside)?.last_sequence;
    if from > last + 1 {
        let text = format!(
            "the ledger ends at sequence {last}\nhint: without --from, what comes from now on is shown"
        );
        return Err(usage(anyhow::anyhow!(text)));
    }
    let mut feed = ledger.feed(from, None);
    while left > 0 {
        let batch = match feed.next_batch(AT_ONCE_MAX).await {
            Ok(batch) => batch,
            Err(FeedError::Gap { next, found, .. }) => {
                output::note(format_args!(
                    "the ledger has no sequence {next} any more, the next one is {found}"
                ));
                feed.skip_to(found);
                continue;
            }
            Err(error) => return Err(outside(error)),
        };
        for stored in batch.iter().filter(|stored| is_wanted(stored)) {
            output::next(context.format, &shown(&reached.subjects, stored)).or_else(printed)?;
            left -= 1;
            if left == 0 {
                break;
            }
        }
    }
    Ok(())
}

/// What comes from now on.
async fn tail_live(
    reached: &bus::Reached,
    subjects: Vec<String>,
    mut left: u64,
    context: &Context,
) -> Outcome {
    let wanted = if subjects.is_empty() {
        LEDGER.iter().chain(&BESIDE[1..]).map(|kind| (*kind).to_owned()).collect()
    } else {
        subjects
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
            let mut line = shown(&reached.subjects, &stored);
            // Where and when it was stored only the stream knows.
            if let Some(body) = line["body"].as_object_mut() {
                body.remove("sequence");
                body.remove("stored_at");
            }
            output::next(context.format, &line).or_else(printed)?;
            left -= 1;
            if left == 0 {
                break;
            }
        }
    }
    Ok(())
}

/// Whether some subject is matched by both patterns, in NATS' notation.
fn overlap(one: &str, other: &str) -> bool {
    let (mut ones, mut others) = (one.split('.'), other.split('.'));
    loop {
        match (ones.next(), others.next()) {
            (None, None) | (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (Some(one), Some(other)) if one == "*" || other == "*" || one == other => {}
            (Some(_), Some(_) | None) | (None, Some(_)) => return false,
        }
    }
}

fn shown(subjects: &Subjects, stored: &Stored) -> Value {
    let (body, why) = match decoded(subjects, stored) {
        Ok(body) => (body, None),
        Err(cause) => (None, Some(cause)),
    };
    let body = body.or_else(|| serde_json::from_slice(&stored.payload).ok());
    let body = body.unwrap_or_else(|| json!({ "bytes": stored.payload.len(), "unread": why }));
    let headers: serde_json::Map<String, Value> =
        stored.headers.iter().map(|(name, value)| (name.clone(), Value::String(value.clone()))).collect();
    json!({ "subject": stored.subject, "headers": headers, "body": body })
}

/// What a message says; nothing where it is none of ours, and why where it cannot be read.
fn decoded(subjects: &Subjects, stored: &Stored) -> Result<Option<Value>, String> {
    match subjects.parse(&stored.subject) {
        Ok(Subject::Ledger(_)) => match read_record(subjects, stored) {
            Some(record) => Ok(Some(wire::ledger::to_json(&record))),
            None => Err("not an entry of the ledger that this version knows".to_owned()),
        },
        Ok(Subject::Samples(_)) => {
            let (frame, table) = wire::frame::decode(&stored.payload).map_err(|error| error.to_string())?;
            Ok(Some(json!({
                "producer": &*frame.producer,
                "epoch": frame.epoch,
                "sequence_in_bucket": frame.sequence,
                "rows": frame.rows.len(),
                "series": table.map(|table| table.series.len()),
            })))
        }
        Ok(Subject::Intake(_)) => received(subjects, stored).map(Some),
        // The message as it was, under the subject that it came on.
        Ok(Subject::Dlq(_)) => {
            let original = stored.headers.iter().find(|(name, _)| name == SUBJECT_HEADER);
            let original = original.map(|(_, subject)| Stored { subject: subject.clone(), ..stored.clone() });
            match original
                .filter(|original| !matches!(subjects.parse(&original.subject), Ok(Subject::Dlq(_))))
            {
                Some(original) => decoded(subjects, &original),
                None => Ok(None),
            }
        }
        Ok(Subject::Tables(_)) | Err(_) => Ok(None),
    }
}

/// What somebody sent us.
fn received(subjects: &Subjects, stored: &Stored) -> Result<Value, String> {
    let message = Message {
        subject: stored.subject.clone(),
        headers: stored.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        payload: stored.payload.clone(),
    };
    Ok(match wire::intake::open(subjects, &message).map_err(|error| error.to_string())? {
        Received::Control(by, OperatorRequest::Halt { reason }) => {
            json!({ "by": by.to_string(), "asks": "halt", "reason": &*reason })
        }
        Received::Control(by, OperatorRequest::Resume) => json!({ "by": by.to_string(), "asks": "resume" }),
        Received::Violation(violation) => json!({
            "alert": &*violation.alert,
            "labels": labels(&violation.labels),
            "severity": violation.severity.as_str(),
            "phase": violation.phase.as_str(),
            "since": violation.since.map(Timestamp::to_rfc3339),
            "value": violation.value,
        }),
        Received::Change(change) => json!({
            "kind": change.kind.as_str(),
            "scope": labels(&change.scope),
            "at": change.at.map(Timestamp::to_rfc3339),
            "summary": &*change.summary,
        }),
    })
}

fn labels(labels: &crate::model::Labels) -> Value {
    labels.iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_overlap_as_nats_matches_them() {
        for (one, other, expected) in [
            ("violations.*", "violations.critical", true),
            ("violations.>", "violations.*", true),
            (">", "plans", true),
            ("violations", "violations.*", false),
            ("violations.*.x", "violations.*", false),
            ("violation.*", "violations.*", false),
            ("plans", "plans", true),
            ("plans.>", "plans", false),
        ] {
            assert_eq!(overlap(one, other), expected, "{one} and {other}");
            assert_eq!(overlap(other, one), expected, "{other} and {one}");
        }
    }

    #[test]
    fn what_an_operator_asked_for_is_shown_in_words() {
        let subjects = Subjects::default();
        let request = OperatorRequest::Halt { reason: "deploy".into() };
        let source = wire::envelope::Source { cell: "c", role: "operator", instance: "kim" };
        let sent = Received::Control("kim".into(), request);
        let message = wire::intake::message(&subjects, source, "1", &sent).unwrap();
        let stored = |subject: &str, payload: bytes::Bytes, mut headers: Vec<(String, String)>| {
            headers.extend(message.headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
            Stored {
                subject: subject.to_owned(),
                headers,
                payload,
                sequence: 1,
                stored_at: Timestamp::from_millis(0),
            }
        };
        let told = json!({ "by": "kim", "asks": "halt", "reason": "deploy" });
        let line = shown(&subjects, &stored(&message.subject, message.payload.clone(), Vec::new()));
        assert_eq!(line["body"], told);
        // A dead letter is what it was, and what cannot be read says why.
        let original = vec![(SUBJECT_HEADER.to_owned(), message.subject.clone())];
        let line = shown(&subjects, &stored("homeostat.v1.dlq.executor", message.payload.clone(), original));
        assert_eq!(line["body"], told);
        let line = shown(&subjects, &stored(&message.subject, "x".into(), Vec::new()));
        assert!(line["body"]["unread"].as_str().is_some_and(|why| !why.is_empty()), "{line}");
    }
}

//! `halt` and `resume`: an operator's wish, and what came of it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::exit::{Failure, Outcome, outside, usage};
use super::output::{self, Format};
use super::{Context, args, bus, printed};
use crate::bus::Outgoing;
use crate::bus::nats::{Ledger, Publisher};
use crate::engine::fold::{Fold, Gate};
use crate::model::{MessageId, OperatorRequest, Topic};
use crate::role::{intake_place, read_record};
use crate::wire::intake::Received;
use crate::wire::{self, Subjects, envelope::Source};

/// How long an executor has to record the wish.
const WAIT: Duration = Duration::from_secs(5);
/// How often it is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(super) async fn halt(args: args::Halt, context: &Context) -> Outcome {
    let request = OperatorRequest::Halt { reason: args.reason.as_str().into() };
    operate(&args.operator, request, true, context).await
}

pub(super) async fn resume(args: args::Operator, context: &Context) -> Outcome {
    operate(&args, OperatorRequest::Resume, false, context).await
}

async fn operate(args: &args::Operator, request: OperatorRequest, halts: bool, context: &Context) -> Outcome {
    let user = args
        .user
        .clone()
        .or_else(|| context.environment.user.clone())
        .unwrap_or_else(|| "operator".to_owned());
    let user = wire::subject::token(&user).map_err(usage)?.to_owned();
    let reached = bus::reach(&args.bus, context).await?;
    let ledger = reached.ledger().await?;
    let id =
        MessageId::of(&[&"operator", &user.as_str(), &context.clock.now(), &u64::from(std::process::id())]);
    let sent = Received::Control(user.as_str().into(), request);
    let source = Source { cell: args.bus.cell(), role: "operator", instance: &user };
    let message =
        wire::intake::message(&reached.subjects, source, &id.to_string(), &sent).map_err(outside)?;
    let control = reached.topology.names().control;
    let publisher = Publisher::new(reached.connection.clone(), &control);
    let outgoing = Outgoing {
        subject: message.subject,
        headers: message.headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        payload: message.payload,
        id: id.to_string(),
        expected_last_on_subject: None,
    };
    let sequence = publisher.publish(outgoing).await.map_err(outside)?.sequence;
    let stream = Ledger::of_stream(reached.connection.clone(), &control).await.map_err(outside)?;
    let place = intake_place(stream.tail().await.map_err(outside)?.created, sequence);
    let begun = context.clock.instant();
    loop {
        let fold = folded(&ledger, &reached.subjects).await?;
        if fold.gate.last_request() >= place {
            let in_flight: Vec<String> = fold.gate.in_flight().iter().map(ToString::to_string).collect();
            return told(wanted_state(&fold.gate, halts)?, &in_flight, context);
        }
        if context.clock.instant().saturating_duration_since(begun) > WAIT {
            let text = "it is in the intake, and no executor has recorded it\nhint: is `homeostat run` with the executor running? Without one nothing acts either, and the first to start obeys";
            return Err(Failure::Outside(anyhow::anyhow!(text)));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The ledger up to now, folded.
async fn folded(ledger: &Ledger, subjects: &Subjects) -> Result<Fold, Failure> {
    let mut fold = Fold::default();
    let last = ledger.last_on(&subjects.ledger(Topic::Admission)).await.map_err(outside)?;
    let Some(last) = last else { return Ok(fold) };
    let mut feed = ledger.feed(1, None);
    while fold.applied() < last.sequence {
        for stored in feed.next_batch(256).await.map_err(outside)? {
            if let Some(record) = read_record(subjects, &stored) {
                fold.apply(&record);
            }
        }
    }
    Ok(fold)
}

/// Who halted automation and why.
type Halted<'a> = Option<&'a (Arc<str>, Arc<str>)>;

/// What holds now, if it is what was asked for: somebody else may have asked for the opposite in the meantime.
fn wanted_state(gate: &Gate, halts: bool) -> Result<Halted<'_>, Failure> {
    match (halts, gate.halted()) {
        (true, None) => Err(Failure::Outside(anyhow::anyhow!(
            "automation goes on: the halt was recorded, and a later request has resumed it\nhint: halt again, and ask who resumed"
        ))),
        (false, Some((by, reason))) => Err(Failure::Outside(anyhow::anyhow!(
            "still halted: the resumption was recorded, and {by} has halted again: {reason}"
        ))),
        (_, state) => Ok(state),
    }
}

fn told(halted: Halted<'_>, in_flight: &[String], context: &Context) -> Outcome {
    let (by, reason) = halted.map(|(by, reason)| (by.as_ref(), reason.as_ref())).unzip();
    let result = json!({ "halted": halted.is_some(), "by": by, "reason": reason, "in_flight": in_flight });
    match context.format {
        Format::Table => {
            let head = match halted {
                Some((by, reason)) => format!("halted by {by} ({reason}): nothing new is started"),
                None => "automation goes on".to_owned(),
            };
            let lines =
                std::iter::once(head).chain(in_flight.iter().map(|plan| format!("in flight: {plan}")));
            output::line(lines.collect::<Vec<_>>().join("\n")).or_else(printed)
        }
        Format::Json | Format::Jsonl | Format::Yaml => output::one(context.format, &result).or_else(printed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Admission, Basis, Batch, Entry, Generation, Record, Role, Timestamp};

    fn gate(requests: Vec<Admission>) -> Gate {
        let mut fold = Fold::default();
        let at = Timestamp::from_millis(1);
        let batch = Batch {
            id: MessageId::of(&[&"batch"]),
            role: Role::Executor,
            instance: "a".into(),
            at,
            basis: Basis { ledger: 0, generation: Generation(1) },
            trace: 0,
            entries: requests.into_iter().map(Entry::Admission).collect(),
        };
        fold.apply(&Record { sequence: 1, stored_at: at, topic: Topic::Admission, batch: batch.into() });
        fold.gate
    }

    #[test]
    fn only_what_holds_is_said_to_hold() {
        let halt = |request| Admission::Halt { request, by: "kim".into(), reason: "drill".into() };
        let resume = |request| Admission::Resume { request, by: "ann".into() };
        let state = |requests, halts| match wanted_state(&gate(requests), halts) {
            Ok(halted) => Ok(halted.map(|(by, _)| by.to_string())),
            Err(Failure::Outside(error)) => Err(error.to_string()),
            Err(_) => Err("another failure".to_owned()),
        };
        assert_eq!(state(vec![halt(5)], true), Ok(Some("kim".to_owned())));
        assert_eq!(state(vec![halt(5), resume(6)], false), Ok(None));
        assert!(state(vec![halt(5), resume(6)], true).unwrap_err().starts_with("automation goes on"));
        assert!(state(vec![resume(5), halt(6)], false).unwrap_err().starts_with("still halted"));
    }
}

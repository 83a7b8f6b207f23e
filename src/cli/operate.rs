//! `halt` and `resume`: an operator's wish, and what came of it.

use std::time::Duration;

use serde_json::json;

use super::exit::{Failure, Outcome, outside, usage};
use super::output::{self, Format};
use super::{Context, args, bus, printed};
use crate::bus::Outgoing;
use crate::bus::nats::{Ledger, Publisher};
use crate::engine::fold::Fold;
use crate::model::{MessageId, OperatorRequest, Topic};
use crate::role::read_record;
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
    let publisher = Publisher::new(reached.connection.clone(), &reached.topology.names().intake);
    let outgoing = Outgoing {
        subject: message.subject,
        headers: message.headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        payload: message.payload,
        id: id.to_string(),
        expected_last_on_subject: None,
    };
    let place = publisher.publish(outgoing).await.map_err(outside)?.sequence;
    let begun = context.clock.instant();
    loop {
        let fold = folded(&ledger, &reached.subjects).await?;
        if fold.gate.last_request() >= place {
            let in_flight: Vec<String> = fold.gate.in_flight().iter().map(ToString::to_string).collect();
            return told(halts, &in_flight, context);
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

fn told(halts: bool, in_flight: &[String], context: &Context) -> Outcome {
    let result = json!({ "halted": halts, "in_flight": in_flight });
    match context.format {
        Format::Table => {
            let head = if halts { "halted: nothing new is started" } else { "automation goes on" };
            let lines = std::iter::once(head.to_owned())
                .chain(in_flight.iter().map(|plan| format!("in flight: {plan}")));
            output::line(lines.collect::<Vec<_>>().join("\n")).or_else(printed)
        }
        Format::Json | Format::Jsonl | Format::Yaml => output::one(context.format, &result).or_else(printed),
    }
}

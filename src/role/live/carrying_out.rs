//! What a core wants done, in its order: publish, ask, settle. Each answer is an input that comes later.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::oneshot;

use super::deliveries::settle;
use super::{Live, Wiring};
use crate::actuator::{Circumstances, SHUTTING_DOWN};
use crate::bus::{self, Outgoing, PublishError, Settle};
use crate::engine::core::Unanswered;
use crate::engine::{Act, Acted, Ask, Core, Done, Emit, Input, Published, Step, Ticket};
use crate::model::{Charter, MessageId, Outcome, OutcomeResult, Record, Timestamp};
use crate::telemetry;
use crate::wire;

/// What an attempt may take beyond its time-out, for clearing away.
const CLEARING_AWAY: Duration = Duration::from_secs(1);

impl<C: Core, O: FnMut(&mut C, Timestamp)> Live<C, O> {
    /// Carries out a step in its order: publish, ask, settle.
    pub(super) async fn carry_out(&mut self, now: Timestamp, step: Step) {
        let mut is_stuck = false;
        for emit in step.emit {
            // One that could not be handed to the connection has waited for all of them: they are tried again.
            let answer = if is_stuck {
                answer(emit.ticket, Published::TimedOut)
            } else {
                self.publish(emit, &mut is_stuck).await
            };
            self.answers.push(answer);
        }
        for ask in step.ask {
            self.ask(ask);
        }
        for (token, done) in step.done {
            if let Some(in_hand) = self.tokens.remove(&token) {
                match done {
                    Done::Ack => settle(&in_hand.settler, &in_hand.delivery, Settle::Ack).await,
                    Done::Nak(delay) => {
                        settle(&in_hand.settler, &in_hand.delivery, Settle::Nak(delay)).await;
                    }
                    Done::Dead(cause) => self.bury(&in_hand.settler, &in_hand.delivery, &cause).await,
                }
            }
        }
        if let Some(at) = step.wake_at {
            self.wake_at = Some(self.wake_at.map_or(at, |known| known.min(at)));
        }
        (self.observe)(&mut self.core, now);
    }

    /// Hands a batch to the connection, in order; its answer comes later.
    async fn publish(&mut self, emit: Emit, is_stuck: &mut bool) -> BoxFuture<'static, Input> {
        let Emit { ticket, topic, batch, expected_last } = emit;
        telemetry::decided(&batch);
        let message = match wire::ledger::message(&self.wiring.subjects, &self.wiring.cell, topic, &batch) {
            Ok(message) => message,
            Err(cause) => {
                tracing::error!(%topic, %cause, "a decision cannot be written");
                return answer(ticket, Published::Refused);
            }
        };
        let outgoing = Outgoing {
            subject: message.subject,
            headers: message
                .headers
                .iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            payload: message.payload,
            id: batch.id.to_string(),
            expected_last_on_subject: expected_last,
        };
        match self.wiring.publisher.send(outgoing).await {
            Ok(sent) => Box::pin(async move {
                let result = published(sent.await);
                telemetry::published(topic, result);
                Input::Published { ticket, result }
            }),
            Err(error) => {
                *is_stuck = matches!(error, PublishError::Unavailable(_));
                answer(ticket, published(Err(error)))
            }
        }
    }

    fn ask(&mut self, ask: Ask) {
        match ask {
            Ask::ReadBack { ticket, topic, sequence } => {
                let Wiring { ledger, subjects, reader, .. } = &self.wiring;
                let (ledger, subjects, reader) = (ledger.clone(), subjects.clone(), reader.clone());
                self.answers.push(Box::pin(async move {
                    let read = match sequence {
                        Some(sequence) => ledger.get(sequence).await,
                        None => ledger.last_on(&subjects.ledger(topic)).await,
                    };
                    let found = match read {
                        Err(_) => Err(Unanswered),
                        Ok(None) => Ok(None),
                        Ok(Some(stored)) => match reader.standing(&stored) {
                            Ok(Some(standing)) => Ok(Some(standing)),
                            // Under the id asked for, on no subject of the ledger: its place all the same.
                            Ok(None) => {
                                let (place, at) = (stored.sequence, stored.stored_at);
                                Ok(Some(Record::unreadable(place, at, topic).into()))
                            }
                            // The feed comes to it and ends the role.
                            Err(_) => Err(Unanswered),
                        },
                    };
                    Input::ReadBack { ticket, found }
                }));
            }
            Ask::Act(act) => {
                let acted = self.act(*act);
                self.answers.push(acted);
            }
            Ask::Table { .. } => {
                // Full means that the same tables are being asked for already; the core asks again.
                if let Some(tables) = &self.wiring.tables {
                    let _ = tables.try_send(ask);
                }
            }
        }
    }

    /// Carries out an attempt in a task of its own: its limits of time hold whatever the role waits for meanwhile.
    fn act(&mut self, act: Act) -> BoxFuture<'static, Input> {
        let now = self.wiring.clock.now();
        let unfinished = |result, output: &str| {
            let (started_at, ended_at) = (now, now);
            let outcome =
                Outcome { result, output: output.into(), started_at, ended_at, ..act.outcome.clone() };
            Acted { attempt: act.attempt, outcome }
        };
        let Some(actuator) = self.wiring.actuator.clone().filter(|_| !self.is_draining) else {
            let acted = unfinished(OutcomeResult::NotStarted, SHUTTING_DOWN);
            return Box::pin(std::future::ready(Input::Acted(acted)));
        };
        let panicked = unfinished(OutcomeResult::InDoubt, "what carried it out ended unexpectedly");
        let configuration = Arc::clone(&self.wiring.configuration.borrow());
        telemetry::effect_started();
        let ends = now + act.action.timeout + CLEARING_AWAY;
        self.acting_until = self.acting_until.max(ends);
        let (told, acted) = oneshot::channel();
        while self.acts.try_join_next().is_some() {}
        self.acts.spawn(async move {
            let span = MessageId::of(&[&act.attempt]);
            let trace = wire::envelope::Trace::of(act.outcome.incident.as_u128(), span);
            let traceparent = trace.map(|trace| trace.to_string());
            let Charter { programs, hosts, .. } = &configuration.charter;
            let under = Circumstances { programs, hosts, traceparent: traceparent.as_deref() };
            // Nobody asks any more: the role ended first, and whoever takes over finds the attempt in doubt.
            let _ = told.send(actuator.act(act, under).await);
        });
        Box::pin(async move { Input::Acted(acted.await.unwrap_or(panicked)) })
    }
}

fn answer(ticket: Ticket, result: Published) -> BoxFuture<'static, Input> {
    Box::pin(std::future::ready(Input::Published { ticket, result }))
}

fn published(result: Result<bus::Published, PublishError>) -> Published {
    match result {
        Ok(stored) => Published::Stored { sequence: stored.sequence, duplicate: stored.duplicate },
        Err(PublishError::WrongLastSequence { .. }) => Published::WrongLastSequence,
        // Certain not to be stored, or not certain: both are tried again, or read back.
        Err(PublishError::TimedOut | PublishError::Unavailable(_)) => Published::TimedOut,
        Err(error @ (PublishError::TooLarge(_) | PublishError::Refused(_))) => {
            tracing::error!(%error, "a decision was refused");
            Published::Refused
        }
    }
}

//! Deliveries of shared queues: taken, kept alive while they are worked on, settled last or put aside.

use std::time::Duration;

use super::Live;
use crate::bus::nats::Settler;
use crate::bus::{self, Settle};
use crate::engine::{Core, Delivery, Input, Token};
use crate::model::Timestamp;
use crate::role::decoding::Decoded;
use crate::telemetry;

/// After it a delivery of a newer version than ours is tried again.
const NEWER_VERSION_PAUSE: Duration = Duration::from_secs(5);
/// Deliveries of a newer version that were tried for this often are put aside: ten minutes.
const NEWER_VERSION_TRIES_MAX: u64 = 120;

/// A delivery that is not settled.
pub(super) struct InHand {
    pub(super) delivery: bus::Delivery,
    pub(super) settler: Settler,
}

impl<C: Core, O: FnMut(&mut C, Timestamp)> Live<C, O> {
    pub(super) async fn take_work(&mut self, deliveries: Vec<bus::Delivery>, settler: &Settler) {
        let mut work = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            match self.wiring.reader.work(self.wiring.role, &delivery) {
                Decoded::Value(Some(decoded)) => {
                    self.last_token += 1;
                    let token = Token(self.last_token);
                    work.push(Delivery { token, delivered: delivery.delivered, work: decoded });
                    self.tokens.insert(token, InHand { delivery, settler: settler.clone() });
                }
                Decoded::Value(None) => settle(settler, &delivery, Settle::Ack).await,
                Decoded::Malformed(cause) => self.bury(settler, &delivery, &cause).await,
                Decoded::Newer(cause) if delivery.delivered >= NEWER_VERSION_TRIES_MAX => {
                    self.bury(settler, &delivery, &cause).await;
                }
                Decoded::Newer(cause) => {
                    tracing::warn!(sequence = delivery.stored.sequence, %cause, "a newer version wrote this; it is left for one");
                    settle(settler, &delivery, Settle::Nak(NEWER_VERSION_PAUSE)).await;
                }
            }
        }
        if !work.is_empty() {
            self.give(Input::Work(work)).await;
        }
    }

    /// Puts a delivery where a person can look at it. Where that fails it is left, and comes again.
    pub(super) async fn bury(&mut self, settler: &Settler, delivery: &bus::Delivery, cause: &str) {
        tracing::error!(subject = %delivery.stored.subject, sequence = delivery.stored.sequence, %cause, "a message cannot be processed and is put aside");
        telemetry::dead_letter(self.wiring.role);
        let letters = (self.wiring.dead_letters)(settler.clone());
        if let Err(error) = letters.bury(self.wiring.role.as_str(), delivery, cause).await {
            tracing::warn!(%error, "it could not be put aside, and comes again");
        }
    }

    pub(super) async fn tell_progress(&mut self) {
        for in_hand in self.tokens.values() {
            // Not told in time, it comes again, and again is harmless.
            let _ = in_hand.settler.progress(&in_hand.delivery.token).await;
        }
    }
}

/// A settlement that does not arrive leaves the delivery out: it comes again, and again is harmless.
pub(super) async fn settle(settler: &Settler, delivery: &bus::Delivery, word: Settle) {
    if let Err(error) = settler.settle(&delivery.token, word).await {
        tracing::debug!(sequence = delivery.stored.sequence, %error, "a delivery could not be settled");
    }
}

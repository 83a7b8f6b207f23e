//! How a role ends: what is under way is finished, nothing new is begun, what was not begun is given back.

use std::time::Duration;

use futures::StreamExt as _;

use super::Live;
use super::deliveries::settle;
use crate::bus::Settle;
use crate::engine::Core;
use crate::model::Timestamp;

/// How long a role that is told to stop may take to finish what is under way.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// How long it may take where attempts are under way, each of which ends by its own time-out: less than the half minute that
/// the systemd unit leaves before it kills.
const DRAIN_ATTEMPTS_MAX: Duration = Duration::from_secs(25);
/// How long before the end of the drain attempts are given up, so that how they ended is still written down.
const GIVE_UP_BEFORE: Duration = Duration::from_secs(2);

impl<C: Core, O: FnMut(&mut C, Timestamp)> Live<C, O> {
    /// Finishes what is under way, begins nothing new, and gives back what was not begun.
    pub(super) async fn drain(mut self) {
        self.is_draining = true;
        // An attempt that is given up is in doubt, and nobody may repeat it.
        let acting = self.acting_until.saturating_since(self.wiring.clock.now());
        let limit = acting.clamp(DRAIN_MAX, DRAIN_ATTEMPTS_MAX);
        let giving_up = self.wiring.giving_up.clone();
        let give_up = async {
            tokio::time::sleep(limit.saturating_sub(GIVE_UP_BEFORE)).await;
            if let Some(giving_up) = giving_up {
                giving_up.cancel();
            }
            std::future::pending::<()>().await;
        };
        let finish = async {
            tokio::pin!(give_up);
            loop {
                let input = tokio::select! {
                    input = self.answers.next() => input,
                    () = &mut give_up => None,
                };
                let Some(input) = input else { return };
                let now = self.now();
                let step = self.core.handle(now, input);
                self.carry_out(now, step).await;
            }
        };
        if tokio::time::timeout(limit, finish).await.is_err() {
            tracing::warn!(role = %self.wiring.role, "stopped with decisions under way; whoever takes over finds them");
        }
        for in_hand in self.tokens.values() {
            settle(&in_hand.settler, &in_hand.delivery, Settle::Nak(Duration::ZERO)).await;
        }
        for work in [self.wiring.work.take(), self.wiring.intake.take()].into_iter().flatten() {
            work.release().await;
        }
    }
}

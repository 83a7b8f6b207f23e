//! Deliberate bugs, put around a core of production: the simulation has to find each of them.

use homeostat::engine::{Core, Done, Input, Published, Step};
use homeostat::model::Timestamp;

/// Which bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// None.
    None,
    /// Deliveries are acknowledged before anything was decided about them.
    AckFirst,
    /// Conditions on the last sequence are left out.
    NoCompareAndSet,
    /// A `duplicate` is taken for a success of one's own.
    TrustDuplicates,
}

/// A core with a bug.
pub(crate) struct Saboteur<C> {
    pub(crate) core: C,
    pub(crate) sabotage: Sabotage,
}

impl<C: Core> Core for Saboteur<C> {
    fn handle(&mut self, now: Timestamp, mut input: Input) -> Step {
        let mut acked = Vec::new();
        match (self.sabotage, &mut input) {
            (Sabotage::AckFirst, Input::Work(deliveries)) => {
                acked = deliveries.iter().map(|delivery| (delivery.token, Done::Ack)).collect();
            }
            (
                Sabotage::TrustDuplicates,
                Input::Published { result: Published::Stored { duplicate, .. }, .. },
            ) => {
                *duplicate = false;
            }
            _ => {}
        }
        let mut step = self.core.handle(now, input);
        step.done.splice(0..0, acked);
        self.break_step(step)
    }

    fn tick(&mut self, now: Timestamp) -> Step {
        let step = self.core.tick(now);
        self.break_step(step)
    }
}

impl<C> Saboteur<C> {
    fn break_step(&self, mut step: Step) -> Step {
        if self.sabotage == Sabotage::NoCompareAndSet {
            step.emit.iter_mut().for_each(|emit| emit.expected_last = None);
        }
        step
    }
}

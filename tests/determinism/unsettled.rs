//! Weather in which everything arrives in its instant, and much of it twice.

use std::time::Duration;

use homeostat::engine::Delivery;
pub(crate) use homeostat::role::world::Calm;
use homeostat::role::world::{Hop, Weather};

/// What arrives twice is drawn from a seed.
pub(crate) struct Unsettled {
    random: fastrand::Rng,
}

impl Unsettled {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed) }
    }
}

impl Weather for Unsettled {
    fn delay(&mut self, _hop: Hop) -> Duration {
        Duration::ZERO
    }

    fn is_lost(&mut self, _hop: Hop) -> bool {
        false
    }

    fn is_repeated(&mut self, _hop: Hop) -> bool {
        self.random.u8(..4) == 0
    }

    fn take(&mut self, available: usize) -> usize {
        available
    }

    fn shuffle(&mut self, _deliveries: &mut Vec<Delivery>) {}
}

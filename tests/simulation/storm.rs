//! Weather of a seed.

use std::time::Duration;

use homeostat::engine::Delivery;
use homeostat::role::world::{Hop, Weather};

/// Delays, losses and disorder drawn from a seed; calms down at the end, so that a run can come to rest.
pub(crate) struct Storm {
    pub(crate) random: fastrand::Rng,
    /// How bad it is, from 0 (calm) to 1.
    pub(crate) force: f64,
}

impl Storm {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let force = random.f64();
        Self { random, force }
    }
}

impl Weather for Storm {
    fn delay(&mut self, hop: Hop) -> Duration {
        let usual = match hop {
            Hop::Publish | Hop::Answer | Hop::Feed | Hop::Work | Hop::Settle => 2,
            Hop::Effect => 20,
        };
        let worst = if self.random.f64() < 0.05 * self.force { 1_500 } else { usual };
        Duration::from_millis(self.random.u64(0..=worst))
    }

    fn is_lost(&mut self, _hop: Hop) -> bool {
        self.random.f64() < 0.08 * self.force
    }

    fn is_repeated(&mut self, _hop: Hop) -> bool {
        self.random.f64() < 0.05 * self.force
    }

    fn take(&mut self, available: usize) -> usize {
        self.random.usize(1..=available.max(1))
    }

    fn shuffle(&mut self, deliveries: &mut Vec<Delivery>) {
        self.random.shuffle(deliveries);
        // What was delivered may be delivered again at once: the first acknowledgement was lost.
        if self.random.f64() < 0.2 * self.force
            && let Some(again) = deliveries.first().cloned()
        {
            deliveries.push(again);
        }
    }
}

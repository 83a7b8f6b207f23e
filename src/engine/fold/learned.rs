//! What verdicts teach: how often a playbook helps against a cause.
//!
//! A Beta posterior over the probability that a plan is verified, with a uniform prior; old verdicts count for half
//! after [`HALF_LIFE`] of ledger time, so that what was true of last year's system does not decide for ever.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Timestamp, Verdict, VerdictKind};

/// After it a verdict counts for half.
const HALF_LIFE: Duration = Duration::from_hours(30 * 24);
/// Playbook × cause pairs that are remembered; the least recently taught goes first.
const PAIRS_MAX: usize = 10_000;
/// The quantile of the normal distribution below which 95 % lie.
const Z_95: f64 = 1.645;

/// How often a playbook helped against a cause, as pseudo-counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effectiveness {
    /// Verified plans, decayed.
    pub helped: f64,
    /// Ineffective or harmful plans, decayed.
    pub failed: f64,
    /// The last verdict, in ledger time.
    pub at: Timestamp,
}

impl Effectiveness {
    /// The expected probability of helping, with the uniform prior Beta(1, 1).
    pub fn mean(&self) -> f64 {
        (self.helped + 1.0) / (self.helped + self.failed + 2.0)
    }

    /// A bound that the probability exceeds with about 95 %: the normal approximation of the posterior.
    pub fn lower_bound(&self) -> f64 {
        let (alpha, beta) = (self.helped + 1.0, self.failed + 1.0);
        let total = alpha + beta;
        let deviation = (alpha * beta / (total * total * (total + 1.0))).sqrt();
        (alpha / total - Z_95 * deviation).max(0.0)
    }

    /// Nothing known.
    pub fn unknown(now: Timestamp) -> Self {
        Self { helped: 0.0, failed: 0.0, at: now }
    }

    /// What is known after one more verdict.
    #[must_use]
    pub fn taught(self, kind: VerdictKind, now: Timestamp) -> Self {
        let (helped, failed) = match kind {
            VerdictKind::Verified => (1.0, 0.0),
            VerdictKind::Ineffective | VerdictKind::Harmful => (0.0, 1.0),
            VerdictKind::Inconclusive => return self,
        };
        let before = self.decayed(now);
        Self { helped: before.helped + helped, failed: before.failed + failed, at: before.at }
    }

    fn decayed(self, now: Timestamp) -> Self {
        let age = now.saturating_since(self.at).as_secs_f64();
        let factor = 0.5_f64.powf(age / HALF_LIFE.as_secs_f64());
        Self { helped: self.helped * factor, failed: self.failed * factor, at: self.at.max(now) }
    }
}

/// What is known of all playbooks.
#[derive(Clone, Debug, Default)]
pub struct Learned {
    pairs: BTreeMap<(Arc<str>, Arc<str>), Effectiveness>,
}

impl Learned {
    /// How often `playbook` helps against `cause`, as known at `now`.
    pub fn of(&self, playbook: &Arc<str>, cause: &Arc<str>, now: Timestamp) -> Effectiveness {
        self.pairs
            .get(&(Arc::clone(playbook), Arc::clone(cause)))
            .map_or_else(|| Effectiveness::unknown(now), |known| known.decayed(now))
    }

    /// Everything known: playbook, cause, effectiveness at its last verdict.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, &Effectiveness)> {
        self.pairs.iter().map(|((playbook, cause), known)| (playbook.as_ref(), cause.as_ref(), known))
    }

    pub(super) fn learn(&mut self, stored_at: Timestamp, verdict: &Verdict) {
        if verdict.kind == VerdictKind::Inconclusive {
            return;
        }
        let pair = (Arc::clone(&verdict.playbook), Arc::clone(&verdict.cause));
        let known = self.pairs.entry(pair).or_insert_with(|| Effectiveness::unknown(stored_at));
        *known = known.taught(verdict.kind, stored_at);
        if self.pairs.len() > PAIRS_MAX {
            let oldest = self.pairs.iter().min_by_key(|(_, known)| known.at).map(|(pair, _)| pair.clone());
            oldest.and_then(|pair| self.pairs.remove(&pair));
        }
    }
}

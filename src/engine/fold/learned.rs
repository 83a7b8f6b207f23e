//! What verdicts teach: how often a playbook helps against a cause in a scope.
//!
//! A Beta posterior over the probability that a plan is verified, with a uniform prior; old verdicts count for half
//! after [`HALF_LIFE`] of ledger time, so that what was true of last year's system does not decide for ever. Verdicts of
//! other scopes are the prior of a scope, with the weight of at most [`ELSEWHERE_MAX`] of its own: what never helped
//! anywhere begins low in a new place, and a place that differs is believed after a few verdicts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::LearnedSnapshot;
use crate::model::{Labels, Timestamp, Verdict, VerdictKind};

/// After it a verdict counts for half.
const HALF_LIFE: Duration = Duration::from_hours(30 * 24);
/// Playbook × cause pairs that are remembered, and as many of them with a scope; the least recently taught goes first.
const PAIRS_MAX: usize = 10_000;
/// How many verdicts of the scope itself all those of other scopes weigh at most.
const ELSEWHERE_MAX: f64 = 4.0;
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

    /// What is known in one place, if this is known of it and `everywhere` of all places.
    fn with_prior(self, everywhere: Self) -> Self {
        // Both have decayed alike, so that the difference is what other places taught.
        let helped = (everywhere.helped - self.helped).max(0.0);
        let failed = (everywhere.failed - self.failed).max(0.0);
        let elsewhere = helped + failed;
        let weight = if elsewhere > ELSEWHERE_MAX { ELSEWHERE_MAX / elsewhere } else { 1.0 };
        Self { helped: self.helped + helped * weight, failed: self.failed + failed * weight, at: self.at }
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
    scoped: BTreeMap<(Arc<str>, Arc<str>, Labels), Effectiveness>,
}

impl Learned {
    /// How often `playbook` helps against `cause` in `scope`, as known at `now`.
    pub fn of(&self, playbook: &Arc<str>, cause: &Arc<str>, scope: &Labels, now: Timestamp) -> Effectiveness {
        if self.pairs.is_empty() {
            return Effectiveness::unknown(now);
        }
        let known = |found: Option<&Effectiveness>| {
            found.map_or_else(|| Effectiveness::unknown(now), |known| known.decayed(now))
        };
        let everywhere = known(self.pairs.get(&(Arc::clone(playbook), Arc::clone(cause))));
        let here = known(self.scoped.get(&(Arc::clone(playbook), Arc::clone(cause), scope.clone())));
        here.with_prior(everywhere)
    }

    pub(super) fn learn(&mut self, stored_at: Timestamp, verdict: &Verdict) {
        let pair = (Arc::clone(&verdict.playbook), Arc::clone(&verdict.cause));
        let scoped = (Arc::clone(&verdict.playbook), Arc::clone(&verdict.cause), verdict.scope.clone());
        teach(&mut self.pairs, pair, verdict.kind, stored_at);
        teach(&mut self.scoped, scoped, verdict.kind, stored_at);
    }

    pub(super) fn snapshot(&self) -> Vec<LearnedSnapshot> {
        let row = |playbook: &Arc<str>, cause: &Arc<str>, scope: Option<&Labels>, known: &Effectiveness| {
            let (playbook, cause, scope) = (Arc::clone(playbook), Arc::clone(cause), scope.cloned());
            LearnedSnapshot { playbook, cause, scope, known: *known }
        };
        let pairs = self.pairs.iter().map(|((playbook, cause), known)| row(playbook, cause, None, known));
        let scoped = self
            .scoped
            .iter()
            .map(|((playbook, cause, scope), known)| row(playbook, cause, Some(scope), known));
        pairs.chain(scoped).collect()
    }

    pub(super) fn restore(rows: Vec<LearnedSnapshot>) -> Self {
        let mut restored = Self::default();
        for LearnedSnapshot { playbook, cause, scope, known } in rows {
            match scope {
                Some(scope) => drop(restored.scoped.insert((playbook, cause, scope), known)),
                None => drop(restored.pairs.insert((playbook, cause), known)),
            }
        }
        restored
    }
}

fn teach<Key: Ord + Clone>(
    known: &mut BTreeMap<Key, Effectiveness>,
    key: Key,
    kind: VerdictKind,
    stored_at: Timestamp,
) {
    if kind == VerdictKind::Inconclusive {
        return;
    }
    let taught = known.entry(key).or_insert_with(|| Effectiveness::unknown(stored_at));
    *taught = taught.taught(kind, stored_at);
    if known.len() > PAIRS_MAX {
        let oldest = known.iter().min_by_key(|(_, known)| known.at).map(|(key, _)| key.clone());
        oldest.and_then(|key| known.remove(&key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{IncidentId, PlanId};

    fn learned(verdicts: &[(&str, VerdictKind)]) -> Learned {
        let mut learned = Learned::default();
        for (place, kind) in verdicts {
            let verdict = Verdict {
                plan: PlanId::of(&[place]),
                incident: IncidentId::of(&[place]),
                playbook: "restart".into(),
                cause: "leak".into(),
                scope: scope(place),
                kind: *kind,
                reason: "".into(),
                before: None,
                after: None,
                evaluations: 1,
                at: Timestamp::from_millis(0),
            };
            learned.learn(Timestamp::from_millis(0), &verdict);
        }
        learned
    }

    fn scope(place: &str) -> Labels {
        Labels::new([("zone", place)]).unwrap()
    }

    fn mean(learned: &Learned, place: &str, at: i64) -> f64 {
        let known = learned.of(&"restart".into(), &"leak".into(), &scope(place), Timestamp::from_millis(at));
        known.mean()
    }

    #[test]
    fn other_places_are_the_prior_of_a_place_and_its_own_verdicts_soon_outweigh_them() {
        let mut verdicts = vec![("a", VerdictKind::Verified); 100];
        assert!((mean(&learned(&verdicts), "b", 0) - 5.0 / 6.0).abs() < 1e-12);
        verdicts.extend([("b", VerdictKind::Ineffective); 6]);
        let learned = learned(&verdicts);
        assert!(mean(&learned, "b", 0) < 0.5 && mean(&learned, "a", 0) > 0.9);
    }

    #[test]
    fn nothing_known_is_even_and_what_says_nothing_teaches_nothing() {
        for verdicts in [&[][..], &[("a", VerdictKind::Inconclusive)]] {
            assert!((mean(&learned(verdicts), "a", 0) - 0.5).abs() < f64::EPSILON);
        }
    }

    #[test]
    fn what_was_learned_long_ago_counts_for_half() {
        let learned = learned(&[("a", VerdictKind::Verified); 2]);
        let half_life = i64::try_from(HALF_LIFE.as_millis()).unwrap();
        assert!((mean(&learned, "a", 0) - 3.0 / 4.0).abs() < 1e-12);
        assert!((mean(&learned, "a", half_life) - 2.0 / 3.0).abs() < 1e-12);
    }
}

//! Which episodes in the ledger are this monitor's, and which of the firing ones nobody has found again since the start.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::intake::EXTERNAL_GROUP;
use crate::model::{EpisodeId, Labels, Phase, RuleName, Timestamp, Violation};

/// What was decided last about an episode.
#[derive(Clone, Copy, Debug)]
struct Decided {
    rev: u32,
    is_over: bool,
}

/// A firing episode that nobody has found again.
#[derive(Clone, Debug)]
pub(super) struct Orphan {
    /// Its newest revision.
    pub(super) violation: Arc<Violation>,
    /// When that was recorded.
    pub(super) stored_at: Timestamp,
}

/// Episodes of rules.
#[derive(Debug, Default)]
pub(super) struct Episodes {
    /// Those this monitor has decided on, until the ledger shows that they are over.
    ours: BTreeMap<EpisodeId, Decided>,
    /// Those that fire, going by the ledger, and that no violation of ours belongs to: from before a restart.
    orphans: BTreeMap<(RuleName, Labels), Orphan>,
}

impl Episodes {
    /// A revision was decided.
    pub(super) fn decided(&mut self, violation: &Violation) {
        let is_over = violation.phase == Phase::Resolved;
        self.ours.insert(violation.episode, Decided { rev: violation.rev, is_over });
        if let Some(orphan) = self.orphans.get(&key(violation))
            && orphan.violation.episode == violation.episode
        {
            self.orphans.remove(&key(violation));
        }
    }

    /// Takes in what the ledger says. Returns true where it says that an episode is over which fires for us.
    pub(super) fn learn(&mut self, violation: &Arc<Violation>, stored_at: Timestamp) -> bool {
        if violation.rule.group.as_ref() == EXTERNAL_GROUP {
            return false;
        }
        if let Some(decided) = self.ours.get(&violation.episode).copied() {
            if decided.is_over && violation.rev >= decided.rev {
                self.ours.remove(&violation.episode);
            }
            return !decided.is_over && violation.phase == Phase::Resolved;
        }
        let key = key(violation);
        match violation.phase {
            Phase::Firing => {
                self.orphans.insert(key, Orphan { violation: Arc::clone(violation), stored_at });
            }
            Phase::Resolved => {
                let known = self.orphans.get(&key).map(|orphan| orphan.violation.episode);
                if known == Some(violation.episode) {
                    self.orphans.remove(&key);
                }
            }
            Phase::Pending => {}
        }
        false
    }

    /// The ledger has what was decided about an episode, or something newer, or will never have it.
    pub(super) fn settled(&mut self, episode: EpisodeId, rev: u32) {
        if self.ours.get(&episode).is_some_and(|decided| decided.is_over && decided.rev <= rev) {
            self.ours.remove(&episode);
        }
    }

    /// The episode that a rule has found again at `at`.
    pub(super) fn claim(
        &mut self,
        rule: &RuleName,
        labels: &Labels,
        at: Timestamp,
    ) -> Option<Arc<Violation>> {
        if self.orphans.is_empty() {
            return None;
        }
        let key = (rule.clone(), labels.clone());
        // One that begins now or later is of the time after a checkpoint: it takes the same course once more.
        if self.orphans.get(&key)?.violation.since >= at {
            return None;
        }
        let found = self.orphans.remove(&key)?.violation;
        self.ours.insert(found.episode, Decided { rev: found.rev, is_over: false });
        Some(found)
    }

    /// An episode of a checkpoint.
    pub(super) fn restore(&mut self, episode: EpisodeId, rev: u32) {
        self.ours.insert(episode, Decided { rev, is_over: false });
    }

    /// Forgets what is said to be ours: its violation is given up.
    pub(super) fn disown(&mut self, episode: EpisodeId) {
        self.ours.remove(&episode);
    }

    /// Firing episodes that nobody has found again, in the order of rules and labels.
    pub(super) fn orphans(&self) -> impl Iterator<Item = &Orphan> {
        self.orphans.values()
    }

    pub(super) fn has_orphans(&self) -> bool {
        !self.orphans.is_empty()
    }
}

fn key(violation: &Violation) -> (RuleName, Labels) {
    (violation.rule.clone(), violation.labels.clone())
}

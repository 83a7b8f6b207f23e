//! Which episodes in the ledger are this monitor's, and which of the firing ones nobody has found again since the start.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::deadlines::{JOIN_WAIT, event_time};
use super::evaluation::{Evaluation, just_before};
use super::intake::EXTERNAL_GROUP;
use super::live::{Live, Source, earliest};
use super::phases::{Course, Stage};
use super::producers::{ProducerId, Producers};
use crate::engine::ById;
use crate::model::{EpisodeId, Labels, Phase, RuleName, Timestamp, Violation};

/// How long after its newest revision an episode is left alone that nobody has found again: the ledger may be half read,
/// and the samples of that time may not be in.
const ORPHAN_PATIENCE: Duration = Duration::from_secs(5);

/// How far behind the instant they come in at samples may be, for the end of their episode to be remembered: ten times the
/// lateness that they are put in their place with.
const BEHIND_MAX: Duration = Duration::from_secs(50);

/// How much earlier than the ledger says an episode that is over may be found to begin, and be the same one: a monitor that
/// lost its connection for so long missed its first samples, and the sample stream did not.
const MISSED_MAX: Duration = Duration::from_secs(5);

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
    ours: ById<EpisodeId, Decided>,
    /// Those that fire, going by the ledger, and that no violation of ours belongs to: from before a restart.
    orphans: BTreeMap<(RuleName, Labels), Orphan>,
    /// Those from before a restart that are over, going by the ledger, and whose samples may come once more, oldest first: as
    /// many as ended in the tail of the sample stream.
    over: BTreeMap<(RuleName, Labels), Vec<Arc<Violation>>>,
}

/// An episode that a rule has found again.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// What the ledger says of it.
    pub(super) violation: Arc<Violation>,
    /// The revision it fires with.
    pub(super) rev: u32,
    /// When it was over, going by the ledger.
    pub(super) over_at: Option<Timestamp>,
}

impl Episodes {
    /// A revision was decided.
    pub(super) fn decided(&mut self, violation: &Violation) {
        let is_over = violation.phase == Phase::Resolved;
        self.ours.insert(violation.episode, Decided { rev: violation.rev, is_over });
        if is_over {
            // It has taken its course once more: what holds from now on, of a time before its end too, is another one.
            self.forget_end(violation);
        }
        if self.orphans.is_empty() {
            return;
        }
        let orphan = self.orphans.get(&key(violation));
        if orphan.is_some_and(|orphan| orphan.violation.episode == violation.episode) {
            self.orphans.remove(&key(violation));
        }
    }

    fn forget_end(&mut self, violation: &Violation) {
        if self.over.is_empty() {
            return;
        }
        let key = key(violation);
        if let Some(over) = self.over.get_mut(&key) {
            over.retain(|over| over.episode != violation.episode);
            if over.is_empty() {
                self.over.remove(&key);
            }
        }
    }

    /// Takes in what the ledger says, at `now`. Returns true where it says that an episode is over which fires for us.
    pub(super) fn learn(&mut self, violation: &Arc<Violation>, stored_at: Timestamp, now: Timestamp) -> bool {
        if violation.rule.group.as_ref() == EXTERNAL_GROUP {
            return false;
        }
        if let Some(decided) = self.ours.get(violation.episode).copied() {
            if decided.is_over && violation.rev >= decided.rev {
                self.ours.remove(violation.episode);
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
                if violation.at + BEHIND_MAX > now {
                    self.over.entry(key).or_default().push(Arc::clone(violation));
                }
            }
            Phase::Pending => {}
        }
        false
    }

    /// The ledger has what was decided about an episode, or something newer, or will never have it.
    pub(super) fn settled(&mut self, episode: EpisodeId, rev: u32) {
        if self.ours.get(episode).is_some_and(|decided| decided.is_over && decided.rev <= rev) {
            self.ours.remove(episode);
        }
    }

    /// The episode that a rule has found again at `at`.
    pub(super) fn claim(&mut self, rule: &RuleName, labels: &Labels, at: Timestamp) -> Option<Found> {
        if self.orphans.is_empty() && self.over.is_empty() {
            return None;
        }
        let key = (rule.clone(), labels.clone());
        let over = self.over.get(&key).map_or(&[][..], Vec::as_slice);
        if over.iter().any(|over| over.since == at) {
            return None;
        }
        let is_within = |over: &&Arc<Violation>| over.since < at + MISSED_MAX && at < over.at;
        let found = if let Some(over) = over.iter().find(is_within) {
            // Not all samples that it was decided on come once more, or more than those.
            let rev = over.rev.saturating_sub(1);
            Found { violation: Arc::clone(over), rev, over_at: Some(over.at) }
        } else if self.orphans.get(&key)?.violation.since >= at {
            // One that begins now or later is of the time after a checkpoint: it takes the same course once more.
            return None;
        } else {
            let violation = self.orphans.remove(&key)?.violation;
            Found { rev: violation.rev, violation, over_at: None }
        };
        self.ours.insert(found.violation.episode, Decided { rev: found.rev, is_over: false });
        Some(found)
    }

    /// Forgets what is over for so long that its samples do not come any more.
    pub(super) fn forget_over(&mut self, now: Timestamp) {
        self.over.retain(|_, episodes| {
            episodes.retain(|over| over.at + BEHIND_MAX > now);
            !episodes.is_empty()
        });
    }

    /// The firing episode of a rule and labels that nobody has found again.
    fn orphan(&self, rule: &RuleName, labels: &Labels) -> Option<&Arc<Violation>> {
        if self.orphans.is_empty() {
            return None;
        }
        self.orphans.get(&(rule.clone(), labels.clone())).map(|orphan| &orphan.violation)
    }

    /// An episode of a checkpoint.
    pub(super) fn restore(&mut self, episode: EpisodeId, rev: u32) {
        self.ours.insert(episode, Decided { rev, is_over: false });
    }

    /// Forgets what is said to be ours: its violation is given up.
    pub(super) fn disown(&mut self, episode: EpisodeId) {
        self.ours.remove(episode);
    }

    /// Firing episodes that nobody has found again, in the order of rules and labels.
    pub(super) fn orphans(&self) -> impl Iterator<Item = &Orphan> {
        self.orphans.values()
    }

    pub(super) fn has_orphans(&self) -> bool {
        !self.orphans.is_empty()
    }
}

impl Evaluation {
    /// Takes in what the ledger says of an episode.
    pub(super) fn learn(
        &mut self,
        producers: &Producers,
        violation: &Arc<Violation>,
        (stored_at, now): (Timestamp, Timestamp),
    ) {
        if self.episodes.learn(violation, stored_at, now) {
            let same = self.rules.iter().filter(|rule| rule.spec.name == violation.rule);
            let places = same.filter_map(|rule| rule.state.violations.get(&violation.labels).copied());
            let is_it =
                |place: &u32| self.lives.get(*place).is_some_and(|live| live.episode == violation.episode);
            for place in places.filter(is_it).collect::<Vec<u32>>() {
                self.contradict(producers, place, violation.at);
            }
        }
        if self.episodes.has_orphans() {
            self.orphans_at = Some(Timestamp::MIN);
        }
    }

    /// Ends the episodes of the ledger that no rule has found again, once that is known for sure.
    pub(super) fn settle_orphans(&mut self, producers: &Producers, now: Timestamp) {
        let (Some(since), Some(at)) = (self.observed_since, self.orphans_at) else { return };
        if at > now {
            return;
        }
        self.orphans_at = None;
        let mut rules: BTreeMap<&RuleName, Vec<u32>> = BTreeMap::new();
        for (rule, place) in self.rules.iter().zip(0..) {
            rules.entry(&rule.spec.name).or_default().push(place);
        }
        let mut found_again = Vec::new();
        let mut over = Vec::new();
        for Orphan { violation: orphan, stored_at } in self.episodes.orphans() {
            let places = rules.get(&orphan.rule).map_or(&[][..], Vec::as_slice);
            let known = || places.iter().filter_map(|place| self.rules.get(*place as usize));
            let live = known().find_map(|rule| rule.state.violations.get(&orphan.labels));
            let found = live.and_then(|place| Some((*place, self.lives.get(*place)?)));
            if found.is_some_and(|(_, live)| live.episode == orphan.episode) {
                // It takes the same course once more, and has not come to where the ledger is.
                self.orphans_at = earliest(self.orphans_at, Some(now + ORPHAN_PATIENCE));
                continue;
            }
            let found = found.filter(|(_, live)| live.course.stage == Stage::Pending);
            let over_at = found.and_then(|(_, live)| self.over_at(orphan, live));
            if let Some((place, _)) = found.filter(|_| over_at.is_none()) {
                found_again.push((place, Arc::clone(orphan)));
                continue;
            }
            let window = known().map(|rule| rule.window).max();
            let complete_at = since + window.map_or(ORPHAN_PATIENCE, |window| window + JOIN_WAIT);
            let complete_at = if over_at.is_some() { since } else { complete_at };
            // After a checkpoint the ledger is ahead of the samples.
            let known_at = complete_at.max(*stored_at + ORPHAN_PATIENCE);
            let is_known = known_at <= now && (self.heard || window.is_none());
            if is_known && self.is_configured {
                over.push((Arc::clone(orphan), over_at));
            } else if known_at > now {
                self.orphans_at = earliest(self.orphans_at, Some(known_at));
            }
        }
        for (place, orphan) in found_again {
            self.adopt(place, &orphan);
        }
        for (orphan, over_at) in over {
            let at = over_at.unwrap_or_else(|| event_time(producers, ProducerId::NOBODY, now)).max(orphan.at);
            let resolved = Violation { rev: orphan.rev + 1, phase: Phase::Resolved, at, ..(*orphan).clone() };
            self.episodes.decided(&resolved);
            self.drafts.violations.push(Arc::new(resolved));
        }
    }

    /// Ends an episode of the ledger whose series has had a sample since with which the rule did not hold: what begins at
    /// `at` is another one.
    pub(super) fn end_what_did_not_hold(
        &mut self,
        rule: u32,
        labels: &Labels,
        source: Source,
        at: Timestamp,
    ) {
        let Some(known) = self.rules.get(rule as usize) else { return };
        let Some(orphan) = self.episodes.orphan(&known.spec.name, labels) else { return };
        let Some(over_at) = self.not_held_at(rule, source, (orphan.at, at)) else { return };
        let resolved = Violation {
            rev: orphan.rev + 1,
            phase: Phase::Resolved,
            at: over_at,
            ..Violation::clone(orphan)
        };
        self.episodes.decided(&resolved);
        self.drafts.violations.push(Arc::new(resolved));
    }

    /// When an episode of the ledger was over, going by the samples before a violation that could be taken for it.
    fn over_at(&self, orphan: &Violation, live: &Live) -> Option<Timestamp> {
        self.not_held_at(live.rule, live.source, (orphan.at, live.course.since))
    }

    /// The last sample of a violation's series between two times, where the rule did not hold with it.
    fn not_held_at(
        &self,
        rule: u32,
        source: Source,
        (after, before): (Timestamp, Timestamp),
    ) -> Option<Timestamp> {
        let Source::Series(place) = source else { return None };
        if !self.rules.get(rule as usize)?.timing.keep_firing.is_zero() {
            return None;
        }
        let id = self.index.entries.get(place as usize)?.id;
        let (last, _) = self.store.samples(id, after, just_before(before)).last()?;
        self.value_of(rule, place, *last).is_none().then_some(*last)
    }

    fn adopt(&mut self, place: u32, orphan: &Violation) {
        let Some(live) = self.lives.get_mut(place) else { return };
        let at = live.course.evaluated_at;
        if let Some(found) = self.episodes.claim(&orphan.rule, &orphan.labels, at) {
            live.held_since = Some(live.course.since).filter(|_| found.over_at.is_none());
            live.course = Course::firing(found.violation.since, found.rev, at, live.course.value);
            live.episode = found.violation.episode;
            live.contradicted = found.over_at;
        }
    }
}

fn key(violation: &Violation) -> (RuleName, Labels) {
    (violation.rule.clone(), violation.labels.clone())
}

//! What the ledger tells, followed from its first record on, and what must hold of it whatever was killed.

use std::collections::{BTreeMap, BTreeSet};

use homeostat::bus::nats::{Connection, Ledger};
use homeostat::model::{
    Admission, AttemptId, Entry, EpisodeId, IncidentId, IncidentPhase, Intent, Mode, OutcomeResult, Phase,
    PlanEnd, PlanId, Reason, Record, Role, Topic, VerdictKind,
};
use homeostat::role::read_record;
use homeostat::wire::Subjects;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::{Bed, soon};
use crate::target::World;

/// Records taken at once.
const AT_ONCE_MAX: usize = 256;

/// Follows the ledger while it lives.
pub(crate) struct Chronicle {
    story: watch::Receiver<Story>,
    _following: JoinSet<()>,
}

impl Chronicle {
    pub(crate) async fn open(bed: &Bed, connection: Connection) -> Self {
        let ledger = Ledger::open(connection, &bed.names).await.unwrap();
        let subjects = Subjects::new("homeostat").unwrap();
        let (told, story) = watch::channel(Story::default());
        let mut following = JoinSet::new();
        following.spawn(async move {
            let mut feed = ledger.feed(1, None);
            loop {
                let stored = feed.next_batch(AT_ONCE_MAX).await.unwrap();
                // Nothing is made of what cannot be read: the loop goes on without it, and so does its story.
                let records: Vec<Record> =
                    stored.iter().filter_map(|stored| read_record(&subjects, stored)).collect();
                told.send_modify(|story| records.iter().for_each(|record| story.add(record)));
            }
        });
        Self { story, _following: following }
    }

    /// Waits until the ledger tells it.
    pub(crate) async fn until(&self, what: &str, holds: impl FnMut(&Story) -> bool) {
        let mut story = self.story.clone();
        let waited = soon(what, story.wait_for(holds)).await;
        assert!(waited.is_ok(), "the ledger cannot be followed");
    }

    /// What it has told so far.
    pub(crate) fn so_far(&self) -> watch::Ref<'_, Story> {
        self.story.borrow()
    }
}

/// What the records say, by what they are about.
#[derive(Debug, Default)]
pub(crate) struct Story {
    /// Messages of violations: what the analyzers are delivered.
    pub(crate) violation_messages: u64,
    /// Episodes by the unit that they are about, each with its newest revision. A monitor that missed samples may tell of
    /// one violation in two episodes; then both are of the same incident.
    pub(crate) episodes: BTreeMap<String, BTreeMap<EpisodeId, (u32, Phase)>>,
    /// Everything that was said of a unit, for a failure's message.
    said: BTreeMap<String, Vec<String>>,
    /// Every time an episode joined an incident.
    joined: BTreeMap<EpisodeId, Vec<IncidentId>>,
    pub(crate) incidents: BTreeMap<IncidentId, IncidentPhase>,
    pub(crate) plans: BTreeMap<PlanId, (IncidentId, Mode)>,
    released: BTreeMap<PlanId, PlanEnd>,
    pub(crate) intents: BTreeMap<AttemptId, (u64, Intent)>,
    pub(crate) outcomes: BTreeMap<AttemptId, BTreeSet<OutcomeResult>>,
    verdicts: BTreeMap<PlanId, BTreeSet<VerdictKind>>,
    in_doubt: BTreeSet<PlanId>,
    /// Which processes wrote incidents, plans and intents, and how many.
    deciders: BTreeMap<(Role, String), usize>,
}

impl Story {
    fn add(&mut self, record: &Record) {
        self.violation_messages += u64::from(matches!(record.topic, Topic::Violations(_)));
        for entry in &record.batch.entries {
            self.add_entry(record, entry);
        }
    }

    fn add_entry(&mut self, record: &Record, entry: &Entry) {
        match entry {
            Entry::Violation(violation) => {
                let unit = violation.labels.get("unit").unwrap_or_default().to_owned();
                self.said.entry(unit.clone()).or_default().push(format!(
                    "#{} {} {} rev {} {} by {} at {}",
                    record.sequence,
                    record.stored_at,
                    violation.episode,
                    violation.rev,
                    violation.phase,
                    record.batch.instance,
                    violation.at,
                ));
                let newest = self.episodes.entry(unit).or_default().entry(violation.episode);
                let revision = (violation.rev, violation.phase);
                let newest = newest.or_insert(revision);
                // A monitor that begins anew may say again what was said before; older revisions are ignored.
                if newest.0 < revision.0 {
                    *newest = revision;
                }
            }
            // On their own subjects incidents are copies for subscribers.
            Entry::Incident(incident) if matches!(record.topic, Topic::Analyses(_)) => {
                self.incidents.insert(incident.id, incident.phase);
                self.decided(record);
                for episode in &incident.joined {
                    self.joined.entry(*episode).or_default().push(incident.id);
                }
            }
            Entry::Plan(plan) => {
                self.plans.insert(plan.id, (plan.incident, plan.mode));
                self.decided(record);
            }
            Entry::Admission(Admission::Intent(intent)) => {
                let known = self.intents.insert(intent.attempt, (record.sequence, Intent::clone(intent)));
                assert!(known.is_none(), "two intents for one attempt: {known:?} and {intent:?}");
                self.decided(record);
            }
            Entry::Admission(Admission::Release(release)) => {
                self.released.entry(release.plan).or_insert(release.end);
            }
            Entry::Outcome(outcome) => {
                self.outcomes.entry(outcome.attempt).or_default().insert(outcome.result);
            }
            Entry::Verdict(verdict) => {
                self.verdicts.entry(verdict.plan).or_default().insert(verdict.kind);
            }
            Entry::Report(report) if report.reason == Reason::InDoubt => self.in_doubt.extend(report.plan),
            Entry::Report(_)
            | Entry::Incident(_)
            | Entry::Analysis(_)
            | Entry::Admission(
                Admission::Halt { .. } | Admission::Resume { .. } | Admission::Charter { .. },
            )
            | Entry::Change(_)
            | Entry::Applied { .. } => {}
        }
    }

    fn decided(&mut self, record: &Record) {
        *self.deciders.entry((record.batch.role, record.batch.instance.to_string())).or_default() += 1;
    }

    /// Whether a violation of this unit was recorded.
    pub(crate) fn knows(&self, unit: &str) -> bool {
        self.episodes.contains_key(unit)
    }

    /// Plans with this verdict.
    pub(crate) fn judged(&self, kind: VerdictKind) -> usize {
        self.verdicts.values().filter(|kinds| kinds.contains(&kind)).count()
    }

    /// How many attempts ended so.
    pub(crate) fn ended(&self, result: OutcomeResult) -> usize {
        self.outcomes.values().filter(|results| results.contains(&result)).count()
    }

    /// How the attempts for a unit ended, and their plans.
    pub(crate) fn attempts_on(
        &self,
        unit: &str,
    ) -> Vec<(Option<&BTreeSet<OutcomeResult>>, Option<&PlanEnd>)> {
        let of_unit = self.intents.values().filter(|(_, intent)| intent.scope.get("unit") == Some(unit));
        of_unit
            .map(|(_, intent)| (self.outcomes.get(&intent.attempt), self.released.get(&intent.plan)))
            .collect()
    }

    /// The processes of a role that decided something, and how much.
    pub(crate) fn deciders(&self, role: Role) -> BTreeMap<&str, usize> {
        let of_role = self.deciders.iter().filter(|((known, _), _)| *known == role);
        of_role.map(|((_, instance), count)| (instance.as_str(), *count)).collect()
    }

    /// What was begun and has not ended; nothing where all has.
    pub(crate) fn unfinished(&self) -> Vec<String> {
        let mut left = Vec::new();
        for (unit, episodes) in &self.episodes {
            for (episode, (_, phase)) in episodes {
                if *phase != Phase::Resolved {
                    left.push(format!("{episode} of {unit} is {phase}: {:#?}", self.said[unit]));
                }
                if !self.joined.contains_key(episode) {
                    left.push(format!("{episode} of {unit} is in no incident"));
                }
            }
        }
        let open = self.incidents.iter().filter(|(_, phase)| **phase == IncidentPhase::Open);
        left.extend(open.map(|(incident, _)| format!("{incident} is open")));
        let attempts = self.intents.keys().filter(|attempt| !self.outcomes.contains_key(attempt));
        left.extend(attempts.map(|attempt| format!("{attempt} has no outcome")));
        let plans = self.plans.iter().filter(|(_, (_, mode))| *mode == Mode::Auto);
        let held = plans.filter(|(plan, _)| !self.released.contains_key(plan));
        left.extend(held.map(|(plan, _)| format!("{plan} is not released")));
        left
    }

    /// What must hold at any time, whatever happened; the targets' view of the world beside the ledger's.
    pub(crate) fn check(&self, world: &World) {
        for (unit, episodes) in &self.episodes {
            let incidents = episodes.keys().filter_map(|episode| self.joined.get(episode)).flatten();
            let incidents: BTreeSet<&IncidentId> = incidents.collect();
            assert!(incidents.len() <= 1, "{unit} broke once: {incidents:?} {:#?}", self.said[unit]);
        }
        for (episode, incidents) in &self.joined {
            assert_eq!(incidents.len(), 1, "{episode} joined more than once: {incidents:?}");
        }
        for (attempt, results) in &self.outcomes {
            assert_eq!(results.len(), 1, "{attempt} ended as {results:?}");
            assert!(self.intents.contains_key(attempt), "{attempt} ended and was not admitted");
        }
        for (plan, kinds) in &self.verdicts {
            assert_eq!(kinds.len(), 1, "{plan} has the verdicts {kinds:?}");
        }
        self.check_calls(world);
        let in_doubt = self.intents.values().filter(|(_, intent)| {
            let results = self.outcomes.get(&intent.attempt);
            results.is_some_and(|results| results.contains(&OutcomeResult::InDoubt))
        });
        for (_, intent) in in_doubt {
            assert!(self.in_doubt.contains(&intent.plan), "{} is in doubt and not reported", intent.attempt);
        }
    }

    /// No attempt was carried out twice, and none without an intent.
    fn check_calls(&self, world: &World) {
        let admitted: BTreeMap<(String, u64), &Intent> = self
            .intents
            .values()
            .map(|(sequence, intent)| ((intent.action.to_string(), *sequence), intent))
            .collect();
        for (call, count) in &world.calls {
            assert_eq!(*count, 1, "{call:?} arrived {count} times");
            let intent = admitted.get(&(call.key.clone(), call.fence));
            let intent = intent.unwrap_or_else(|| panic!("{call:?} was not admitted"));
            let result = self.outcomes.get(&intent.attempt);
            let not_started = result.is_some_and(|results| results.contains(&OutcomeResult::NotStarted));
            assert!(!not_started, "{call:?} arrived and is said not to have been started");
        }
        for (key, count) in &world.effects {
            assert_eq!(*count, 1, "{key} took effect {count} times");
        }
        for (unit, keys) in &world.acted_on {
            assert_eq!(
                keys.len(),
                1,
                "{unit} broke once and was acted on by {keys:?}: {:#?}",
                self.said[unit]
            );
        }
    }
}

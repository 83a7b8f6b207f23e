//! What the loop had decided at each instant.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use homeostat::engine::fold::Fold;
use homeostat::model::{Admission, Entry, Record, Timestamp, Topic};

/// The state at each instant in which something was decided.
#[derive(Debug, Default)]
pub(crate) struct Story(BTreeMap<Timestamp, State>);

/// A state as lines: what is in it, without the places in the ledger, which depend on how the input was cut.
#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    episodes: Vec<String>,
    incidents: Vec<String>,
    plans: Vec<String>,
    /// On the subject `admission`, in its order.
    admissions: Vec<String>,
    reports: BTreeSet<String>,
}

impl Story {
    pub(crate) fn of(records: &[Arc<Record>]) -> Self {
        let mut story = Self::default();
        let mut fold = Fold::default();
        let mut told = State::default();
        for instant in records.chunk_by(|one, other| one.stored_at == other.stored_at) {
            for record in instant {
                fold.apply(record);
                told.hear(record);
            }
            let state = State {
                admissions: told.admissions.clone(),
                reports: told.reports.clone(),
                ..State::of(&fold)
            };
            // A repeat that was recorded and changes nothing makes no instant.
            if story.0.last_key_value().is_none_or(|(_, before)| *before != state) {
                story.0.insert(instant[0].stored_at, state);
            }
        }
        story
    }

    /// The first difference, in words.
    pub(crate) fn differs_from(&self, other: &Self) -> Option<String> {
        let instants: BTreeSet<&Timestamp> = self.0.keys().chain(other.0.keys()).collect();
        instants.into_iter().find_map(|at| {
            let difference = self.at(*at).differs_from(&other.at(*at))?;
            Some(format!("at {at}: {difference}"))
        })
    }

    /// The state that holds at an instant.
    fn at(&self, at: Timestamp) -> State {
        self.0.range(..=at).next_back().map(|(_, state)| state.clone()).unwrap_or_default()
    }
}

impl State {
    fn of(fold: &Fold) -> Self {
        let episodes = fold.episodes.iter();
        let episodes =
            episodes.map(|(_, it)| format!("{:?} {} {:?}", it.violation, it.first_stored_at, it.incident));
        let incidents = fold.incidents.iter().map(|(_, it)| format!("{it:?}"));
        let plans = fold.plans.iter().map(|it| {
            let attempts = it.attempts.values().flatten();
            let attempts: Vec<_> =
                attempts.map(|it| format!("{:?} {} {:?}", it.intent, it.stored_at, it.outcome)).collect();
            let (plan, verdict, release) = (&it.plan, &it.verdict, &it.release);
            format!("{plan:?} {} {attempts:?} {verdict:?} {release:?} {:?}", it.stored_at, it.reported)
        });
        Self {
            episodes: episodes.collect(),
            incidents: incidents.collect(),
            plans: plans.collect(),
            ..Self::default()
        }
    }

    fn hear(&mut self, record: &Record) {
        for entry in &record.batch.entries {
            match entry {
                // The request's number is its place in the intake: what came twice moves it.
                Entry::Admission(Admission::Halt { by, reason, .. }) => {
                    self.admissions.push(format!("{} halted by {by}: {reason}", record.stored_at));
                }
                Entry::Admission(Admission::Resume { by, .. }) => {
                    self.admissions.push(format!("{} resumed by {by}", record.stored_at));
                }
                Entry::Admission(admission) => {
                    self.admissions.push(format!("{} {admission:?}", record.stored_at));
                }
                Entry::Report(_) | Entry::Change(_) => {
                    self.reports.insert(format!("{entry:?}"));
                }
                Entry::Violation(_)
                | Entry::Incident(_)
                | Entry::Analysis(_)
                | Entry::Plan(_)
                | Entry::Outcome(_)
                | Entry::Verdict(_)
                | Entry::Applied { .. } => {}
            }
        }
    }

    fn differs_from(&self, other: &Self) -> Option<String> {
        let reports = |state: &Self| state.reports.iter().cloned().collect::<Vec<_>>();
        let pairs = [
            ("violations", self.episodes.clone(), other.episodes.clone()),
            ("incidents", self.incidents.clone(), other.incidents.clone()),
            ("plans", self.plans.clone(), other.plans.clone()),
            ("admissions", self.admissions.clone(), other.admissions.clone()),
            ("reports", reports(self), reports(other)),
        ];
        pairs.into_iter().find(|(_, one, other)| one != other).map(|(what, one, other)| {
            let only = |these: &[String], those: &[String]| {
                these.iter().filter(|line| !those.contains(line)).cloned().collect::<Vec<_>>().join("\n  ")
            };
            let (mine, theirs) = (only(&one, &other), only(&other, &one));
            format!("other {what}\n  {mine}\nagainst\n  {theirs}")
        })
    }
}

/// How often each kind of decision was made.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reached {
    incidents: usize,
    plans: usize,
    intents: usize,
    halts: usize,
    verdicts: usize,
    releases: usize,
    reports: usize,
    changes: usize,
}

impl Reached {
    pub(crate) fn add(&mut self, records: &[Arc<Record>]) {
        let entries = records.iter().filter(|record| !matches!(record.topic, Topic::Incidents(_)));
        for entry in entries.flat_map(|record| &record.batch.entries) {
            let count = match entry {
                Entry::Incident(_) => &mut self.incidents,
                Entry::Plan(_) => &mut self.plans,
                Entry::Admission(Admission::Intent(_)) => &mut self.intents,
                Entry::Admission(Admission::Halt { .. }) => &mut self.halts,
                Entry::Admission(Admission::Release(_)) => &mut self.releases,
                Entry::Verdict(_) => &mut self.verdicts,
                Entry::Report(_) => &mut self.reports,
                Entry::Change(_) => &mut self.changes,
                Entry::Violation(_)
                | Entry::Analysis(_)
                | Entry::Outcome(_)
                | Entry::Admission(Admission::Resume { .. } | Admission::Charter { .. })
                | Entry::Applied { .. } => continue,
            };
            *count += 1;
        }
    }

    pub(crate) fn everything(&self) -> bool {
        let Self { incidents, plans, intents, halts, verdicts, releases, reports, changes } = *self;
        [incidents, plans, intents, halts, verdicts, releases, reports, changes]
            .iter()
            .all(|count| *count > 0)
    }
}

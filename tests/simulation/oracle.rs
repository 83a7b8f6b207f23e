//! What the samples say should be in the ledger, as plainly as it can be said: from when to when a service was busy.

use std::collections::BTreeMap;
use std::time::Duration;

use homeostat::model::{Entry, EpisodeId, Labels, Phase, Timestamp, Violation};

use crate::sampled::{HOLD, PEAK, SERVICES, Sampled};

/// What no rule holds for.
pub(crate) const LOAD_CALM: f64 = 1.0;
/// How much longer or shorter than it was a run may look: samples late, clocks off, frames lost.
const TOLERANCE: Duration = Duration::from_secs(4);

/// A time that a service was busy: its samples from the first to the last were high.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) service: usize,
    pub(crate) value: f64,
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
}

/// An episode, as the ledger tells it.
#[derive(Debug, Default)]
struct Told<'a> {
    fired: Option<&'a Violation>,
    resolved: Option<&'a Violation>,
}

/// Each episode that the samples contain is in the ledger, firing and resolved, once; and no other one.
pub(crate) fn check(sampled: &Sampled) -> Result<(), String> {
    let told = episodes(sampled)?;
    let mut found: BTreeMap<(usize, &str), usize> = BTreeMap::new();
    for (episode, told) in &told {
        let Some(fired) = told.fired else { return Err(format!("episode {episode} never fired")) };
        if told.resolved.is_none() {
            return Err(format!("episode {episode} of {} never ended", fired.labels));
        }
        if sampled.reported.contains(&fired.labels) {
            continue;
        }
        let run = sampled.runs.iter().position(|run| run.explains(fired));
        let Some(run) = run else {
            return Err(format!(
                "episode {episode} of {} since {} is not in the samples",
                fired.labels, fired.since
            ));
        };
        *found.entry((run, alert_of(&fired.labels))).or_default() += 1;
    }
    for (place, run) in sampled.runs.iter().enumerate() {
        for (alert, wanted) in [(SERVICES[run.service].1, run.holds()), (PEAK, Some(run.peaks()))] {
            let times = found.get(&(place, alert)).copied().unwrap_or(0);
            if times > 1 || wanted.is_some_and(|wanted| usize::from(wanted) != times) {
                return Err(format!("{alert} fired {times} times in {run:?}"));
            }
        }
    }
    for labels in &sampled.reported {
        let times = told.values().filter(|told| told.fired.is_some_and(|it| it.labels == *labels)).count();
        if times != 1 {
            return Err(format!("{labels} was reported and is {times} times in the ledger"));
        }
    }
    Ok(())
}

impl Run {
    fn explains(&self, fired: &Violation) -> bool {
        let (service, alert) = SERVICES[self.service];
        let is_ours =
            fired.labels.get("service") == Some(service) && [alert, PEAK].contains(&alert_of(&fired.labels));
        is_ours && (self.first..=self.last).contains(&fired.since)
    }

    /// Whether the service's own alert has to fire; `None` where an effect ended the run about when it would have.
    fn holds(&self) -> Option<bool> {
        let lasted = self.last.saturating_since(self.first) + Duration::from_secs(1);
        if lasted <= HOLD.checked_sub(TOLERANCE)? {
            Some(false)
        } else {
            (lasted >= HOLD + TOLERANCE).then_some(true)
        }
    }

    fn peaks(&self) -> bool {
        self.value > 8.0
    }
}

fn alert_of(labels: &Labels) -> &str {
    labels.get("alertname").unwrap_or("")
}

/// Two records that say different things about one revision, or more than two revisions, are no episode.
fn episodes(sampled: &Sampled) -> Result<BTreeMap<EpisodeId, Told<'_>>, String> {
    let mut told: BTreeMap<EpisodeId, Told<'_>> = BTreeMap::new();
    let entries = sampled.told.records.iter().flat_map(|record| &record.batch.entries);
    for violation in entries.filter_map(Entry::as_violation) {
        let episode = told.entry(violation.episode).or_default();
        let known = match violation.phase {
            Phase::Firing => &mut episode.fired,
            Phase::Resolved => &mut episode.resolved,
            Phase::Pending => return Err(format!("{} is pending in the ledger", violation.episode)),
        };
        let first = *known.get_or_insert(violation);
        if first.rev != violation.rev {
            return Err(format!("episode {} is told {:?} twice", violation.episode, violation.phase));
        }
    }
    Ok(told)
}

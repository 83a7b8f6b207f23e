//! When incidents were looked at, so that a delivery that comes again is no reason to look again.
//!
//! An incident is looked at when there is news of it in the ledger, and when the time has come that the last look gave.
//! What a look finds depends on its time (a violation that is over shortens the wait, what was learned fades), and how
//! often a record is delivered depends on the queue: a look at each delivery would make plans depend on the queue.

use super::Decided;
use crate::engine::ById;
use crate::engine::fold::Fold;
use crate::model::{IncidentId, Timestamp};

/// Fewer looks than these are not searched for incidents that the fold has forgotten.
const KEPT_WITHOUT_SEARCH: usize = 1_024;

/// The last look at each incident.
#[derive(Debug, Default)]
pub(super) struct Looks {
    last: ById<IncidentId, Look>,
    /// How many were left by the last search: the next one is due when there are twice as many.
    left: usize,
}

/// When to look at an incident again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// When the ledger has news of it.
    WithNews,
    /// At this time, if there is no news before.
    At(Timestamp),
}

#[derive(Clone, Copy, Debug)]
struct Look {
    /// The last record that was known.
    folded: u64,
    /// When to look again, where nothing new comes.
    due: Option<Timestamp>,
}

impl Looks {
    /// When to look again, where what the last look found still stands: it knew the record, and its time has not come.
    pub(super) fn stands(&self, incident: IncidentId, sequence: u64, now: Timestamp) -> Option<Again> {
        let look = self.last.get(incident).filter(|look| look.folded >= sequence)?;
        let stands = look.due.is_none_or(|due| due > now);
        stands.then(|| look.due.map_or(Again::WithNews, Again::At))
    }

    /// Takes in what a look found.
    pub(super) fn note(&mut self, fold: &Fold, incident: IncidentId, decided: &Decided) {
        let due = match decided {
            Decided::Nothing | Decided::Plan(_) => None,
            Decided::Wait(until) => Some(*until),
            // Every delivery that it answers waits for it to be stored, so each looks for itself.
            Decided::Report(_) => return self.forget(incident),
        };
        self.last.insert(incident, Look { folded: fold.applied(), due });
        if self.last.len() > KEPT_WITHOUT_SEARCH.max(self.left * 2) {
            self.last.retain(|incident, _| fold.incidents.get(incident).is_some());
            self.left = self.last.len();
        }
    }

    /// The next look is made whatever the last one found.
    pub(super) fn forget(&mut self, incident: IncidentId) {
        self.last.remove(incident);
    }
}

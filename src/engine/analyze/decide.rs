//! What belongs together: a pure function of the fold.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::{causes, patterns};
use crate::engine::fold::{Episode, Fold, IncidentState};
use crate::engine::{Configuration, size};
use crate::model::{
    Analysis, AnalysisId, Entry, EpisodeId, Incident, IncidentId, IncidentPhase, Labels, Severity,
};

/// Episodes that join one revision of an incident: 29 bytes each, so that a revision stays below 8 KiB.
const JOINED_PER_REVISION_MAX: usize = 256;
/// Episodes that patterns and causes are computed from; an incident of more is a storm, and looks the same from here.
const EPISODES_ANALYSED_MAX: usize = 512;

/// A decision, or the first part of it.
#[derive(Debug, Default)]
pub struct Decided {
    /// Incidents, each followed by its analysis where it has one.
    pub entries: Vec<Entry>,
    /// Whether this is all; otherwise the rest is decided when this is in the ledger.
    pub complete: bool,
}

/// What the unassigned episodes amount to, and which incidents are over, in at most so many entries of one message.
pub fn decide(fold: &Fold, configuration: &Configuration, entries_max: usize) -> Decided {
    let mut decided = Decided { entries: Vec::new(), complete: true };
    let mut bytes = 0;
    let grouped;
    let waiting = if let Some(waiting) = fold.episodes.waiting(&configuration.scope_labels) {
        waiting
    } else {
        grouped = fold.episodes.grouped_by(&configuration.scope_labels);
        &grouped
    };
    decided.entries.reserve_exact(entries_max.min(2 * waiting.len()));
    let mut joining: Vec<&Episode> = Vec::new();
    let mut names = causes::SymptomNames::default();
    for (scope, episodes) in waiting.groups() {
        if decided.entries.len() + 2 > entries_max {
            decided.complete = false;
            return decided;
        }
        joining.clear();
        // One more than fit says that this is not all.
        let some = episodes.take(JOINED_PER_REVISION_MAX + 1);
        joining.extend(some.filter_map(|id| fold.episodes.get(id)));
        if joining.len() > JOINED_PER_REVISION_MAX {
            joining.truncate(JOINED_PER_REVISION_MAX);
            decided.complete = false;
        }
        let known = fold.incidents.open_in(scope);
        let incident = Arc::new(next_revision(known, scope, &joining));
        let episodes = episodes_of(fold, known, &joining);
        let analysis = Analysis {
            id: AnalysisId::of(&[&incident.id, &u64::from(incident.rev)]),
            incident: incident.id,
            incident_rev: incident.rev,
            patterns: patterns::find(&episodes, &fold.episodes),
            causes: causes::rank(&episodes, &configuration.causes, &mut names),
        };
        let news = [Entry::Incident(incident), Entry::Analysis(Arc::new(analysis))];
        bytes += news.iter().map(size::estimate).sum::<usize>();
        if bytes > size::BATCH_BYTES_MAX && !decided.entries.is_empty() {
            decided.complete = false;
            return decided;
        }
        decided.entries.extend(news);
    }
    close_quiet(fold, (entries_max, bytes), &mut decided);
    decided
}

fn next_revision(known: Option<&IncidentState>, scope: &Labels, joining: &[&Episode]) -> Incident {
    let joined: Vec<EpisodeId> = joining.iter().map(|episode| episode.violation.episode).collect();
    let still_firing = joining.iter().any(|episode| episode.is_firing())
        || known.is_some_and(|known| !known.firing.is_empty());
    let phase = if still_firing { IncidentPhase::Open } else { IncidentPhase::Closed };
    let worst = joining.iter().map(|episode| episode.violation.severity).max().unwrap_or(Severity::None);
    let latest = joining.iter().map(|episode| episode.violation.at).max().unwrap_or_default();
    let added = u32::try_from(joined.len()).unwrap_or(u32::MAX);
    match known.map(|known| &known.incident) {
        Some(known) => Incident {
            rev: known.rev + 1,
            phase,
            severity: known.severity.max(worst),
            violations: known.violations.saturating_add(added),
            changed_at: known.changed_at.max(latest),
            joined,
            ..Incident::clone(known)
        },
        None => Incident {
            // A group is never empty: its scope came from an episode.
            id: joined
                .first()
                .map_or_else(|| IncidentId::of(&[scope]), |first| IncidentId::of_episode(*first)),
            rev: 1,
            phase,
            scope: scope.clone(),
            severity: worst,
            violations: added,
            opened_at: joining.iter().map(|episode| episode.violation.at).min().unwrap_or_default(),
            changed_at: latest,
            joined,
        },
    }
}

fn episodes_of<'a>(
    fold: &'a Fold,
    known: Option<&IncidentState>,
    joining: &[&'a Episode],
) -> Vec<&'a Episode> {
    let earlier = known.into_iter().flat_map(|known| known.firing.iter());
    let earlier = earlier.filter_map(|id| fold.episodes.get(*id));
    let mut episodes: Vec<&Episode> =
        earlier.chain(joining.iter().copied()).take(EPISODES_ANALYSED_MAX).collect();
    episodes.sort_by_key(|episode| (episode.violation.at, episode.violation.episode));
    episodes
}

/// Incidents of which nothing fires any more, unless something joined them in this very decision.
fn close_quiet(fold: &Fold, (entries_max, mut bytes): (usize, usize), decided: &mut Decided) {
    // Looked up, never iterated.
    let mut joined: Option<FxHashSet<IncidentId>> = None;
    for state in fold.incidents.quiet() {
        let joined = joined.get_or_insert_with(|| {
            decided.entries.iter().filter_map(Entry::as_incident).map(|incident| incident.id).collect()
        });
        if joined.contains(&state.incident.id) {
            continue;
        }
        if decided.entries.len() >= entries_max {
            decided.complete = false;
            return;
        }
        let last = state.episodes().filter_map(|id| fold.episodes.get(id)).map(|it| it.violation.at).max();
        let closed = Incident {
            rev: state.incident.rev + 1,
            phase: IncidentPhase::Closed,
            joined: Vec::new(),
            changed_at: last.unwrap_or(state.incident.changed_at),
            ..Incident::clone(&state.incident)
        };
        let closed = Entry::Incident(Arc::new(closed));
        bytes += size::estimate(&closed);
        // One condition, one message: cut in two, the second part would be refused.
        if bytes > size::BATCH_BYTES_MAX && !decided.entries.is_empty() {
            decided.complete = false;
            return;
        }
        decided.entries.push(closed);
    }
}

//! Violations from outside: what somebody else found is validated, given its episode and recorded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Monitor;
use crate::engine::fold::Fold;
use crate::engine::{Delivery, Done, Intake, Step, Token, Work};
use crate::model::{Entry, EpisodeId, Labels, Phase, RuleName, Severity, Timestamp, Topic, Violation};

/// The group that violations from outside are told under: no rule group may have this name.
pub const EXTERNAL_GROUP: &str = "external";
/// The label that names the alert, as Alertmanager has it.
pub(super) const ALERT_NAME: &str = "alertname";
/// The label that a violation's severity is read from.
pub(super) const SEVERITY: &str = "severity";
/// A summary, a description, a runbook and a few links; more is a document.
const ANNOTATIONS_MAX: usize = 32;
/// All annotations of a violation together, in bytes: 256 of them in a batch stay under the server's payload.
const ANNOTATION_BYTES_MAX: usize = 2_048;

/// Violations from outside that fire at once: five monitoring systems at the limit of one rule of ours.
const FIRING_MAX: usize = 50_000;

/// How long a violation from outside waits for one about the same labels that is under way to the ledger.
const INTAKE_AGAIN: Duration = Duration::from_millis(100);
/// How often the end of something is looked at that nobody has told the beginning of.
const EARLY_AGAIN: Duration = Duration::from_secs(1);
/// How long: what a process had in hand when it was killed comes again behind what came later. A few acknowledgement
/// waits.
const EARLY_MAX: Duration = Duration::from_secs(30);

/// What is to become of a violation from outside.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Recording {
    /// It is news.
    Record(Box<Violation>),
    /// The ledger says so already.
    Nothing,
    /// It ends something that has not begun: its beginning may still come.
    NotBegun,
    /// Something about the same labels is under way to the ledger: again, when that is known.
    Later,
    /// It is not what we can take.
    Refuse(String),
}

/// Episodes from outside.
#[derive(Debug, Default)]
pub(super) struct External {
    /// Those that fire, as the ledger has them.
    firing: BTreeMap<Labels, Arc<Violation>>,
    /// Those with a revision under way to the ledger.
    under_way: BTreeMap<Labels, (EpisodeId, u32)>,
}

impl External {
    /// Takes in what the ledger says.
    pub(super) fn learn(&mut self, violation: &Arc<Violation>) {
        if violation.rule.group.as_ref() != EXTERNAL_GROUP {
            return;
        }
        let known = self.firing.get(&violation.labels);
        match violation.phase {
            Phase::Firing
                if known.is_none_or(|known| known.rev < violation.rev || known.since < violation.since) =>
            {
                self.firing.insert(violation.labels.clone(), Arc::clone(violation));
            }
            Phase::Resolved if known.is_some_and(|known| known.episode == violation.episode) => {
                self.firing.remove(&violation.labels);
            }
            Phase::Pending | Phase::Firing | Phase::Resolved => {}
        }
        self.arrived(violation);
    }

    /// The ledger has it, or never will.
    pub(super) fn arrived(&mut self, violation: &Violation) {
        let under_way = self.under_way.get(&violation.labels);
        if under_way.is_some_and(|(episode, rev)| *episode == violation.episode && *rev <= violation.rev) {
            self.under_way.remove(&violation.labels);
        }
    }

    /// Decides what becomes of a violation. What is to be recorded counts as under way from here on.
    pub(super) fn record(&mut self, cell: &str, fold: &Fold, found: Violation) -> Recording {
        let found = match normalised(found) {
            Ok(found) => found,
            Err(refused) => return Recording::Refuse(refused),
        };
        if self.under_way.contains_key(&found.labels) {
            return Recording::Later;
        }
        let firing = self.firing.get(&found.labels);
        let recorded = match (found.phase, firing) {
            (Phase::Firing, Some(_)) => return Recording::Nothing,
            // The end of an earlier episode that nobody has told the beginning of is not the end of this one.
            (Phase::Resolved, Some(known)) if found.at < known.since => return Recording::Nothing,
            (Phase::Resolved, None) => return Recording::NotBegun,
            (Phase::Firing, None) if self.firing.len() >= FIRING_MAX => {
                return Recording::Refuse(format!(
                    "{FIRING_MAX} violations from outside fire, more are not taken"
                ));
            }
            (Phase::Firing, None) => {
                let causes =
                    (RuleName { group: EXTERNAL_GROUP.into(), alert: found.rule.alert }, found.since);
                let episode = episode_of(cell, &causes.0, &found.labels, causes.1);
                if fold.episodes.get(episode).is_some() {
                    // An old message that came again: the episode is over.
                    return Recording::Nothing;
                }
                Violation { episode, rev: 1, rule: causes.0, ..found }
            }
            (Phase::Resolved, Some(known)) => Violation {
                episode: known.episode,
                rev: known.rev + 1,
                rule: known.rule.clone(),
                severity: known.severity,
                since: known.since,
                at: found.at.max(known.at),
                ..found
            },
            (Phase::Pending, _) => {
                return Recording::Refuse(
                    "the phase `pending` is not recorded, only `firing` and `resolved`".into(),
                );
            }
        };
        self.under_way.insert(recorded.labels.clone(), (recorded.episode, recorded.rev));
        Recording::Record(Box::new(recorded))
    }
}

impl Monitor {
    /// Takes what somebody else has found or done.
    pub(super) fn take(&mut self, now: Timestamp, step: &mut Step, deliveries: Vec<Delivery>) {
        for Delivery { token, work, .. } in deliveries {
            match work {
                Work::Intake { intake: Intake::Violation(found), stored_at, .. } => {
                    self.take_violation(now, step, (token, stored_at), *found);
                }
                Work::Intake { intake: Intake::Change(change), .. } => {
                    self.evaluation.counters.intake_recorded += 1;
                    let entries = vec![Entry::Change(Arc::new(change))];
                    self.publish(now, step, Topic::Changes, entries, &[token]);
                }
                Work::Intake { intake: Intake::Operator { .. }, .. } | Work::Record(_) => {
                    step.done.push((token, Done::Dead("not for the monitor".into())));
                }
            }
        }
    }

    fn take_violation(
        &mut self,
        now: Timestamp,
        step: &mut Step,
        (token, stored_at): (Token, Timestamp),
        found: Violation,
    ) {
        // A delivery that comes again while its first copy is under way waits with it.
        if self.outbox.holds(token) {
            return;
        }
        let counters = &mut self.evaluation.counters;
        match self.external.record(&self.evaluation.cell, &self.fold, found) {
            Recording::Record(violation) => {
                counters.intake_recorded += 1;
                let topic = Topic::Violations(violation.severity);
                self.publish(now, step, topic, vec![Entry::Violation(Arc::new(*violation))], &[token]);
            }
            Recording::NotBegun if now.saturating_since(stored_at) < EARLY_MAX => {
                step.done.push((token, Done::Nak(EARLY_AGAIN)));
            }
            Recording::Nothing | Recording::NotBegun => {
                counters.intake_repeated += 1;
                self.outbox.ack(step, [token]);
            }
            Recording::Later => step.done.push((token, Done::Nak(INTAKE_AGAIN))),
            Recording::Refuse(cause) => {
                counters.intake_refused += 1;
                step.done.push((token, Done::Dead(cause.into())));
            }
        }
    }
}

/// The id of a rule's episode.
pub(super) fn episode_of(cell: &str, rule: &RuleName, labels: &Labels, since: Timestamp) -> EpisodeId {
    EpisodeId::of(&[&cell, &rule.group.as_ref(), &rule.alert.as_ref(), labels, &since])
}

/// The alert's name in the labels and as the rule's, the severity from the labels where they have one.
fn normalised(mut found: Violation) -> Result<Violation, String> {
    let name = found.labels.get(ALERT_NAME).map_or_else(|| Arc::clone(&found.rule.alert), Arc::from);
    if name.is_empty() {
        return Err(format!("a violation needs the label `{ALERT_NAME}`, or a rule with a name"));
    }
    found.labels = found.labels.with(ALERT_NAME, &name).map_err(|error| error.to_string())?;
    found.rule.alert = name;
    if let Some(severity) = found.labels.get(SEVERITY) {
        found.severity = Severity::from_label(Some(severity));
    }
    if found.since > found.at {
        return Err(format!("it began at {}, after it was found at {}", found.since, found.at));
    }
    if found.annotations.len() > ANNOTATIONS_MAX {
        return Err(format!("{} annotations, at most {ANNOTATIONS_MAX} are taken", found.annotations.len()));
    }
    let bytes: usize = found.annotations.iter().map(|(name, text)| name.len() + text.len()).sum();
    if bytes > ANNOTATION_BYTES_MAX {
        return Err(format!("annotations of {bytes} bytes, at most {ANNOTATION_BYTES_MAX} are taken"));
    }
    found.annotations.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(phase: Phase, since: i64, at: i64) -> Violation {
        Violation {
            episode: EpisodeId::of(&[&"whatever they say"]),
            rev: 77,
            rule: RuleName { group: "theirs".into(), alert: "DiskFull".into() },
            severity: Severity::None,
            phase,
            labels: Labels::new([("host", "a"), ("severity", "page")]).unwrap(),
            annotations: Vec::new(),
            since: Timestamp::from_millis(since),
            at: Timestamp::from_millis(at),
            value: 1.0,
            sample_interval: Duration::ZERO,
        }
    }

    fn recorded(recording: Recording) -> Arc<Violation> {
        match recording {
            Recording::Record(violation) => Arc::new(*violation),
            Recording::Nothing | Recording::NotBegun | Recording::Later | Recording::Refuse(_) => {
                panic!("{recording:?}")
            }
        }
    }

    #[test]
    fn an_episode_is_recorded_once_from_firing_to_resolved() {
        let (fold, mut external) = (Fold::default(), External::default());
        assert_eq!(external.record("cell", &fold, found(Phase::Resolved, 1, 2)), Recording::NotBegun);
        let first = recorded(external.record("cell", &fold, found(Phase::Firing, 1, 2)));
        assert_eq!((first.rev, first.severity), (1, Severity::Critical));
        assert_eq!(first.rule.to_string(), "external/DiskFull");
        assert_eq!(first.labels.get(ALERT_NAME), Some("DiskFull"));
        assert_eq!(external.record("cell", &fold, found(Phase::Firing, 1, 3)), Recording::Later);
        external.learn(&first);
        assert_eq!(external.record("cell", &fold, found(Phase::Firing, 9, 9)), Recording::Nothing);
        assert_eq!(external.record("cell", &fold, found(Phase::Resolved, 0, 0)), Recording::Nothing);
        let last = recorded(external.record("cell", &fold, found(Phase::Resolved, 4, 9)));
        assert_eq!((last.episode, last.rev, last.since), (first.episode, 2, first.since));
        external.learn(&last);
        assert_eq!(external.record("cell", &fold, found(Phase::Resolved, 4, 9)), Recording::NotBegun);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_cause() {
        let mut nameless = found(Phase::Firing, 1, 1);
        nameless.rule.alert = "".into();
        let mut wordy = found(Phase::Firing, 1, 1);
        wordy.annotations = vec![("summary".into(), "x".repeat(ANNOTATION_BYTES_MAX).into())];
        let cases = [
            (nameless, "`alertname`"),
            (found(Phase::Pending, 1, 1), "`pending`"),
            (found(Phase::Firing, 2, 1), "began at"),
            (wordy, "at most 2048"),
        ];
        for (case, cause) in cases {
            match External::default().record("cell", &Fold::default(), case) {
                Recording::Refuse(text) => assert!(text.contains(cause), "{text}"),
                Recording::Record(_) | Recording::Nothing | Recording::NotBegun | Recording::Later => {
                    panic!("expected {cause}")
                }
            }
        }
    }
}

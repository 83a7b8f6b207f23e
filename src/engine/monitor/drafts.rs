//! What a step has decided and not published yet.

use std::sync::Arc;

use crate::engine::fold::Fold;
use crate::model::{
    Entry, EpisodeId, Reason, Report, ReportId, Role, Severity, Timestamp, Topic, Verdict, Violation,
};

/// Decisions of the step that is being made.
#[derive(Debug)]
pub(super) struct Drafts {
    cell: Arc<str>,
    pub(super) violations: Vec<Violation>,
    pub(super) verdicts: Vec<Verdict>,
    reports: Vec<Report>,
}

impl Drafts {
    pub(super) fn new(cell: Arc<str>) -> Self {
        Self { cell, violations: Vec::new(), verdicts: Vec::new(), reports: Vec::new() }
    }

    /// Says why something was not done. Saying it again about the same subject is saying the same.
    pub(super) fn report(&mut self, reason: Reason, subject: &str, text: String, at: Timestamp) {
        let id = ReportId::of(&[&self.cell.as_ref(), &Role::Monitor.as_str(), &reason.as_str(), &subject]);
        let report = Report { id, reason, text: text.into(), incident: None, plan: None, at };
        self.reports.push(report);
    }

    /// Puts back what was decided before a restart.
    pub(super) fn restore(&mut self, entries: &[Entry]) {
        for entry in entries {
            match entry {
                Entry::Violation(violation) => self.violations.push(Violation::clone(violation)),
                Entry::Report(report) => self.reports.push(Report::clone(report)),
                Entry::Incident(_)
                | Entry::Analysis(_)
                | Entry::Plan(_)
                | Entry::Admission(_)
                | Entry::Outcome(_)
                | Entry::Verdict(_)
                | Entry::Change(_)
                | Entry::Applied { .. } => {}
            }
        }
    }

    /// Takes out the revisions of episodes that the ledger has already.
    pub(super) fn drop_known(&mut self, fold: &Fold) -> Vec<(EpisodeId, u32)> {
        if self.violations.is_empty() {
            return Vec::new();
        }
        let is_known = |violation: &Violation| {
            let known = fold.episodes.get(violation.episode);
            known.is_some_and(|known| known.violation.rev >= violation.rev)
        };
        let (known, news): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.violations).into_iter().partition(is_known);
        self.violations = news;
        known.into_iter().map(|violation| (violation.episode, violation.rev)).collect()
    }

    /// Everything by topic, in an order that does not depend on the order it was decided in.
    pub(super) fn take(&mut self) -> Vec<(Topic, Vec<Entry>)> {
        let mut batches = Vec::new();
        if self.violations.is_empty() && self.verdicts.is_empty() && self.reports.is_empty() {
            return batches;
        }
        let mut violations = std::mem::take(&mut self.violations);
        violations.sort_by(|one, other| {
            let by_time = one.at.cmp(&other.at).then_with(|| one.rule.cmp(&other.rule));
            by_time.then_with(|| one.labels.cmp(&other.labels)).then(one.rev.cmp(&other.rev))
        });
        for severity in [Severity::Critical, Severity::Warning, Severity::Info, Severity::None] {
            let of_severity = violations.iter().filter(|violation| violation.severity == severity);
            let entries: Vec<Entry> =
                of_severity.map(|violation| Entry::Violation(Arc::new(violation.clone()))).collect();
            batches.push((Topic::Violations(severity), entries));
        }
        let mut verdicts = std::mem::take(&mut self.verdicts);
        verdicts.sort_by_key(|verdict| verdict.plan);
        for verdict in verdicts {
            batches.push((Topic::Verdicts(verdict.kind), vec![Entry::Verdict(Arc::new(verdict))]));
        }
        let mut reports = std::mem::take(&mut self.reports);
        reports.sort_by_key(|report| (report.at, report.id));
        let entries = reports.into_iter().map(|report| Entry::Report(Arc::new(report))).collect();
        batches.push((Topic::Reports(Role::Monitor), entries));
        batches.retain(|(_, entries)| !entries.is_empty());
        batches
    }
}

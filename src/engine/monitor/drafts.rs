//! What a step has decided and not published yet.

use std::sync::Arc;

use crate::engine::fold::Fold;
use crate::model::{Entry, EpisodeId, Reason, Report, ReportId, Role, Timestamp, Topic, Verdict, Violation};

/// Decisions of the step that is being made.
#[derive(Debug)]
pub(super) struct Drafts {
    cell: Arc<str>,
    pub(super) violations: Vec<Arc<Violation>>,
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
                Entry::Violation(violation) => self.violations.push(Arc::clone(violation)),
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
        let mut dropped = Vec::new();
        self.violations.retain(|violation| {
            let known = fold.episodes.get(violation.episode);
            let is_known = known.is_some_and(|known| known.violation.rev >= violation.rev);
            if is_known {
                dropped.push((violation.episode, violation.rev));
            }
            !is_known
        });
        dropped
    }

    /// Everything by topic, in an order that does not depend on the order it was decided in.
    pub(super) fn take(&mut self) -> Vec<(Topic, Vec<Entry>)> {
        let mut batches = Vec::new();
        if self.violations.is_empty() && self.verdicts.is_empty() && self.reports.is_empty() {
            return batches;
        }
        let mut violations = std::mem::take(&mut self.violations);
        violations.sort_by(|one, other| {
            let by_severity = other.severity.cmp(&one.severity);
            let by_time = by_severity.then(one.at.cmp(&other.at)).then_with(|| one.rule.cmp(&other.rule));
            by_time.then_with(|| one.labels.cmp(&other.labels)).then(one.rev.cmp(&other.rev))
        });
        for of_severity in violations.chunk_by(|one, other| one.severity == other.severity) {
            let entries = of_severity.iter().map(|violation| Entry::Violation(Arc::clone(violation)));
            batches.push((Topic::Violations(of_severity[0].severity), entries.collect()));
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

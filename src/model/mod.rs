//! The nouns of the loop, checked when they are constructed: a value that exists is a value that is allowed.
//!
//! One concept a file. Nothing here knows how it is written on the bus (`wire`), where it is kept (`store`) or
//! how it is decided (`engine`).

mod action;
mod admission;
mod analysis;
mod bundle;
mod catalogue;
mod change;
mod charter;
mod entry;
mod filling;
mod frame;
pub(crate) mod humanize;
pub mod id;
mod incident;
mod labels;
pub(crate) mod number;
mod outcome;
mod plan;
mod playbook;
mod report;
mod rule;
mod template;
mod time;
mod verdict;
mod violation;

pub use action::{Action, ActionSpec, HttpMethod, Idempotency};
pub use admission::{Admission, Intent, PlanEnd, Release};
pub use analysis::{Analysis, Cause, Confidence, Pattern, PatternKind};
pub use bundle::{Bundle, BundleFile, Generation};
pub use catalogue::{CauseEntry, Symptom};
pub use change::{Change, ChangeKind};
pub use charter::{Charter, Mode};
pub use entry::{
    Basis, Batch, ENTRIES_PER_BATCH_MAX, Entry, Operator, OperatorRequest, Record, Role, Shard, Topic,
};
pub use filling::{FILLED_BYTES_MAX, Misfit, Place};
pub use frame::{Frame, Row, SERIES_PER_TABLE_MAX, ScrapePart, SeriesTable, TableHash, bucket_of};
pub use id::{
    ActionId, AnalysisId, AttemptId, ChangeId, EpisodeId, IdError, IncidentId, MessageId, PlanId, ReportId,
};
pub use incident::{Incident, IncidentPhase};
pub use labels::{
    LABELS_BYTES_MAX, LABELS_PER_SERIES_MAX, Labels, LabelsError, METRIC_NAME, Sample, is_label_name,
    is_metric_name,
};
pub use outcome::{Outcome, OutcomeResult};
pub use plan::Plan;
pub use playbook::{Answer, FillError, Filled, Playbook, PlaybookError, StepTemplate, Verification};
pub use report::{Reason, Reasons, Report};
pub use rule::{Rule, RuleGroup, RuleName};
pub use template::{Template, TemplateError};
pub use time::Timestamp;
pub use verdict::{Verdict, VerdictKind};
pub use violation::{Phase, Severity, UnknownWord, Violation};

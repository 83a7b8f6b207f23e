//! Entries of the ledger, the batches they travel in and the subjects they travel on.

use std::fmt;
use std::sync::Arc;

use super::{
    Admission, Analysis, Change, Generation, Incident, IncidentId, IncidentPhase, MessageId, Outcome,
    OutcomeResult, Plan, Report, Severity, Timestamp, Verdict, VerdictKind, Violation,
};

/// A batch is one decision; a message of 256 violations with eight labels each stays under 256 KiB.
pub const ENTRIES_PER_BATCH_MAX: usize = 256;

/// A correlation domain: analyses of one shard are decided one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(pub u16);

/// Who decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Evaluates rules and verifications on samples.
    Monitor,
    /// Finds incidents, patterns and causes.
    Analyzer,
    /// Makes plans.
    Planner,
    /// Carries plans out.
    Executor,
    /// Remembers.
    Knowledge,
}

impl Role {
    /// Every role, in the order of the loop.
    pub const ALL: [Self; 5] =
        [Self::Monitor, Self::Analyzer, Self::Planner, Self::Executor, Self::Knowledge];

    /// The word on the wire, in metrics and in `--roles`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Monitor => "monitor",
            Self::Analyzer => "analyzer",
            Self::Planner => "planner",
            Self::Executor => "executor",
            Self::Knowledge => "knowledge",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a ledger message is about; it is the part of the subject behind prefix and version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// `violations.<severity>`
    Violations(Severity),
    /// `incidents.<phase>`
    Incidents(IncidentPhase),
    /// `analyses.<shard>`
    Analyses(Shard),
    /// `plans`
    Plans,
    /// `admission`
    Admission,
    /// `outcomes.<result>`
    Outcomes(OutcomeResult),
    /// `verdicts.<verdict>`
    Verdicts(VerdictKind),
    /// `reports.<role>`
    Reports(Role),
    /// `changes`
    Changes,
    /// `control`
    Control,
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Violations(severity) => write!(f, "violations.{severity}"),
            Self::Incidents(phase) => write!(f, "incidents.{}", phase.as_str()),
            Self::Analyses(shard) => write!(f, "analyses.{}", shard.0),
            Self::Plans => f.write_str("plans"),
            Self::Admission => f.write_str("admission"),
            Self::Outcomes(result) => write!(f, "outcomes.{}", result.as_str()),
            Self::Verdicts(kind) => write!(f, "verdicts.{}", kind.as_str()),
            Self::Reports(role) => write!(f, "reports.{role}"),
            Self::Changes => f.write_str("changes"),
            Self::Control => f.write_str("control"),
        }
    }
}

/// One thing that was decided or learned.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A revision of a violation's episode.
    Violation(Arc<Violation>),
    /// A revision of an incident.
    Incident(Arc<Incident>),
    /// What is thought of an incident.
    Analysis(Arc<Analysis>),
    /// What is to be done about it.
    Plan(Arc<Plan>),
    /// What may be done, and what is over.
    Admission(Admission),
    /// How an attempt ended.
    Outcome(Arc<Outcome>),
    /// Whether a plan helped.
    Verdict(Arc<Verdict>),
    /// Why something was not done.
    Report(Arc<Report>),
    /// What somebody did to the system.
    Change(Arc<Change>),
    /// A bundle was applied.
    Applied {
        /// Its number.
        generation: Generation,
        /// Its content hash; the bundle is in the object store under it.
        hash: Arc<str>,
    },
}

impl Entry {
    /// The incident, where it is one.
    pub fn as_incident(&self) -> Option<&Arc<Incident>> {
        if let Self::Incident(incident) = self { Some(incident) } else { None }
    }

    /// The violation, where it is one.
    pub fn as_violation(&self) -> Option<&Arc<Violation>> {
        if let Self::Violation(violation) = self { Some(violation) } else { None }
    }

    /// The trace it belongs to: its violation's episode, or its incident; 0 where there is none.
    pub fn trace(&self) -> u128 {
        match self {
            Self::Violation(violation) => violation.episode.as_u128(),
            Self::Incident(incident) => incident.id.as_u128(),
            Self::Analysis(analysis) => analysis.incident.as_u128(),
            Self::Plan(plan) => plan.incident.as_u128(),
            Self::Admission(Admission::Intent(intent)) => intent.incident.as_u128(),
            Self::Admission(Admission::Release(release)) => release.incident.as_u128(),
            Self::Outcome(outcome) => outcome.incident.as_u128(),
            Self::Verdict(verdict) => verdict.incident.as_u128(),
            Self::Report(report) => report.incident.map_or(0, IncidentId::as_u128),
            Self::Admission(
                Admission::Halt { .. } | Admission::Resume { .. } | Admission::Charter { .. },
            )
            | Self::Change(_)
            | Self::Applied { .. } => 0,
        }
    }
}

/// What a decision was made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Basis {
    /// The ledger sequence that was folded.
    pub ledger: u64,
    /// The configuration that was loaded.
    pub generation: Generation,
}

/// The entries of one decision: what one ledger message carries.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// A function of the entries: a batch published twice has one id.
    pub id: MessageId,
    /// Who decided.
    pub role: Role,
    /// Which process of the role.
    pub instance: Arc<str>,
    /// When it was decided.
    pub at: Timestamp,
    /// What it was decided from.
    pub basis: Basis,
    /// The trace of the decision's first cause: an episode's 128 bits, or 0 where there is none.
    pub trace: u128,
    /// At most [`ENTRIES_PER_BATCH_MAX`]; none in the place of a message that nobody can read.
    pub entries: Vec<Entry>,
}

/// A batch at its place in the ledger.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its place.
    pub sequence: u64,
    /// The ledger's time of it.
    pub stored_at: Timestamp,
    /// The subject it was published on.
    pub topic: Topic,
    /// What it carries.
    pub batch: Arc<Batch>,
}

impl Record {
    /// What stands for a message that nobody can read: it has its place, which the next conditional write on its topic has
    /// to name, and it says nothing.
    pub fn unreadable(sequence: u64, stored_at: Timestamp, topic: Topic) -> Self {
        let batch = Batch {
            id: MessageId::of(&[&"unreadable", &sequence]),
            role: Role::Knowledge,
            instance: "".into(),
            at: stored_at,
            basis: Basis::default(),
            trace: 0,
            entries: Vec::new(),
        };
        Self { sequence, stored_at, topic, batch: Arc::new(batch) }
    }
}

/// Who asks for something from outside: the last token of the subject, which the server's permissions guard.
pub type Operator = Arc<str>;

/// What an operator may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperatorRequest {
    /// Stop admission.
    Halt {
        /// Why.
        reason: Arc<str>,
    },
    /// Let admission go on.
    Resume,
}

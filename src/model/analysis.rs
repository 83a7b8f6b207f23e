//! Analyses: what an incident looks like and what probably caused it.

use std::sync::Arc;

use super::{AnalysisId, IncidentId, Labels};

/// A probability between 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Confidence(f64);

impl Confidence {
    /// Certainty.
    pub const CERTAIN: Self = Self(1.0);
    /// No confidence at all.
    pub const NONE: Self = Self(0.0);

    /// `None` where `value` is not between 0 and 1.
    pub fn new(value: f64) -> Option<Self> {
        (0.0..=1.0).contains(&value).then_some(Self(value))
    }

    /// The probability.
    pub const fn as_f64(self) -> f64 {
        self.0
    }
}

/// What the violations of an incident have in common.
#[derive(Clone, Debug, PartialEq)]
pub enum PatternKind {
    /// Many in a short time.
    Burst {
        /// How many.
        violations: u32,
        /// From the first to the last, in milliseconds.
        window_millis: u64,
    },
    /// They share a label value that others do not have.
    CommonLabel {
        /// The label.
        name: Arc<str>,
        /// Its value.
        value: Arc<str>,
    },
}

/// A pattern among the violations of an incident.
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern {
    /// Which one.
    pub kind: PatternKind,
    /// How sure we are that it is not chance.
    pub confidence: Confidence,
}

/// A supposed root cause.
#[derive(Clone, Debug, PartialEq)]
pub struct Cause {
    /// Its name in the cause catalogue, or `symptom:` and the alert's name where the catalogue has none.
    pub name: Arc<str>,
    /// Where it sits.
    pub scope: Labels,
    /// How sure we are.
    pub confidence: Confidence,
    /// What speaks for it, in words a person can check.
    pub evidence: Vec<Arc<str>>,
}

/// What is thought of one revision of an incident.
#[derive(Clone, Debug, PartialEq)]
pub struct Analysis {
    /// Incident and revision.
    pub id: AnalysisId,
    /// The incident.
    pub incident: IncidentId,
    /// The revision of the incident that was analysed.
    pub incident_rev: u32,
    /// What its violations have in common.
    pub patterns: Vec<Pattern>,
    /// The supposed causes, most probable first.
    pub causes: Vec<Cause>,
}

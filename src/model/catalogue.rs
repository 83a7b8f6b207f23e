//! The cause catalogue: what root causes look like from outside.

use std::sync::Arc;

use super::{Confidence, Labels};

/// A violation that speaks for a cause.
#[derive(Clone, Debug, PartialEq)]
pub struct Symptom {
    /// Labels that a violation must have with these values, `alertname` among them.
    pub matches: Labels,
    /// How strongly it speaks for the cause, alone.
    pub weight: Confidence,
    /// Why, in words: it becomes evidence.
    pub because: Arc<str>,
}

/// A root cause and its symptoms.
#[derive(Clone, Debug, PartialEq)]
pub struct CauseEntry {
    /// Its name, which playbooks answer.
    pub name: Arc<str>,
    /// How probable it is before anything was seen.
    pub prior: Confidence,
    /// What it looks like.
    pub symptoms: Vec<Symptom>,
}

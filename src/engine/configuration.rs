//! What decisions are made by: an applied bundle, read and checked.

use std::sync::Arc;

use crate::model::{CauseEntry, Charter, Generation, Playbook, RuleGroup};

/// A loaded bundle.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    /// Its number in the ledger; 0 where nothing was applied yet.
    pub generation: Generation,
    /// Its content hash.
    pub hash: Arc<str>,
    /// Rules, by group.
    pub groups: Vec<RuleGroup>,
    /// Playbooks, by name.
    pub playbooks: Vec<Playbook>,
    /// What causes look like.
    pub causes: Vec<CauseEntry>,
    /// The labels that place an incident, most telling first: the first one that a violation has is its scope.
    pub scope_labels: Vec<Arc<str>>,
    /// What automation may never do.
    pub charter: Charter,
}

impl Configuration {
    /// Scope labels where the bundle names none.
    pub const SCOPE_LABELS: [&'static str; 8] =
        ["service", "worker", "job", "deployment", "pod", "instance", "host", "node"];
}

//! Whether a process can work: its roles have caught up, and what is applied is loaded.

use std::sync::Arc;

use tokio::sync::watch;

use crate::engine::Configuration;
use crate::model::{Generation, Role};

/// What a server of readiness needs to know; cheap to clone.
#[derive(Clone)]
pub struct Readiness {
    pub(super) roles: Vec<(Role, watch::Receiver<bool>)>,
    pub(super) configuration: watch::Receiver<Arc<Configuration>>,
    pub(super) announced: watch::Receiver<Generation>,
    pub(super) hindrance: watch::Receiver<Option<Arc<str>>>,
}

impl Readiness {
    /// What is not ready; nothing where all is.
    pub fn missing(&self) -> Vec<String> {
        let mut missing: Vec<String> = Vec::new();
        for (role, ready) in &self.roles {
            if !*ready.borrow() {
                missing.push(format!("{role} has not caught up with the ledger"));
            }
        }
        missing.extend(self.hindrance.borrow().iter().map(ToString::to_string));
        let (loaded, announced) = (self.configuration.borrow().generation, *self.announced.borrow());
        if loaded < announced {
            missing.push(format!("configuration {announced} is applied and {loaded} is loaded"));
        }
        missing
    }
}

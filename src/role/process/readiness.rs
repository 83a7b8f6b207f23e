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
    pub(super) monitor_elsewhere: watch::Receiver<Option<Arc<str>>>,
}

impl Readiness {
    /// What is not ready; nothing where all is.
    pub fn missing(&self) -> Vec<String> {
        let mut missing: Vec<String> = Vec::new();
        let stands_by = self.monitor_elsewhere.borrow().is_some();
        for (role, ready) in &self.roles {
            // One that stands by does what it can do.
            let is_waiting_its_turn = stands_by && *role == Role::Monitor;
            if !is_waiting_its_turn && !*ready.borrow() {
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

    /// What waits for its turn while another process has it; that is as ready as it can be.
    pub fn standing_by(&self) -> Vec<String> {
        let elsewhere = self.monitor_elsewhere.borrow();
        elsewhere.iter().map(|holder| format!("{}: {holder} runs it", Role::Monitor)).collect()
    }
}

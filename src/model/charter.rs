//! The charter: what automation may never do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::Confidence;
use super::violation::UnknownWord;

/// Whether plans are carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Plans are made and shown, nothing is touched.
    Shadow,
    /// Plans of armed playbooks are carried out.
    Auto,
}

impl Mode {
    /// The word on the wire and in the charter.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shadow => "shadow",
            Self::Auto => "auto",
        }
    }
}

impl std::str::FromStr for Mode {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        [Self::Shadow, Self::Auto]
            .into_iter()
            .find(|mode| mode.as_str() == text)
            .ok_or_else(|| UnknownWord::new(text, "shadow, auto"))
    }
}

/// What automation may never do. The default does nothing: shadow mode, nothing armed.
#[derive(Clone, Debug, PartialEq)]
pub struct Charter {
    /// Shadow holds every playbook back, armed or not.
    pub mode: Mode,
    /// The playbooks that may act in auto mode.
    pub armed: BTreeSet<Arc<str>>,
    /// Plans in flight at once, from their first intent to their release.
    pub concurrent_plans_max: u32,
    /// Actions started in any hour of the ledger's time.
    pub actions_per_hour_max: u32,
    /// The least time between the first intents of two plans of the same playbook on the same scope.
    pub cooldown: Duration,
    /// The least confidence for any plan to be carried out.
    pub min_confidence: Confidence,
    /// Open violations beyond which nothing new is admitted: a storm is not healed one by one.
    pub storm_violations: u32,
    /// Absolute paths of the programs that `command` actions may run.
    pub programs: BTreeSet<Arc<str>>,
    /// Hosts that `webhook` actions may call, as `host` or `host:port`. None: those that stand in the playbooks, which no
    /// label can change.
    pub hosts: BTreeSet<Arc<str>>,
}

impl Default for Charter {
    fn default() -> Self {
        Self {
            mode: Mode::Shadow,
            armed: BTreeSet::new(),
            concurrent_plans_max: 1,
            actions_per_hour_max: 10,
            cooldown: Duration::from_mins(5),
            min_confidence: Confidence::NONE,
            storm_violations: 1_000,
            programs: BTreeSet::new(),
            hosts: BTreeSet::new(),
        }
    }
}

impl Charter {
    /// The mode that plans of this playbook get.
    pub fn mode_of(&self, playbook: &str) -> Mode {
        match self.mode {
            Mode::Auto if self.armed.contains(playbook) => Mode::Auto,
            Mode::Auto | Mode::Shadow => Mode::Shadow,
        }
    }
}

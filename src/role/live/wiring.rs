//! What a role at work is connected to: everything that the loop around a core needs, as arguments.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::observed::Sampled;
use crate::actuator::Actuator;
use crate::bus::nats::{DeadLetters, Feed, Ledger, Publisher, Settler, Work};
use crate::clock::Clock;
use crate::engine::fold::Fold;
use crate::engine::{Ask, Configuration, Lease, Step};
use crate::model::Role;
use crate::role::reading::Reader;
use crate::wire::Subjects;

/// What a role is connected to.
pub struct Wiring {
    /// Which role.
    pub role: Role,
    /// Names the cell in `ce-source`.
    pub cell: Arc<str>,
    /// Subject names.
    pub subjects: Subjects,
    /// Decodes what is read of the ledger, once for all roles of the process.
    pub(in crate::role) reader: Reader,
    /// Writes the ledger.
    pub publisher: Publisher,
    /// Reads it.
    pub ledger: Ledger,
    /// What it amounts to up to where the feed begins, where somebody has kept that.
    pub known: Option<Arc<Fold>>,
    /// Follows it.
    pub feed: Feed,
    /// Work that is shared with other processes of the role.
    pub work: Option<Work>,
    /// What comes from outside.
    pub intake: Option<Work>,
    /// Samples and series tables.
    pub(in crate::role) sampled: Option<Sampled>,
    /// Asks a producer for a series table.
    pub tables: Option<mpsc::Sender<Ask>>,
    /// The shards that this process holds.
    pub leases: Option<watch::Receiver<Vec<Lease>>>,
    /// What to decide by.
    pub configuration: watch::Receiver<Arc<Configuration>>,
    /// Carries out attempts.
    pub actuator: Option<Arc<Actuator>>,
    /// Cancelled when attempts under way are not waited for any longer: it is what the actuator's shutdown was made of.
    pub giving_up: Option<CancellationToken>,
    /// What the core wanted before it came here.
    pub first_steps: Vec<Step>,
    /// Where what cannot be processed goes, by who settles it.
    pub dead_letters: Box<dyn Fn(Settler) -> DeadLetters + Send + Sync>,
    /// Told when the role has caught up with the ledger, and when it cannot work.
    pub ready: watch::Sender<bool>,
    /// What time it is.
    pub clock: Clock,
}

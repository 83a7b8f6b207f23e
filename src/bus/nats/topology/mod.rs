//! The streams of a cell: what they are called, what they hold and for how long.

mod ensuring;
mod error;

use std::collections::HashMap;
use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy, PersistenceMode, RetentionPolicy, StorageType};

use super::connect::Connection;
use crate::wire::Subjects;
use ensuring::stream_info;
use error::PREFIX_BYTES_MAX;
pub use error::TopologyError;

/// The oldest reader that understands what this version writes.
const MIN_READER: u32 = 1;

const MIB: i64 = 1024 * 1024;
const GIB: i64 = 1024 * MIB;
const DAY: Duration = Duration::from_hours(24);
/// A redelivery comes within `ack_wait`, a retried publish within seconds; ids are 220 B of server memory each.
const DUPLICATE_WINDOW: Duration = Duration::from_mins(10);
/// Frames have no ids; 0 would mean the server's default of two minutes.
const SAMPLES_DUPLICATE_WINDOW: Duration = Duration::from_secs(1);
/// A few checkpoint periods of a monitor.
const SAMPLES_AGE: Duration = Duration::from_mins(5);
/// Requests of one user that nobody has obeyed yet. Only the newest of them counts, so the oldest go.
const CONTROL_REQUESTS_PER_USER_MAX: i64 = 1_024;
/// Room for full queues of a hundred users.
const CONTROL_BYTES: i64 = 64 * MIB;
/// How long the end of a lease stays readable.
const LEASE_MARKER_AGE: Duration = Duration::from_hours(1);
/// A lease is a name; more is a mistake.
const LEASE_BYTES_MAX: i32 = 1_024;

/// How much a stream keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long, at most.
    pub age: Duration,
    /// How much, at most; the server sets it aside.
    pub bytes: i64,
}

/// Where frames are kept for the restart of a monitor. The ledger's server option `sync_interval: always` would force
/// each of them to disk too, so they are never kept like decisions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SampleStorage {
    /// In the server's memory.
    #[default]
    Memory,
    /// In files that are written after the acknowledgement.
    AsyncFile,
}

/// What the streams of a cell look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// The first token of every subject, and the first part of every stream's name.
    pub prefix: String,
    /// The id of the cell: in all ids, and in the streams' metadata.
    pub cell: String,
    /// Copies of each stream: 1, 3 or 5. Verified where it is given; where not, a stream is created with one copy, and one
    /// that is there may have any number.
    pub replicas: Option<usize>,
    /// Decisions.
    pub ledger: Limits,
    /// What others send us, until it is recorded.
    pub intake: Limits,
    /// Frames.
    pub samples: Limits,
    /// Where frames are kept.
    pub sample_storage: SampleStorage,
    /// The number of buckets frames are spread over, a power of two.
    pub buckets: u16,
    /// What could not be processed.
    pub dead_letters: Limits,
    /// Bundles and checkpoints, in bytes.
    pub object_bytes: i64,
}

/// What the streams and their subjects are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The stream of decisions.
    pub ledger: String,
    /// The stream of what others send us.
    pub intake: String,
    /// The stream of what operators ask for.
    pub control: String,
    /// The stream of frames.
    pub samples: String,
    /// The stream of what could not be processed.
    pub dead_letters: String,
    /// The key-value bucket of leases.
    pub leases: String,
    /// The object store of bundles and checkpoints.
    pub objects: String,
    /// What every subject starts with: `<prefix>.v1`.
    pub root: String,
}

impl Topology {
    /// With the limits of DESIGN: a ledger of 30 days and 10 GiB, an intake of a week, samples of five minutes.
    pub fn new(prefix: &str, cell: &str) -> Result<Self, TopologyError> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if prefix.len() > PREFIX_BYTES_MAX
            || !prefix.starts_with(|c: char| c.is_ascii_lowercase())
            || !prefix.chars().all(allowed)
        {
            return Err(TopologyError::Prefix(prefix.to_owned()));
        }
        Ok(Self {
            prefix: prefix.to_owned(),
            cell: cell.to_owned(),
            replicas: None,
            ledger: Limits { age: 30 * DAY, bytes: 10 * GIB },
            intake: Limits { age: 7 * DAY, bytes: GIB },
            samples: Limits { age: SAMPLES_AGE, bytes: 512 * MIB },
            sample_storage: SampleStorage::default(),
            buckets: 8,
            dead_letters: Limits { age: 30 * DAY, bytes: GIB },
            object_bytes: 4 * GIB,
        })
    }

    /// What everything is called.
    pub fn names(&self) -> Names {
        Names::new(&self.prefix)
    }

    fn streams(&self) -> Result<Vec<Config>, TopologyError> {
        if !self.buckets.is_power_of_two() {
            return Err(TopologyError::Buckets(self.buckets));
        }
        let subjects = Subjects::new(&self.prefix);
        let subjects = subjects.map_err(|_| TopologyError::Prefix(self.prefix.clone()))?;
        Ok(vec![
            self.ledger(&subjects),
            self.intake(&subjects),
            self.control(&subjects),
            self.samples(&subjects),
            self.dead_letters(&subjects),
            self.leases(),
            self.objects(),
        ])
    }

    fn base(&self, name: String, subjects: Vec<String>, limits: Limits) -> Config {
        Config {
            name,
            subjects,
            retention: RetentionPolicy::Limits,
            discard: DiscardPolicy::Old,
            storage: StorageType::File,
            num_replicas: self.replicas.unwrap_or(1),
            max_age: limits.age,
            max_bytes: limits.bytes,
            max_messages: -1,
            max_messages_per_subject: -1,
            max_message_size: -1,
            duplicate_window: DUPLICATE_WINDOW,
            metadata: HashMap::from([
                ("homeostat.cell".to_owned(), self.cell.clone()),
                ("homeostat.min_reader".to_owned(), MIN_READER.to_string()),
            ]),
            ..Config::default()
        }
    }

    /// No direct reads: a lock is decided on what the leader has. What is decided stays: nobody can delete from it.
    fn ledger(&self, subjects: &Subjects) -> Config {
        let names = self.names();
        let base = self.base(names.ledger, subjects.ledger_all(), self.ledger);
        Config { deny_delete: true, deny_purge: true, ..base }
    }

    /// A message is gone when it is recorded, and acknowledgements of such a stream survive a crash of the server. A
    /// full one refuses what is new, instead of losing what was accepted. Nothing comes in that nobody takes: it would
    /// stay, and fill the stream for all others.
    fn intake(&self, subjects: &Subjects) -> Config {
        let names = self.names();
        let taken = vec![subjects.intake_violations(), subjects.intake_changes()];
        let base = self.base(names.intake, taken, self.intake);
        Config { retention: RetentionPolicy::WorkQueue, discard: DiscardPolicy::New, ..base }
    }

    /// A stream of its own: whatever floods the intake, a halt is taken. Each user has a queue of its own for the same
    /// reason, and a full one loses its oldest request, which a newer one has overruled.
    fn control(&self, subjects: &Subjects) -> Config {
        let names = self.names();
        let limits = Limits { age: self.intake.age, bytes: CONTROL_BYTES };
        let base = self.base(names.control, vec![subjects.intake_control_all()], limits);
        Config {
            retention: RetentionPolicy::WorkQueue,
            max_messages_per_subject: CONTROL_REQUESTS_PER_USER_MAX,
            ..base
        }
    }

    fn samples(&self, subjects: &Subjects) -> Config {
        let names = self.names();
        let mut base = self.base(names.samples, vec![subjects.samples_all()], self.samples);
        base.metadata.insert("homeostat.buckets".into(), self.buckets.to_string());
        base.duplicate_window = SAMPLES_DUPLICATE_WINDOW;
        match self.sample_storage {
            SampleStorage::Memory => Config { storage: StorageType::Memory, ..base },
            SampleStorage::AsyncFile => Config { persist_mode: Some(PersistenceMode::Async), ..base },
        }
    }

    fn dead_letters(&self, subjects: &Subjects) -> Config {
        let names = self.names();
        self.base(names.dead_letters, vec![subjects.dlq_all()], self.dead_letters)
    }

    /// As a key-value bucket is: one value per key, time limits per message, a marker where one ended.
    fn leases(&self) -> Config {
        let names = self.names();
        let subjects = vec![format!("$KV.{}.>", names.leases)];
        let limits = Limits { age: Duration::ZERO, bytes: 16 * MIB };
        Config {
            max_messages_per_subject: 1,
            max_message_size: LEASE_BYTES_MAX,
            discard: DiscardPolicy::New,
            allow_rollup: true,
            deny_delete: true,
            allow_direct: true,
            allow_message_ttl: true,
            subject_delete_marker_ttl: Some(LEASE_MARKER_AGE),
            duplicate_window: Duration::from_mins(2),
            ..self.base(format!("KV_{}", names.leases), subjects, limits)
        }
    }

    /// As an object store is, but without direct reads: a bundle that was applied is seen by all.
    fn objects(&self) -> Config {
        let names = self.names();
        let subjects = vec![format!("$O.{}.C.>", names.objects), format!("$O.{}.M.>", names.objects)];
        let limits = Limits { age: Duration::ZERO, bytes: self.object_bytes };
        Config {
            discard: DiscardPolicy::New,
            allow_rollup: true,
            duplicate_window: Duration::from_mins(2),
            ..self.base(format!("OBJ_{}", names.objects), subjects, limits)
        }
    }
}

impl Names {
    /// From the prefix: `HOMEOSTAT_LEDGER` and so on, and `homeostat.v1`.
    pub fn new(prefix: &str) -> Self {
        let upper = prefix.to_ascii_uppercase();
        Self {
            ledger: format!("{upper}_LEDGER"),
            intake: format!("{upper}_INTAKE"),
            control: format!("{upper}_CONTROL"),
            samples: format!("{upper}_SAMPLES"),
            dead_letters: format!("{upper}_DLQ"),
            leases: format!("{upper}_LEASES"),
            objects: format!("{upper}_OBJECTS"),
            root: format!("{prefix}.v1"),
        }
    }
}

/// The number of buckets frames are spread over, as the cell was set up.
pub async fn buckets(connection: &Connection, names: &Names) -> Result<u16, TopologyError> {
    let missing = || TopologyError::Missing(names.samples.clone());
    let info = stream_info(connection, &names.samples).await?.ok_or_else(missing)?;
    let buckets = info.config.metadata.get("homeostat.buckets").and_then(|text| text.parse().ok());
    buckets.filter(|n: &u16| n.is_power_of_two()).ok_or_else(|| TopologyError::Failed {
        name: names.samples.clone(),
        reason: "its metadata does not tell the number of buckets".into(),
    })
}

/// The id of the cell whose streams these are.
pub async fn cell(connection: &Connection, names: &Names) -> Result<String, TopologyError> {
    let missing = || TopologyError::Missing(names.ledger.clone());
    let info = stream_info(connection, &names.ledger).await?.ok_or_else(missing)?;
    info.config.metadata.get("homeostat.cell").cloned().ok_or_else(|| TopologyError::Failed {
        name: names.ledger.clone(),
        reason: "its metadata does not tell the cell".into(),
    })
}

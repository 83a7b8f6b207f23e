//! The bus on NATS: the only place that knows `async_nats`.
//!
//! One file per thing it does. Every wait has a limit, every queue a size, and whatever the client library drops in
//! silence (permissions, slow consumers, lost connections) shows in [`Events`].

mod api;
mod connect;
mod context;
mod convert;
mod dead_letter;
mod difference;
mod events;
mod feed;
mod lease;
mod ledger;
mod objects;
mod publish;
mod pull;
mod samples;
mod say;
mod server;
mod service;
mod settings;
mod topology;
mod work;

pub use connect::{ConnectError, Connection, Connections, Purpose};
pub use context::{ContextError, ContextFiles};
pub use dead_letter::{
    CAUSE_HEADER, CUT_HEADER, DELIVERED_HEADER, DeadLetters, SEQUENCE_HEADER, SUBJECT_HEADER,
};
pub use difference::Difference;
pub use events::{Counts, Events, Link};
pub use feed::{Feed, FeedError};
pub use lease::{Acquired, Holder, Lease, LeaseError, Leases};
pub use ledger::Ledger;
pub use objects::{OBJECT_BYTES_MAX, ObjectEntry, ObjectError, Objects};
pub use publish::Publisher;
pub use samples::{ListenError, Listener, Outbox, OutboxCounts, Pump, outbox};
pub use say::say;
pub use server::{PrivateServer, ServerError, ServerOptions, SyncInterval};
pub use service::{Answer, AskError, Question, Refusal, ServiceError, ServiceSpec, ask, serve};
pub use settings::{Auth, Secret, Settings, SettingsError, Tls};
pub use topology::{Limits, Names, SampleStorage, Topology, TopologyError, buckets, cell};
pub use work::{SettleError, Settler, Work, WorkError, WorkSpec};

//! What the demo heals: a small worker process that really fails, and the supervisor that runs it.
//!
//! Nothing here knows of the loop. The worker does real work and measures itself; the supervisor hands its readings
//! on as samples and does what it is asked, once per idempotency key and never for an older fence.

mod protocol;
mod supervisor;
pub mod worker;

pub use protocol::Fault;
pub use supervisor::{Sink, Supervisor, SupervisorError, SupervisorOptions};

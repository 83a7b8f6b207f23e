//! The deciding core: pure, synchronous, deterministic. Time and knowledge are arguments, decisions are returned values.
//!
//! Nothing here does IO, asks a clock, draws a number or awaits. Whoever runs a core (live, in a replay or in a
//! simulation) carries out its steps and feeds the answers back in.

pub mod analyze;
mod by_id;
mod condition;
pub mod configuration;
pub mod core;
pub mod execute;
mod few;
pub mod fold;
pub mod monitor;
pub mod outbox;
pub mod plan;
pub mod promql;
pub mod ruler;
pub mod size;
pub mod template;
#[cfg(test)]
mod testing;

pub use by_id::ById;
pub use configuration::Configuration;
pub use core::{
    Act, Acted, Ask, Core, Delivery, Done, Emit, Input, Intake, Lease, Published, Step, Ticket, Token, Work,
};
pub use few::Few;

//! The roles at work: what runs the deciding cores.
//!
//! [`live`] runs them on NATS; [`world`] runs them in one thread on virtual time, for [`replay`] and for simulations.

pub mod applying;
mod aside;
mod catching_up;
mod cycles;
mod decoding;
mod error;
mod exclusive;
mod folding;
pub mod knowledge;
pub mod live;
mod loading;
mod messenger;
pub mod process;
mod reading;
pub mod replay;
mod sampling;
pub mod shards;
pub mod world;

pub use decoding::{intake_place, read_record};
pub use error::RoleError;
pub use messenger::BusMessenger;

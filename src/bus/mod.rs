//! The bus: each way of carrying messages, behind the same rules.
//!
//! [`memory`] is a ledger in one thread on virtual time, for replays and simulations. It answers as the server does, and a
//! conformance suite holds it to that. [`nats`] is the server; what goes over it are the plain values below, whose
//! payloads only `wire` can read.

pub mod memory;
mod message;
pub mod nats;

pub use message::{
    Delivery, Incoming, Outgoing, PublishError, Published, ReadError, Settle, Stored, Tail, Token,
};

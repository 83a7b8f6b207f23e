//! The bus: each way of carrying messages, behind the same rules.
//!
//! [`memory`] is a ledger in one thread on virtual time, for replays and simulations. It answers as the server does, and a
//! conformance suite holds it to that.

pub mod memory;

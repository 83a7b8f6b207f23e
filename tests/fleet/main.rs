//! Whole processes on a real `nats-server`: they are killed, told to stop and share their work, while work goes on.
//!
//! Nothing here is judged by how long it takes: what has to come is waited for, by what the ledger and the targets of the
//! actions show. A run is repeated with the seed that it printed: `HOMEOSTAT_FLEET_SEED`.
#![expect(clippy::unwrap_used, reason = "what a test needs is there, or the test fails at that line")]

#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "the tests of the bus need more of it")]
mod support;

mod cell;
mod chronicle;
mod export;
mod full;
mod kills;
mod member;
mod poison;
mod sharing;
mod stopping;
mod target;
mod work;

//! How fast the loop is here: measured on the real thing, never asserted.
//!
//! [`cycle`] runs whole cycles in one process without a server. [`closed_loop`] times the way from a sample to its effect
//! on a real server, against a [`floor`] that takes the same way with empty handlers. [`ingest`] feeds one monitor from
//! a real server and counts its CPU time.

mod child;
pub mod closed_loop;
pub mod cycle;
mod error;
mod figures;
pub mod floor;
mod frames;
pub mod ingest;

pub use error::BenchError;
pub use figures::{Quantiles, quantiles};

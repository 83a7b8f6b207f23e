//! Homeostat closes the loop: metric samples in, *verified* fixes out, over NATS.

// A closed pipe makes the macros panic; `cli::output` prints.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod actuator;
pub mod bench;
pub mod bus;
pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod engine;
pub mod http;
pub mod ingest;
pub mod model;
pub mod producer;
pub mod promtest;
pub mod role;
pub mod store;
pub mod telemetry;
pub mod wire;

pub use producer::{Producer, ProducerError};

//! The bus against a real `nats-server`: each test has its own.
#![expect(clippy::unwrap_used, reason = "what a test needs is there, or the test fails at that line")]

#[path = "../support/mod.rs"]
mod support;

mod action;
mod connecting;
mod identity;
mod lease;
mod ledger;
mod objects;
mod samples;
mod service;
mod topology;
mod work;

//! Homeostat closes the loop: metric samples in, *verified* fixes out, over NATS.

pub mod ingest;
pub mod model;
pub mod producer;

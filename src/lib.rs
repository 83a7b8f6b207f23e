//! Homeostat closes the loop: metric samples in, *verified* fixes out, over NATS.

pub mod engine;
pub mod model;
pub mod wire;

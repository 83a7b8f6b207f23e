//! Homeostat closes the loop: metric samples in, *verified* fixes out, over NATS.

pub mod bus;
pub mod engine;
pub mod model;
pub mod role;
pub mod wire;

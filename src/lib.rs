//! Homeostat closes the loop: metric samples in, *verified* fixes out, over NATS.

pub mod model;
pub mod store;

//! Homeostat closes the loop: metric samples in, *verified* fixes out, over NATS.

pub mod actuator;
pub mod bus;
pub mod demo;
pub mod engine;
pub mod model;
pub mod role;
pub mod wire;

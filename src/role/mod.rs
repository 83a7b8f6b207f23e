//! The roles at work: what runs the deciding cores.

pub mod world;

//! Homeostat.
fn main() {}

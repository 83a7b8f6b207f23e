//! The store against a model, kills, damaged files and a full disk.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

mod damage;
mod full;
mod kill;
mod model;
mod work;

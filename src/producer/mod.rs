//! Publishing samples: what `homeostat::Producer` is made of.

mod chunk;
mod client;
mod collect;
mod framing;
mod refusal;

pub use client::{Producer, ProducerError};
pub use collect::{CollectError, INTERVAL_MIN, Sources};
pub use framing::{Framer, ROWS_WAITING_MAX, SERIES_MAX, SeriesRef};
pub use refusal::{Refusal, Refusals};

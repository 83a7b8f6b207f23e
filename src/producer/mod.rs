//! Publishing samples: what `homeostat::Producer` is made of.

mod chunk;
mod client;
mod collect;
mod framing;
mod refusal;

pub use client::{Producer, ProducerError};
pub use collect::{CollectError, INTERVAL_MIN, Sources};
pub use framing::{
    FRAME_AGE_MAX, FRAME_ROWS_MAX, FRAME_ROWS_READY, Framer, ROWS_WAITING_MAX, SERIES_MAX, SeriesRef,
    TABLE_REPEAT_PERIOD, TABLES_KEPT_MAX,
};
pub use refusal::{Refusal, Refusals};

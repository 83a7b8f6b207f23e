//! The functions, by family. Each knows numbers and labels, none knows the store.

pub(super) mod calendar;
pub(super) mod labels;
pub(super) mod map;
pub(super) mod order;
pub(super) mod quantile;
pub(super) mod trend;
pub(super) mod window;

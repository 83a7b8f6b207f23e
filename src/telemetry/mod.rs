//! What the loop tells about itself: logs on standard error, metrics for a scraper, traces for a collector.

mod logs;
mod metrics;
mod traces;

pub use logs::{LogStyle, init_logs};
pub use metrics::{
    Rendered, component_duration, connection_counts, cycle_duration, dead_letter, decided, effect_started,
    fold_kept, frame_refused, init_metrics, knowledge_dropped, knowledge_full, knowledge_left_out,
    ledger_unreadable, monitor_counters, published, scraped, standing_by, store_committed, store_compacted,
    store_failed, store_rebuilt, store_usable,
};
#[cfg(feature = "otlp")]
pub use traces::TraceError;
pub use traces::{Attribute, Span, Traces, spans_of};

//! Sends spans to an OpenTelemetry collector, OTLP over HTTP.

use std::time::{Duration, SystemTime};

use opentelemetry::trace::{Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanLinks, SpanProcessor as _};

use super::{Attribute, Span, spans_of};
use crate::model::{Record, Timestamp};
use crate::wire::envelope::Trace;

/// Where a collector takes traces, under its address.
const PATH: &str = "v1/traces";
/// What is not sent by then when the process ends is not sent.
const SHUTDOWN_MAX: Duration = Duration::from_secs(3);

/// Traces cannot be sent.
#[derive(Debug, thiserror::Error)]
#[error(
    "traces cannot be sent to `{address}`: {cause}\nhint: the address of an OTLP/HTTP collector, as http://127.0.0.1:4318"
)]
pub struct TraceError {
    address: String,
    cause: String,
}

/// Sends spans from a thread of its own. Its queue is bounded: what does not fit is left out, which is logged.
#[derive(Debug)]
pub(super) struct Tracer {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
}

impl Tracer {
    /// To the collector at an address. Headers, time-outs and compression are those of the `OTEL_EXPORTER_OTLP_*`
    /// variables.
    pub(super) fn to(address: &str, cell: &str, instance: &str) -> Result<Self, TraceError> {
        let failed = |cause: String| TraceError { address: address.to_owned(), cause };
        if !address.starts_with("http://") && !address.starts_with("https://") {
            return Err(failed("it is no http or https URL".to_owned()));
        }
        // The exporter makes its client itself, with the provider of the process; an error says that there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let endpoint = format!("{}/{PATH}", address.trim_end_matches('/'));
        let exporter = SpanExporter::builder().with_http().with_endpoint(endpoint).build();
        let mut processor =
            BatchSpanProcessor::builder(exporter.map_err(|error| failed(error.to_string()))?).build();
        let resource = Resource::builder()
            .with_service_name("homeostat")
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.namespace", cell.to_owned()),
                KeyValue::new("service.instance.id", instance.to_owned()),
            ])
            .build();
        processor.set_resource(&resource);
        let scope =
            InstrumentationScope::builder("homeostat").with_version(env!("CARGO_PKG_VERSION")).build();
        Ok(Self { processor, scope })
    }

    /// Sends the spans that a record completes.
    pub(super) fn tell(&self, record: &Record) {
        for span in spans_of(record) {
            self.processor.on_end(self.data(span));
        }
    }

    fn data(&self, span: Span) -> SpanData {
        let links = span.links.into_iter().map(|place| Link::with_context(context(place))).collect();
        let mut all = SpanLinks::default();
        all.links = links;
        SpanData {
            span_context: context(span.place),
            parent_span_id: span.parent.map_or(SpanId::INVALID, SpanId::from),
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: span.name.into(),
            start_time: system(span.from),
            end_time: system(span.until),
            attributes: span
                .attributes
                .into_iter()
                .map(|(name, value)| KeyValue::new(name, known(value)))
                .collect(),
            dropped_attributes_count: 0,
            events: opentelemetry_sdk::trace::SpanEvents::default(),
            links: all,
            status: span.failure.map_or(Status::Unset, Status::error),
            instrumentation_scope: self.scope.clone(),
        }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        if let Err(error) = self.processor.shutdown_with_timeout(SHUTDOWN_MAX) {
            tracing::warn!(%error, "the last traces could not be sent");
        }
    }
}

fn context(place: Trace) -> SpanContext {
    let trace = TraceId::from(place.trace);
    let span = SpanId::from(place.span);
    SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::default())
}

fn system(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(at.as_millis()).unwrap_or(0))
}

fn known(value: Attribute) -> Value {
    match value {
        Attribute::Text(text) => text.into(),
        Attribute::Count(count) => i64::try_from(count).unwrap_or(i64::MAX).into(),
        Attribute::Value(value) => value.into(),
    }
}

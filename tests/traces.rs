//! Traces: a replay's ledger as spans, and spans as a collector gets them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::routing::post;
use homeostat::config;
use homeostat::model::{
    ActionId, AttemptId, Basis, Batch, Entry, EpisodeId, Generation, IncidentId, Labels, MessageId, Outcome,
    OutcomeResult, PlanId, Record, Role, Sample, Timestamp, Topic,
};
use homeostat::role::replay::Replay;
use homeostat::telemetry::{Attribute, Span, Traces, spans_of};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

const BEGIN: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// A worker that leaks for three seconds and is restarted a minute later, in shadow.
fn replayed() -> Vec<Arc<Record>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/demo");
    let loaded = config::load(&config::read_bundle(&folder).unwrap(), Generation(1));
    let mut replay = Replay::new(loaded.configuration, BEGIN);
    let series = Labels::new([("__name__", "worker_resident_memory_bytes"), ("worker", "w1")]).unwrap();
    for reading in 0..480_i64 {
        let leaked = f64::from(i32::try_from((reading - 80).clamp(0, 12)).unwrap()) * 2e7;
        let value = 2e7 + if reading < 320 { leaked } else { 0.0 };
        let at = Timestamp::from_millis(BEGIN.as_millis() + reading * 250);
        replay.push(Sample { series: series.clone(), at, value });
    }
    replay.finish();
    replay.news()
}

fn attribute<'a>(span: &'a Span, name: &str) -> Option<&'a Attribute> {
    span.attributes.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
}

#[test]
fn a_trace_goes_from_the_first_sample_to_the_close_of_the_incident() {
    let records = replayed();
    let mut traces: BTreeMap<u128, Vec<Span>> = BTreeMap::new();
    for span in records.iter().flat_map(|record| spans_of(record)) {
        traces.entry(span.place.trace).or_default().push(span);
    }
    let whole = |spans: &&Vec<Span>| spans.iter().any(|span| span.name == "incident");
    let incident = traces.values().find(whole).expect("an incident that was closed");
    let names: BTreeSet<&str> = incident.iter().map(|span| span.name.as_str()).collect();
    for name in ["incident", "monitor violation", "analyzer analysis", "planner plan", "executor report"] {
        assert!(names.contains(name), "{name} of {names:?}");
    }
    let root = incident.iter().find(|span| span.parent.is_none()).unwrap();
    assert_eq!(root.name, "incident");
    assert!(root.from > BEGIN + Duration::from_secs(20) && root.from < BEGIN + Duration::from_secs(24));
    for span in incident.iter().filter(|span| span.parent.is_some()) {
        assert_eq!(span.parent, Some(root.place.span), "{span:?}");
        assert!(span.from <= span.until, "{span:?}");
    }
    // Other alerts of the incident have traces of their own, and its analysis leads to them.
    let analysis = incident.iter().filter(|span| span.name == "analyzer analysis");
    let linked: BTreeSet<u128> = analysis.flat_map(|span| &span.links).map(|link| link.trace).collect();
    assert!(traces.keys().all(|trace| *trace == root.place.trace || linked.contains(trace)));
}

#[test]
fn no_two_spans_have_one_id_and_the_same_record_gives_the_same_spans() {
    let records = replayed();
    let spans: Vec<Span> = records.iter().flat_map(|record| spans_of(record)).collect();
    let ids: BTreeSet<(u128, u64)> = spans.iter().map(|span| (span.place.trace, span.place.span)).collect();
    assert_eq!(ids.len(), spans.len());
    assert_eq!(spans, records.iter().flat_map(|record| spans_of(record)).collect::<Vec<_>>());
}

fn failed_attempt() -> Record {
    let incident = IncidentId::of_episode(EpisodeId::of(&[&"episode"]));
    let outcome = Outcome {
        attempt: AttemptId::of(&[&"attempt"]),
        action: ActionId::of(&[&"action"]),
        plan: PlanId::of(&[&"plan"]),
        incident,
        result: OutcomeResult::Failed,
        started_at: BEGIN,
        ended_at: BEGIN + Duration::from_millis(40),
        output: "no such service".into(),
    };
    let batch = Batch {
        id: MessageId::of(&[&"batch"]),
        role: Role::Executor,
        instance: "one".into(),
        at: outcome.ended_at,
        basis: Basis::default(),
        trace: incident.as_u128(),
        entries: vec![Entry::Outcome(Arc::new(outcome))],
    };
    let stored_at = BEGIN + Duration::from_millis(43);
    Record { sequence: 7, stored_at, topic: Topic::Outcomes(OutcomeResult::Failed), batch: batch.into() }
}

#[test]
fn an_attempt_that_failed_says_why() {
    let spans = spans_of(&failed_attempt());
    let attempt = spans.iter().find(|span| span.name == "attempt").unwrap();
    assert_eq!(attempt.failure.as_deref(), Some("failed: no such service"));
    assert_eq!(attribute(attempt, "homeostat.result"), Some(&Attribute::Text("failed".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_them() {
    let (told, mut heard) = mpsc::channel(8);
    let take = async move |headers: HeaderMap, body: Bytes| {
        let kind = headers.get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
        told.send((kind, ExportTraceServiceRequest::decode(body).unwrap())).await.unwrap();
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let collector = axum::serve(listener, Router::new().route("/v1/traces", post(take)));
    let mut tasks = JoinSet::new();
    tasks.spawn(collector.into_future());
    let traces = Traces::to(&address, "cell", "instance", BEGIN).unwrap();
    traces.tell(&failed_attempt());
    // What is not sent yet is sent at the end.
    tokio::task::spawn_blocking(|| drop(traces)).await.unwrap();
    let (kind, request) = heard.recv().await.unwrap();
    tasks.abort_all();

    assert_eq!(kind.as_deref(), Some("application/x-protobuf"));
    let resource = request.resource_spans[0].resource.as_ref().unwrap();
    let service = resource.attributes.iter().find(|attribute| attribute.key == "service.name").unwrap();
    assert!(format!("{service:?}").contains("homeostat"), "{service:?}");
    let spans = &request.resource_spans[0].scope_spans[0].spans;
    let attempt = spans.iter().find(|span| span.name == "attempt").unwrap();
    let trace = IncidentId::of_episode(EpisodeId::of(&[&"episode"])).as_u128();
    assert_eq!(attempt.trace_id, trace.to_be_bytes());
    assert_eq!(attempt.end_time_unix_nano - attempt.start_time_unix_nano, 40_000_000);
    assert_eq!(attempt.status.as_ref().unwrap().message, "failed: no such service");
}

#[test]
fn an_address_that_is_none_is_an_error_with_a_hint() {
    let error = Traces::to("127.0.0.1:4318", "cell", "instance", BEGIN).unwrap_err().to_string();
    assert!(error.contains("`127.0.0.1:4318`") && error.contains("http://127.0.0.1:4318"), "{error}");
}

//! The demo's worker as real processes under its real supervisor, and the bundle that the demo applies.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use homeostat::config;
use homeostat::demo::{Fault, Supervisor, SupervisorOptions, worker};
use homeostat::engine::Configuration;
use homeostat::model::{Entry, Generation, Plan, Sample, Timestamp};
use homeostat::role::replay::Replay;
use serde_json::Value;

const MIB: f64 = 1_048_576.0;

/// Everything the supervisor handed on, reading by reading.
#[derive(Clone, Default)]
struct Readings(Arc<Mutex<Vec<Vec<Sample>>>>);

impl Readings {
    fn latest(&self, metric: &str) -> Option<f64> {
        let readings = self.0.lock().unwrap();
        let reading = readings.last()?;
        reading.iter().find(|sample| sample.series.metric_name() == Some(metric)).map(|sample| sample.value)
    }

    fn all(&self) -> Vec<Vec<Sample>> {
        self.0.lock().unwrap().clone()
    }

    fn resident(&self) -> f64 {
        self.latest("worker_resident_memory_bytes").unwrap_or(0.0)
    }

    fn p95(&self) -> f64 {
        self.latest("worker_request_duration_seconds").unwrap_or(0.0)
    }

    /// Waits for what another process does, which no clock of ours can move.
    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let wait = async {
            while !holds(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_mins(1), wait).await.is_ok();
        assert!(in_time, "never: {what}; resident {} p95 {}", self.resident(), self.p95());
    }
}

async fn supervisor(worker: worker::Options) -> (Supervisor, Readings) {
    let readings = Readings::default();
    let options = SupervisorOptions {
        name: "w1".into(),
        program: env!("CARGO_BIN_EXE_homeostat").into(),
        arguments: vec!["demo-worker".into()],
        worker,
    };
    let log = readings.clone();
    let sink = Arc::new(move |reading| log.0.lock().unwrap().push(reading));
    let started = Supervisor::start(options, sink, Arc::new(|| Timestamp::from_millis(1))).await;
    (started.unwrap(), readings)
}

fn field(answer: &Result<String, String>, name: &str) -> Value {
    serde_json::from_str::<Value>(answer.as_ref().unwrap()).unwrap()[name].clone()
}

fn exists(pid: &Value) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
}

#[tokio::test]
async fn a_leak_grows_real_memory_and_a_restart_brings_it_down() {
    let (supervisor, readings) = supervisor(worker::Options::default()).await;
    assert_eq!(readings.latest("worker_up"), Some(1.0));
    let fresh = readings.resident();
    assert!(fresh > 4.0 * MIB && fresh < 64.0 * MIB, "{fresh}");
    supervisor.inject(Fault::Leak).await.unwrap();
    readings.until("it has grown", |now| now.resident() > fresh + 150.0 * MIB).await;
    // A setting does not bring it down.
    let set = supervisor.handle("set", br#"{"cache_size": 4096}"#, Some("ac-set"), Some(1)).await;
    assert_eq!(field(&set, "cache_size"), 4_096);
    assert!(readings.resident() > fresh + 150.0 * MIB);
    let old = field(&set, "pid");
    let restarted = supervisor.handle("restart", b"{}", Some("ac-restart"), Some(2)).await;
    assert_eq!(field(&restarted, "restarts"), 1);
    assert!(field(&restarted, "pid") != old && !exists(&old));
    assert!(readings.resident() < fresh + 16.0 * MIB, "{} after {fresh}", readings.resident());
    supervisor.stop().await;
}

#[tokio::test]
async fn a_lost_index_makes_requests_slow_until_a_restart_whatever_the_cache_size() {
    let (supervisor, readings) = supervisor(worker::Options::default()).await;
    let fresh = readings.p95();
    supervisor.inject(Fault::LostIndex).await.unwrap();
    readings.until("it is slow", |now| now.p95() > 20.0 * fresh).await;
    let set = supervisor.handle("set", br#"{"cache_size": 4096}"#, Some("ac-set"), Some(1)).await;
    assert_eq!(field(&set, "cache_size"), 4_096);
    let requests = readings.latest("worker_requests_total").unwrap();
    let served = |now: &Readings| now.latest("worker_requests_total").unwrap_or(0.0);
    readings.until("more is served", |now| served(now) > requests + 20.0).await;
    assert!(readings.p95() > 10.0 * fresh, "{} after {fresh}", readings.p95());
    let slow = readings.p95();
    supervisor.handle("restart", b"", Some("ac-restart"), Some(2)).await.unwrap();
    readings.until("it is fast again", |now| now.p95() < slow / 10.0).await;
    assert_eq!(readings.latest("worker_cache_size"), Some(256.0));
    supervisor.stop().await;
}

#[tokio::test]
async fn a_second_restart_with_the_same_key_gets_the_same_answer_and_does_nothing() {
    let (supervisor, _) = supervisor(worker::Options::default()).await;
    let restart = |key, fence| supervisor.handle("restart", b"", Some(key), Some(fence));
    let (first, at_once) = tokio::join!(restart("ac-1", 7), restart("ac-1", 7));
    assert_eq!(field(&first, "restarts"), 1);
    assert_eq!(first, at_once);
    assert_eq!(restart("ac-1", 9).await, first);
    assert_eq!(restart("ac-1", 1).await, first, "what was done stays done");
    assert_eq!(field(&restart("ac-2", 9).await, "restarts"), 2);
    supervisor.stop().await;
}

#[tokio::test]
async fn an_older_fence_is_refused() {
    let (supervisor, _) = supervisor(worker::Options::default()).await;
    let restart = |key, fence| supervisor.handle("restart", b"", Some(key), Some(fence));
    restart("ac-1", 7).await.unwrap();
    let refused = restart("ac-2", 6).await;
    assert_eq!(refused, Err("the fence 6 is older than 7: nothing was done".into()));
    let status = supervisor.handle("status", b"", None, None).await;
    assert_eq!(field(&status, "restarts"), 1);
    assert_eq!(field(&restart("ac-3", 7).await, "restarts"), 2);
    supervisor.stop().await;
}

#[tokio::test]
async fn a_worker_that_is_gone_is_reported_and_a_restart_brings_it_back() {
    let options = worker::Options { life_max: Duration::from_millis(300), ..worker::Options::default() };
    let (supervisor, readings) = supervisor(options).await;
    readings.until("it has ended by itself", |now| now.latest("worker_up") == Some(0.0)).await;
    let set = supervisor.handle("set", br#"{"cache_size": 1}"#, Some("ac-1"), Some(1)).await;
    assert_eq!(set, Err("the worker is not running".into()));
    supervisor.handle("restart", b"", Some("ac-2"), Some(2)).await.unwrap();
    assert_eq!(readings.latest("worker_up"), Some(1.0));
    supervisor.stop().await;
}

#[tokio::test]
async fn the_worker_goes_with_its_supervisor() {
    for politely in [true, false] {
        let (supervisor, readings) = supervisor(worker::Options::default()).await;
        let pid = field(&supervisor.handle("status", b"", None, None).await, "pid");
        assert!(exists(&pid));
        if politely {
            supervisor.stop().await;
        } else {
            drop(supervisor);
        }
        readings.until("the worker is gone", |_| !exists(&pid)).await;
    }
}

#[test]
fn a_worker_whose_stdin_closes_ends_by_itself() {
    let mut worker = Command::new(env!("CARGO_BIN_EXE_homeostat"))
        .arg("demo-worker")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut readings = BufReader::new(worker.stdout.take().unwrap());
    readings.read_line(&mut line).unwrap();
    assert!(line.contains("\"resident\""), "{line}");
    drop(worker.stdin.take());
    assert!(worker.wait().unwrap().success());
}

fn bundle() -> Configuration {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/demo");
    let loaded = config::load(&config::read_bundle(&folder).unwrap(), Generation(1));
    assert!(loaded.refused.is_empty(), "{:#?}", loaded.refused);
    loaded.configuration
}

#[test]
fn the_bundle_refers_to_nothing_that_is_not_there() {
    let bundle = bundle();
    let names: BTreeSet<_> = bundle.playbooks.iter().map(|playbook| playbook.name.clone()).collect();
    assert_eq!(names, bundle.charter.armed);
    let causes: BTreeSet<_> = bundle.causes.iter().map(|cause| cause.name.clone()).collect();
    let answers = bundle.playbooks.iter().flat_map(|playbook| &playbook.answers);
    assert_eq!(answers.map(|answer| answer.cause.clone()).collect::<BTreeSet<_>>(), causes);
    let alerts: BTreeSet<_> =
        bundle.groups.iter().flat_map(|group| &group.rules).map(|rule| rule.name.alert.as_ref()).collect();
    let symptoms = bundle.causes.iter().flat_map(|cause| &cause.symptoms);
    assert_eq!(
        symptoms.filter_map(|symptom| symptom.matches.get("alertname")).collect::<BTreeSet<_>>(),
        alerts
    );
}

/// The plans that the loop makes from these readings, under the demo's bundle.
fn plans(readings: &[Vec<Sample>]) -> Vec<Arc<Plan>> {
    let mut replay = Replay::new(bundle(), readings[0][0].at);
    readings.iter().flatten().for_each(|sample| replay.push(sample.clone()));
    replay.finish();
    let news = replay.news();
    let entries = news.iter().flat_map(|record| &record.batch.entries);
    entries
        .filter_map(|entry| if let Entry::Plan(plan) = entry { Some(Arc::clone(plan)) } else { None })
        .collect()
}

#[tokio::test]
async fn each_failure_gets_the_playbook_that_answers_it_and_a_healthy_worker_gets_none() {
    let (supervisor, readings) = supervisor(worker::Options::default()).await;
    let count = || readings.all().len();
    readings.until("it has run for a while", |_| count() > 60).await;
    assert!(plans(&readings.all()).is_empty());

    supervisor.inject(Fault::Leak).await.unwrap();
    readings.until("it has grown", |now| now.resident() > 200.0 * MIB).await;
    supervisor.handle("restart", b"", None, None).await.unwrap();
    let restarted = count();
    readings.until("the restart is over for every rule", |_| count() > restarted + 80).await;
    let found = plans(&readings.all());
    let told = |plan: &Plan| format!("{} answers {}", plan.playbook, plan.cause);
    assert_eq!(
        found.iter().map(|plan| told(plan)).collect::<Vec<_>>(),
        ["restart-worker answers memory_leak"]
    );

    supervisor.inject(Fault::LostIndex).await.unwrap();
    let served = |now: &Readings| now.latest("worker_requests_total").unwrap_or(0.0);
    let before = served(&readings);
    readings.until("it has been slow for a while", |now| served(now) > before + 12.0).await;
    let found = plans(&readings.all());
    let expected = ["restart-worker answers memory_leak", "raise-cache answers index_degraded"];
    assert_eq!(found.iter().map(|plan| told(plan)).collect::<Vec<_>>(), expected);
    supervisor.stop().await;
}

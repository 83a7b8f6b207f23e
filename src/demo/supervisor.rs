//! The worker's supervisor: runs it as a child process, hands its readings on, and does what it is asked.
//!
//! A request with a key that was carried out before gets the same answer and nothing happens; one with an older fence
//! than the newest seen is refused. Where the supervisor goes, however it goes, the worker goes too.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::protocol::{CACHE_SIZE_MAX, Fault, Order, Status};
use super::worker;
use crate::model::{Labels, LabelsError, METRIC_NAME, Sample, Timestamp};

/// From the start of the process to its first reading, and from an order to the reading that shows it. Forty times
/// what a debug build took on a busy machine with two cores.
const WORKER_WAIT_MAX: Duration = Duration::from_secs(20);
/// Keys that are remembered: hours of healing.
const KEYS_REMEMBERED_MAX: usize = 1_024;
/// Requests that wait for the one before them.
const REQUESTS_QUEUED_MAX: usize = 64;

/// Which worker is run, and how.
#[derive(Clone, Debug)]
pub struct SupervisorOptions {
    /// Its name, which becomes the label `worker`.
    pub name: Arc<str>,
    /// The program that is a worker when it gets `arguments` and the worker's options behind them.
    pub program: PathBuf,
    /// What makes it one.
    pub arguments: Vec<String>,
    /// The worker's bounds.
    pub worker: worker::Options,
}

/// Why there is no worker.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// The name is too long for a label.
    #[error("the worker's name fits no label")]
    Name(#[source] LabelsError),
    /// The process could not be started.
    #[error("the worker `{program}` could not be started")]
    Start {
        /// Which program.
        program: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// It ended, or said nothing.
    #[error("the worker was started, but {0}")]
    Silent(&'static str),
}

/// Takes the readings of one moment; it must not block.
pub type Sink = Arc<dyn Fn(Vec<Sample>) + Send + Sync>;

/// A running worker with its supervisor. Dropping it kills the worker.
pub struct Supervisor {
    requests: mpsc::Sender<Request>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Supervisor {
    /// Starts the worker and returns when it has told how it is. `now` dates the readings of a worker that is gone.
    pub async fn start(
        options: SupervisorOptions,
        sink: Sink,
        now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    ) -> Result<Self, SupervisorError> {
        let series = Series::of(&options.name).map_err(SupervisorError::Name)?;
        let mut desk = Desk {
            options,
            series,
            sink,
            now,
            running: None,
            restarts: 0,
            executed: VecDeque::new(),
            newest_fence: 0,
        };
        desk.start_worker().await?;
        let (requests, received) = mpsc::channel(REQUESTS_QUEUED_MAX);
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(desk.run(received, stop.clone()));
        Ok(Self { requests, stop, tasks })
    }

    /// Does what is asked: `restart`; `set` with `{"cache_size": …}`; `fail` with `{"fault": "leak"}` or
    /// `"lost_index"`; `status`. The answer is JSON. The effect happens once for a `key`, and not at all where `fence`
    /// is older than the newest seen.
    pub async fn handle(
        &self,
        verb: &str,
        payload: &[u8],
        key: Option<&str>,
        fence: Option<u64>,
    ) -> Result<String, String> {
        let verb = Verb::parse(verb, payload)?;
        let (answer, answered) = oneshot::channel();
        let request = Request { verb, key: key.map(str::to_owned), fence, answer };
        let gone = "the supervisor has ended";
        self.requests.send(request).await.map_err(|_| gone.to_owned())?;
        answered.await.unwrap_or_else(|_| Err(gone.into()))
    }

    /// Lets the worker fail.
    pub async fn inject(&self, fault: Fault) -> Result<String, String> {
        let payload = json!({ "fault": fault.as_str() }).to_string();
        self.handle("fail", payload.as_bytes(), None, None).await
    }

    /// Ends the worker and waits until it is gone.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor").finish_non_exhaustive()
    }
}

struct Request {
    verb: Verb,
    key: Option<String>,
    fence: Option<u64>,
    answer: oneshot::Sender<Result<String, String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Restart,
    Order(Order),
    Status,
}

impl Verb {
    fn parse(verb: &str, payload: &[u8]) -> Result<Self, String> {
        let field = |name: &str| serde_json::from_slice::<Value>(payload).ok()?.get(name).cloned();
        match verb {
            "restart" => Ok(Self::Restart),
            "status" => Ok(Self::Status),
            "set" => {
                let size = field("cache_size").and_then(|size| size.as_u64());
                size.filter(|size| *size <= CACHE_SIZE_MAX)
                    .map(|size| Self::Order(Order::CacheSize(size)))
                    .ok_or_else(|| format!("`set` wants a `cache_size` of 0 to {CACHE_SIZE_MAX}"))
            }
            "fail" => {
                let fault = field("fault").ok_or("`fail` wants a `fault`")?;
                fault.as_str().unwrap_or_default().parse().map(|fault| Self::Order(Order::Fail(fault)))
            }
            _ => Err(format!("`{}` is not one of restart, set, fail, status", verb.escape_debug())),
        }
    }
}

/// The one who does it, one request after the other.
struct Desk {
    options: SupervisorOptions,
    series: Series,
    sink: Sink,
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    running: Option<Running>,
    restarts: u64,
    /// Key and answer of what was carried out, oldest first.
    executed: VecDeque<(String, String)>,
    newest_fence: u64,
}

struct Running {
    child: Child,
    orders: ChildStdin,
    readings: Lines<BufReader<ChildStdout>>,
    latest: Option<Status>,
}

impl Desk {
    async fn run(mut self, mut requests: mpsc::Receiver<Request>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                request = requests.recv() => match request {
                    Some(request) => {
                        let answer = self.answer(request.verb, request.key, request.fence).await;
                        // Whoever asked may have gone; a second request with the same key gets the answer.
                        let _ = request.answer.send(answer);
                    }
                    None => break,
                },
                () = self.attend() => {}
            }
        }
        self.end_worker().await;
    }

    async fn answer(
        &mut self,
        verb: Verb,
        key: Option<String>,
        fence: Option<u64>,
    ) -> Result<String, String> {
        if let Some((_, answer)) = self.executed.iter().find(|(known, _)| Some(known) == key.as_ref()) {
            return Ok(answer.clone());
        }
        if let Some(fence) = fence {
            if fence < self.newest_fence {
                return Err(format!(
                    "the fence {fence} is older than {}: nothing was done",
                    self.newest_fence
                ));
            }
            self.newest_fence = fence;
        }
        match verb {
            Verb::Status => return Ok(self.status()),
            Verb::Restart => {
                self.end_worker().await;
                self.start_worker().await.map_err(|error| chain(&error))?;
                self.restarts += 1;
            }
            Verb::Order(order) => self.give(order).await?,
        }
        let answer = self.status();
        if let Some(key) = key {
            if self.executed.len() == KEYS_REMEMBERED_MAX {
                self.executed.pop_front();
            }
            self.executed.push_back((key, answer.clone()));
        }
        Ok(answer)
    }

    fn status(&self) -> String {
        let running = self.running.as_ref();
        let latest = running.and_then(|running| running.latest.as_ref());
        json!({
            "worker": self.options.name.as_ref(),
            "pid": running.and_then(|running| running.child.id()),
            "restarts": self.restarts,
            "resident_bytes": latest.map(|status| status.resident),
            "p95_seconds": latest.map(|status| status.p95),
            "cache_size": latest.map(|status| status.cache_size),
            "fault": latest.and_then(|status| status.fault).map(Fault::as_str),
        })
        .to_string()
    }

    /// Waits for the worker's next reading and hands it on; where it is gone, says so as often as it would have
    /// spoken. Cancel safe.
    async fn attend(&mut self) {
        let Some(running) = &mut self.running else {
            tokio::time::sleep(self.options.worker.report_every).await;
            return (self.sink)(self.series.down((self.now)()));
        };
        if let Ok(Some(line)) = running.readings.next_line().await {
            if let Some(status) = Status::from_line(&line) {
                (self.sink)(self.series.up(&status));
                running.latest = Some(status);
            }
        } else {
            self.running = None;
            tracing::warn!(worker = self.options.name.as_ref(), "the worker has ended by itself");
        }
    }

    /// Attends to the worker until it is as it should be.
    async fn attend_until(&mut self, holds: impl Fn(&Status) -> bool) -> Result<(), &'static str> {
        let wait = async {
            loop {
                match &self.running {
                    None => return Err("it has ended"),
                    Some(Running { latest: Some(latest), .. }) if holds(latest) => return Ok(()),
                    Some(_) => self.attend().await,
                }
            }
        };
        tokio::time::timeout(WORKER_WAIT_MAX, wait).await.unwrap_or(Err("it does not say so"))
    }

    async fn start_worker(&mut self) -> Result<(), SupervisorError> {
        let program = &self.options.program;
        let mut command = Command::new(program);
        command
            .args(&self.options.arguments)
            .args(self.options.worker.to_arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        // A ctrl-C is for us; the worker ends when we do.
        #[cfg(unix)]
        command.process_group(0);
        let refused = |cause| SupervisorError::Start { program: program.display().to_string(), cause };
        let mut child = command.spawn().map_err(refused)?;
        let (Some(orders), Some(readings)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(SupervisorError::Silent("it has no pipes"));
        };
        let readings = BufReader::new(readings).lines();
        self.running = Some(Running { child, orders, readings, latest: None });
        self.attend_until(|_| true).await.map_err(SupervisorError::Silent)
    }

    async fn end_worker(&mut self) {
        if let Some(mut running) = self.running.take() {
            // Killed, not asked: what hangs does not listen. An error says that it has ended already.
            let _ = running.child.kill().await;
        }
    }

    async fn give(&mut self, order: Order) -> Result<(), String> {
        let Some(running) = &mut self.running else { return Err("the worker is not running".into()) };
        let line = format!("{order}\n");
        running
            .orders
            .write_all(line.as_bytes())
            .await
            .map_err(|error| format!("the worker is gone: {error}"))?;
        let shows = move |status: &Status| match order {
            Order::Fail(fault) => status.fault == Some(fault),
            Order::CacheSize(size) => status.cache_size == size,
        };
        // The latest reading is from before the order.
        running.latest = None;
        self.attend_until(shows).await.map_err(|why| format!("the worker was told `{order}`, but {why}"))
    }
}

/// The names of the worker's readings.
struct Series {
    up: Labels,
    resident: Labels,
    p95: Labels,
    requests: Labels,
    pages: Labels,
    cache_size: Labels,
}

impl Series {
    fn of(worker: &str) -> Result<Self, LabelsError> {
        let series = |name: &str| Labels::new([(METRIC_NAME, name), ("worker", worker)]);
        Ok(Self {
            up: series("worker_up")?,
            resident: series("worker_resident_memory_bytes")?,
            p95: series("worker_request_duration_seconds")?,
            requests: series("worker_requests_total")?,
            pages: series("worker_pages_read_total")?,
            cache_size: series("worker_cache_size")?,
        })
    }

    fn up(&self, status: &Status) -> Vec<Sample> {
        [
            (&self.up, 1.0),
            (&self.resident, status.resident as f64),
            (&self.p95, status.p95),
            (&self.requests, status.requests as f64),
            (&self.pages, status.pages as f64),
            (&self.cache_size, status.cache_size as f64),
        ]
        .map(|(series, value)| Sample { series: series.clone(), at: status.at, value })
        .into()
    }

    fn down(&self, at: Timestamp) -> Vec<Sample> {
        vec![Sample { series: self.up.clone(), at, value: 0.0 }]
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(chain);
    cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_understood_or_refused_with_what_they_want() {
        let order = |order| Ok(Verb::Order(order));
        assert_eq!(Verb::parse("restart", b"whatever"), Ok(Verb::Restart));
        assert_eq!(Verb::parse("status", b""), Ok(Verb::Status));
        assert_eq!(Verb::parse("set", br#"{"cache_size": 9}"#), order(Order::CacheSize(9)));
        assert_eq!(Verb::parse("fail", br#"{"fault": "leak"}"#), order(Order::Fail(Fault::Leak)));
        let cases: [(&str, &[u8], &str); 6] = [
            ("set", b"", "`set` wants a `cache_size` of 0 to 524288"),
            ("set", br#"{"cache_size": -1}"#, "`set` wants a `cache_size` of 0 to 524288"),
            ("set", br#"{"cache_size": 1e9}"#, "`set` wants a `cache_size` of 0 to 524288"),
            ("fail", b"{}", "`fail` wants a `fault`"),
            ("fail", br#"{"fault": "x"}"#, "`x` is not one of leak, lost_index"),
            ("stop", b"", "`stop` is not one of restart, set, fail, status"),
        ];
        for (verb, payload, expected) in cases {
            assert_eq!(Verb::parse(verb, payload), Err(expected.to_owned()), "{verb}");
        }
    }
}

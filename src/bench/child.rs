//! A monitor in a process of its own: started, asked over HTTP, its CPU time read from the system.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use super::BenchError;
use super::error::soon;
use crate::clock::Clock;
use crate::ingest::{ScrapeClient, ScrapeTarget};

/// How long it may take to start.
const START_MAX: Duration = Duration::from_secs(30);
/// A pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The process.
pub(super) struct Monitor {
    child: Child,
    pid: Pid,
    system: System,
    client: ScrapeClient,
    address: String,
    /// Held open: who prints into a closed pipe ends.
    _said: BufReader<ChildStdout>,
}

impl Monitor {
    /// Starts it and waits until it is ready.
    pub(super) async fn start(
        program: &Path,
        server: &str,
        configuration: &Path,
        folder: &Path,
    ) -> Result<Self, BenchError> {
        let io = |what| move |source| BenchError::Io { what, source };
        let mut child = Command::new(program)
            .args([
                "run",
                "--roles",
                "monitor",
                "--http",
                "127.0.0.1:0",
                "--log",
                "error",
                "--server",
                server,
            ])
            .arg("--config")
            .arg(configuration)
            .arg("--data")
            .arg(folder.join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(io("the monitor cannot be started"))?;
        let pid = child.id().ok_or(BenchError::Ended("the monitor"))?;
        let mut said = BufReader::new(child.stdout.take().ok_or(BenchError::Ended("the monitor"))?);
        let mut line = String::new();
        let reading = soon("the monitor's start", START_MAX, said.read_line(&mut line)).await?;
        reading.map_err(io("the monitor says nothing"))?;
        let address = line.trim().rsplit(' ').next().unwrap_or_default().to_owned();
        let system = System::new().map_err(|error| BenchError::Invalid(error.to_string()))?;
        let client = ScrapeClient::new()?;
        let mut monitor = Self { child, pid: Pid::from_u32(pid), system, client, address, _said: said };
        soon("the monitor's readiness", START_MAX, monitor.await_ready()).await??;
        Ok(monitor)
    }

    /// Its CPU time so far, of the program and of the system for it.
    pub(super) fn cpu(&mut self) -> Result<Duration, BenchError> {
        let kind = ProcessRefreshKind::nothing().with_cpu();
        self.system.refresh_processes_specifics(ProcessesToUpdate::Some(&[self.pid]), true, kind);
        let process = self.system.process(self.pid).ok_or(BenchError::Ended("the monitor"))?;
        Ok(Duration::from_millis(process.accumulated_cpu_time()))
    }

    /// How many samples it says it has stored, as metrics count, once it says at least so many.
    pub(super) async fn stored(&mut self, at_least: u64, clock: &Clock) -> Result<f64, BenchError> {
        let mut target = ScrapeTarget::new(&format!("{}/metrics", self.address), "bench")?;
        loop {
            let body = target.fetch(&self.client).await?;
            let scrape = target.samples(Some(&body), clock.now(), Duration::ZERO);
            let stored = scrape.samples.iter().find(|sample| {
                sample.series.metric_name() == Some("homeostat_samples_total")
                    && sample.series.get("result") == Some("stored")
            });
            match stored.map(|sample| sample.value) {
                Some(value) if value >= at_least as f64 => return Ok(value),
                Some(_) | None => self.pause().await?,
            }
        }
    }

    /// Ends it: it has nothing to finish.
    pub(super) async fn end(mut self) {
        let _ = self.child.kill().await;
    }

    async fn await_ready(&mut self) -> Result<(), BenchError> {
        let target = ScrapeTarget::new(&format!("{}/readyz", self.address), "bench")?;
        while target.fetch(&self.client).await.is_err() {
            self.pause().await?;
        }
        Ok(())
    }

    /// A moment; an error where the process ended.
    async fn pause(&mut self) -> Result<(), BenchError> {
        tokio::time::sleep(LOOK_EVERY).await;
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(_)) | Err(_) => Err(BenchError::Ended("the monitor")),
        }
    }
}

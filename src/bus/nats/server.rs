//! A private `nats-server` as a child process, for `dev`, `demo`, benches and tests: loopback only, a free port, a
//! store of its own, gone when we are gone.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// A server accepts after 7 to 30 ms, later where it recovers a large store or the disk is busy.
const START_TIMEOUT: Duration = Duration::from_mins(1);
/// A clean stop flushes; past this it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// The end of the log that an error repeats.
const LOG_TAIL_BYTES: usize = 2_000;

/// When JetStream forces its files to disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncInterval {
    /// Every two minutes: fast, and a power failure loses what was acknowledged since.
    #[default]
    Default,
    /// Before each acknowledgement, as a ledger on one server needs it.
    Always,
}

/// How to start the server.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The `nats-server` program.
    pub binary: PathBuf,
    /// Where configuration, log and store are kept; created where missing.
    pub folder: PathBuf,
    /// When files are forced to disk.
    pub sync: SyncInterval,
    /// Lines behind the configuration: users, TLS.
    pub extra: String,
}

/// A running server. Dropping it kills it by its process id; so does our own death, however it comes about.
#[derive(Debug)]
pub struct PrivateServer {
    options: ServerOptions,
    running: Option<Running>,
    port: u16,
}

#[derive(Debug)]
struct Running {
    server: Child,
    pid: u32,
    /// Ends the server when the pipe to us breaks. Held for its drop.
    _watchdog: Child,
}

/// Why the server does not run.
#[derive(Debug, Error)]
pub enum ServerError {
    /// The program cannot be started.
    #[error("`{}` cannot be started\nhint: `scripts/nats-server` finds or installs it", binary.display())]
    Spawn {
        /// Which.
        binary: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of its folder cannot be written or read.
    #[error("`{}` cannot be used for a private NATS server", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ended at once.
    #[error("nats-server ended with {status} before it accepted connections; the end of its log:\n{log}")]
    Ended {
        /// How.
        status: String,
        /// The end of its log.
        log: String,
    },
    /// It does not accept connections.
    #[error("nats-server did not accept connections within {START_TIMEOUT:?}; the end of its log:\n{log}")]
    Late {
        /// The end of its log.
        log: String,
    },
}

impl PrivateServer {
    /// Starts it on a free port and waits until it accepts connections.
    pub async fn start(options: ServerOptions) -> Result<Self, ServerError> {
        Self::start_at(options, 0).await
    }

    /// Starts it on this port, 0 for a free one, and waits until it accepts connections.
    pub async fn start_at(options: ServerOptions, port: u16) -> Result<Self, ServerError> {
        let mut server = Self { options, running: None, port };
        server.restart().await?;
        Ok(server)
    }

    /// Starts it again, on the same port with the same store; what still runs is killed before.
    pub async fn restart(&mut self) -> Result<(), ServerError> {
        self.kill().await;
        let config = self.options.folder.join("nats.conf");
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| ServerError::Folder { path, source }
        };
        std::fs::create_dir_all(&self.options.folder).map_err(io(&self.options.folder))?;
        std::fs::write(&config, self.config()).map_err(io(&config))?;
        let log = self.log();
        let log = std::fs::File::options().create(true).append(true).open(&log).map_err(io(&log))?;
        let mut server = Command::new(&self.options.binary)
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // Its own group: ctrl-C in the terminal is for us, who stop it last.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| ServerError::Spawn { binary: self.options.binary.clone(), source })?;
        let pid = server.id().unwrap_or_default();
        let watchdog = watchdog(pid, &self.options.binary)
            .map_err(|source| ServerError::Spawn { binary: "sh".into(), source })?;
        let accepted = tokio::time::timeout(START_TIMEOUT, self.accepting(&mut server, pid)).await;
        self.port = accepted.map_err(|_| ServerError::Late { log: self.log_tail() })??;
        self.running = Some(Running { server, pid, _watchdog: watchdog });
        Ok(())
    }

    /// Ends it as a crash would: SIGKILL. Waits until it is gone.
    pub async fn kill(&mut self) {
        if let Some(mut running) = self.running.take()
            && let Err(error) = running.server.kill().await
        {
            tracing::warn!(%error, pid = running.pid, "nats-server could not be killed");
        }
    }

    /// Ends it cleanly, and kills it where that takes too long.
    pub async fn stop(&mut self) {
        if let Some(running) = &mut self.running {
            // Its own signal command, which needs neither `unsafe` nor another program.
            let signalled = Command::new(&self.options.binary)
                .arg("--signal")
                .arg(format!("quit={}", running.pid))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .await;
            if signalled.is_ok_and(|status| status.success())
                && tokio::time::timeout(STOP_TIMEOUT, running.server.wait()).await.is_ok()
            {
                self.running = None;
            }
        }
        self.kill().await;
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Its port, the same after a restart.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.pid)
    }

    /// Its log.
    pub fn log(&self) -> PathBuf {
        self.options.folder.join("nats.log")
    }

    fn config(&self) -> String {
        let folder = &self.options.folder;
        let port = if self.port == 0 { "-1".into() } else { self.port.to_string() };
        // One option per line: two on one line are a parse error.
        let mut config = String::new();
        let _ = writeln!(config, "server_name: \"homeostat-private\"");
        let _ = writeln!(config, "listen: \"127.0.0.1:{port}\"");
        let _ = writeln!(config, "ports_file_dir: {}", quoted(folder));
        let _ = writeln!(config, "max_payload: 1MB");
        let _ = writeln!(config, "jetstream {{");
        let _ = writeln!(config, "  store_dir: {}", quoted(&folder.join("jetstream")));
        let _ = writeln!(config, "  max_mem: 1GB");
        let _ = writeln!(config, "  max_file: 64GB");
        match self.options.sync {
            SyncInterval::Default => {}
            SyncInterval::Always => config.push_str("  sync_interval: always\n"),
        }
        let _ = writeln!(config, "}}");
        config.push_str(&self.options.extra);
        config
    }

    /// The port, as soon as connections are accepted there.
    async fn accepting(&self, server: &mut Child, pid: u32) -> Result<u16, ServerError> {
        loop {
            if let Ok(Some(status)) = server.try_wait() {
                return Err(ServerError::Ended { status: status.to_string(), log: self.log_tail() });
            }
            if let Some(port) = self.ports_file(pid)
                && TcpStream::connect(("127.0.0.1", port)).await.is_ok()
            {
                return Ok(port);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// The server writes `<program>_<pid>.ports` when it listens.
    fn ports_file(&self, pid: u32) -> Option<u16> {
        let suffix = format!("_{pid}.ports");
        let file = std::fs::read_dir(&self.options.folder)
            .ok()?
            .flatten()
            .find(|file| file.file_name().to_string_lossy().ends_with(&suffix))?;
        let ports: serde_json::Value = serde_json::from_slice(&std::fs::read(file.path()).ok()?).ok()?;
        ports.get("nats")?.get(0)?.as_str()?.rsplit_once(':')?.1.parse().ok()
    }

    fn log_tail(&self) -> String {
        let log = std::fs::read(self.log()).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_TAIL_BYTES)..]).into_owned()
    }
}

/// A shell that waits for the end of its input, which is the end of us, and then stops the server, if the process of
/// that id is still one. `PR_SET_PDEATHSIG` would need `unsafe`.
fn watchdog(pid: u32, binary: &Path) -> io::Result<Child> {
    const SCRIPT: &str = r#"cat >/dev/null
name=$(readlink "/proc/$1/exe" 2>/dev/null || ps -o comm= -p "$1" 2>/dev/null)
case "$name" in *"$2"*) kill -TERM "$1" ;; esac"#;
    let name = binary.file_name().unwrap_or_default();
    Command::new("sh")
        .arg("-c")
        .arg(SCRIPT)
        .arg("nats-watchdog")
        .arg(pid.to_string())
        .arg(name)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_loopback_only_and_says_when_to_sync() {
        let server = |sync, port| PrivateServer {
            options: ServerOptions {
                binary: "nats-server".into(),
                folder: "/a \"b\"".into(),
                sync,
                extra: "debug: true\n".into(),
            },
            running: None,
            port,
        };
        let config = server(SyncInterval::Always, 0).config();
        assert!(config.contains("listen: \"127.0.0.1:-1\"\n"), "{config}");
        assert!(config.contains("store_dir: \"/a \\\"b\\\"/jetstream\"\n"), "{config}");
        assert!(config.contains("sync_interval: always\n") && config.ends_with("debug: true\n"), "{config}");
        let config = server(SyncInterval::Default, 4_333).config();
        assert!(
            config.contains("listen: \"127.0.0.1:4333\"\n") && !config.contains("sync_interval"),
            "{config}"
        );
    }
}

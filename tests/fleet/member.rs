//! A process of the loop, as an operator would start it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use crate::support::soon;

/// How often a page of a process is looked at, while it is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

const PROGRAM: &str = env!("CARGO_BIN_EXE_homeostat");

/// A process. Dropped, it is killed.
pub(crate) struct Member {
    pub(crate) role: String,
    child: Child,
    /// Where it serves its pages.
    address: String,
    log: PathBuf,
    /// Writes the log of one whose files are limited.
    logging: JoinSet<()>,
}

impl Member {
    /// Starts `homeostat run --roles <role>`.
    pub(crate) async fn start(role: &str, server: &str, folder: &Path, config: Option<&Path>) -> Self {
        let mut command = Command::new(PROGRAM);
        let log = log_file(role, folder);
        command.stderr(File::options().create(true).append(true).open(&log).unwrap());
        Self::spawn(role, server, folder, config, command).await
    }

    /// As [`Member::start`], and the process bears a limit on the size of its files: see [`Member::limit_files`].
    pub(crate) async fn start_limitable(role: &str, server: &str, folder: &Path) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", r#"trap "" XFSZ; exec "$0" "$@""#, PROGRAM]).stderr(Stdio::piped());
        let mut member = Self::spawn(role, server, folder, None, command).await;
        // The limit is not one for its log.
        let mut errors = member.child.stderr.take().unwrap();
        let mut log = tokio::fs::File::create(&member.log).await.unwrap();
        member.logging.spawn(async move { drop(tokio::io::copy(&mut errors, &mut log).await) });
        member
    }

    async fn spawn(
        role: &str,
        server: &str,
        folder: &Path,
        config: Option<&Path>,
        mut command: Command,
    ) -> Self {
        let log = log_file(role, folder);
        command.args(["run", "--roles", role, "--server", server, "--http", "127.0.0.1:0", "--log", "info"]);
        command.arg("--data").arg(folder.join("data"));
        // So that who comes back goes on from what is kept, and not from the beginning of the ledger.
        command.args(["--keep-fold-every", "1s"]);
        if let Some(config) = config {
            command.arg("--config").arg(config);
        }
        for name in ["NATS_URL", "NATS_CONTEXT", "NATS_CREDS", "NATS_NKEY", "HOMEOSTAT_LOG"] {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        // The first line names the address, before anything else is tried.
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = soon("the first line of a process", lines.next_line()).await.unwrap();
        let first = first.unwrap_or_else(|| panic!("{role} ended at once:\n{}", tail(&log)));
        let address = first.rsplit_once("http://").unwrap().1.to_owned();
        Self { role: role.to_owned(), child, address, log, logging: JoinSet::new() }
    }

    /// What is longer than this cannot be written to a file: what a full disk is like. Needs no rights.
    pub(crate) fn limit_files(&self, bytes: Option<u64>) {
        let limit = Rlimit { current: bytes, maximum: None };
        prlimit(Some(self.pid()), Resource::Fsize, limit).unwrap();
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap()).unwrap()
    }

    /// As a crash would end it. Waits until it is gone.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Tells it to stop.
    pub(crate) fn terminate(&self) {
        kill_process(self.pid(), Signal::TERM).unwrap();
    }

    /// How it ended.
    pub(crate) async fn ended(mut self) -> ExitStatus {
        soon(&format!("the end of the {}", self.role), self.child.wait()).await.unwrap()
    }

    /// Waits until it says that it is ready.
    pub(crate) async fn ready(&mut self) {
        let what = format!("readiness of the {}", self.role);
        let waiting = async {
            while !self.is_ready().await {
                assert_eq!(self.child.try_wait().unwrap(), None, "{} ended:\n{}", self.role, tail(&self.log));
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        soon(&what, waiting).await;
    }

    /// Whether it says that it is ready.
    pub(crate) async fn is_ready(&self) -> bool {
        self.page("readyz").await.is_some_and(|(status, _)| status == 200)
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// A metric's values, added up over its series that have all of `labels`.
    pub(crate) async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let (_, text) = soon("the metrics", self.page("metrics")).await.unwrap();
        let of = |line: &&str| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        };
        let value = |line: &str| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap();
        text.lines().filter(of).map(value).sum()
    }

    /// A page and its status; nothing where nobody serves it.
    pub(crate) async fn page(&self, path: &str) -> Option<(u16, String)> {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(&self.address).await.ok()?;
        let question = format!("GET /{path} HTTP/1.1\r\nHost: homeostat\r\nConnection: close\r\n\r\n");
        stream.write_all(question.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
    }
}

fn log_file(role: &str, folder: &Path) -> PathBuf {
    folder.join(format!("{role}.log"))
}

/// The end of a log.
pub(crate) fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

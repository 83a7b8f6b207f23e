//! Programs: those of the charter's list, with the arguments as given, and no shell in between.

use std::collections::BTreeSet;
use std::path::{Component, Path};
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::{FusedFuture, FutureExt};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use super::output::Tail;
use super::{Call, End, FENCE_VARIABLE, KEY_VARIABLE};

/// More arguments than this want to be a file.
const ARGUMENTS_MAX: usize = 64;
/// As long as a template: a longer argument was made by a label gone wild.
const ARGUMENT_BYTES_MAX: usize = 8_192;
/// Where programs that are found by name may be: what a login shell of the system has.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How long output is waited for after the program has ended: a child that it left behind may hold the pipe open for
/// ever.
const PIPES_WAIT_MAX: Duration = Duration::from_millis(200);
/// How long the end of a killed program is waited for. One that hangs in the kernel ends when it can.
const KILLED_WAIT_MAX: Duration = Duration::from_millis(500);

pub(super) fn prepare(
    program: &str,
    arguments: &[Arc<str>],
    allowed: &BTreeSet<Arc<str>>,
    call: &Call<'_>,
) -> Result<Command, String> {
    if !allowed.contains(program) {
        return Err(format!("`{program}` is not in the charter's list of programs: not started"));
    }
    let path = Path::new(program);
    if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
        return Err(format!("`{program}` is not an absolute path: not started"));
    }
    if arguments.len() > ARGUMENTS_MAX {
        return Err(format!("{} arguments, at most {ARGUMENTS_MAX} are given: not started", arguments.len()));
    }
    if let Some(long) = arguments.iter().find(|argument| argument.len() > ARGUMENT_BYTES_MAX) {
        return Err(format!(
            "an argument is {} bytes long, at most {ARGUMENT_BYTES_MAX} are given: not started",
            long.len()
        ));
    }
    let mut command = Command::new(program);
    command
        .args(arguments.iter().map(AsRef::<str>::as_ref))
        .env_clear()
        .env("PATH", PATH)
        .env(KEY_VARIABLE, &call.key)
        .env(FENCE_VARIABLE, call.fence.to_string())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    #[cfg(unix)]
    command.process_group(0);
    Ok(command)
}

pub(super) async fn run(mut command: Command, call: &Call<'_>) -> End {
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return End::failed(format!("could not be started: {error}")),
    };
    let mut group = Group::of(&child);
    let tail = Mutex::new(Tail::default());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut reading = pin!(async { tokio::join!(read(stdout, &tail), read(stderr, &tail)) }.fuse());
    let ended = call.race(async {
        tokio::select! {
            status = child.wait() => status,
            _ = &mut reading => child.wait().await,
        }
    });
    let ended = ended.await;
    if matches!(ended, Ok(Ok(_))) {
        // What the program left running on purpose goes on.
        group.release();
    } else {
        group.kill();
        let _ = child.start_kill();
        let _ = tokio::time::timeout(KILLED_WAIT_MAX, child.wait()).await;
    }
    if !reading.is_terminated() {
        let _ = tokio::time::timeout(PIPES_WAIT_MAX, reading).await;
    }
    let said = tail.lock().unwrap_or_else(PoisonError::into_inner).text();
    match ended {
        Ok(Ok(status)) => judge(status, &said),
        Ok(Err(error)) => End::open(format_args!("its end could not be seen ({error}), killed")).with(&said),
        Err(cut) => End::open(format_args!("{cut}, killed")).with(&said),
    }
}

fn judge(status: ExitStatus, said: &str) -> End {
    match status.code() {
        Some(0) => End::succeeded("exit code 0").with(said),
        Some(code) => End::failed(format!("exit code {code}")).with(said),
        None => End::failed(format!("ended by a {status}")).with(said),
    }
}

async fn read(stream: Option<impl AsyncRead + Unpin>, tail: &Mutex<Tail>) {
    let Some(mut stream) = stream else { return };
    let mut buffer = vec![0_u8; 8_192];
    // A stream that cannot be read has ended as far as we are concerned.
    while let Ok(bytes @ 1..) = stream.read(&mut buffer).await {
        tail.lock().unwrap_or_else(PoisonError::into_inner).push(&buffer[..bytes]);
    }
}

/// The program and its children. Killed together when dropped, unless the program has ended by itself: then its
/// number may be somebody else's.
struct Group {
    #[cfg(unix)]
    leader: Option<rustix::process::Pid>,
}

impl Group {
    #[cfg(unix)]
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self { leader: id.and_then(rustix::process::Pid::from_raw) }
    }

    #[cfg(not(unix))]
    fn of(_: &Child) -> Self {
        Self {}
    }

    fn release(&mut self) {
        #[cfg(unix)]
        {
            self.leader = None;
        }
    }

    fn kill(&mut self) {
        #[cfg(unix)]
        if let Some(leader) = self.leader.take() {
            // An error says that it has ended already.
            let _ = rustix::process::kill_process_group(leader, rustix::process::Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::testing::{Bench, command};
    use super::*;
    use crate::model::OutcomeResult;

    #[tokio::test]
    async fn a_program_that_is_not_listed_is_not_started() {
        let bench = Bench::new();
        let outcome = bench.run(bench.act(command("/bin/sh", &["-c", "exit 0"]))).await;
        assert_eq!(outcome.result, OutcomeResult::Failed);
        assert_eq!(
            outcome.output.as_ref(),
            "`/bin/sh` is not in the charter's list of programs: not started"
        );
    }

    #[tokio::test]
    async fn a_listed_path_that_is_relative_or_climbs_is_not_started() {
        let mut bench = Bench::new();
        for program in ["true", "/bin/../bin/true"] {
            bench.programs.insert(program.into());
            let outcome = bench.run(bench.act(command(program, &[]))).await;
            assert_eq!(outcome.result, OutcomeResult::Failed);
            assert!(outcome.output.contains("is not an absolute path"), "{}", outcome.output);
        }
    }

    #[tokio::test]
    async fn the_environment_is_key_fence_and_path_and_nothing_else() {
        let bench = Bench::new();
        let act = bench.act(command("/usr/bin/env", &[]));
        let expected = [
            format!("{KEY_VARIABLE}={}", act.action.id),
            format!("{FENCE_VARIABLE}={}", act.fence),
            format!("PATH={PATH}"),
        ];
        let outcome = bench.run(act).await;
        assert_eq!(outcome.result, OutcomeResult::Succeeded);
        let mut lines: Vec<_> = outcome.output.lines().collect();
        assert_eq!(lines.remove(0), "exit code 0");
        lines.sort_unstable();
        assert_eq!(lines, expected);
    }

    #[tokio::test]
    async fn arguments_are_given_as_they_are() {
        let bench = Bench::new();
        let outcome = bench.run(bench.act(command("/bin/echo", &["$HOME", "`id`", "a  b; c", "*"]))).await;
        assert_eq!(outcome.output.as_ref(), "exit code 0\n$HOME `id` a  b; c *\n");
    }

    #[tokio::test]
    async fn another_exit_code_is_a_failure_with_what_was_said_on_both_streams() {
        let mut bench = Bench::new();
        let outcome = bench.run(bench.act(command("/bin/false", &[]))).await;
        assert_eq!((outcome.result, outcome.output.as_ref()), (OutcomeResult::Failed, "exit code 1\n"));
        bench.programs.insert("/bin/sh".into());
        let outcome =
            bench.run(bench.act(command("/bin/sh", &["-c", "echo out; echo err >&2; exit 7"]))).await;
        assert_eq!(outcome.result, OutcomeResult::Failed);
        assert!(outcome.output.starts_with("exit code 7\n"), "{}", outcome.output);
        assert!(outcome.output.contains("out\n") && outcome.output.contains("err\n"), "{}", outcome.output);
        let outcome = bench.run(bench.act(command("/bin/sh", &["-c", "kill -9 $$"]))).await;
        assert_eq!(outcome.result, OutcomeResult::Failed);
        assert!(outcome.output.starts_with("ended by a signal: 9"), "{}", outcome.output);
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_a_failure() {
        let mut bench = Bench::new();
        bench.programs.insert("/nonexistent/program".into());
        let outcome = bench.run(bench.act(command("/nonexistent/program", &[]))).await;
        assert_eq!(outcome.result, OutcomeResult::Failed);
        assert!(outcome.output.starts_with("could not be started: "), "{}", outcome.output);
    }

    #[tokio::test]
    async fn arguments_beyond_the_limits_are_refused() {
        let bench = Bench::new();
        let many = vec!["x"; ARGUMENTS_MAX + 1];
        let long = "x".repeat(ARGUMENT_BYTES_MAX + 1);
        for arguments in [many.as_slice(), &[long.as_str()]] {
            let outcome = bench.run(bench.act(command("/bin/echo", arguments))).await;
            assert_eq!(outcome.result, OutcomeResult::Failed);
            assert!(outcome.output.ends_with("not started"), "{}", outcome.output);
        }
        let outcome = bench.run(bench.act(command("/bin/echo", &["a\0b"]))).await;
        assert!(outcome.output.starts_with("could not be started: "), "{}", outcome.output);
    }

    #[tokio::test]
    async fn a_program_that_takes_too_long_is_killed_with_its_children() {
        let mut bench = Bench::new();
        bench.programs.insert("/bin/sh".into());
        let script = format!("/bin/sleep 600 & echo $! > {}; echo waiting; wait", bench.path("child"));
        let mut act = bench.act(command("/bin/sh", &["-c", &script]));
        act.action.timeout = Duration::from_millis(500);
        let outcome = bench.run(act).await;
        assert_eq!(outcome.result, OutcomeResult::TimedOut);
        assert_eq!(
            outcome.output.as_ref(),
            "no answer within 500ms, killed: it may have happened\nwaiting\n"
        );
        let child = bench.read("child").trim().to_owned();
        bench.until("the child is gone", || !is_running(&child)).await;
    }

    #[tokio::test]
    async fn a_program_is_killed_with_its_children_when_nobody_waits_any_more() {
        let mut bench = Bench::new();
        bench.programs.insert("/bin/sh".into());
        let script = format!("/bin/sleep 600 & echo $! > {}; wait", bench.path("child"));
        let act = bench.act(command("/bin/sh", &["-c", &script]));
        tokio::select! {
            outcome = bench.run(act) => panic!("it ended: {outcome:?}"),
            () = bench.until("the child is there", || bench.read("child").ends_with('\n')) => {}
        }
        let child = bench.read("child").trim().to_owned();
        bench.until("the child is gone", || !is_running(&child)).await;
    }

    #[tokio::test]
    async fn a_program_that_runs_at_shutdown_is_given_up() {
        let bench = Bench::new();
        let act = bench.act(command("/bin/sleep", &["600"]));
        let shutdown = bench.shutdown.clone();
        let (outcome, ()) = tokio::join!(bench.run(act), async {
            tokio::task::yield_now().await;
            shutdown.cancel();
        });
        assert_eq!(outcome.result, OutcomeResult::TimedOut);
        assert!(outcome.output.starts_with("given up at shutdown, killed"), "{}", outcome.output);
    }

    #[tokio::test]
    async fn what_a_program_leaves_running_does_not_hold_the_outcome_back() {
        let mut bench = Bench::new();
        bench.programs.insert("/bin/sh".into());
        let script = format!("/bin/sleep 600 & echo $! > {}", bench.path("child"));
        let outcome = bench.run(bench.act(command("/bin/sh", &["-c", &script]))).await;
        assert_eq!(outcome.result, OutcomeResult::Succeeded, "{}", outcome.output);
        let child = bench.read("child").trim().to_owned();
        assert!(is_running(&child));
        let id = child.parse().ok().and_then(rustix::process::Pid::from_raw).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::KILL).unwrap();
    }

    #[tokio::test]
    async fn of_endless_output_the_end_is_kept() {
        let mut bench = Bench::new();
        bench.programs.insert("/usr/bin/seq".into());
        let outcome = bench.run(bench.act(command("/usr/bin/seq", &["300000"]))).await;
        assert_eq!(outcome.result, OutcomeResult::Succeeded);
        assert!(outcome.output.len() <= super::super::OUTPUT_BYTES_MAX);
        assert!(outcome.output.starts_with("exit code 0\n[") && outcome.output.ends_with("299999\n300000\n"));
    }

    /// A zombie has ended, whoever has yet to collect it.
    fn is_running(id: &str) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
    }
}

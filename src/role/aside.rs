//! Work that must not delay a decision: on a thread of its own, with a runtime of its own, behind the roles that decide.
//!
//! Keeping what the loop knows costs as much time as the rest of the loop together, and nobody waits for it. In the roles'
//! own runtime it would take turns with them; here the system lets it wait where there is somebody to wait for.

use std::thread;

use tokio::runtime;
use tokio::sync::oneshot;

/// Against threads of normal priority it gets a tenth of a processor, on an idle one all of it: it falls behind in a storm
/// and never stands still.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// Why it has no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum AsideError {
    /// The system has no thread or no runtime for it.
    #[error("no thread can be started: {0}")]
    Refused(#[from] std::io::Error),
    /// A bug.
    #[error("it ended unexpectedly")]
    Panicked,
}

/// Does the work, and returns when it has ended and all it had is let go. Threads that it starts are behind too.
pub(super) async fn run<T, W, F>(name: &str, work: W) -> Result<T, AsideError>
where
    T: Send + 'static,
    W: FnOnce() -> F + Send + 'static,
    F: Future<Output = T>,
{
    let (ended, end) = oneshot::channel();
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        step_back();
        let done = runtime::Builder::new_current_thread().enable_all().build().map(|runtime| {
            let done = runtime.block_on(async { work().await });
            // Waits for what still blocks.
            drop(runtime);
            done
        });
        // Nobody waits any more: the process ends.
        let _ = ended.send(done);
    })?;
    Ok(end.await.map_err(|_| AsideError::Panicked)??)
}

/// On Linux the priority is the thread's, and that of the threads it starts; elsewhere it would be the process's.
fn step_back() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::debug!(%error, "the priority of a thread cannot be lowered");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_result_comes_back_and_so_does_a_panic() {
        assert_eq!(run("seven", || async { 7 }).await.unwrap(), 7);
        let panicked = run("panicking", || async { panic!("as told") });
        let panicked: Result<(), AsideError> = panicked.await;
        assert!(matches!(panicked, Err(AsideError::Panicked)), "{panicked:?}");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn only_the_work_and_what_it_starts_steps_back() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let ours = nice();
        let (its, started) =
            run("behind", move || async move { (nice(), tokio::task::spawn_blocking(nice).await.unwrap()) })
                .await
                .unwrap();
        let behind = (ours + NICE).min(19);
        assert_eq!((its, started, nice()), (behind, behind, ours));
    }
}

//! The hand of the loop: carries out one admitted attempt and says how it ended. Nothing else touches a managed
//! resource.
//!
//! One file per kind of action. An attempt is prepared (everything that can be refused is refused then, with nothing
//! done), passes the gate (lease, shutdown: otherwise `NotStarted`), and is carried out. `Failed` means that the target
//! said no or that nothing reached it; a NATS request that has nobody to answer it is `NotStarted`, because that may pass;
//! whatever leaves it open whether the effect happened is `TimedOut`.

mod command;
mod messenger;
mod nats;
mod output;
mod webhook;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::engine::{Act, Acted};
use crate::model::{ActionSpec, OutcomeResult, Timestamp};

pub use messenger::{Answer, Message, Messenger, MessengerError};
pub(crate) use nats::{SERVICE_ERROR_CODE_HEADER, SERVICE_ERROR_HEADER};
pub use output::OUTPUT_BYTES_MAX;

/// The output of an attempt whose lease was over before the call. Nothing was done.
const LEASE_ENDED: &str = "the lease had ended before the call: not started";
/// The output of an attempt that came while the process was shutting down. Nothing was done.
pub const SHUTTING_DOWN: &str = "this process is shutting down: not started";

/// The idempotency key, for targets that speak NATS or HTTP (the name is the IETF draft's).
pub const KEY_HEADER: &str = "Idempotency-Key";
/// The fencing token, for targets that speak NATS or HTTP: decimal, refuse anything below the largest seen.
pub const FENCE_HEADER: &str = "Homeostat-Fence";
/// The idempotency key, for programs.
const KEY_VARIABLE: &str = "HOMEOSTAT_ACTION";
/// The fencing token, for programs.
const FENCE_VARIABLE: &str = "HOMEOSTAT_FENCE";

/// What a target gets at most. Templates are 8 KiB and label values 2 KiB, so more is a playbook gone wild.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// Carries out attempts. Attempts do not know of each other; any number may run at once.
pub struct Actuator {
    messenger: Arc<dyn Messenger>,
    web: webhook::Client,
    /// `<prefix>.v1`: what is below belongs to the loop itself.
    own_subjects: String,
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    shutdown: CancellationToken,
}

/// What an attempt is carried out under, as it is at this moment.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// The charter's list of programs that may be run.
    pub programs: &'a BTreeSet<Arc<str>>,
    /// The charter's list of hosts that may be called; an empty one allows those that the playbooks name.
    pub hosts: &'a BTreeSet<Arc<str>>,
    /// The W3C trace that led to the attempt; handed on to the target.
    pub traceparent: Option<&'a str>,
}

impl Actuator {
    /// `now` is a clock that does not jump within the process. Once `shutdown` is cancelled nothing is started any
    /// more, and what runs is given up: cancel it only after attempts in flight had their time.
    pub fn new(
        messenger: Arc<dyn Messenger>,
        prefix: &str,
        now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            messenger,
            web: webhook::Client::default(),
            own_subjects: format!("{prefix}.v1"),
            now,
            shutdown,
        }
    }

    /// Carries out the attempt, once, and fills in its outcome. Takes no longer than the action's timeout and a
    /// second for clearing away.
    ///
    /// Not cancel safe: where the future is dropped, a program is killed with its group and no outcome is told.
    pub async fn act(&self, act: Act, under: Circumstances<'_>) -> Acted {
        let call = Call {
            key: act.action.id.to_string(),
            fence: act.fence,
            traceparent: under.traceparent,
            timeout: act.action.timeout,
            shutdown: &self.shutdown,
        };
        let prepared = self.prepare(&act.action.spec, &call, under);
        let started_at = (self.now)();
        let end = match prepared {
            Err(refused) => End::failed(refused),
            Ok(prepared) => match self.gate(started_at, act.not_after) {
                Err(closed) => End::not_started(closed),
                Ok(()) => self.carry_out(prepared, &call).await,
            },
        };
        let mut outcome = act.outcome;
        outcome.result = end.result;
        outcome.started_at = started_at;
        outcome.ended_at = (self.now)().max(started_at);
        outcome.output = output::head(&end.output, OUTPUT_BYTES_MAX).into();
        Acted { attempt: act.attempt, outcome }
    }

    /// Everything that can be found wrong without touching anything.
    fn prepare(
        &self,
        spec: &ActionSpec,
        call: &Call<'_>,
        under: Circumstances<'_>,
    ) -> Result<Prepared, String> {
        match spec {
            ActionSpec::NatsPublish { subject, body } => {
                nats::prepare(subject, body, &self.own_subjects, call).map(Prepared::Publish)
            }
            ActionSpec::NatsRequest { subject, body } => {
                nats::prepare(subject, body, &self.own_subjects, call).map(Prepared::Request)
            }
            ActionSpec::Webhook { method, url, body } => {
                self.web.prepare(*method, url, body, call, under.hosts).map(Box::new).map(Prepared::Webhook)
            }
            ActionSpec::Command { program, arguments } => {
                command::prepare(program, arguments, under.programs, call).map(Prepared::Command)
            }
        }
    }

    /// The last look at the clock. The clock counts whole milliseconds: at equality a part of one may have passed.
    fn gate(&self, now: Timestamp, not_after: Timestamp) -> Result<(), &'static str> {
        if now >= not_after {
            return Err(LEASE_ENDED);
        }
        if self.shutdown.is_cancelled() {
            return Err(SHUTTING_DOWN);
        }
        Ok(())
    }

    async fn carry_out(&self, prepared: Prepared, call: &Call<'_>) -> End {
        match prepared {
            Prepared::Publish(message) => nats::publish(self.messenger.as_ref(), message, call).await,
            Prepared::Request(message) => nats::request(self.messenger.as_ref(), message, call).await,
            Prepared::Webhook(request) => self.web.send(*request, call).await,
            Prepared::Command(command) => command::run(command, call).await,
        }
    }
}

impl fmt::Debug for Actuator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Actuator").field("own_subjects", &self.own_subjects).finish_non_exhaustive()
    }
}

/// An attempt that may be carried out.
enum Prepared {
    Publish(Message),
    Request(Message),
    Webhook(Box<reqwest::Request>),
    Command(tokio::process::Command),
}

/// What every kind of action is told beside its own fields.
struct Call<'a> {
    key: String,
    fence: u64,
    traceparent: Option<&'a str>,
    timeout: Duration,
    shutdown: &'a CancellationToken,
}

impl Call<'_> {
    /// Key, fence and trace, as headers.
    fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = vec![(KEY_HEADER, self.key.clone()), (FENCE_HEADER, self.fence.to_string())];
        headers.extend(self.traceparent.map(|parent| ("traceparent", parent.to_owned())));
        headers
    }

    /// The effect, or what cut it short. An answer that is there counts, however late it is looked at.
    async fn race<T>(&self, effect: impl Future<Output = T>) -> Result<T, CutShort> {
        tokio::select! {
            biased;
            done = effect => Ok(done),
            () = tokio::time::sleep(self.timeout) => Err(CutShort::Timeout(self.timeout)),
            () = self.shutdown.cancelled() => Err(CutShort::Shutdown),
        }
    }
}

/// Why an effect that had started was not waited for.
enum CutShort {
    Timeout(Duration),
    Shutdown,
}

impl fmt::Display for CutShort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout(timeout) => write!(f, "no answer within {timeout:?}"),
            Self::Shutdown => f.write_str("given up at shutdown"),
        }
    }
}

/// How a call ended.
struct End {
    result: OutcomeResult,
    output: String,
}

impl End {
    fn succeeded(output: impl Into<String>) -> Self {
        Self { result: OutcomeResult::Succeeded, output: output.into() }
    }

    /// The target said no, or was not reached.
    fn failed(output: impl Into<String>) -> Self {
        Self { result: OutcomeResult::Failed, output: output.into() }
    }

    /// Nobody has heard of it.
    fn not_started(output: impl Into<String>) -> Self {
        Self { result: OutcomeResult::NotStarted, output: output.into() }
    }

    /// The same with what the target said behind it.
    fn with(mut self, said: &str) -> Self {
        self.output.push('\n');
        self.output.push_str(said);
        self
    }

    /// It may have happened.
    fn open(why: impl fmt::Display) -> Self {
        Self { result: OutcomeResult::TimedOut, output: format!("{why}: it may have happened") }
    }
}

/// Refuses a body that is too large for any target.
fn check_body(body: &str) -> Result<(), String> {
    if body.len() <= BODY_BYTES_MAX {
        return Ok(());
    }
    Err(format!("the body is {} bytes long, at most {BODY_BYTES_MAX} are sent", body.len()))
}

#[cfg(test)]
mod testing;

#[cfg(test)]
mod tests {
    use super::testing::{Bench, command};
    use super::*;

    #[tokio::test]
    async fn nothing_is_started_when_the_lease_has_ended() {
        let bench = Bench::new();
        let mut act = bench.act(command("/usr/bin/touch", &[&bench.path("touched")]));
        act.not_after = bench.now();
        let outcome = bench.run(act).await;
        assert_eq!((outcome.result, outcome.output.as_ref()), (OutcomeResult::NotStarted, LEASE_ENDED));
        assert!(!bench.exists("touched"));
    }

    #[tokio::test]
    async fn nothing_is_started_at_shutdown() {
        let bench = Bench::new();
        bench.shutdown.cancel();
        let outcome = bench.run(bench.act(command("/usr/bin/touch", &[&bench.path("touched")]))).await;
        assert_eq!((outcome.result, outcome.output.as_ref()), (OutcomeResult::NotStarted, SHUTTING_DOWN));
        assert!(!bench.exists("touched"));
    }

    #[tokio::test]
    async fn what_was_known_about_the_attempt_stays_and_the_times_are_filled_in() {
        let bench = Bench::new();
        let act = bench.act(command("/bin/true", &[]));
        let before = act.outcome.clone();
        let outcome = bench.run(act).await;
        assert_eq!(outcome.result, OutcomeResult::Succeeded, "{}", outcome.output);
        assert_eq!(
            (outcome.attempt, outcome.action, outcome.plan, outcome.incident),
            (before.attempt, before.action, before.plan, before.incident)
        );
        assert!(outcome.started_at > before.started_at && outcome.ended_at >= outcome.started_at);
    }
}

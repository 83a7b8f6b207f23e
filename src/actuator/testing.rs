//! A bench to try attempts on: a folder, a messenger that was told what to answer, a clock that moves on.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::{Actuator, Answer, Circumstances, Message, Messenger, MessengerError};
use crate::engine::Act;
use crate::model::{
    Action, ActionId, ActionSpec, AttemptId, EpisodeId, HttpMethod, Idempotency, IncidentId, Outcome,
    OutcomeResult, PlanId, Timestamp,
};

pub(super) enum Behaviour {
    Answer(Answer),
    Error(MessengerError),
    Hang,
}

struct Scripted {
    behaviour: Behaviour,
    sent: Mutex<Vec<Message>>,
}

impl Scripted {
    async fn exchange(&self, message: Message) -> Result<Answer, MessengerError> {
        self.sent.lock().unwrap().push(message);
        match &self.behaviour {
            Behaviour::Answer(answer) => Ok(answer.clone()),
            Behaviour::Error(error) => Err(error.clone()),
            Behaviour::Hang => std::future::pending().await,
        }
    }
}

impl Messenger for Scripted {
    fn publish(&self, message: Message) -> BoxFuture<'_, Result<(), MessengerError>> {
        Box::pin(async move { self.exchange(message).await.map(|_| ()) })
    }

    fn request(&self, message: Message) -> BoxFuture<'_, Result<Answer, MessengerError>> {
        Box::pin(self.exchange(message))
    }
}

pub(super) struct Bench {
    pub(super) programs: BTreeSet<Arc<str>>,
    pub(super) shutdown: CancellationToken,
    actuator: Actuator,
    messenger: Arc<Scripted>,
    clock: Arc<AtomicI64>,
    folder: tempfile::TempDir,
}

impl Bench {
    pub(super) const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    pub(super) fn new() -> Self {
        Self::with(Behaviour::Answer(Answer::default()))
    }

    pub(super) fn with(behaviour: Behaviour) -> Self {
        let messenger = Arc::new(Scripted { behaviour, sent: Mutex::default() });
        let clock = Arc::new(AtomicI64::new(1_000));
        let shutdown = CancellationToken::new();
        let now = {
            let clock = Arc::clone(&clock);
            // Each look at the clock takes a millisecond.
            Arc::new(move || Timestamp::from_millis(clock.fetch_add(1, Ordering::Relaxed)))
        };
        let given: Arc<dyn Messenger> = Arc::<Scripted>::clone(&messenger);
        Self {
            programs: [
                "/bin/true",
                "/bin/false",
                "/bin/echo",
                "/bin/sleep",
                "/usr/bin/env",
                "/usr/bin/touch",
            ]
            .into_iter()
            .map(Arc::from)
            .collect(),
            actuator: Actuator::new(given, "homeostat", now, shutdown.clone()),
            shutdown,
            messenger,
            clock,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(super) fn act(&self, spec: ActionSpec) -> Act {
        let incident = IncidentId::of_episode(EpisodeId::of(&[&"episode"]));
        let plan = PlanId::of(&[&incident, &1_u64]);
        let id = ActionId::of(&[&plan, &0_u64]);
        let attempt = AttemptId::of(&[&id, &1_u64]);
        Act {
            attempt,
            action: Action {
                id,
                name: "step".into(),
                spec,
                timeout: Duration::from_secs(20),
                idempotency: Idempotency::Key,
            },
            fence: 42,
            not_after: self.now() + Duration::from_mins(1),
            outcome: Outcome {
                attempt,
                action: id,
                plan,
                incident,
                result: OutcomeResult::InDoubt,
                started_at: Timestamp::MIN,
                ended_at: Timestamp::MIN,
                output: "".into(),
            },
        }
    }

    pub(super) async fn run(&self, act: Act) -> Outcome {
        let attempt = act.attempt;
        let hosts = BTreeSet::new();
        let under =
            Circumstances { programs: &self.programs, hosts: &hosts, traceparent: Some(Self::TRACEPARENT) };
        let acted = self.actuator.act(act, under).await;
        assert_eq!((acted.attempt, acted.outcome.attempt), (attempt, attempt));
        acted.outcome
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.clock.load(Ordering::Relaxed))
    }

    pub(super) fn sent(&self) -> Vec<Message> {
        self.messenger.sent.lock().unwrap().clone()
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    pub(super) fn exists(&self, name: &str) -> bool {
        self.folder.path().join(name).exists()
    }

    pub(super) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    /// Waits for what another process does, which no clock of ours can move.
    pub(super) async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let wait = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("never: {what}"));
    }
}

pub(super) fn command(program: &str, arguments: &[&str]) -> ActionSpec {
    let arguments = arguments.iter().map(|&argument| argument.into()).collect();
    ActionSpec::Command { program: program.into(), arguments }
}

pub(super) fn webhook(method: HttpMethod, url: &str, body: &str) -> ActionSpec {
    ActionSpec::Webhook { method, url: url.into(), body: body.into() }
}

pub(super) fn nats_publish(subject: &str, body: &str) -> ActionSpec {
    ActionSpec::NatsPublish { subject: subject.into(), body: body.into() }
}

pub(super) fn nats_request(subject: &str, body: &str) -> ActionSpec {
    ActionSpec::NatsRequest { subject: subject.into(), body: body.into() }
}

//! Actions on services of a real server.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use homeostat::actuator::{Actuator, Circumstances};
use homeostat::bus::nats::{Answer, Question, Refusal, ServiceSpec, serve};
use homeostat::engine::Act;
use homeostat::model::{
    Action, ActionId, ActionSpec, AttemptId, EpisodeId, Idempotency, IncidentId, Outcome, OutcomeResult,
    PlanId, Timestamp,
};
use homeostat::role::BusMessenger;
use tokio_util::sync::CancellationToken;

use crate::support::{Bed, PATIENCE};

#[tokio::test]
async fn a_service_that_says_no_has_answered_and_nothing_is_in_doubt() {
    let bed = Bed::start().await;
    let (server, client) = (bed.connect().await, bed.connect().await);
    let stop = CancellationToken::new();
    let spec = ServiceSpec {
        name: "worker".into(),
        version: "1.0.0".into(),
        description: "restarts, or does not".into(),
        queue_group: "worker".into(),
        endpoints: vec![("restart".into(), "demo.restart".into())],
        concurrency: 1,
    };
    let refuse = |_: Question| async {
        Err::<Answer, _>(Refusal { code: 409, status: "the fence 3 is older than 5".into() })
    };
    let asks = async {
        let actuator = Actuator::new(
            Arc::new(BusMessenger(client)),
            "homeostat",
            Arc::new(|| Timestamp::from_millis(1_000)),
            CancellationToken::new(),
        );
        let (programs, hosts) = (BTreeSet::new(), BTreeSet::new());
        let under = Circumstances { programs: &programs, hosts: &hosts, traceparent: None };
        let mut outcome = actuator.act(restart(), under).await.outcome;
        while outcome.output.contains("nobody listens") {
            outcome = actuator.act(restart(), under).await.outcome;
        }
        stop.cancel();
        outcome
    };
    let (outcome, served) = tokio::join!(asks, serve(&server, spec, stop.clone(), refuse));
    served.unwrap();
    assert_eq!(outcome.result, OutcomeResult::Failed, "{}", outcome.output);
    let expected = "the target answered with an error: the fence 3 is older than 5 (409)";
    assert_eq!(outcome.output.trim_end(), expected);
}

fn restart() -> Act {
    let incident = IncidentId::of_episode(EpisodeId::of(&[&"episode"]));
    let plan = PlanId::of(&[&incident, &1_u64]);
    let id = ActionId::of(&[&plan, &0_u64]);
    let attempt = AttemptId::of(&[&id, &1_u64]);
    Act {
        attempt,
        action: Action {
            id,
            name: "restart".into(),
            spec: ActionSpec::NatsRequest { subject: "demo.restart".into(), body: "{}".into() },
            timeout: PATIENCE,
            idempotency: Idempotency::Key,
        },
        fence: 3,
        not_after: Timestamp::from_millis(1_000) + Duration::from_mins(1),
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

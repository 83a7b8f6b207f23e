//! What is healed: units that break, and the two targets that mend them, one on NATS that honours the idempotency key and
//! one on HTTP that does not. They note every call.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::routing::post;
use homeostat::actuator::{FENCE_HEADER, KEY_HEADER};
use homeostat::bus::nats::{Answer, Connection, Question, Refusal, ServiceSpec, serve};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A unit whose webhook gets no answer before it is let go.
pub(crate) const HELD: &str = "held-";

/// A call: the key is the action's, the fence tells its attempts apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Call {
    pub(crate) key: String,
    pub(crate) fence: u64,
}

/// The state of the world.
#[derive(Debug, Default)]
pub(crate) struct World {
    /// Every unit that is watched, and whether it is ill.
    pub(crate) units: BTreeMap<String, bool>,
    /// How often each call arrived.
    pub(crate) calls: BTreeMap<Call, u32>,
    /// Effects by key: a target that honours it has at most one.
    pub(crate) effects: BTreeMap<String, u32>,
    /// Keys by the unit that they were for: another action has another key.
    pub(crate) acted_on: BTreeMap<String, BTreeSet<String>>,
    /// Keys that came on HTTP.
    pub(crate) on_http: BTreeSet<String>,
    /// Held units that were called for.
    pub(crate) held: BTreeSet<String>,
    /// Held units whose answer may be given.
    pub(crate) let_go: BTreeSet<String>,
}

/// The targets. Dropped, they end.
pub(crate) struct Targets {
    pub(crate) world: Arc<watch::Sender<World>>,
    /// `127.0.0.1:…`
    pub(crate) http: String,
    stop: CancellationToken,
    _tasks: JoinSet<()>,
}

impl Targets {
    pub(crate) async fn start(connection: Connection) -> Self {
        let world = Arc::new(watch::Sender::new(World::default()));
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let spec = ServiceSpec {
            name: "fleet-target".into(),
            version: "1.0.0".into(),
            description: "Mends units".into(),
            queue_group: "target".into(),
            endpoints: vec![("fix".into(), "fleet.fix.*".into())],
            concurrency: 16,
        };
        let (on_nats, stopped) = (Arc::clone(&world), stop.clone());
        tasks.spawn(async move {
            let answer = move |question: Question| {
                let world = Arc::clone(&on_nats);
                async move { Ok::<_, Refusal>(fix(&world, &question)) }
            };
            serve(&connection, spec, stopped, answer).await.unwrap();
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = listener.local_addr().unwrap().to_string();
        let router = Router::new().route("/mend/{unit}", post(mend)).with_state(Arc::clone(&world));
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { world, http, stop, _tasks: tasks }
    }

    /// Waits for a state of the world.
    pub(crate) async fn until(&self, what: &str, holds: impl FnMut(&World) -> bool) {
        let mut world = self.world.subscribe();
        let _ = crate::support::soon(what, world.wait_for(holds)).await;
    }

    /// A unit falls ill.
    pub(crate) fn break_unit(&self, unit: &str) {
        self.world.send_modify(|world| {
            world.units.insert(unit.to_owned(), true);
        });
    }

    /// Units that are ill.
    pub(crate) fn ill(&self) -> BTreeSet<String> {
        self.world.borrow().ill()
    }

    /// Effects so far.
    pub(crate) fn effects(&self) -> usize {
        self.world.borrow().effects.len()
    }
}

impl Drop for Targets {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl World {
    pub(crate) fn ill(&self) -> BTreeSet<String> {
        self.units.iter().filter(|(_, ill)| **ill).map(|(unit, _)| unit.clone()).collect()
    }

    fn call(&mut self, unit: &str, key: &str, fence: &str) {
        self.acted_on.entry(unit.to_owned()).or_default().insert(key.to_owned());
        let call = Call { key: key.to_owned(), fence: fence.parse().unwrap() };
        *self.calls.entry(call).or_default() += 1;
    }
}

/// A second call with the same key does nothing and gets the same answer.
fn fix(world: &watch::Sender<World>, question: &Question) -> Answer {
    let header = |name: &str| {
        let found = question.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.clone()).unwrap()
    };
    let (key, fence) = (header(KEY_HEADER), header(FENCE_HEADER));
    let unit = question.subject.rsplit('.').next().unwrap().to_owned();
    world.send_modify(|world| {
        world.call(&unit, &key, &fence);
        world.effects.entry(key).or_insert(1);
        world.units.insert(unit, false);
    });
    Answer { headers: Vec::new(), payload: "{}".into() }
}

/// Every call is an effect.
async fn mend(State(world): State<Arc<watch::Sender<World>>>, Path(unit): Path<String>, headers: HeaderMap) {
    let header = |name: &str| headers.get(name).unwrap().to_str().unwrap().to_owned();
    let (key, fence) = (header(KEY_HEADER), header(FENCE_HEADER));
    let is_held = unit.starts_with(HELD);
    world.send_modify(|world| {
        world.call(&unit, &key, &fence);
        *world.effects.entry(key.clone()).or_default() += 1;
        world.on_http.insert(key);
        world.units.insert(unit.clone(), false);
        if is_held {
            world.held.insert(unit.clone());
        }
    });
    if is_held {
        let _ = world.subscribe().wait_for(|world| world.let_go.contains(&unit)).await;
    }
}

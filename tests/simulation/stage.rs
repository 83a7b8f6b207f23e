//! What every simulated world has: deciding roles in twos, leases, a managed resource, operators, and processes that die.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use homeostat::bus::memory::Precedence;
use homeostat::engine::analyze::Analyzer;
use homeostat::engine::execute::{Executor, SHARDS};
use homeostat::engine::plan::Planner;
use homeostat::engine::{Configuration, Core, Intake, Lease};
use homeostat::model::{
    ActionSpec, Answer, Charter, Confidence, EpisodeId, Generation, Idempotency, Labels, Mode,
    OperatorRequest, OutcomeResult, Playbook, Record, Role, StepTemplate, Template, Timestamp, Topic,
    Verification,
};
use homeostat::role::world::{MakeCore, MemberId, Target, World};

use crate::saboteur::{Sabotage, Saboteur};
use crate::storm::Storm;

/// How long it is calm after the storm: the longest grace for a verdict, and the cooldowns of a few plans one after the
/// other.
pub(crate) const CALM: Duration = Duration::from_mins(12);
/// More than any budget looks back in these worlds.
const FAST_CLOCK_MILLIS: i64 = 2 * 3_600_000;
const LEASE_TTL: Duration = Duration::from_millis(1_500);
/// How much time passes at once.
pub(crate) const ROUND: Duration = Duration::from_millis(300);

pub(crate) const BEGIN: Timestamp = Timestamp::from_millis(1_700_000_000_000);
pub(crate) const CONCURRENT_PLANS_MAX: u32 = 2;
pub(crate) const ACTIONS_PER_HOUR_MAX: u32 = 14;
pub(crate) const COOLDOWN: Duration = Duration::from_secs(5);

/// A call of the managed resource.
#[derive(Clone, Debug)]
pub(crate) struct Effect {
    pub(crate) attempt: homeostat::model::AttemptId,
    pub(crate) action: homeostat::model::ActionId,
    pub(crate) idempotency: Idempotency,
    pub(crate) at: Timestamp,
    /// Whether anything happened: a target that honours key or fence, or says no, was called and did nothing.
    pub(crate) happened: bool,
}

/// What happened.
pub(crate) struct Told {
    pub(crate) accepted: Vec<EpisodeId>,
    pub(crate) records: Vec<Arc<Record>>,
    pub(crate) effects: Vec<Effect>,
    pub(crate) kills: usize,
}

impl Told {
    pub(crate) fn in_doubt(&self) -> usize {
        self.records.iter().filter(|it| it.topic == Topic::Outcomes(OutcomeResult::InDoubt)).count()
    }

    pub(crate) fn story(&self) -> String {
        let mut story = String::new();
        for record in &self.records {
            let _ = writeln!(
                story,
                "{} {} {} {} {:?}",
                record.sequence, record.stored_at, record.topic, record.batch.instance, record.batch.entries
            );
        }
        for effect in &self.effects {
            let _ = writeln!(story, "effect {effect:?}");
        }
        story
    }
}

/// A world, its processes and what befalls them.
pub(crate) struct Stage<'a> {
    pub(crate) world: World<'a, Storm>,
    pub(crate) random: fastrand::Rng,
    pub(crate) now: Timestamp,
    pub(crate) kills: usize,
    members: Vec<(MemberId, Role)>,
    leases: Leases,
    dead: Vec<(Timestamp, MemberId)>,
}

impl<'a> Stage<'a> {
    /// A monitor, and two of each of the others.
    pub(crate) fn new(
        seed: u64,
        target: Target<'a>,
        monitor: MakeCore<'a>,
        configuration: &Arc<Configuration>,
        sabotage: Sabotage,
    ) -> Self {
        let mut random = fastrand::Rng::with_seed(seed ^ 0x5eed);
        let mut world = World::new(BEGIN, Storm::new(seed), target);
        // One server, or three of them.
        if sabotage != Sabotage::None {
            // The worst weather there is, and the server that says `duplicate`: here a bug shows if it shows at all.
            world.weather().force = 1.0;
        }
        let is_replicated = random.bool() || sabotage != Sabotage::None;
        world.answer_by(if is_replicated { Precedence::Id } else { Precedence::Condition });
        let intake: fn(&Intake) -> bool = |intake| matches!(intake, Intake::Violation(_));
        let mut members = vec![(world.join(None, Some(intake), monitor), Role::Monitor)];
        members.extend(join_deciders(&mut world, configuration, sabotage, seed));
        for (id, _) in &members {
            world.skew(*id, random.i64(-1_500..=1_500));
        }
        if seed.is_multiple_of(5) {
            // A clock that is hours fast does what it likes with deadlines, and nothing to a budget.
            let fast = members.iter().rev().find(|(_, role)| *role == Role::Executor);
            fast.into_iter().for_each(|(id, _)| world.skew(*id, FAST_CLOCK_MILLIS));
        }
        Self { world, random, now: BEGIN, kills: 0, members, leases: Leases::new(seed), dead: Vec::new() }
    }

    /// The monitor.
    pub(crate) fn monitor(&self) -> MemberId {
        self.members[0].0
    }

    /// Lets a round pass; returns who is to be started anew.
    pub(crate) fn pass(&mut self) -> Vec<MemberId> {
        self.now = self.now + ROUND;
        self.world.run_until(self.now);
        self.leases.round(&mut self.world, &self.members, self.now, &mut self.random);
        let now = self.now;
        let (back, dead) =
            std::mem::take(&mut self.dead).into_iter().partition(|(back_at, _)| *back_at <= now);
        self.dead = dead;
        let back: Vec<(Timestamp, MemberId)> = back;
        back.into_iter().map(|(_, member)| member).collect()
    }

    /// Kills somebody now and then, and halts everything now and then.
    pub(crate) fn harm(&mut self, spared: Option<MemberId>) {
        if self.random.f64() < 0.15 {
            let (victim, _) = self.members[self.random.usize(..self.members.len())];
            if self.world.lives(victim) && Some(victim) != spared {
                self.world.kill(victim);
                self.kills += 1;
                self.dead.push((self.now + Duration::from_millis(self.random.u64(10..4_000)), victim));
            }
        }
        if self.random.f64() < 0.03 {
            self.world.take_in(self.now, halt());
            let after = Duration::from_millis(self.random.u64(0..3_000));
            self.world.take_in(self.now + after, resume());
        }
    }

    /// Ends the storm; returns who is to be started anew.
    pub(crate) fn calm(&mut self) -> Vec<MemberId> {
        self.world.weather().force = 0.0;
        self.world.take_in(self.now, resume());
        std::mem::take(&mut self.dead).into_iter().map(|(_, member)| member).collect()
    }
}

fn halt() -> Intake {
    Intake::Operator { by: "ann".into(), request: OperatorRequest::Halt { reason: "drill".into() } }
}

fn resume() -> Intake {
    Intake::Operator { by: "ann".into(), request: OperatorRequest::Resume }
}

fn join_deciders(
    world: &mut World<'_, Storm>,
    configuration: &Arc<Configuration>,
    sabotage: Sabotage,
    seed: u64,
) -> Vec<(MemberId, Role)> {
    let mut members = Vec::new();
    for number in 0..2 {
        let loaded = Arc::clone(configuration);
        let make = move |start| {
            let core = Analyzer::new(format!("analyzer-{number}-{start}").into(), Arc::clone(&loaded));
            Box::new(Saboteur { core, sabotage }) as Box<dyn Core>
        };
        let queue = ("analyzer", (|topic| matches!(topic, Topic::Violations(_))) as fn(Topic) -> bool);
        members.push((world.join(Some(queue), None, Box::new(make)), Role::Analyzer));
    }
    for number in 0..2 {
        let loaded = Arc::clone(configuration);
        let make = move |start| {
            let core = Planner::new(format!("planner-{number}-{start}").into(), Arc::clone(&loaded));
            Box::new(Saboteur { core, sabotage }) as Box<dyn Core>
        };
        let queue = (
            "planner",
            (|topic| matches!(topic, Topic::Analyses(_) | Topic::Admission)) as fn(Topic) -> bool,
        );
        members.push((world.join(Some(queue), None, Box::new(make)), Role::Planner));
    }
    for number in 0..2_u64 {
        let loaded = Arc::clone(configuration);
        let make = move |start: u64| {
            let name = format!("executor-{number}-{start}");
            let nonce_seed = u128::from(seed) << 64 | u128::from(number << 32 | start);
            Box::new(Saboteur { core: Executor::new(name.into(), Arc::clone(&loaded), nonce_seed), sabotage })
                as Box<dyn Core>
        };
        let intake: fn(&Intake) -> bool = |intake| matches!(intake, Intake::Operator { .. });
        members.push((world.join(None, Some(intake), Box::new(make)), Role::Executor));
    }
    members
}

/// A target that honours what each action says of it, and fails or says nothing now and then. What says nothing has
/// happened.
pub(crate) fn target<'a>(effects: Rc<RefCell<Vec<Effect>>>, seed: u64) -> Target<'a> {
    let mut random = fastrand::Rng::with_seed(seed ^ 0x007a_26e7);
    let (mut done, mut newest_fence) = (BTreeSet::new(), 0);
    Box::new(move |at, act| {
        let (mut happened, mut ended) = match random.u8(..10) {
            0 => (false, (OutcomeResult::Failed, "no".into())),
            1 => (true, (OutcomeResult::TimedOut, "".into())),
            // Nobody is there to be called: no call, and no fence that was seen.
            2 => return (OutcomeResult::NotStarted, "nobody listens".into()),
            _ => (true, (OutcomeResult::Succeeded, "ok".into())),
        };
        match act.action.idempotency {
            Idempotency::None => {}
            Idempotency::Key if happened => happened = done.insert(act.action.id),
            Idempotency::Fence if act.fence < newest_fence => {
                (happened, ended) = (false, (OutcomeResult::Failed, "an older fence".into()));
            }
            Idempotency::Key => {}
            Idempotency::Fence => newest_fence = act.fence,
        }
        effects.borrow_mut().push(Effect {
            attempt: act.attempt,
            action: act.action.id,
            idempotency: act.action.idempotency,
            at,
            happened,
        });
        ended
    })
}

pub(crate) fn configuration() -> Configuration {
    let text = |text: &str| Template::parse(text).expect("a valid template");
    let step = |name: &str, idempotency| StepTemplate {
        name: name.into(),
        spec: ActionSpec::NatsPublish { subject: text("x"), body: text("{{ $labels.service }}") },
        timeout: Duration::from_secs(1),
        idempotency,
    };
    let playbook = |name: &str, alert: &str, order, idempotency| Playbook {
        name: name.into(),
        answers: vec![Answer {
            cause: format!("symptom:{alert}").into(),
            scope: Labels::empty(),
            min_confidence: Confidence::NONE,
        }],
        settle: Some(Duration::from_millis(300)),
        order,
        steps: vec![step("first", idempotency), step("second", idempotency)],
        verify: Verification {
            expr: text(r#"load{service="{{ $labels.service }}"} < 5"#),
            harm: None,
            settle: Duration::from_millis(100),
            within: Duration::from_secs(1),
            evaluations: 1,
        },
        undo: vec![step("back", idempotency)],
    };
    let playbooks = vec![
        playbook("key", "KeyAlert", 1, Idempotency::Key),
        playbook("key-next", "KeyAlert", 2, Idempotency::Key),
        playbook("none", "NoneAlert", 1, Idempotency::None),
        playbook("fence", "FenceAlert", 1, Idempotency::Fence),
    ];
    Configuration {
        generation: Generation(1),
        hash: "simulated".into(),
        groups: Vec::new(),
        causes: Vec::new(),
        scope_labels: vec!["service".into()],
        charter: Charter {
            mode: Mode::Auto,
            armed: playbooks.iter().map(|playbook| Arc::clone(&playbook.name)).collect(),
            concurrent_plans_max: CONCURRENT_PLANS_MAX,
            actions_per_hour_max: ACTIONS_PER_HOUR_MAX,
            cooldown: COOLDOWN,
            ..Charter::default()
        },
        playbooks,
    }
}

/// Leases on the executors' shards, as the key-value bucket keeps them: by its own clock. A holder counts from when it
/// sent the renewal, by its own.
struct Leases {
    held: BTreeMap<u16, (MemberId, Timestamp)>,
    revision: u64,
    /// Its own, so that whether shards change hands is all that it decides.
    random: fastrand::Rng,
}

impl Leases {
    fn new(seed: u64) -> Self {
        Self { held: BTreeMap::new(), revision: 0, random: fastrand::Rng::with_seed(seed ^ 0x1ea5e) }
    }

    fn round(
        &mut self,
        world: &mut World<'_, Storm>,
        members: &[(MemberId, Role)],
        now: Timestamp,
        random: &mut fastrand::Rng,
    ) {
        let executors: Vec<MemberId> =
            members.iter().filter(|(_, role)| *role == Role::Executor).map(|(id, _)| *id).collect();
        let alive = executors.iter().filter(|id| world.lives(**id)).count().max(1);
        let share = usize::from(SHARDS).div_ceil(alive);
        // A round that is lost on the way: the holder keeps what it believes until that ends.
        let is_storm = world.weather().force > 0.0;
        let mut is_lost = || is_storm && random.f64() < 0.2;
        let reached: Vec<MemberId> =
            executors.into_iter().filter(|id| !is_lost() && world.lives(*id)).collect();
        if is_storm && reached.len() > 1 && self.random.f64() < 0.4 {
            self.change_hands(now);
        }
        for executor in reached {
            let mut mine = Vec::new();
            for shard in 0..SHARDS {
                let holder =
                    self.held.get(&shard).filter(|(_, until)| *until > now).map(|(holder, _)| *holder);
                let takes = holder == Some(executor) || holder.is_none() && mine.len() < share;
                if takes && mine.len() < share {
                    self.revision += 1;
                    self.held.insert(shard, (executor, now + LEASE_TTL));
                    mine.push((shard, self.revision));
                }
            }
            let until = world.local(executor, now) + LEASE_TTL * 2 / 3;
            let leases = mine.into_iter().map(|(shard, revision)| Lease { shard, revision, until }).collect();
            world.lease(executor, leases);
        }
    }

    /// Two shards change places, and both holders are told at once: what the first had under way, the second finds.
    fn change_hands(&mut self, now: Timestamp) {
        let held: Vec<(u16, MemberId)> = self
            .held
            .iter()
            .filter(|(_, (_, until))| *until > now)
            .map(|(shard, (holder, _))| (*shard, *holder))
            .collect();
        let place = self.random.usize(..held.len().max(1));
        let Some((one, first)) = held.get(place).copied() else { return };
        if let Some((other, second)) = held.iter().copied().find(|(_, holder)| *holder != first) {
            self.held.insert(one, (second, now + LEASE_TTL));
            self.held.insert(other, (first, now + LEASE_TTL));
        }
    }
}

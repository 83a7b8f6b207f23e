//! One seed's world: violations come in, roles decide, processes die, operators halt and resume; then it calms down.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use homeostat::engine::analyze::Analyzer;
use homeostat::engine::execute::{Executor, SHARDS};
use homeostat::engine::fold::Fold;
use homeostat::engine::outbox::{Decision, Outbox};
use homeostat::engine::plan::Planner;
use homeostat::engine::{Configuration, Core, Input, Intake, Lease, Step, Work};
use homeostat::model::{
    ActionSpec, Answer, Charter, Confidence, Entry, EpisodeId, Generation, Idempotency, Labels, Mode,
    OperatorRequest, OutcomeResult, Phase, PlanId, Playbook, Record, Role, RuleName, Severity, StepTemplate,
    Template, Timestamp, Topic, Verdict, VerdictKind, Verification, Violation,
};
use homeostat::role::world::{MemberId, World};

use crate::saboteur::{Sabotage, Saboteur};
use crate::storm::Storm;

/// How long the storm lasts.
const STORM: Duration = Duration::from_secs(30);
/// How long it is calm afterwards: the longest grace for a verdict, and the cooldowns of a few plans one after the other.
const CALM: Duration = Duration::from_mins(12);
/// More than any budget looks back in this test.
const FAST_CLOCK_MILLIS: i64 = 2 * 3_600_000;
const LEASE_TTL: Duration = Duration::from_millis(1_500);
const LEASE_ROUND: Duration = Duration::from_millis(300);

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

pub(crate) fn run(seed: u64, sabotage: Sabotage) -> Told {
    let start = Timestamp::from_millis(1_700_000_000_000);
    let mut random = fastrand::Rng::with_seed(seed ^ 0x5eed);
    let effects = Rc::new(RefCell::new(Vec::new()));
    let configuration = Arc::new(configuration());
    let mut world = World::new(start, Storm::new(seed), target(Rc::clone(&effects), seed));
    let members = join_all(&mut world, &configuration, sabotage, seed);
    for (id, _) in &members {
        world.skew(*id, random.i64(-1_500..=1_500));
    }
    if seed.is_multiple_of(5) {
        // A clock that is hours fast does what it likes with deadlines, and nothing to a budget.
        let fast = members.iter().rev().find(|(_, role)| *role == Role::Executor);
        fast.into_iter().for_each(|(id, _)| world.skew(*id, FAST_CLOCK_MILLIS));
    }

    let accepted = send_violations(&mut world, &mut random, start);
    let mut kills = 0;
    let mut leases = Leases::new(seed);
    let mut dead: Vec<(Timestamp, MemberId)> = Vec::new();
    let mut now = start;
    while now < start + STORM {
        now = now + LEASE_ROUND;
        world.run_until(now);
        leases.round(&mut world, &members, now, &mut random);
        if random.f64() < 0.15 {
            let (victim, _) = members[random.usize(..members.len())];
            if world.lives(victim) {
                world.kill(victim);
                kills += 1;
                dead.push((now + Duration::from_millis(random.u64(10..4_000)), victim));
            }
        }
        dead.retain(|(back_at, member)| {
            let back = *back_at <= now;
            if back {
                world.restart(*member);
            }
            !back
        });
        if random.f64() < 0.03 {
            world.take_in(now, halt());
            world.take_in(now + Duration::from_millis(random.u64(0..3_000)), resume());
        }
    }
    dead.into_iter().for_each(|(_, member)| world.restart(member));
    world.weather().force = 0.0;
    world.take_in(now, resume());
    while now < start + STORM + CALM {
        now = now + LEASE_ROUND;
        world.run_until(now);
        leases.round(&mut world, &members, now, &mut random);
    }
    let records = world.ledger().read_from(1).to_vec();
    let effects = effects.borrow().clone();
    Told { accepted, records, effects, kills }
}

fn halt() -> Intake {
    Intake::Operator { by: "ann".into(), request: OperatorRequest::Halt { reason: "drill".into() } }
}

fn resume() -> Intake {
    Intake::Operator { by: "ann".into(), request: OperatorRequest::Resume }
}

type SimulatedWorld<'a> = World<'a, Storm>;

fn join_all(
    world: &mut SimulatedWorld<'_>,
    configuration: &Arc<Configuration>,
    sabotage: Sabotage,
    seed: u64,
) -> Vec<(MemberId, Role)> {
    let mut members = Vec::new();
    let intake: fn(&Intake) -> bool = |intake| matches!(intake, Intake::Violation(_));
    members.push((
        world.join(None, Some(intake), Box::new(|_| Box::new(ScriptedMonitor::new()))),
        Role::Monitor,
    ));
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

/// Violations of a few kinds on a few services, some of them twice.
fn send_violations(
    world: &mut SimulatedWorld<'_>,
    random: &mut fastrand::Rng,
    start: Timestamp,
) -> Vec<EpisodeId> {
    let mut accepted = Vec::new();
    for number in 0..random.u64(1..12) {
        let at = start + Duration::from_millis(random.u64(0..20_000));
        let alert = ["KeyAlert", "NoneAlert", "FenceAlert", "UnknownAlert"][random.usize(..4)];
        let service = format!("s{}", random.u8(..4));
        let severity = [Severity::Critical, Severity::Warning][random.usize(..2)];
        let labels = [("alertname", alert), ("service", service.as_str()), ("n", &number.to_string())];
        let labels = Labels::new(labels).expect("few short labels");
        let violation = Violation {
            episode: EpisodeId::of(&[&alert, &labels, &at]),
            rev: 1,
            rule: RuleName { group: "g".into(), alert: alert.into() },
            severity,
            phase: Phase::Firing,
            labels,
            annotations: Vec::new(),
            since: at,
            at,
            value: 1.0,
            sample_interval: Duration::ZERO,
        };
        accepted.push(violation.episode);
        world.take_in(at, Intake::Violation(Box::new(violation.clone())));
        if random.bool() {
            let again = at + Duration::from_millis(random.u64(0..5_000));
            world.take_in(again, Intake::Violation(Box::new(violation)));
        }
    }
    accepted
}

/// A target that honours what each action says of it, and fails or says nothing now and then. What says nothing has
/// happened.
fn target<'a>(effects: Rc<RefCell<Vec<Effect>>>, seed: u64) -> homeostat::role::world::Target<'a> {
    let mut random = fastrand::Rng::with_seed(seed ^ 0x007a_26e7);
    let (mut done, mut newest_fence) = (BTreeSet::new(), 0);
    Box::new(move |at, act| {
        let (mut happened, mut ended) = match random.u8(..10) {
            0 => (false, (OutcomeResult::Failed, "no".into())),
            1 => (true, (OutcomeResult::TimedOut, "".into())),
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

fn configuration() -> Configuration {
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
            expr: text("up"),
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
        world: &mut SimulatedWorld<'_>,
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

/// Stands in for the monitor: records what comes in, and judges plans by their id.
struct ScriptedMonitor {
    fold: Fold,
    outbox: Outbox,
    judged: BTreeMap<PlanId, Timestamp>,
}

impl ScriptedMonitor {
    fn new() -> Self {
        let outbox = Outbox::new(Role::Monitor, "monitor".into());
        Self { fold: Fold::default(), outbox, judged: BTreeMap::new() }
    }

    fn record(
        &mut self,
        now: Timestamp,
        step: &mut Step,
        violation: Violation,
        holds: &[homeostat::engine::Token],
    ) {
        let decision = Decision {
            now,
            topic: Topic::Violations(violation.severity),
            entries: vec![Entry::Violation(Arc::new(violation))],
            basis: self.fold.basis(Generation(1)),
            expected_last: None,
            holds,
        };
        self.outbox.publish(step, decision);
    }

    fn judge(&mut self, now: Timestamp, step: &mut Step) {
        let waiting: Vec<_> = self
            .fold
            .plans
            .live()
            .filter(|it| it.awaits_verdict().is_some())
            .map(|it| Arc::clone(&it.plan))
            .collect();
        for plan in waiting {
            if self.judged.contains_key(&plan.id) {
                continue;
            }
            self.judged.insert(plan.id, now);
            let kind = match plan.id.as_u128() % 3 {
                0 => VerdictKind::Ineffective,
                _ => VerdictKind::Verified,
            };
            let verdict = Verdict {
                plan: plan.id,
                incident: plan.incident,
                playbook: Arc::clone(&plan.playbook),
                cause: Arc::clone(&plan.cause),
                scope: plan.scope.clone(),
                kind,
                reason: "scripted".into(),
                before: None,
                after: None,
                evaluations: 1,
                at: now,
            };
            let decision = Decision {
                now,
                topic: Topic::Verdicts(kind),
                entries: vec![Entry::Verdict(Arc::new(verdict))],
                basis: self.fold.basis(Generation(1)),
                expected_last: None,
                holds: &[],
            };
            self.outbox.publish(step, decision);
            if kind == VerdictKind::Verified {
                self.resolve(now, step, plan.incident);
            }
        }
    }

    fn resolve(&mut self, now: Timestamp, step: &mut Step, incident: homeostat::model::IncidentId) {
        let firing: Vec<EpisodeId> = self
            .fold
            .incidents
            .get(incident)
            .into_iter()
            .flat_map(|state| state.firing.iter().copied())
            .collect();
        for episode in firing {
            if let Some(known) = self.fold.episodes.get(episode) {
                let mut violation = Violation::clone(&known.violation);
                violation.rev += 1;
                violation.phase = Phase::Resolved;
                violation.at = now;
                self.record(now, step, violation, &[]);
            }
        }
    }
}

impl Core for ScriptedMonitor {
    fn handle(&mut self, now: Timestamp, input: Input) -> Step {
        let mut step = Step::default();
        match input {
            Input::Ledger(records) => {
                records.iter().for_each(|record| self.fold.apply(record));
            }
            Input::Work(deliveries) => {
                for delivery in deliveries {
                    if let Work::Intake { intake: Intake::Violation(violation), .. } = delivery.work {
                        self.record(now, &mut step, *violation, &[delivery.token]);
                    }
                }
            }
            Input::Published { ticket, result } => {
                self.outbox.published_and_acked(now, &mut step, ticket, result);
            }
            _ => {}
        }
        self.judge(now, &mut step);
        self.outbox.tick(now, &mut step);
        step
    }

    fn tick(&mut self, now: Timestamp) -> Step {
        let mut step = Step::default();
        self.outbox.tick(now, &mut step);
        step
    }
}

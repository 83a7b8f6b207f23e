//! Worlds in which the monitor is scripted: violations come in from outside, and plans are judged by their id. All that
//! befalls the other roles befalls them within a minute.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use homeostat::engine::fold::Fold;
use homeostat::engine::outbox::{Decision, Outbox};
use homeostat::engine::{Core, Input, Intake, Step, Work};
use homeostat::model::{
    Entry, EpisodeId, Generation, Labels, Phase, PlanId, Role, RuleName, Severity, Timestamp, Topic, Verdict,
    VerdictKind, Violation,
};
use homeostat::role::world::World;

use crate::saboteur::Sabotage;
use crate::stage::{BEGIN, CALM, Stage, Told, configuration, target};
use crate::storm::Storm;

/// How long the storm lasts.
const STORM: Duration = Duration::from_secs(30);

pub(crate) fn run(seed: u64, sabotage: Sabotage) -> Told {
    let effects = Rc::new(RefCell::new(Vec::new()));
    let configuration = Arc::new(configuration());
    let monitor = Box::new(|_| Box::new(ScriptedMonitor::new()) as Box<dyn Core>);
    let mut stage = Stage::new(seed, target(Rc::clone(&effects), seed), monitor, &configuration, sabotage);
    let accepted = send_violations(&mut stage.world, &mut stage.random);
    while stage.now < BEGIN + STORM {
        let back = stage.pass();
        stage.harm(None);
        back.into_iter().for_each(|member| stage.world.restart(member));
    }
    stage.calm().into_iter().for_each(|member| stage.world.restart(member));
    while stage.now < BEGIN + STORM + CALM {
        stage.pass();
    }
    let records = stage.world.ledger().read_from(1).to_vec();
    let effects = effects.borrow().clone();
    Told { accepted, records, effects, kills: stage.kills }
}

/// Violations of a few kinds on a few services, some of them twice.
fn send_violations(world: &mut World<'_, Storm>, random: &mut fastrand::Rng) -> Vec<EpisodeId> {
    let mut accepted = Vec::new();
    for number in 0..random.u64(1..12) {
        let at = BEGIN + Duration::from_millis(random.u64(0..20_000));
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

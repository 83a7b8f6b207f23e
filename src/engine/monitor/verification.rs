//! Verification: whether a plan helped, decided on samples taken after its effect. A second evaluation with a store of
//! its own: it never touches the windows of the rules.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::deadlines::{Target, wall_of};
use super::evaluation::{Arrived, Evaluation, first_element};
use super::joins::{Joins, Reader};
use super::producers::{ProducerId, Producers};
use super::tables::Table;
use crate::engine::fold::{Fold, PlanState};
use crate::engine::promql::{Expr, Limits, Scope, SeriesId, SeriesStore, Value};
use crate::model::{Frame, Labels, Mode, Plan, PlanId, Timestamp, Verdict, VerdictKind};

/// Plans in flight are bounded by the charter; beyond this many at once, verdicts are left to the executor's deadline.
const VERIFICATIONS_MAX: usize = 256;
/// What one verification reads at most: the scope of a plan, an hour of it.
const LIMITS: Limits =
    Limits { series: 4_096, samples: 1 << 20, lateness: std::time::Duration::from_secs(5) };

/// All verifications under way.
#[derive(Debug, Default)]
pub(super) struct Verifications {
    running: BTreeMap<PlanId, Verification>,
    /// Verdicts that the ledger does not show yet.
    said: BTreeSet<PlanId>,
}

/// One plan's verification.
#[derive(Debug)]
struct Verification {
    plan: Arc<Plan>,
    expr: Expr,
    harm: Option<Expr>,
    /// The left side of the comparison: what is shown as before and after.
    left: Option<Expr>,
    /// Samples up to here are not looked at.
    from: Timestamp,
    /// The last sample that counts.
    until: Timestamp,
    store: SeriesStore,
    /// Series of this store by their place among the monitor's. Looked up only.
    series: FxHashMap<u32, Option<SeriesId>>,
    /// Who sent the samples, and how many frames each had lost before the first.
    producers: BTreeMap<ProducerId, u64>,
    /// Why nothing can be concluded from silence.
    doubt: Option<String>,
    before: Option<f64>,
    after: Option<f64>,
    evaluations: u32,
    in_a_row: u32,
    evaluated_at: Timestamp,
    /// Whether samples behind the end were seen.
    is_past: bool,
}

impl Verifications {
    /// Begins what the ledger says is to be verified, ends what it says is over. What cannot be verified gets its verdict
    /// at once.
    pub(super) fn follow(
        &mut self,
        fold: &Fold,
        evaluation: &mut Evaluation,
        producers: &Producers,
        now: Timestamp,
    ) {
        let awaits = |id: PlanId| fold.plans.get(id).is_some_and(|plan| plan.awaits_verdict().is_some());
        self.running.retain(|id, _| awaits(*id));
        self.said.retain(|id| awaits(*id));
        for plan in fold.plans.live().filter(|plan| plan.plan.mode == Mode::Auto) {
            let id = plan.plan.id;
            let Some(effect_ended) = plan.awaits_verdict() else { continue };
            let is_new = !self.said.contains(&id) && !self.running.contains_key(&id);
            if !is_new || self.running.len() >= VERIFICATIONS_MAX {
                continue;
            }
            match Verification::begin(plan, effect_ended, evaluation) {
                Ok(mut verification) => {
                    verification.look_back(evaluation, producers, now);
                    let target = Target::Verification(id);
                    evaluation.deadlines.add(producers, ProducerId::NOBODY, verification.until, target);
                    self.running.insert(id, verification);
                }
                Err(verdict) => {
                    self.said.insert(id);
                    evaluation.drafts.verdicts.push(*verdict);
                }
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Feeds the samples of a frame to those that read them.
    pub(super) fn take_rows(
        &mut self,
        arrived: Arrived<'_>,
        frame: &Frame,
        table: &Table,
        joins: &mut Joins,
    ) {
        for verification in self.running.values_mut() {
            let from = verification.from;
            for row in frame.rows.iter().filter(|row| row.at > from) {
                let index = usize::from(row.series);
                if let (Some(place), Some(labels)) = (table.places.get(index), table.series.get(index)) {
                    verification.take(arrived, (*place, labels), (row.at, row.value), joins);
                }
            }
        }
    }

    /// Places have changed.
    pub(super) fn forget_places(&mut self) {
        self.running.values_mut().for_each(|verification| verification.series.clear());
    }

    /// Evaluates a plan's expressions on what is in.
    pub(super) fn evaluate(
        &mut self,
        evaluation: &mut Evaluation,
        producers: &Producers,
        plan: PlanId,
        at: Timestamp,
    ) {
        let Some(verification) = self.running.get_mut(&plan) else { return };
        let verdict = if at > verification.until {
            Some(verification.conclude(producers, at))
        } else {
            verification.evaluate(at)
        };
        if let Some(verdict) = verdict {
            self.finish(evaluation, plan, verdict);
        }
    }

    /// The time for a verdict is over on somebody's clock.
    pub(super) fn due(
        &mut self,
        evaluation: &mut Evaluation,
        producers: &Producers,
        plan: PlanId,
        now: Timestamp,
    ) {
        let Some(verification) = self.running.get(&plan) else { return };
        let until = verification.until;
        let latest = verification.producers.keys().max_by_key(|id| wall_of(producers, **id, until));
        if let Some(producer) = latest.filter(|id| wall_of(producers, **id, until) > now) {
            evaluation.deadlines.add(producers, *producer, until, Target::Verification(plan));
            return;
        }
        for at in evaluation.joins.take_of(Reader::Verification(plan)) {
            self.evaluate(evaluation, producers, plan, at);
        }
        if let Some(verification) = self.running.get(&plan) {
            let verdict = verification.conclude(producers, until);
            self.finish(evaluation, plan, verdict);
        }
    }

    fn finish(&mut self, evaluation: &mut Evaluation, plan: PlanId, verdict: Verdict) {
        self.running.remove(&plan);
        self.said.insert(plan);
        evaluation.drafts.verdicts.push(verdict);
    }
}

impl Verification {
    fn begin(
        state: &PlanState,
        effect_ended: Timestamp,
        evaluation: &Evaluation,
    ) -> Result<Self, Box<Verdict>> {
        let plan = Arc::clone(&state.plan);
        let parse = |text: &str| {
            Expr::parse(text).map_err(|error| {
                let reason = format!("`{text}` cannot be evaluated: {error}");
                Box::new(verdict_of(&plan, VerdictKind::Inconclusive, reason, effect_ended))
            })
        };
        let expr = parse(&plan.verify.expr)?;
        let harm = plan.verify.harm.as_deref().map(parse).transpose()?;
        let from = effect_ended + plan.verify.settle;
        let mut store = SeriesStore::new(LIMITS);
        for expr in std::iter::once(&expr).chain(&harm) {
            store.watch(expr);
        }
        let left = expr.left_of_comparison();
        let outcomes = state.attempts.values().flatten().filter_map(|attempt| attempt.outcome.as_ref());
        let began = outcomes.map(|outcome| outcome.started_at).min().unwrap_or(effect_ended);
        let before = left.as_ref().and_then(|left| {
            first_element(left, &evaluation.store, began, Scope::All).map(|(_, value)| value)
        });
        Ok(Self {
            until: from + plan.verify.within,
            plan,
            expr,
            harm,
            left,
            from,
            store,
            series: FxHashMap::default(),
            producers: BTreeMap::new(),
            doubt: None,
            before,
            after: None,
            evaluations: 0,
            in_a_row: 0,
            evaluated_at: Timestamp::MIN,
            is_past: false,
        })
    }

    /// Samples that came in before the ledger said that the effect had ended, or before a restart, are taken over from
    /// the rules' store.
    fn look_back(&mut self, evaluation: &mut Evaluation, producers: &Producers, now: Timestamp) {
        let mut found: BTreeMap<(Timestamp, Labels), (u32, f64)> = BTreeMap::new();
        let exprs = [Some(&self.expr), self.harm.as_ref()];
        for read in exprs.into_iter().flatten().flat_map(Expr::reads) {
            for id in evaluation.store.select(read.selector) {
                let (Some(labels), Some(place)) = (evaluation.store.labels(id), evaluation.index.find(id))
                else {
                    continue;
                };
                for (at, value) in evaluation.store.samples(id, self.from, Timestamp::MAX) {
                    found.insert((*at, labels.clone()), (place, *value));
                }
            }
        }
        for ((at, labels), (place, value)) in found {
            let from = evaluation.index.entries[place as usize].producer;
            let arrived = Arrived { producers, from, bucket: 0, now, scrape: None };
            self.take(arrived, (place, &labels), (at, value), &mut evaluation.joins);
        }
    }

    fn take(
        &mut self,
        arrived: Arrived<'_>,
        (place, labels): (u32, &Labels),
        (at, value): (Timestamp, f64),
        joins: &mut Joins,
    ) {
        let (expr, harm, store) = (&self.expr, &self.harm, &mut self.store);
        let is_read = || expr.matches(labels) || harm.as_ref().is_some_and(|harm| harm.matches(labels));
        let series =
            *self.series.entry(place).or_insert_with(|| is_read().then(|| store.series(labels).ok())?);
        let Some(series) = series else { return };
        let producer = arrived.producers.get(arrived.from);
        if producer.skewed {
            self.doubt.get_or_insert_with(|| format!("the clock of {} is wrong", producer.name));
            return;
        }
        self.producers.entry(arrived.from).or_insert(producer.lost);
        let reader = Reader::Verification(self.plan.id);
        if at > self.until {
            if !std::mem::replace(&mut self.is_past, true) {
                joins.want(reader, at, None, arrived.now);
            }
            return;
        }
        self.store.append(series, at, value);
        let (at, scrape) = arrived.joined_at(at);
        joins.want(reader, at.min(self.until), scrape, arrived.now);
    }

    fn evaluate(&mut self, at: Timestamp) -> Option<Verdict> {
        if at <= self.evaluated_at {
            return None;
        }
        self.evaluated_at = at;
        let has_result = |expr: &Expr| match expr.eval(&self.store, at, Scope::All) {
            Ok(Value::Vector(elements)) => Ok(!elements.is_empty()),
            Ok(Value::Scalar(value)) => Ok(value != 0.0),
            Ok(Value::Text(_)) => Ok(false),
            Err(error) => Err(format!("`{expr}` cannot be evaluated: {error}")),
        };
        let harmed = self.harm.as_ref().map_or(Ok(false), has_result);
        let helped = has_result(&self.expr);
        let after = self.left.as_ref().and_then(|left| first_element(left, &self.store, at, Scope::All));
        self.after = after.map(|(_, value)| value).or(self.after);
        let (harmed, helped) = match (harmed, helped) {
            (Ok(harmed), Ok(helped)) => (harmed, helped),
            (Err(doubt), _) | (_, Err(doubt)) => {
                self.doubt = Some(doubt);
                self.in_a_row = 0;
                return None;
            }
        };
        self.evaluations += 1;
        if harmed {
            let harm = self.harm.as_ref().map_or("", |harm| harm.text());
            return Some(self.verdict(VerdictKind::Harmful, format!("`{harm}` holds after the effect"), at));
        }
        self.in_a_row = if helped { self.in_a_row + 1 } else { 0 };
        let wanted = self.plan.verify.evaluations.max(1);
        (self.in_a_row >= wanted).then(|| {
            let reason = format!("`{}` held {wanted} times in a row after the effect", self.expr);
            self.verdict(VerdictKind::Verified, reason, at)
        })
    }

    /// The time is over without a verdict.
    fn conclude(&self, producers: &Producers, at: Timestamp) -> Verdict {
        let lossy = self.producers.iter().find(|(id, lost)| producers.get(**id).lost > **lost);
        let (kind, reason) = if let Some(doubt) = &self.doubt {
            (VerdictKind::Inconclusive, doubt.clone())
        } else if self.evaluations == 0 {
            let (from, until) = (self.from, self.until);
            (VerdictKind::Inconclusive, format!("no fresh samples between {from} and {until}"))
        } else if let Some((id, _)) = lossy {
            let name = &producers.get(*id).name;
            (VerdictKind::Inconclusive, format!("frames of {name} were lost after the effect"))
        } else {
            let wanted = self.plan.verify.evaluations.max(1);
            let reason = format!(
                "`{}` did not hold {wanted} times in a row in {} evaluations after the effect",
                self.expr, self.evaluations
            );
            (VerdictKind::Ineffective, reason)
        };
        self.verdict(kind, reason, at)
    }

    fn verdict(&self, kind: VerdictKind, reason: String, at: Timestamp) -> Verdict {
        let (before, after, evaluations) = (self.before, self.after, self.evaluations);
        Verdict { before, after, evaluations, ..verdict_of(&self.plan, kind, reason, at) }
    }
}

fn verdict_of(plan: &Plan, kind: VerdictKind, reason: String, at: Timestamp) -> Verdict {
    Verdict {
        plan: plan.id,
        incident: plan.incident,
        playbook: Arc::clone(&plan.playbook),
        cause: Arc::clone(&plan.cause),
        scope: plan.scope.clone(),
        kind,
        reason: reason.into(),
        before: None,
        after: None,
        evaluations: 0,
        at,
    }
}

//! The executor: carries plans out, one saga per plan, by the owner of the plan's shard.
//!
//! Admission is the only gate to an effect. An intent is written on the subject `admission` on condition that the last
//! entry there is the one that was folded, so that no two executors can spend the same budget. What a `duplicate`, a
//! `wrong last sequence` or a silence means is found out by reading back; an effect is started for an intent in the ledger
//! that bears this process's own nonce, and for no other.

mod admit;
mod ledger_time;
mod saga;
mod sayings;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashSet;

use super::outbox::{Decision, Outbox};
use super::{Acted, Configuration, Core, Delivery, Done, Input, Intake, Lease, Step, Token, Work};
use crate::engine::fold::{Fold, PlanState};
use crate::model::{
    Admission, Entry, IncidentId, OperatorRequest, PlanId, Reason, Record, Release, Role, Timestamp, Topic,
};
use admit::{Admitting, View};
use ledger_time::LedgerTime;
use saga::{Next, Viewer};
use sayings::{Said, Saying, in_doubt, is_heard, report, tell_end, tell_shadow, unverified};

/// Shards of plans: a few times the executors that one would run, so that they can share evenly.
pub const SHARDS: u16 = 8;

/// The shard of an incident's plans.
pub fn shard_of(incident: IncidentId) -> u16 {
    // The low bits of an id are as good as random.
    u16::try_from(incident.as_u128() % u128::from(SHARDS)).unwrap_or(0)
}

/// The shard whose owner says again what stands for long.
const FIRST_SHARD: u16 = 0;
/// It does so once in this time, whatever its clock says of the age.
const SAY_AGAIN_EVERY: Duration = Duration::from_hours(24);

/// Less that was said than this is not searched for what nobody will hear.
const KEPT_WITHOUT_SEARCH: usize = 1_024;

/// The deciding core of the executor role.
#[derive(Debug)]
pub struct Executor {
    fold: Fold,
    configuration: Arc<Configuration>,
    outbox: Outbox,
    leases: BTreeMap<u16, Owned>,
    admitting: Admitting,
    ledger_time: LedgerTime,
    /// When something that stands was last said again.
    said_again_at: Option<Timestamp>,
    /// What was published and the fold does not show yet: not to be said again meanwhile. Looked up, never iterated.
    said: FxHashSet<Said>,
    /// How much of it was left by the last search for what was forgotten: the next one is due when there is twice as much.
    said_left: usize,
    /// Shadow plans that nobody is known to have spoken of, with their places in the ledger.
    untold: Vec<(u64, PlanId)>,
}

/// A lease, and since when it is held without a break.
#[derive(Clone, Copy, Debug)]
struct Owned {
    lease: Lease,
    since: Timestamp,
}

impl Executor {
    /// A core that knows nothing yet. `instance` has to be fresh with each start of the process; `seed` is a random
    /// number that nonces are drawn from.
    pub fn new(instance: Arc<str>, configuration: Arc<Configuration>, seed: u128) -> Self {
        Self {
            // The fold is kept from here, and is a beginning for every role.
            fold: Fold::default(),
            configuration,
            outbox: Outbox::new(Role::Executor, instance),
            leases: BTreeMap::new(),
            admitting: Admitting::new(seed),
            ledger_time: LedgerTime::default(),
            said_again_at: None,
            said: FxHashSet::default(),
            said_left: 0,
            untold: Vec::new(),
        }
    }

    /// What it knows of the ledger.
    pub fn fold(&self) -> &Fold {
        &self.fold
    }

    /// Whether it is the one that does what one of all executors has to do: it owns the first shard.
    pub fn is_first(&self, now: Timestamp) -> bool {
        self.leases.get(&FIRST_SHARD).is_some_and(|owned| now < owned.lease.until)
    }

    fn advance(&mut self, now: Timestamp, step: &mut Step) {
        let ledger_now = self.ledger_time.at_least(now);
        let mut first = self.say_again(now);
        let mut wanted = Vec::new();
        let mut said = self.shown_only(now);
        for plan in self.fold.plans.live() {
            let Some(owned) = self.owned(plan, now) else { continue };
            let place = (plan.sequence, plan.plan.id);
            let owned_for = now.saturating_since(owned.since);
            let viewer = Viewer { executor: self.outbox.instance(), owned_for };
            // A plan's times are the ledger's.
            match saga::next(&self.fold, plan, viewer, ledger_now) {
                Next::Wait(until) => {
                    let own = |until: Timestamp| now + until.saturating_since(ledger_now);
                    until.map(own).into_iter().for_each(|until| step.wake_no_later_than(until));
                }
                Next::Attempt { action, number, undo } => {
                    wanted.push(admit::wanted(plan, action, number, undo, owned.lease));
                }
                Next::InDoubt(attempt) => {
                    said.extend(in_doubt(plan, attempt, ledger_now).map(|saying| (place, saying)));
                }
                Next::Unverified { effect_ended } => {
                    said.push((place, unverified(plan, effect_ended, ledger_now)));
                }
                Next::Release(end, reason) => {
                    let reason = reason.filter(|reason| !plan.reported.contains(*reason));
                    said.extend(reason.map(|reason| (place, tell_end(plan, end, reason, now))));
                    let (plan, incident) = (plan.plan.id, plan.plan.incident);
                    first.push(Admission::Release(Release { plan, incident, end }));
                }
            }
        }
        // In the order of the ledger, and of what there is to say of each plan.
        if !said.is_sorted_by_key(|(place, _)| *place) {
            said.sort_by_key(|(place, _)| *place);
        }
        self.say(now, step, said.into_iter().map(|(_, saying)| saying));
        let leases = self.leases_until();
        let (admitting, outbox, view) = self.at_the_gate(now, &leases);
        let refused = admitting.advance(view, step, outbox, first, wanted);
        let mut said = Vec::new();
        for (plan, refusal) in refused {
            if let Some(until) = refusal.until.filter(|until| *until > now) {
                step.wake_no_later_than(until);
            }
            if let Some(plan) = self.fold.plans.get(plan)
                && !plan.reported.contains(refusal.reason)
            {
                said.push(report(plan, refusal.reason, refusal.text, now));
            }
        }
        self.say(now, step, said);
    }

    /// The lease that we hold on a plan's shard.
    fn owned(&self, plan: &PlanState, now: Timestamp) -> Option<&Owned> {
        self.leases.get(&shard_of(plan.plan.incident)).filter(|owned| now < owned.lease.until)
    }

    /// What is to be said of shadow plans: once of each, by the owner of its shard.
    fn shown_only(&mut self, now: Timestamp) -> Vec<((u64, PlanId), Saying)> {
        let mut said = Vec::new();
        let mut untold = std::mem::take(&mut self.untold);
        untold.sort_unstable();
        untold.retain(|place| {
            let Some(plan) = self.fold.plans.get(place.1).filter(|plan| plan.is_untold()) else {
                return false;
            };
            if self.owned(plan, now).is_none() {
                return true;
            }
            if !self.said.contains(&Said::Report(place.1, Reason::Shadow)) {
                said.push((*place, tell_shadow(plan, now)));
            }
            false
        });
        self.untold = untold;
        said
    }

    /// What stands and would grow too old for the ledger; whoever owns the first shard says it.
    fn say_again(&mut self, now: Timestamp) -> Vec<Admission> {
        let is_ours = self.is_first(now);
        let is_time = self.said_again_at.is_none_or(|said_at| now >= said_at + SAY_AGAIN_EVERY);
        if !is_ours || !is_time {
            return Vec::new();
        }
        // Said too early does no harm; in a quiet ledger only our own clock goes on.
        let again = self.fold.gate.to_say_again(now.max(self.ledger_time.at_least(now)));
        if !again.is_empty() {
            self.said_again_at = Some(now);
        }
        again
    }

    /// Says each thing once; whether it was heard is seen in the fold. What is said on one topic goes together.
    fn say(&mut self, now: Timestamp, step: &mut Step, said: impl IntoIterator<Item = Saying>) {
        let mut by_topic: Vec<(Topic, Vec<Entry>)> = Vec::new();
        let said = said.into_iter();
        let expected = said.size_hint().0;
        for (key, topic, entry) in said {
            if is_heard(&self.fold, key) || !self.said.insert(key) {
                continue;
            }
            if let Some((_, entries)) = by_topic.iter_mut().find(|(known, _)| *known == topic) {
                entries.push(entry);
            } else {
                let mut entries = Vec::with_capacity(expected);
                entries.push(entry);
                by_topic.push((topic, entries));
            }
        }
        for (topic, entries) in by_topic {
            self.publish(now, step, topic, entries, &[]);
        }
    }

    fn publish(
        &mut self,
        now: Timestamp,
        step: &mut Step,
        topic: Topic,
        entries: Vec<Entry>,
        holds: &[Token],
    ) {
        let basis = self.fold.basis(self.configuration.generation);
        let decision = Decision { now, topic, entries, basis, expected_last: None, holds };
        self.outbox.publish(step, decision);
    }

    /// Takes in a record: what there is to say, and what was heard.
    fn apply(&mut self, record: &Record) {
        if record.sequence <= self.fold.applied() {
            return;
        }
        self.fold.apply(record);
        for entry in &record.batch.entries {
            let heard = match entry {
                Entry::Plan(plan) => {
                    let known = self.fold.plans.get(plan.id);
                    if known.is_some_and(|known| known.sequence == record.sequence && known.is_untold()) {
                        self.untold.push((record.sequence, plan.id));
                    }
                    continue;
                }
                Entry::Report(report) => report.plan.map(|plan| Said::Report(plan, report.reason)),
                Entry::Verdict(verdict) => Some(Said::Verdict(verdict.plan)),
                Entry::Outcome(outcome) => Some(Said::Outcome(outcome.attempt)),
                Entry::Violation(_)
                | Entry::Incident(_)
                | Entry::Analysis(_)
                | Entry::Admission(_)
                | Entry::Change(_)
                | Entry::Applied { .. } => continue,
            };
            if let Some(heard) = heard.filter(|heard| is_heard(&self.fold, *heard)) {
                self.said.remove(&heard);
            }
        }
        self.forget_what_is_forgotten();
    }

    /// What was said of a plan that the fold has forgotten is not heard any more.
    fn forget_what_is_forgotten(&mut self) {
        if self.said.len() > KEPT_WITHOUT_SEARCH.max(self.said_left * 2) {
            let fold = &self.fold;
            self.said.retain(|said| !is_heard(fold, *said));
            self.said_left = self.said.len();
        }
    }

    fn take(&mut self, now: Timestamp, step: &mut Step, deliveries: Vec<Delivery>) {
        for Delivery { token, work, .. } in deliveries {
            match work {
                Work::Intake { sequence, intake: Intake::Operator { by, request }, .. } => {
                    self.obey(now, step, token, sequence, by, request);
                }
                Work::Intake { intake: Intake::Violation(_) | Intake::Change(_), .. } | Work::Record(_) => {
                    step.done.push((token, Done::Dead("not for the executor".into())));
                }
            }
        }
    }

    /// Not conditional: whatever is decided at the same time is refused, because the subject has moved.
    fn obey(
        &mut self,
        now: Timestamp,
        step: &mut Step,
        token: Token,
        sequence: u64,
        by: Arc<str>,
        request: OperatorRequest,
    ) {
        if sequence <= self.fold.gate.last_request() {
            self.outbox.ack(step, [token]);
            return;
        }
        let admission = match request {
            OperatorRequest::Halt { reason } => Admission::Halt { request: sequence, by, reason },
            OperatorRequest::Resume => Admission::Resume { request: sequence, by },
        };
        self.publish(now, step, Topic::Admission, vec![Entry::Admission(admission)], &[token]);
    }

    fn acted(&mut self, now: Timestamp, step: &mut Step, acted: Acted) {
        let topic = Topic::Outcomes(acted.outcome.result);
        self.said.insert(Said::Outcome(acted.attempt));
        // The fold may not even show the intent yet.
        self.publish(now, step, topic, vec![Entry::Outcome(Arc::new(acted.outcome))], &[]);
    }

    fn take_leases(&mut self, now: Timestamp, leases: &[Lease]) {
        let mut owned = BTreeMap::new();
        for lease in leases {
            let before = self.leases.get(&lease.shard).filter(|before| now < before.lease.until);
            let since = before.map_or(now, |before| before.since);
            owned.insert(lease.shard, Owned { lease: *lease, since });
        }
        self.leases = owned;
    }
}

impl Core for Executor {
    fn handle(&mut self, now: Timestamp, input: Input) -> Step {
        let mut step = Step::default();
        match input {
            Input::Known(fold) => {
                self.ledger_time.heard(now, fold.stored_at());
                self.fold.take_over(&fold);
                let untold = self.fold.plans.iter().filter(|plan| plan.is_untold());
                self.untold = untold.map(|plan| (plan.sequence, plan.plan.id)).collect();
            }
            Input::Ledger(records) => {
                for record in &records {
                    if record.sequence > self.fold.applied() {
                        self.ledger_time.heard(now, record.stored_at);
                    }
                    self.apply(record);
                }
            }
            Input::Work(deliveries) => self.take(now, &mut step, deliveries),
            Input::Published { ticket, result } if self.admitting.is_waiting_for(ticket) => {
                let leases = self.leases_until();
                let (admitting, outbox, view) = self.at_the_gate(now, &leases);
                admitting.published(view, &mut step, outbox, (ticket, result));
            }
            Input::Published { ticket, result } => {
                // What was only said changes no plan before the fold shows it.
                self.outbox.published_and_acked(now, &mut step, ticket, result);
                self.outbox.tick(now, &mut step);
                return step;
            }
            Input::ReadBack { ticket, found } => {
                let leases = self.leases_until();
                let (admitting, _, view) = self.at_the_gate(now, &leases);
                admitting.read_back(view, &mut step, (ticket, found));
            }
            Input::Acted(acted) => self.acted(now, &mut step, acted),
            Input::Leases(leases) => self.take_leases(now, &leases),
            Input::Configuration(configuration) => self.configuration = configuration,
            Input::Frame(_) | Input::Table(_) => {}
        }
        self.advance(now, &mut step);
        self.outbox.tick(now, &mut step);
        step
    }

    fn tick(&mut self, now: Timestamp) -> Step {
        let mut step = Step::default();
        self.advance(now, &mut step);
        self.outbox.tick(now, &mut step);
        step
    }
}

impl Executor {
    /// Who admits, by what it publishes, and what it decides on.
    fn at_the_gate<'a>(
        &'a mut self,
        now: Timestamp,
        leases: &'a BTreeMap<u16, Timestamp>,
    ) -> (&'a mut Admitting, &'a mut Outbox, View<'a>) {
        let ledger_now = self.ledger_time.at_least(now);
        let (fold, configuration) = (&self.fold, &self.configuration);
        (&mut self.admitting, &mut self.outbox, View { now, ledger_now, fold, configuration, leases })
    }

    fn leases_until(&self) -> BTreeMap<u16, Timestamp> {
        self.leases.iter().map(|(shard, owned)| (*shard, owned.lease.until)).collect()
    }
}

#[cfg(test)]
mod tests;

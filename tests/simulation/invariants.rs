//! What has to hold in every world, checked on the ledger and on the managed resource alone.

use std::collections::{BTreeMap, BTreeSet};

use homeostat::engine::fold::Fold;
use homeostat::model::{
    Admission, Entry, EpisodeId, Idempotency, IncidentId, Intent, Labels, Mode, PlanEnd, PlanId, Record,
    Timestamp, Topic,
};
use homeostat::wire::{self, fold::KeptFold};

use crate::stage::{ACTIONS_PER_HOUR_MAX, CONCURRENT_PLANS_MAX, COOLDOWN, Told};

pub(crate) fn check(told: &Told) -> Result<(), String> {
    each_violation_is_in_one_incident(told)?;
    no_attempt_is_carried_out_twice(told)?;
    each_effect_was_admitted_before(told)?;
    no_budget_is_exceeded(told)?;
    one_plan_at_a_time_acts_for_an_incident(told)?;
    every_plan_comes_to_an_end(told)?;
    a_kept_fold_goes_on_as_the_whole_ledger_does(told)
}

/// Wherever it was kept, also after it was written down and read.
fn a_kept_fold_goes_on_as_the_whole_ledger_does(told: &Told) -> Result<(), String> {
    let mut whole = Fold::default();
    told.records.iter().for_each(|record| whole.apply(record));
    let parts = 4;
    for part in 1..parts {
        let (before, after) = told.records.split_at(told.records.len() * part / parts);
        let mut fold = Fold::default();
        before.iter().for_each(|record| fold.apply(record));
        let kept = KeptFold { ledger: Timestamp::default(), snapshot: fold.snapshot() };
        let bytes = wire::fold::encode(kept).map_err(|error| error.to_string())?;
        let read =
            wire::fold::decode(&bytes).map_err(|error| error.to_string())?.ok_or("of another format")?;
        let mut restored = Fold::restore(read.snapshot);
        after.iter().for_each(|record| restored.apply(record));
        // As texts: a value may be NaN, which is not equal to itself.
        if format!("{:?}", restored.snapshot()) != format!("{:?}", whole.snapshot()) {
            return Err(format!("a fold that was kept at record {} goes on otherwise", before.len()));
        }
    }
    Ok(())
}

fn entries(told: &Told) -> impl Iterator<Item = (&Record, &Entry)> {
    told.records
        .iter()
        .flat_map(|record| record.batch.entries.iter().map(move |entry| (record.as_ref(), entry)))
}

fn each_violation_is_in_one_incident(told: &Told) -> Result<(), String> {
    let mut joined: BTreeMap<EpisodeId, Vec<IncidentId>> = BTreeMap::new();
    for (record, entry) in entries(told) {
        if let (Topic::Analyses(_), Entry::Incident(incident)) = (record.topic, entry) {
            for episode in &incident.joined {
                joined.entry(*episode).or_default().push(incident.id);
            }
        }
    }
    for episode in &told.accepted {
        match joined.get(episode).map(Vec::as_slice) {
            Some([_]) => {}
            None | Some([]) => return Err(format!("violation {episode} is lost")),
            Some(incidents) => return Err(format!("violation {episode} is in {incidents:?}")),
        }
    }
    Ok(())
}

fn no_attempt_is_carried_out_twice(told: &Told) -> Result<(), String> {
    let mut attempts = BTreeSet::new();
    let (mut actions, mut happened) = (BTreeMap::new(), BTreeSet::new());
    for effect in &told.effects {
        if !attempts.insert(effect.attempt) {
            return Err(format!("attempt {} is carried out twice", effect.attempt));
        }
        let calls = actions.entry(effect.action).or_insert(0);
        *calls += 1;
        if effect.idempotency == Idempotency::None && *calls > 1 {
            return Err(format!("action {} cannot be repeated and is", effect.action));
        }
        if effect.happened && !happened.insert(effect.action) {
            return Err(format!("action {} ({:?}) happened twice", effect.action, effect.idempotency));
        }
    }
    Ok(())
}

fn each_effect_was_admitted_before(told: &Told) -> Result<(), String> {
    for effect in &told.effects {
        let admitted = intents(told)
            .any(|(record, intent)| intent.attempt == effect.attempt && record.stored_at <= effect.at);
        if !admitted {
            return Err(format!("attempt {} was never admitted", effect.attempt));
        }
    }
    Ok(())
}

fn intents(told: &Told) -> impl Iterator<Item = (&Record, &Intent)> {
    entries(told).filter_map(|(record, entry)| match entry {
        Entry::Admission(Admission::Intent(intent)) => Some((record, intent.as_ref())),
        _ => None,
    })
}

/// Counted anew from the ledger, without the fold.
fn no_budget_is_exceeded(told: &Told) -> Result<(), String> {
    let mut in_flight: BTreeSet<PlanId> = BTreeSet::new();
    let mut started: Vec<Timestamp> = Vec::new();
    let mut acted: BTreeMap<(&str, &Labels), Timestamp> = BTreeMap::new();
    let mut attempts = BTreeSet::new();
    let (mut halted, mut last_request) = (false, 0);
    for (record, entry) in entries(told) {
        let Entry::Admission(admission) = entry else { continue };
        match admission {
            // A wish that was recorded after a later one is no wish any more.
            Admission::Halt { request, .. } if *request > last_request => {
                (halted, last_request) = (true, *request);
            }
            Admission::Resume { request, .. } if *request > last_request => {
                (halted, last_request) = (false, *request);
            }
            Admission::Halt { .. } | Admission::Resume { .. } => {}
            Admission::Charter { .. } => {}
            Admission::Release(release) => {
                in_flight.remove(&release.plan);
            }
            Admission::Intent(intent) => {
                let place = format!("intent at {} of {}", record.sequence, record.batch.instance);
                if halted {
                    return Err(format!("{place} during a halt"));
                }
                if !attempts.insert(intent.attempt) {
                    return Err(format!("{place} admits {} again", intent.attempt));
                }
                let now = record.stored_at;
                if in_flight.insert(intent.plan) {
                    let key = (intent.playbook.as_ref(), &intent.scope);
                    let since = acted.insert(key, now).map(|before| now.saturating_since(before));
                    if since.is_some_and(|since| since < COOLDOWN) {
                        return Err(format!(
                            "{place} comes {since:?} after the one before on {}",
                            intent.scope
                        ));
                    }
                }
                if in_flight.len() > CONCURRENT_PLANS_MAX as usize {
                    return Err(format!("{place} makes {} plans in flight", in_flight.len()));
                }
                started.push(now);
                let hour = started.iter().filter(|at| now.saturating_since(**at).as_secs() < 3_600).count();
                if !intent.undo && hour > ACTIONS_PER_HOUR_MAX as usize {
                    return Err(format!("{place} is number {hour} in an hour"));
                }
            }
        }
    }
    Ok(())
}

/// A plan that was given up before it began has not begun, and after its end nothing is admitted for a plan.
fn one_plan_at_a_time_acts_for_an_incident(told: &Told) -> Result<(), String> {
    let mut at_work: BTreeMap<IncidentId, PlanId> = BTreeMap::new();
    let (mut begun, mut over) = (BTreeSet::new(), BTreeSet::new());
    for (record, entry) in entries(told) {
        match entry {
            Entry::Admission(Admission::Intent(intent)) => {
                if over.contains(&intent.plan) {
                    return Err(format!(
                        "intent at {} for plan {} is after its end",
                        record.sequence, intent.plan
                    ));
                }
                let other = at_work.insert(intent.incident, intent.plan).filter(|plan| *plan != intent.plan);
                if let Some(other) = other {
                    return Err(format!("intent at {} for {} beside {other}", record.sequence, intent.plan));
                }
                begun.insert(intent.plan);
            }
            Entry::Admission(Admission::Release(release)) => {
                if release.end == PlanEnd::Cancelled && begun.contains(&release.plan) {
                    return Err(format!("plan {} was begun and then cancelled", release.plan));
                }
                over.insert(release.plan);
                if at_work.get(&release.incident) == Some(&release.plan) {
                    at_work.remove(&release.incident);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Everything is started or given up, and what was started ends; only the rate budget may hold a plan back for longer than
/// the test lasts.
fn every_plan_comes_to_an_end(told: &Told) -> Result<(), String> {
    let mut open: BTreeSet<PlanId> = BTreeSet::new();
    for (_, entry) in entries(told) {
        match entry {
            Entry::Plan(plan) if plan.mode == Mode::Auto => {
                open.insert(plan.id);
            }
            Entry::Admission(Admission::Release(release)) => {
                open.remove(&release.plan);
            }
            _ => {}
        }
    }
    for (_, intent) in intents(told) {
        if open.contains(&intent.plan) && intents(told).count() < ACTIONS_PER_HOUR_MAX as usize {
            return Err(format!("plan {} was begun and never ended", intent.plan));
        }
    }
    Ok(())
}

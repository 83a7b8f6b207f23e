//! The transitions as Prometheus' rule manager would have them.

use std::collections::BTreeMap;
use std::sync::Arc;

use homeostat::engine::promql::{Expr, Limits, SeriesStore};
use homeostat::engine::ruler::{Alert, AlertingRule, Group, Phase, RecordingRule, Rule, Terms};
use homeostat::model::{Labels, Timestamp};
use homeostat::wire::files::{GroupText, RuleKind, RuleText};

use crate::INTERVAL;
use crate::made::Made;

/// At each point of the grid, what has begun to fire and what has ceased to.
pub(crate) fn transitions(text: &GroupText, made: &Made) -> Vec<String> {
    let mut store = SeriesStore::new(Limits::default());
    let mut group = Group::new(Terms { name: Arc::clone(&text.name), ..Terms::default() }, rules(text));
    for rule in group.rules() {
        store.watch(rule.expr());
    }
    let ids: Vec<_> = made.series.iter().map(|labels| store.series(labels).unwrap()).collect();
    let mut scrapes = made.scrapes.iter().peekable();
    let mut firing: BTreeMap<Key, Alert> = BTreeMap::new();
    let mut lines = Vec::new();
    let mut point = first_point(made);
    while point <= made.end {
        while let Some((at, rows)) = scrapes.next_if(|(at, _)| *at <= point) {
            for (place, value) in rows {
                store.append(ids[usize::from(*place)], *at, *value);
            }
        }
        group.evaluate(&mut store, point);
        let now = firing_of(&group);
        let mut here = Vec::new();
        for (key, alert) in &firing {
            if !now.contains_key(key) && alert.active_at > made.begin {
                here.push(line(point, key, "resolved", alert));
            }
        }
        for (key, alert) in &now {
            if !firing.contains_key(key) && alert.active_at > made.begin {
                here.push(line(point, key, "firing", alert));
            }
        }
        here.sort();
        lines.extend(here);
        firing = now;
        point = point + INTERVAL;
    }
    lines
}

fn first_point(made: &Made) -> Timestamp {
    let step = i64::try_from(INTERVAL.as_millis()).unwrap();
    let first = made.scrapes[0].0.as_millis();
    Timestamp::from_millis(first + (step - first.rem_euclid(step)) % step)
}

type Key = (usize, Labels);

fn firing_of(group: &Group) -> BTreeMap<Key, Alert> {
    let mut firing = BTreeMap::new();
    for (index, rule) in group.rules().enumerate() {
        let Rule::Alerting(rule) = rule else { continue };
        for alert in rule.alerts().filter(|alert| matches!(alert.phase, Phase::Firing { .. })) {
            firing.insert((index, alert.labels.clone()), alert.clone());
        }
    }
    firing
}

fn line(at: Timestamp, (_, labels): &Key, phase: &str, alert: &Alert) -> String {
    format!("{at} {labels} {phase} since {}", alert.active_at)
}

fn rules(text: &GroupText) -> Vec<Rule> {
    text.rules.iter().map(rule).collect()
}

fn rule(text: &RuleText) -> Rule {
    let expr = Expr::parse(&text.expr.text).unwrap();
    match &text.kind {
        RuleKind::Alert(name) => {
            let mut rule = AlertingRule::new(Arc::clone(name), expr);
            (rule.hold, rule.keep_firing) = (text.hold, text.keep_firing);
            rule.labels.clone_from(&text.labels);
            Rule::Alerting(rule)
        }
        RuleKind::Record(name) => {
            let labels =
                text.labels.iter().map(|(name, value)| (Arc::clone(name), Arc::clone(value.source())));
            Rule::Recording(RecordingRule { name: Arc::clone(name), expr, labels: labels.collect() })
        }
    }
}

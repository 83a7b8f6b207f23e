//! One test, from its first evaluation to its last check.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::comparing::{self, Difference};
use super::loading::{Rules, is_native};
use super::told;
use super::why::Why;
use super::world::World;
use super::{Check, Failure, Report};
use crate::engine::promql::{Element, NameRemoval, Outcome, Query, Read};
use crate::engine::ruler::{AlertingRule, External, Group, Rule};
use crate::model::Labels;
use crate::wire::files::{AlertCheck, ExprCheck, RuleKind, RuleTest, RuleTestFile};

/// Runs a test, and adds what it came to.
pub(super) fn run(file: &RuleTestFile, test: &RuleTest, rules: &Rules, report: &mut Report) {
    let name = test.name.as_deref().map(|name| format!("{name}: ")).unwrap_or_default();
    match Running::new(file, test, rules) {
        Ok(mut running) => {
            if let Err(errors) = running.run(report) {
                report.errors.extend(errors.into_iter().map(|error| format!("{name}{error}")));
            }
        }
        Err(error) => report.errors.push(format!("{}: {name}{error}", test.at.line)),
    }
}

struct Running<'a> {
    file: &'a RuleTestFile,
    test: &'a RuleTest,
    groups: Vec<(Arc<str>, Group)>,
    world: World,
    unjudged: Unjudged,
}

impl<'a> Running<'a> {
    fn new(file: &'a RuleTestFile, test: &'a RuleTest, rules: &Rules) -> Result<Self, String> {
        if let Some(check) = test.alerts.iter().find(|check| check.alertname.is_empty()) {
            return Err(format!(
                "an alert_rule_test at {} has no alertname",
                told::duration(check.eval_time)
            ));
        }
        let mut world = World::new(test)?;
        let labels =
            Labels::new(test.external_labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let external = External {
            labels: labels.map_err(|error| format!("external_labels: {error}"))?,
            url: test.external_url.as_str().into(),
        };
        let groups: Vec<(Arc<str>, Group)> =
            rules.groups.iter().map(|group| (Arc::clone(&group.file), group.fresh(&external))).collect();
        for rule in groups.iter().flat_map(|(_, group)| group.rules()) {
            world.store.watch(rule.expr());
        }
        let unjudged = Unjudged::new(&world.unheld, &rules.left_out, &groups);
        Ok(Self { file, test, groups, world, unjudged })
    }

    /// All evaluations with the checks of alerts, then the checks of expressions. A rule that fails ends it.
    fn run(&mut self, report: &mut Report) -> Result<(), Vec<String>> {
        let (test, interval) = (self.test, self.file.evaluation_interval);
        let times = test.alerts.iter().map(|check| check.eval_time);
        let last = times.chain(test.exprs.iter().map(|check| check.eval_time)).max().unwrap_or_default();
        let mut checks: Vec<&AlertCheck> = test.alerts.iter().collect();
        checks.sort_by_key(|check| check.eval_time);
        let mut checks = checks.into_iter().peekable();
        let mut passed = Duration::ZERO;
        while passed <= last {
            self.evaluate(passed)?;
            while let Some(check) = checks.next_if(|check| check.eval_time < passed + interval) {
                self.check_alerts(check, passed, report);
            }
            passed += interval;
        }
        for check in &test.exprs {
            self.check_expr(check, report);
        }
        Ok(())
    }

    /// Evaluates all groups at a time from the start.
    fn evaluate(&mut self, passed: Duration) -> Result<(), Vec<String>> {
        let at = self.test.start + passed;
        self.world.advance(at).map_err(|error| vec![format!("{error} (at {})", told::duration(passed))])?;
        let mut errors = Vec::new();
        for (_, group) in &mut self.groups {
            for failure in group.evaluate(&mut self.world.store, at) {
                let (name, error) = (&failure.name, &failure.error);
                errors.push(format!("rule {name} at {}: {error}", told::duration(passed)));
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Alerts of one name may be raised by rules of several groups.
    fn rules_of<'s>(&'s self, alert: &'s str) -> impl Iterator<Item = (&'s Arc<str>, &'s AlertingRule)> {
        let all = self.groups.iter().flat_map(|(file, group)| group.rules().map(move |rule| (file, rule)));
        all.filter_map(move |(file, rule)| match rule {
            Rule::Alerting(rule) if *rule.name == *alert => Some((file, rule)),
            Rule::Alerting(_) | Rule::Recording(_) => None,
        })
    }

    fn check_alerts(&self, check: &AlertCheck, passed: Duration, report: &mut Report) {
        let name = &check.alertname;
        if self.unjudged.alerts.contains(name) {
            report.listed.push(format!("{}: alert {name}: native histograms", check.at.line));
            return;
        }
        let firing = self.rules_of(name).flat_map(|(_, rule)| rule.firing());
        let Some(difference) = comparing::alerts(name, &check.expected, firing) else {
            report.passed += 1;
            return;
        };
        let why = Why {
            store: &self.world.store,
            start: self.test.start,
            interval: self.file.evaluation_interval,
            passed,
        };
        let raised = self.groups.iter().flat_map(|(_, group)| group.rules()).filter_map(|rule| match rule {
            Rule::Alerting(rule) => Some(&rule.name),
            Rule::Recording(_) => None,
        });
        let why = why.of(name, self.rules_of(name), raised);
        let check_of = Check::Alert(Arc::clone(name));
        report.failures.push(self.failure(check.at.line, check_of, check.eval_time, difference, why));
    }

    fn check_expr(&self, check: &ExprCheck, report: &mut Report) {
        match self.difference(check) {
            Judgement::Holds => report.passed += 1,
            Judgement::Unjudged => {
                report.listed.push(format!("{}: {}: native histograms", check.at.line, check.expr));
            }
            Judgement::Fails(difference) => {
                let of = Check::Expr(check.expr.as_str().into());
                report.failures.push(self.failure(
                    check.at.line,
                    of,
                    check.eval_time,
                    difference,
                    Vec::new(),
                ));
            }
        }
    }

    fn difference(&self, check: &ExprCheck) -> Judgement {
        let failed =
            |error: String| Judgement::Fails(Difference { lines: vec![error], ..Difference::default() });
        let query = match Query::parse_with(&check.expr, self.file.evaluation_interval) {
            Ok(query) => query,
            Err(error) if is_native(&error) => return Judgement::Unjudged,
            Err(error) => return failed(error.to_string()),
        };
        let is_histogram = check.expected.iter().any(|sample| !sample.histogram.is_empty());
        if is_histogram || self.unjudged.reads(query.reads()) {
            return Judgement::Unjudged;
        }
        let at = self.test.start + check.eval_time;
        let answer = match query.instant(&self.world.store, at, NameRemoval::Immediate) {
            Ok(answer) => answer,
            Err(error) => return failed(error.to_string()),
        };
        let got = match answer.outcome {
            Outcome::Vector(elements) => elements,
            Outcome::Scalar(value) => vec![Element { labels: Labels::empty(), value }],
            Outcome::Text(_) | Outcome::Matrix(_) => {
                return failed("the value is neither a vector nor a number".to_owned());
            }
        };
        match comparing::samples(&check.expected, got, self.file.fuzzy_compare) {
            Ok(None) => Judgement::Holds,
            Ok(Some(difference)) => Judgement::Fails(difference),
            Err(error) => failed(error),
        }
    }

    fn failure(
        &self,
        line: u64,
        check: Check,
        eval_time: Duration,
        difference: Difference,
        why: Vec<String>,
    ) -> Failure {
        let Difference { expected, got, lines } = difference;
        Failure {
            line,
            test: self.test.name.clone(),
            check,
            eval_time,
            expected,
            got,
            difference: lines,
            why,
        }
    }
}

enum Judgement {
    Holds,
    Fails(Difference),
    /// It is about native histograms.
    Unjudged,
}

/// What is about native histograms: series of the test, and what rules make of them.
#[derive(Default)]
struct Unjudged {
    series: Vec<Labels>,
    metrics: BTreeSet<Arc<str>>,
    alerts: BTreeSet<Arc<str>>,
}

impl Unjudged {
    fn new(unheld: &[Labels], left_out: &[RuleKind], groups: &[(Arc<str>, Group)]) -> Self {
        let mut unjudged = Self { series: unheld.to_vec(), ..Self::default() };
        for kind in left_out {
            match kind {
                RuleKind::Alert(name) => unjudged.alert(name),
                RuleKind::Record(name) => drop(unjudged.metrics.insert(Arc::clone(name))),
            }
        }
        if unjudged.series.is_empty() && left_out.is_empty() {
            return unjudged;
        }
        // A rule may read what a later group records: until nothing is added any more.
        loop {
            let known = (unjudged.metrics.len(), unjudged.alerts.len());
            for rule in groups.iter().flat_map(|(_, group)| group.rules()) {
                if unjudged.reads(rule.expr().reads()) {
                    match rule {
                        Rule::Alerting(rule) => unjudged.alert(&rule.name),
                        Rule::Recording(rule) => drop(unjudged.metrics.insert(Arc::clone(&rule.name))),
                    }
                }
            }
            if known == (unjudged.metrics.len(), unjudged.alerts.len()) {
                return unjudged;
            }
        }
    }

    fn alert(&mut self, name: &Arc<str>) {
        self.alerts.insert(Arc::clone(name));
        self.metrics.extend(["ALERTS".into(), "ALERTS_FOR_STATE".into()]);
    }

    fn reads<'r>(&self, mut reads: impl Iterator<Item = Read<'r>>) -> bool {
        reads.any(|read| {
            let by_name = match read.selector.metric_names() {
                Some(names) => names.iter().any(|name| self.metrics.contains(name)),
                None => !self.metrics.is_empty(),
            };
            by_name || self.series.iter().any(|labels| read.selector.matches(labels))
        })
    }
}

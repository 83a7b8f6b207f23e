//! Rule files, as Prometheus reads them: groups of rules; a name it does not know is refused, with its place.
//!
//! A mistake in the YAML refuses the file, as it does in Prometheus; a mistake in one rule refuses that rule and the
//! rest loads. The expressions are only located here: `engine` knows what it can evaluate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::error::FileError;
use super::yaml::{self, DurationText, Passage};
use crate::model::{METRIC_NAME, Rule, RuleGroup, RuleName, Template};

/// What Prometheus takes where neither the group nor the server names an interval.
const INTERVAL_DEFAULT: Duration = Duration::from_mins(1);
/// Longest name of a group or an alert: an alert's name becomes a label's value.
const NAME_BYTES_MAX: usize = 256;

/// When the rules of a group are evaluated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evaluation {
    /// On every sample.
    #[default]
    Stream,
    /// On Prometheus' grid of intervals.
    Interval,
}

/// A rule file, as far as it can be used.
#[derive(Clone, Debug, Default)]
pub struct RuleFile {
    /// Its groups, in their order.
    pub groups: Vec<GroupText>,
    /// What was refused.
    pub refused: Vec<FileError>,
}

/// A group, its expressions not yet understood.
#[derive(Clone, Debug)]
pub struct GroupText {
    /// The group's name.
    pub name: Arc<str>,
    /// The file it came from.
    pub file: Arc<str>,
    /// Our own field; Prometheus' files do not have it.
    pub evaluation: Evaluation,
    /// Prometheus' evaluation interval, where the file names one.
    pub interval: Option<Duration>,
    /// By how much evaluation lags behind.
    pub query_offset: Duration,
    /// The most alerts or series that one rule may have; 0 is no limit.
    pub limit: u64,
    /// The rules that could be read.
    pub rules: Vec<RuleText>,
}

impl GroupText {
    /// The interval that a model's group has: none where it is evaluated on every sample.
    pub fn grid(&self) -> Option<Duration> {
        match self.evaluation {
            Evaluation::Stream => None,
            Evaluation::Interval => Some(self.interval.unwrap_or(INTERVAL_DEFAULT)),
        }
    }

    /// The model's group with the alerting rules whose expression `accept` takes.
    pub fn accepted(&self, mut accept: impl FnMut(&RuleText) -> bool) -> RuleGroup {
        let rules =
            self.rules.iter().filter(|rule| accept(rule)).filter_map(|rule| rule.alerting(&self.name));
        RuleGroup {
            name: Arc::clone(&self.name),
            file: Arc::clone(&self.file),
            interval: self.grid(),
            rules: rules.collect(),
        }
    }
}

/// What a rule makes of its expression's result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleKind {
    /// A violation of this name.
    Alert(Arc<str>),
    /// A series of this name.
    Record(Arc<str>),
}

/// A rule, its expression not yet understood.
#[derive(Clone, Debug)]
pub struct RuleText {
    /// What it makes.
    pub kind: RuleKind,
    /// The PromQL expression.
    pub expr: Passage,
    /// How long the expression has to hold before the violation fires.
    pub hold: Duration,
    /// How long a violation goes on firing after the expression has ceased to hold.
    pub keep_firing: Duration,
    /// Labels put on the result's own, the group's included.
    pub labels: Vec<(Arc<str>, Template)>,
    /// Text for people.
    pub annotations: Vec<(Arc<str>, Template)>,
}

impl RuleText {
    /// The model's rule, where it raises an alert.
    pub fn alerting(&self, group: &Arc<str>) -> Option<Rule> {
        let RuleKind::Alert(alert) = &self.kind else { return None };
        Some(Rule {
            name: RuleName { group: Arc::clone(group), alert: Arc::clone(alert) },
            expr: Arc::clone(&self.expr.text),
            hold: self.hold,
            keep_firing: self.keep_firing,
            labels: self.labels.clone(),
            annotations: self.annotations.clone(),
        })
    }
}

/// Reads a rule file.
pub fn parse(file: &str, text: &str) -> Result<RuleFile, FileError> {
    let shape: RuleFileShape = yaml::read(file, text)?.unwrap_or_default();
    let mut reader = Reader { file: file.into(), text: text.into(), refused: Vec::new() };
    let mut groups = Vec::new();
    let mut names = BTreeSet::new();
    for group in shape.groups.unwrap_or_default() {
        if let Err(cause) = checked_name(&group.name.value, "group") {
            return Err(FileError::at(file, &group.name, cause));
        }
        if !names.insert(group.name.value.clone()) {
            let cause = format_args!("the group `{}` stands in this file twice", group.name.value);
            return Err(FileError::at(file, &group.name, cause));
        }
        groups.push(reader.group(group));
    }
    Ok(RuleFile { groups, refused: reader.refused })
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleFileShape {
    groups: Option<Vec<GroupShape>>,
}

/// Go reads a value that is not there as an empty text.
type TextMap = BTreeMap<String, Spanned<Option<String>>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupShape {
    name: Spanned<String>,
    #[serde(default)]
    evaluation: Evaluation,
    interval: Option<DurationText>,
    query_offset: Option<DurationText>,
    limit: Option<u64>,
    labels: Option<TextMap>,
    rules: Option<Vec<Spanned<RuleShape>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleShape {
    record: Option<String>,
    alert: Option<String>,
    expr: Option<Spanned<String>>,
    r#for: Option<DurationText>,
    keep_firing_for: Option<DurationText>,
    labels: Option<TextMap>,
    annotations: Option<TextMap>,
}

struct Reader {
    file: Arc<str>,
    text: Arc<str>,
    refused: Vec<FileError>,
}

impl Reader {
    fn group(&mut self, shape: GroupShape) -> GroupText {
        let common = shape.labels.unwrap_or_default();
        let mut rules = Vec::new();
        for rule in shape.rules.unwrap_or_default() {
            match self.rule(&rule, &common) {
                Ok(rule) => rules.push(rule),
                Err(error) => self.refused.push(error),
            }
        }
        GroupText {
            name: shape.name.value.into(),
            file: Arc::clone(&self.file),
            evaluation: shape.evaluation,
            interval: shape.interval.map(|interval| interval.0).filter(|interval| !interval.is_zero()),
            query_offset: shape.query_offset.map_or(Duration::ZERO, |offset| offset.0),
            limit: shape.limit.unwrap_or(0),
            rules,
        }
    }

    fn rule(&self, shape: &Spanned<RuleShape>, common: &TextMap) -> Result<RuleText, FileError> {
        let refuse = |cause: &str| FileError::at(&self.file, shape, cause);
        let rule = &shape.value;
        let kind = match (&rule.alert, &rule.record) {
            (Some(alert), None) => RuleKind::Alert(alert.as_str().into()),
            (None, Some(record)) => RuleKind::Record(record.as_str().into()),
            (Some(_), Some(_)) => return Err(refuse("a rule has either `alert` or `record`, not both")),
            (None, None) => return Err(refuse("a rule has `alert` or `record`")),
        };
        match &kind {
            RuleKind::Alert(name) => checked_name(name, "alert").map_err(|cause| refuse(&cause))?,
            RuleKind::Record(name) => {
                checked_name(name, "recorded series").map_err(|cause| refuse(&cause))?;
                let alerts_only = [
                    (rule.r#for.is_some(), "for"),
                    (rule.keep_firing_for.is_some(), "keep_firing_for"),
                    (rule.annotations.is_some(), "annotations"),
                ];
                if let Some((_, field)) = alerts_only.iter().find(|(given, _)| *given) {
                    return Err(refuse(&format!("a recording rule has no `{field}`")));
                }
            }
        }
        let expr = match &rule.expr {
            Some(expr) if !expr.value.trim().is_empty() => Passage::of(&self.text, expr),
            Some(_) | None => return Err(refuse("`expr` is missing")),
        };
        let duration = |given: Option<DurationText>| given.map_or(Duration::ZERO, |duration| duration.0);
        // A rule's own label wins over the group's.
        let mut labels = common.clone();
        labels.extend(rule.labels.clone().unwrap_or_default());
        Ok(RuleText {
            kind,
            expr,
            hold: duration(rule.r#for),
            keep_firing: duration(rule.keep_firing_for),
            labels: self.templates(&labels, "label")?,
            annotations: self
                .templates(rule.annotations.as_ref().unwrap_or(&TextMap::new()), "annotation")?,
        })
    }

    fn templates(&self, texts: &TextMap, what: &str) -> Result<Vec<(Arc<str>, Template)>, FileError> {
        let read = |(name, text): (&String, &Spanned<Option<String>>)| {
            let refuse = |cause: String| FileError::at(&self.file, text, cause);
            if name.is_empty() || name == METRIC_NAME {
                return Err(refuse(format!("`{name}` cannot be the name of a {what}")));
            }
            let source = text.value.as_deref().unwrap_or("");
            let template =
                Template::parse(source).map_err(|error| refuse(format!("{what} `{name}`: {error}")))?;
            Ok((name.as_str().into(), template))
        };
        texts.iter().map(read).collect()
    }
}

fn checked_name(name: &str, what: &str) -> Result<(), String> {
    match name.len() {
        0 => Err(format!("the {what} has an empty name")),
        1..=NAME_BYTES_MAX => Ok(()),
        bytes => {
            Err(format!("the name of the {what} is {bytes} bytes long, at most {NAME_BYTES_MAX} are taken"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::files::Place;

    const GOOD: &str = r#"# A comment.
groups:
  - name: web
    interval: 30s
    labels: {team: web, severity: info}
    rules:
      - alert: Slow
        expr: |
          rate(latency_sum[5m])
            / rate(latency_count[5m]) > 0.5
        for: 1h30m
        keep_firing_for: 5m
        labels:
          severity: critical
          tier: 1
          nothing:
        annotations:
          summary: "{{ $labels.job }} takes {{ $value }}"
      - record: job:up:sum
        expr: sum by (job) (up)
"#;

    fn refused(text: &str) -> Vec<String> {
        match parse("r.yml", text) {
            Ok(file) => file.refused.iter().map(ToString::to_string).collect(),
            Err(error) => vec![error.to_string()],
        }
    }

    fn place_in(text: &str, needle: &str) -> Place {
        let before = &text[..text.find(needle).unwrap()];
        let line = before.lines().count().max(1) + usize::from(before.ends_with('\n'));
        let column = before.len() - before.rfind('\n').map_or(0, |end| end + 1) + 1;
        Place { line: line as u64, column: column as u64 }
    }

    fn rule_with(field: &str) -> String {
        format!("groups:\n- name: a\n  rules:\n  - alert: B\n    expr: up\n    {field}\n")
    }

    #[test]
    fn a_rule_file_is_read_as_prometheus_reads_it() {
        let file = parse("r.yml", GOOD).unwrap();
        assert_eq!(file.refused, []);
        let group = &file.groups[0];
        assert_eq!((group.name.as_ref(), group.interval), ("web", Some(Duration::from_secs(30))));
        assert_eq!((group.evaluation, group.grid()), (Evaluation::Stream, None));
        let rule = group.rules[0].alerting(&group.name).unwrap();
        assert_eq!(rule.name.to_string(), "web/Slow");
        assert_eq!(rule.expr.as_ref(), "rate(latency_sum[5m])\n  / rate(latency_count[5m]) > 0.5\n");
        assert_eq!((rule.hold, rule.keep_firing), (Duration::from_mins(90), Duration::from_mins(5)));
        let labels: Vec<_> = rule.labels.iter().map(|(name, text)| (name.as_ref(), text.source())).collect();
        assert_eq!(labels, [("nothing", ""), ("severity", "critical"), ("team", "web"), ("tier", "1")]);
        assert_eq!(group.rules[1].kind, RuleKind::Record("job:up:sum".into()));
        assert_eq!(group.accepted(|_| true).rules.len(), 1);
    }

    #[test]
    fn places_in_an_expression_are_places_in_the_file() {
        let file = parse("r.yml", GOOD).unwrap();
        let expr = &file.groups[0].rules[0].expr;
        for needle in ["rate(latency_sum", "/ rate", "latency_count", "0.5"] {
            assert_eq!(expr.place(expr.text.find(needle).unwrap()), place_in(GOOD, needle));
        }
        assert_eq!(file.groups[0].rules[1].expr.place(4), place_in(GOOD, "by (job)"));
        let fields = [
            "up > on() vector(7)",
            "'up > on() vector(7)'",
            "'{a=''x''} > on() vector(7)'",
            r#""up >  on() {a=\"x\"} vector(7)""#,
            r#""up >\n\ton() vector(7)""#,
            ">-\n      up >\n      on() vector(7)",
            "|2 # why\n       up >\n\n        on() vector(7)",
            "up >\n      on() vector(7)",
            "\"up >\n      on() vector(7)\"",
        ];
        for field in fields {
            let text = format!("groups:\n- name: a\n  rules:\n  - alert: B\n    expr: {field}\n");
            let file = parse("r.yml", &text).unwrap();
            let expr = &file.groups[0].rules[0].expr;
            assert_eq!(expr.place(expr.text.find('7').unwrap()), place_in(&text, "7"), "{text}");
        }
    }

    #[test]
    fn mistakes_are_told_with_line_and_column() {
        let cases = [
            (rule_with("exrp: up"), "r.yml:6:5: unknown field `exrp`\nhint: did you mean `expr`?"),
            (rule_with("for: soon"), "r.yml:6:10: `soon` is not a duration such as `1m30s`"),
            (rule_with("record: c"), "r.yml:4:5: a rule has either `alert` or `record`, not both"),
            (
                rule_with("labels: {a: '{{ $label.foo }}'}"),
                "r.yml:6:17: label `a`: cannot expand `{{ $label.foo }}`",
            ),
            (rule_with("labels: {__name__: x}"), "r.yml:6:24: `__name__` cannot be the name of a label"),
            (rule_with("alert: C"), "r.yml:6:5: duplicate mapping key: alert"),
            ("groups:\n- name: ''\n".into(), "r.yml:2:9: the group has an empty name"),
            ("groups:\n- name: a\n- name: a\n".into(), "r.yml:3:9: the group `a` stands in this file twice"),
            ("groups:\n- rules: []\n".into(), "r.yml:2:3: `name` is missing"),
            (
                "groups:\n- name: a\n  evaluation: steam\n".into(),
                "r.yml:3:15: `steam` is not one of stream, interval\nhint: did you mean `stream`?",
            ),
            (
                "groups:\n- name: a\n  rules:\n  - record: b\n    expr: up\n    for: 1m\n".into(),
                "r.yml:4:5: a recording rule has no `for`",
            ),
            ("groups:\n- name: a\n  rules:\n  - alert: b\n".into(), "r.yml:4:5: `expr` is missing"),
            ("groups: [\n".into(), "r.yml:1:9: unclosed bracket"),
        ];
        for (text, expected) in cases {
            let found = refused(&text);
            assert_eq!(found.len(), 1, "{text}");
            assert!(found[0].starts_with(expected), "{text}\n{}", found[0]);
        }
    }

    #[test]
    fn a_mistake_in_one_rule_leaves_the_others() {
        let text = "groups:\n- name: a\n  rules:\n  - alert: B\n    expr: ''\n  - alert: C\n    expr: up\n";
        let file = parse("r.yml", text).unwrap();
        assert_eq!((file.refused.len(), file.groups[0].rules.len()), (1, 1));
    }

    #[test]
    fn an_interval_group_without_an_interval_has_prometheus_default() {
        let file = parse("r.yml", "groups:\n- {name: a, evaluation: interval}\n").unwrap();
        assert_eq!(file.groups[0].grid(), Some(Duration::from_mins(1)));
    }

    #[test]
    fn an_empty_file_has_no_groups() {
        for text in ["", "# nothing\n", "groups:\n", "groups: []\n"] {
            assert_eq!(parse("r.yml", text).unwrap().groups.len(), 0, "{text:?}");
        }
    }

    #[test]
    fn aliases_do_not_multiply_a_file() {
        let level = |level: usize| {
            let item = level.checked_sub(1).map_or("x".to_owned(), |last| format!("*a{last}"));
            format!("a{level}: &a{level} [{}]\n", vec![item; 10].join(", "))
        };
        let text: String = (0..12).map(level).collect();
        assert_eq!(refused(&text).len(), 1);
        assert_eq!(refused(&"[".repeat(200_000)).len(), 1);
        assert_eq!(refused(&" ".repeat(2_000_000)).len(), 1);
    }
}

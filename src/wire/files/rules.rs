//! Rule files, as Prometheus reads them: groups of rules; a name it does not know is refused, with its place.
//!
//! What is no YAML refuses the file; a mistake in a rule or in what a group says refuses the rule or the group, and the
//! rest loads. The expressions are only located here: `engine` knows what it can evaluate.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_saphyr::Spanned;

use super::duration;
use super::error::{FileError, Place};
use super::rule_shape::{
    GROUP_FIELDS, GroupShape, RULE_FIELDS, RuleFileShape, RuleShape, Text, TextMap, Unknown,
};
use super::yaml::{self, Passage};
use crate::engine::template::{ParseError, Template};
use crate::model::{Gives, METRIC_NAME, Rule, RuleGroup, RuleName};

/// What Prometheus takes where neither the group nor the server names an interval.
const INTERVAL_DEFAULT: Duration = Duration::from_mins(1);
/// Longest name of a group or an alert: an alert's name becomes a label's value.
const NAME_BYTES_MAX: usize = 256;

/// When the rules of a group are evaluated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Evaluation {
    /// On every sample.
    #[default]
    Stream,
    /// On Prometheus' grid of intervals.
    Interval,
}

impl Evaluation {
    /// As files say it.
    const WORDS: [&str; 2] = ["stream", "interval"];

    fn from_word(word: &str) -> Option<Self> {
        match word {
            "stream" => Some(Self::Stream),
            "interval" => Some(Self::Interval),
            _ => None,
        }
    }
}

/// A rule file, as far as it can be used.
#[derive(Clone, Debug, Default)]
pub struct RuleFile {
    /// Its groups, in their order.
    pub groups: Vec<GroupText>,
    /// What was refused.
    pub refused: Vec<FileError>,
    /// What is used, and not as it stands there.
    pub warnings: Vec<FileError>,
    /// Every rule there is in the file, whether it could be read or not.
    pub found: Vec<RuleFound>,
    /// What was refused in groups themselves, and costs them their rules.
    pub groups_refused: Vec<FileError>,
}

/// A rule of a file, and what is wrong with it.
#[derive(Clone, Debug)]
pub struct RuleFound {
    /// The alert or the series it makes; empty where it says none.
    pub name: Arc<str>,
    /// Where it begins.
    pub at: Place,
    /// What was refused about it. Nothing: the rule is in [`RuleFile::groups`], if its group is.
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

    /// The model's group with the rules that `accept` takes.
    pub fn accepted(&self, mut accept: impl FnMut(&RuleText) -> bool) -> RuleGroup {
        let rules = self.rules.iter().filter(|rule| accept(rule)).map(|rule| rule.rule(&self.name));
        RuleGroup {
            name: Arc::clone(&self.name),
            file: Arc::clone(&self.file),
            interval: self.grid(),
            pulse: self.interval.unwrap_or(INTERVAL_DEFAULT),
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
    /// Where it begins.
    pub at: Place,
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
    /// The model's rule.
    pub fn rule(&self, group: &Arc<str>) -> Rule {
        let (gives, name) = match &self.kind {
            RuleKind::Alert(name) => (Gives::Violations, name),
            RuleKind::Record(name) => (Gives::Samples, name),
        };
        Rule {
            name: RuleName { group: Arc::clone(group), alert: Arc::clone(name) },
            gives,
            expr: Arc::clone(&self.expr.text),
            hold: self.hold,
            keep_firing: self.keep_firing,
            labels: sources(&self.labels),
            annotations: sources(&self.annotations),
        }
    }
}

fn sources(templates: &[(Arc<str>, Template)]) -> Vec<(Arc<str>, Arc<str>)> {
    templates.iter().map(|(name, template)| (Arc::clone(name), Arc::clone(template.source()))).collect()
}

/// Names that are not known in groups and rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownFields {
    /// They are refused, as Prometheus refuses them.
    #[default]
    Refused,
    /// They are passed over, as promtool does when it is told to.
    Ignored,
}

/// Reads a rule file. Only what is no YAML, or has another shape than a rule file, refuses it whole.
pub fn parse(file: &str, text: &str) -> Result<RuleFile, FileError> {
    parse_with(file, text, UnknownFields::Refused)
}

/// As [`parse`], with a choice of what becomes of names that are not known.
pub fn parse_with(file: &str, text: &str, unknown: UnknownFields) -> Result<RuleFile, FileError> {
    let (first, next) = yaml::first_document(text);
    let shape: RuleFileShape = yaml::read(file, first)?.unwrap_or_default();
    let next = next.map(|line| {
        let cause = "only the first document of the file is read, as Prometheus reads it";
        FileError::new(file, Place { line, column: 1 }, cause)
    });
    let mut reader = Reader {
        file: file.into(),
        text: text.into(),
        unknown,
        refused: Vec::new(),
        warnings: next.into_iter().collect(),
        found: Vec::new(),
        groups_refused: Vec::new(),
    };
    let mut groups = Vec::new();
    let mut names = BTreeSet::new();
    for group in shape.groups.unwrap_or_default() {
        if let Some(group) = reader.group(group, &mut names) {
            groups.push(group);
        }
    }
    let Reader { refused, warnings, found, groups_refused, .. } = reader;
    Ok(RuleFile { groups, refused, warnings, found, groups_refused })
}

struct Reader {
    file: Arc<str>,
    text: Arc<str>,
    unknown: UnknownFields,
    refused: Vec<FileError>,
    warnings: Vec<FileError>,
    found: Vec<RuleFound>,
    groups_refused: Vec<FileError>,
}

impl Reader {
    /// A group; `None` where what it says cannot be understood, which would change what its rules mean.
    fn group(&mut self, shape: Spanned<GroupShape>, names: &mut BTreeSet<String>) -> Option<GroupText> {
        let told = self.refused.len();
        let name = self.group_name(&shape, names);
        let GroupShape { evaluation, interval, query_offset, limit, labels, rules, unknown, .. } =
            shape.value;
        self.refuse_unknown(&unknown, &GROUP_FIELDS);
        let interval = self.read(interval.as_ref(), duration::parse);
        let query_offset = self.read(query_offset.as_ref(), duration::parse);
        let limit = self.read(limit.as_ref(), |text| {
            // As in Prometheus, a limit below zero is none.
            let limit = text.parse::<i64>().map_err(|_| format!("`{text}` is not a number of alerts"));
            limit.map(|limit| u64::try_from(limit).unwrap_or(0))
        });
        let evaluation = evaluation.and_then(|word| {
            let text = word.value.as_deref().unwrap_or("");
            let read = Evaluation::from_word(text);
            if read.is_none() {
                self.refused.push(FileError::unknown_word(&self.file, &word, text, &Evaluation::WORDS));
            }
            read
        });
        let common = labels.unwrap_or_default();
        let is_understood = self.refused.len() == told;
        self.groups_refused.extend_from_slice(&self.refused[told..]);
        // The rules of a group that is refused are looked at all the same: one run tells everything.
        let rules: Vec<RuleText> =
            rules.unwrap_or_default().iter().filter_map(|rule| self.found(rule, &common)).collect();
        is_understood.then_some(GroupText {
            name: name?,
            file: Arc::clone(&self.file),
            evaluation: evaluation.unwrap_or_default(),
            interval: interval.filter(|interval| !interval.is_zero()),
            query_offset: query_offset.unwrap_or_default(),
            limit: limit.unwrap_or(0),
            rules,
        })
    }

    fn group_name(&mut self, shape: &Spanned<GroupShape>, names: &mut BTreeSet<String>) -> Option<Arc<str>> {
        let Some(name) = &shape.value.name else {
            self.refused.push(FileError::at(&self.file, shape, "`name` is missing"));
            return None;
        };
        let text = name.value.as_deref().unwrap_or("");
        let checked = checked_name(text, "group").and_then(|()| {
            let is_new = names.insert(text.to_owned());
            is_new.then_some(()).ok_or_else(|| format!("the group `{text}` stands in this file twice"))
        });
        self.refused.extend(checked.err().map(|cause| FileError::at(&self.file, name, cause)));
        let ours = [("limit", &shape.value.limit), ("query_offset", &shape.value.query_offset)];
        for (field, given) in ours {
            let is_some = |text: &&Text| !matches!(text.value.as_deref(), None | Some("" | "0" | "0s"));
            if let Some(given) = given.as_ref().filter(is_some) {
                let cause = format_args!("`{field}` of the group `{text}` is not heeded by this version");
                self.warnings.push(FileError::at(&self.file, given, cause));
            }
        }
        Some(text.into())
    }

    /// What a field says; `None` where it is not given or cannot be read, which is told.
    fn read<T, E: std::fmt::Display>(
        &mut self,
        given: Option<&Text>,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let given = given?;
        let text = given.value.as_deref()?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(cause) => {
                self.refused.push(FileError::at(&self.file, given, cause));
                None
            }
        }
    }

    fn refuse_unknown(&mut self, unknown: &Unknown, known: &[&str]) {
        match self.unknown {
            UnknownFields::Refused => self.refused.extend(unknown.errors(&self.file, known)),
            UnknownFields::Ignored => {}
        }
    }

    /// A rule, which is noted whether it is refused or not.
    fn found(&mut self, shape: &Spanned<RuleShape>, common: &TextMap) -> Option<RuleText> {
        let told = self.refused.len();
        let rule = self.rule(shape, common);
        let named = [shape.value.alert.as_ref(), shape.value.record.as_ref()];
        let name = named.into_iter().find_map(given).unwrap_or_default();
        self.found.push(RuleFound {
            name: name.into(),
            at: Place::of(shape.referenced),
            refused: self.refused[told..].to_vec(),
        });
        rule
    }

    /// A rule; `None` where it is refused.
    fn rule(&mut self, shape: &Spanned<RuleShape>, common: &TextMap) -> Option<RuleText> {
        let told = self.refused.len();
        let rule = &shape.value;
        self.refuse_unknown(&rule.unknown, &RULE_FIELDS);
        let hold = self.read(rule.hold.as_ref(), duration::parse).unwrap_or_default();
        let keep_firing = self.read(rule.keep_firing_for.as_ref(), duration::parse).unwrap_or_default();
        // A rule's own label wins over the group's.
        let mut labels = common.clone();
        labels.extend(rule.labels.clone().unwrap_or_default());
        let annotations = rule.annotations.clone().unwrap_or_default();
        // What a recording rule puts on is no template.
        let parse: fn(&str) -> Result<Template, ParseError> = match given(rule.alert.as_ref()) {
            Some(_) => Template::parse,
            None => |text| Ok(Template::verbatim(text)),
        };
        let labels = self.templates(&labels, "label", parse);
        let annotations = self.templates(&annotations, "annotation", parse);
        let (kind, expr) = match self.kind(shape).and_then(|kind| Ok((kind, self.expr(shape)?))) {
            Ok(both) => both,
            Err(error) => {
                // Beside a name that is not known, that another one is missing is no news.
                if self.refused.len() == told {
                    self.refused.push(error);
                }
                return None;
            }
        };
        (self.refused.len() == told).then_some(RuleText {
            kind,
            at: Place::of(shape.referenced),
            expr,
            hold,
            keep_firing,
            labels,
            annotations,
        })
    }

    fn kind(&self, shape: &Spanned<RuleShape>) -> Result<RuleKind, FileError> {
        let refuse = |cause: &str| FileError::at(&self.file, shape, cause);
        let rule = &shape.value;
        let kind = match (given(rule.alert.as_ref()), given(rule.record.as_ref())) {
            (Some(alert), None) => RuleKind::Alert(alert.into()),
            (None, Some(record)) => RuleKind::Record(record.into()),
            (Some(_), Some(_)) => return Err(refuse("a rule has either `alert` or `record`, not both")),
            (None, None) => return Err(refuse("a rule has `alert` or `record`")),
        };
        match &kind {
            RuleKind::Alert(name) => checked_name(name, "alert").map_err(|cause| refuse(&cause))?,
            RuleKind::Record(name) => {
                checked_name(name, "recorded series").map_err(|cause| refuse(&cause))?;
                if name.contains(['{', '}']) {
                    return Err(refuse(&format!("`{name}` has braces, as an expression has, not a name")));
                }
                let has_annotations = rule.annotations.as_ref().is_some_and(|map| !map.is_empty());
                let alerts_only = [
                    (is_some_time(rule.hold.as_ref()), "for"),
                    (is_some_time(rule.keep_firing_for.as_ref()), "keep_firing_for"),
                    (has_annotations, "annotations"),
                ];
                if let Some((_, field)) = alerts_only.iter().find(|(given, _)| *given) {
                    return Err(refuse(&format!("a recording rule has no `{field}`")));
                }
            }
        }
        Ok(kind)
    }

    fn expr(&self, shape: &Spanned<RuleShape>) -> Result<Passage, FileError> {
        match &shape.value.expr {
            Some(expr) if !expr.value.trim().is_empty() => Ok(Passage::of(&self.text, expr)),
            Some(_) | None => Err(FileError::at(&self.file, shape, "`expr` is missing")),
        }
    }

    fn templates(
        &mut self,
        texts: &TextMap,
        what: &str,
        parse: impl Fn(&str) -> Result<Template, ParseError>,
    ) -> Vec<(Arc<str>, Template)> {
        let mut read = Vec::with_capacity(texts.len());
        for (name, text) in texts {
            if name.is_empty() || (name == METRIC_NAME && what == "label") {
                let cause = format_args!("`{name}` cannot be the name of a {what}");
                self.refused.push(FileError::at(&self.file, text, cause));
                continue;
            }
            match parse(text.value.as_deref().unwrap_or("")) {
                Ok(template) => read.push((name.as_str().into(), template)),
                Err(error) => {
                    let cause = format_args!("{what} `{name}`: {error}");
                    self.refused.push(FileError::at(&self.file, text, cause));
                }
            }
        }
        read
    }
}

/// What a field says, where it says something: as in Go, an empty text is none.
fn given(text: Option<&Text>) -> Option<&str> {
    text?.value.as_deref().filter(|text| !text.is_empty())
}

fn is_some_time(text: Option<&Text>) -> bool {
    let duration = text.and_then(|text| text.value.as_deref()).map(duration::parse);
    duration.is_some_and(|duration| duration.is_ok_and(|duration| !duration.is_zero()))
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
        let rule = group.rules[0].rule(&group.name);
        assert_eq!(rule.name.to_string(), "web/Slow");
        assert_eq!(rule.expr.as_ref(), "rate(latency_sum[5m])\n  / rate(latency_count[5m]) > 0.5\n");
        assert_eq!((rule.hold, rule.keep_firing), (Duration::from_mins(90), Duration::from_mins(5)));
        let labels: Vec<_> = rule.labels.iter().map(|(name, text)| (name.as_ref(), text.as_ref())).collect();
        assert_eq!(labels, [("nothing", ""), ("severity", "critical"), ("team", "web"), ("tier", "1")]);
        assert_eq!(group.rules[1].kind, RuleKind::Record("job:up:sum".into()));
        let gives: Vec<Gives> = group.accepted(|_| true).rules.iter().map(|rule| rule.gives).collect();
        assert_eq!(gives, [Gives::Violations, Gives::Samples]);
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
                "r.yml:6:17: label `a`: line 1: variable `$label` is not defined",
            ),
            (rule_with("labels: {__name__: x}"), "r.yml:6:24: `__name__` cannot be the name of a label"),
            (rule_with("alert: C"), "r.yml:6:5: `alert` stands here twice"),
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
        for wrong in ["expr: ''", "exprr: up", "expr: up\n    for: ten", "expr: up\n    severity: page"] {
            let text = format!(
                "groups:\n- name: a\n  rules:\n  - alert: B\n    {wrong}\n  - alert: C\n    expr: up\n"
            );
            let file = parse("r.yml", &text).unwrap();
            assert_eq!((file.refused.len(), file.groups[0].rules.len()), (1, 1), "{wrong}");
        }
    }

    #[test]
    fn a_mistake_in_a_group_leaves_the_others_and_one_run_tells_all() {
        let text = "groups:\n- name: a\n  interval: 5x\n  rules:\n  - alert: B\n    exprr: up\n    for: ten\n\
                    - rules: [{alert: C, expr: up}]\n- name: d\n  nmae: x\n- name: e\n  rules: [{alert: F, expr: up}]\n";
        let file = parse("r.yml", text).unwrap();
        let told: Vec<String> = file.refused.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "r.yml:3:13: `5x` is not a duration such as `1m30s`",
                "r.yml:6:5: unknown field `exprr`\nhint: did you mean `expr`?",
                "r.yml:7:10: `ten` is not a duration such as `1m30s`",
                "r.yml:8:3: `name` is missing",
                "r.yml:10:3: unknown field `nmae`\nhint: did you mean `name`?",
            ]
        );
        assert_eq!(file.groups.iter().map(|group| group.name.as_ref()).collect::<Vec<_>>(), ["e"]);
    }

    #[test]
    fn what_is_read_and_not_heeded_is_a_warning() {
        let text =
            "groups:\n- {name: a, limit: 10, query_offset: 1m}\n- {name: b, limit: 0, query_offset: 0s}\n";
        let file = parse("r.yml", text).unwrap();
        let told: Vec<String> = file.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "r.yml:2:20: `limit` of the group `a` is not heeded by this version",
                "r.yml:2:38: `query_offset` of the group `a` is not heeded by this version",
            ]
        );
        assert_eq!((file.groups.len(), file.refused.len()), (2, 0));
    }

    #[test]
    fn what_prometheus_takes_for_not_given_is_not_given() {
        let rules = [
            "{record: a, alert: '', expr: up, for: 0s, annotations: {}}",
            "{record: '', alert: B, expr: up, annotations: {__name__: x}}",
            "{record: c, expr: up, labels: {d: '{{ no template'}}",
        ]
        .map(|rule| format!("  - {rule}\n"))
        .concat();
        let file = parse("r.yml", &format!("groups:\n- name: a\n  limit: -1\n  rules:\n{rules}")).unwrap();
        assert_eq!((file.refused, file.groups[0].limit, file.groups[0].rules.len()), (vec![], 0, 3));
        let names: Vec<_> = file.found.iter().map(|rule| (rule.name.as_ref(), rule.at.line)).collect();
        assert_eq!(names, [("a", 5), ("B", 6), ("c", 7)]);
    }

    #[test]
    fn each_rule_is_found_with_what_is_wrong_about_it() {
        let text = "groups:\n- name: a\n  rules:\n  - {alert: B, expr: up, exrp: up}\n  - {alert: C, expr: up}\n\
                    - nmae: d\n  rules: [{record: 'e{}', expr: up}]\n";
        let told = |unknown| {
            let file = parse_with("r.yml", text, unknown).unwrap();
            let rules: Vec<_> =
                file.found.iter().map(|rule| (rule.name.to_string(), rule.refused.len())).collect();
            (rules, file.groups_refused.len(), file.groups.len())
        };
        let rules = |wrong| vec![("B".to_owned(), wrong), ("C".to_owned(), 0), ("e{}".to_owned(), 1)];
        assert_eq!(told(UnknownFields::Refused), (rules(1), 2, 1));
        assert_eq!(told(UnknownFields::Ignored), (rules(0), 1, 1));
    }

    #[test]
    fn an_interval_group_without_an_interval_has_prometheus_default() {
        let file = parse("r.yml", "groups:\n- {name: a, evaluation: interval}\n").unwrap();
        assert_eq!(file.groups[0].grid(), Some(Duration::from_mins(1)));
    }

    #[test]
    fn of_several_documents_the_first_is_read() {
        let file = parse("r.yml", "groups:\n- name: a\n---\ngroups:\n- name: b\n").unwrap();
        assert_eq!((file.groups.len(), file.warnings[0].place.line), (1, 3));
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
        assert_eq!(refused(&" ".repeat(5_000_000)).len(), 1);
    }
}

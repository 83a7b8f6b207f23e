//! The rules that a test is about: read once a file, made into groups once a test.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::paths;
use crate::engine::promql::{Expr, ParseError, ParseErrorKind};
use crate::engine::ruler::{AlertingRule, External, Group, RecordingRule, Rule, Terms};
use crate::promtest::script;
use crate::wire::files::{
    FileError, GroupText, RuleKind, RuleTestFile, RuleText, UnknownFields, parse_rules_with,
};

/// All rules, as they are before a test.
pub(super) struct Rules {
    pub(super) groups: Vec<LoadedGroup>,
    /// Rules that are about native histograms, which are left out: what they make is not judged.
    pub(super) left_out: Vec<RuleKind>,
}

/// A group, as it is before a test.
pub(super) struct LoadedGroup {
    pub(super) file: Arc<str>,
    terms: Terms,
    rules: Vec<Rule>,
}

impl LoadedGroup {
    /// A group of its own for one test.
    pub(super) fn fresh(&self, external: &External) -> Group {
        Group::new(Terms { external: external.clone(), ..self.terms.clone() }, self.rules.clone())
    }
}

/// Reads the rule files of a test, or says everything that is wrong with them.
pub(super) fn load(
    path: &Path,
    tests: &RuleTestFile,
    unknown: UnknownFields,
    warnings: &mut Vec<String>,
) -> Result<Rules, Vec<String>> {
    let mut errors = Vec::new();
    let order = group_order(tests).unwrap_or_else(|error| {
        errors.push(error);
        BTreeMap::new()
    });
    let mut rules = Rules { groups: Vec::new(), left_out: Vec::new() };
    for file in files(path, tests, &mut errors, warnings) {
        let name: Arc<str> = file.to_string_lossy().into();
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) => {
                errors.push(format!("`{name}` cannot be read: {error}"));
                continue;
            }
        };
        let read = match parse_rules_with(&name, &text, unknown) {
            Ok(read) => read,
            Err(error) => {
                errors.push(error.to_string());
                continue;
            }
        };
        errors.extend(read.refused.iter().map(ToString::to_string));
        for group in read.groups {
            let mut loader =
                Loader { tests, group: &group, errors: &mut errors, rules: &mut rules, warnings };
            let loaded = loader.group(&name);
            rules.groups.push(loaded);
        }
    }
    // Stable, and a group that is not named is of the first place: as promtool sorts them.
    rules.groups.sort_by_key(|group| order.get(group.terms.name.as_ref()).copied().unwrap_or(0));
    if errors.is_empty() { Ok(rules) } else { Err(errors) }
}

fn group_order(tests: &RuleTestFile) -> Result<BTreeMap<&str, usize>, String> {
    let mut order = BTreeMap::new();
    for (place, name) in tests.group_eval_order.iter().enumerate() {
        if order.insert(name.as_str(), place).is_some() {
            return Err(format!("`group_eval_order` names the group `{name}` twice"));
        }
    }
    Ok(order)
}

/// The rule files, each once, in the order in which they are named.
fn files(
    path: &Path,
    tests: &RuleTestFile,
    errors: &mut Vec<String>,
    warnings: &mut Vec<String>,
) -> Vec<PathBuf> {
    let base = path.parent().unwrap_or(Path::new(""));
    let mut files: Vec<PathBuf> = Vec::new();
    for pattern in &tests.rule_files {
        match paths::matching(base, pattern) {
            Ok(found) if found.is_empty() => warnings.push(format!("no file matches `{pattern}`")),
            Ok(found) => {
                for file in found {
                    if !files.contains(&file) {
                        files.push(file);
                    }
                }
            }
            Err(error) => errors.push(error),
        }
    }
    files
}

struct Loader<'a> {
    tests: &'a RuleTestFile,
    group: &'a GroupText,
    errors: &'a mut Vec<String>,
    rules: &'a mut Rules,
    warnings: &'a mut Vec<String>,
}

impl Loader<'_> {
    fn group(&mut self, file: &Arc<str>) -> LoadedGroup {
        let terms = Terms {
            name: Arc::clone(&self.group.name),
            query_offset: self.group.query_offset,
            limit: self.group.limit,
            external: External::default(),
        };
        let rules = self.group.rules.iter().filter_map(|rule| self.rule(file, rule)).collect();
        LoadedGroup { file: Arc::clone(file), terms, rules }
    }

    /// A rule; `None` where it is not evaluated, which is told.
    fn rule(&mut self, file: &str, rule: &RuleText) -> Option<Rule> {
        match Expr::parse_with(&rule.expr.text, self.tests.evaluation_interval) {
            Ok(expr) => Some(made(rule, expr)),
            Err(error) => {
                let is_left_out = is_native(&error);
                let told = FileError::new(file, rule.expr.place(error.place.byte), error.message);
                if is_left_out {
                    self.warnings.push(format!("{told}: what the rule makes is not judged"));
                    self.rules.left_out.push(rule.kind.clone());
                } else {
                    self.errors.push(told.to_string());
                }
                None
            }
        }
    }
}

/// Whether an expression is refused because it is about native histograms, which Prometheus takes.
pub(super) fn is_native(error: &ParseError) -> bool {
    let why = error.name.as_deref().and_then(|name| script::listed().get(name).copied());
    error.kind == ParseErrorKind::Unsupported && why.is_some_and(|why| why.contains("native histograms"))
}

fn made(text: &RuleText, expr: Expr) -> Rule {
    match &text.kind {
        RuleKind::Alert(name) => {
            let mut rule = AlertingRule::new(Arc::clone(name), expr);
            (rule.hold, rule.keep_firing) = (text.hold, text.keep_firing);
            rule.labels.clone_from(&text.labels);
            rule.annotations.clone_from(&text.annotations);
            Rule::Alerting(rule)
        }
        RuleKind::Record(name) => {
            let labels =
                text.labels.iter().map(|(name, value)| (Arc::clone(name), Arc::clone(value.source())));
            Rule::Recording(RecordingRule { name: Arc::clone(name), expr, labels: labels.collect() })
        }
    }
}

//! What files of a bundle say of each other, and of the world, that cannot be meant so: names that nothing has, addresses
//! that nobody can reach. Each file can be used, so these are warnings.

use std::collections::BTreeSet;

use std::sync::Arc;

use super::error::{FileError, Place};
use crate::engine::Configuration;
use crate::model::{ActionSpec, BundleFile, Playbook, Template};

/// What an analysis calls a cause that no catalogue knows starts with this; the rest is the alert's name.
const SYMPTOM_PREFIX: &str = "symptom:";
/// The label that holds an alert's name.
const ALERT_NAME: &str = "alertname";

/// Which files the parts of a configuration came from.
#[derive(Default)]
pub(super) struct Sources<'a> {
    pub(super) charter: Option<&'a BundleFile>,
    pub(super) analysis: Option<&'a BundleFile>,
    /// Playbooks by name.
    pub(super) playbooks: Vec<(std::sync::Arc<str>, &'a BundleFile)>,
    /// Causes by name.
    pub(super) causes: Vec<(std::sync::Arc<str>, &'a BundleFile)>,
}

/// All of it, in the order of charter, playbooks and causes.
pub(super) fn dangling(configuration: &Configuration, sources: &Sources<'_>) -> Vec<FileError> {
    let known = Known::of(configuration);
    let mut warnings = Vec::new();
    if let Some(file) = sources.charter {
        for name in &configuration.charter.armed {
            if !configuration.playbooks.iter().any(|playbook| playbook.name == *name) {
                let cause = format_args!("`{name}` is armed, and there is no such playbook");
                warnings.push(warning(file, name, cause));
            }
        }
    }
    for (name, file) in &sources.playbooks {
        if let Some(playbook) = configuration.playbooks.iter().find(|playbook| playbook.name == *name) {
            known.look_at(playbook, file, &mut warnings);
        }
    }
    for (name, file) in &sources.causes {
        for cause in configuration.causes.iter().filter(|cause| cause.name == *name) {
            let alerts = cause.symptoms.iter().filter_map(|symptom| symptom.matches.get(ALERT_NAME));
            for alert in alerts.filter(|alert| !known.alerts.contains(alert)) {
                let text = format_args!("no rule raises the alert `{alert}`: only a report from outside can");
                warnings.push(warning(file, alert, text));
            }
        }
    }
    warnings
}

/// A warning at the first place where a file has a word.
pub(super) fn warning(file: &BundleFile, word: &str, cause: impl std::fmt::Display) -> FileError {
    FileError::new(&file.path, place_of(&file.text, word), cause)
}

/// What may be referred to.
struct Known<'a> {
    alerts: BTreeSet<&'a str>,
    causes: BTreeSet<&'a str>,
    programs: BTreeSet<&'a str>,
}

impl<'a> Known<'a> {
    fn of(configuration: &'a Configuration) -> Self {
        let rules = configuration.groups.iter().flat_map(|group| &group.rules);
        Self {
            alerts: rules.map(|rule| rule.name.alert.as_ref()).collect(),
            causes: configuration.causes.iter().map(|cause| cause.name.as_ref()).collect(),
            programs: configuration.charter.programs.iter().map(AsRef::as_ref).collect(),
        }
    }

    fn look_at(&self, playbook: &Playbook, file: &BundleFile, warnings: &mut Vec<FileError>) {
        for answer in &playbook.answers {
            let cause = answer.cause.as_ref();
            let text = match cause.strip_prefix(SYMPTOM_PREFIX) {
                Some(alert) if self.alerts.contains(alert) => continue,
                Some(alert) => format!("`{cause}`: no rule raises the alert `{alert}`"),
                None if self.causes.contains(cause) => continue,
                None => format!("the cause `{cause}` is in no catalogue"),
            };
            let hint = "causes are named in causes/*.yaml; `symptom:` and an alert's name answers that alert";
            warnings.push(warning(file, cause, text).with_hint(hint));
        }
        for step in playbook.steps.iter().chain(&playbook.undo) {
            let (word, cause) = match &step.spec {
                ActionSpec::Command { program, .. } if !self.programs.contains(program.as_ref()) => (
                    program.as_ref(),
                    format!("`{program}` is not among the charter's `programs`: it is never run"),
                ),
                ActionSpec::Webhook { url, .. } if is_literal(url) && !is_url(url.source()) => {
                    (url.source(), format!("`{}` is not an http or https URL", url.source()))
                }
                ActionSpec::NatsPublish { subject, .. } | ActionSpec::NatsRequest { subject, .. }
                    if is_literal(subject) && !is_subject(subject.source()) =>
                {
                    (subject.source(), format!("`{}` is not a subject to publish on", subject.source()))
                }
                ActionSpec::Command { .. }
                | ActionSpec::Webhook { .. }
                | ActionSpec::NatsPublish { .. }
                | ActionSpec::NatsRequest { .. } => continue,
            };
            warnings.push(warning(file, word, cause));
        }
    }
}

fn is_literal(template: &Template) -> bool {
    !template.source().contains("{{")
}

fn is_url(text: &str) -> bool {
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    host.is_some_and(|host| !host.is_empty() && !host.starts_with('/') && !host.contains(char::is_whitespace))
}

fn is_subject(text: &str) -> bool {
    let is_token = |token: &str| {
        !matches!(token, "" | "*" | ">") && !token.contains(|c: char| c.is_whitespace() || c.is_control())
    };
    !text.starts_with('$') && text.split('.').all(is_token)
}

/// The first place where a word stands by itself; the start of the file where it is written in another way.
fn place_of(text: &str, word: &str) -> Place {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '/');
    for (index, line) in text.lines().enumerate() {
        for (at, _) in line.match_indices(word) {
            let before = line[..at].chars().next_back();
            let behind = line[at + word.len()..].chars().next();
            if !before.is_some_and(is_part) && !behind.is_some_and(is_part) {
                let column = line[..at].chars().count() + 1;
                return Place { line: index as u64 + 1, column: column as u64 };
            }
        }
    }
    Place::START
}

/// The severity of a rule, where it is a word that nobody knows.
pub(super) fn unknown_severity(labels: &[(Arc<str>, Arc<str>)]) -> Option<&str> {
    let (_, severity) = labels.iter().find(|(name, _)| name.as_ref() == "severity")?;
    let known = ["critical", "page", "error", "warning", "warn", "info", "none", ""];
    (!severity.contains("{{") && !known.contains(&severity.as_ref())).then_some(severity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_where_it_stands_by_itself() {
        let place = |line, column| Place { line, column };
        assert_eq!(place_of("armed: [restart-worker, restart]\n", "restart"), place(1, 25));
        assert_eq!(place_of("a:\n  - cause: \"leak\"\n", "leak"), place(2, 13));
        assert_eq!(place_of("a: 1\n", "leak"), Place::START);
    }

    #[test]
    fn urls_and_subjects_are_told_apart_from_what_is_none() {
        for (text, expected) in
            [("http://a/b", true), ("https://a", true), ("ftp://a", false), ("http:///x", false)]
        {
            assert_eq!(is_url(text), expected, "{text}");
        }
        for (text, expected) in
            [("a.b", true), ("a..b", false), ("a.*", false), ("a b", false), ("$JS.API", false), ("", false)]
        {
            assert_eq!(is_subject(text), expected, "{text}");
        }
    }
}

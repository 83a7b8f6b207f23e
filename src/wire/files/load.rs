//! From a bundle to what decisions are made by.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::analysis::default_scope_labels;
use super::error::{FileError, Place};
use super::rules::{RuleKind, RuleText};
use super::yaml::Passage;
use super::{FileKind, analysis, charter, playbook, rules};
use crate::engine::Configuration;
use crate::engine::monitor::EXTERNAL_GROUP;
use crate::model::{Bundle, BundleFile, Charter, Generation, Playbook, RuleGroup};

/// What is wrong with an expression, and at which of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExprError {
    /// Counted from 0.
    pub offset: usize,
    /// What is wrong there.
    pub cause: String,
}

/// A configuration, and what of its files was left out.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What could be used.
    pub configuration: Configuration,
    /// What was refused, in the order of the files.
    pub refused: Vec<FileError>,
}

/// Reads every file of a bundle. `check` says whether an expression can be evaluated; it is called with the expression
/// of each rule and, with all places left open, of each verification.
pub fn load(
    bundle: &Bundle,
    generation: Generation,
    check: &dyn Fn(&str) -> Result<(), ExprError>,
) -> Loaded {
    let mut loader = Loader { check, groups: Groups::new(), refused: Vec::new() };
    let mut configuration = Configuration {
        generation,
        hash: Arc::clone(&bundle.hash),
        charter: Charter::default(),
        scope_labels: default_scope_labels(),
        ..Configuration::default()
    };
    for file in &bundle.files {
        if let Err(error) = loader.file(file, &mut configuration) {
            loader.refused.push(error);
        }
    }
    configuration.groups = loader.groups.into_values().collect();
    configuration.playbooks.sort_by(|one, other| one.name.cmp(&other.name));
    Loaded { configuration, refused: loader.refused }
}

type Groups = BTreeMap<Arc<str>, RuleGroup>;

struct Loader<'a> {
    check: &'a dyn Fn(&str) -> Result<(), ExprError>,
    groups: Groups,
    refused: Vec<FileError>,
}

impl Loader<'_> {
    fn file(&mut self, file: &BundleFile, into: &mut Configuration) -> Result<(), FileError> {
        let BundleFile { path, text } = file;
        match FileKind::of(path) {
            None => Err(FileError::new(path, Place::START, "this is no file of a bundle").with_hint(
                "rules/*.yml, playbooks/*.yaml, causes/*.yaml, charter.yaml and analysis.yaml are read",
            )),
            Some(FileKind::Rules) => self.rules(path, text),
            Some(FileKind::Playbook) => {
                let playbook = self.playbook(path, text)?;
                if into.playbooks.iter().any(|known| known.name == playbook.name) {
                    return Err(twice(path, "playbook", &playbook.name));
                }
                into.playbooks.push(playbook);
                Ok(())
            }
            Some(FileKind::Causes) => {
                for cause in analysis::parse_causes(path, text)? {
                    if into.causes.iter().any(|known| known.name == cause.name) {
                        self.refused.push(twice(path, "cause", &cause.name));
                    } else {
                        into.causes.push(cause);
                    }
                }
                Ok(())
            }
            Some(FileKind::Charter) => {
                into.charter = charter::parse(path, text)?;
                Ok(())
            }
            Some(FileKind::Analysis) => {
                into.scope_labels = analysis::parse_analysis(path, text)?;
                Ok(())
            }
        }
    }

    fn rules(&mut self, path: &Arc<str>, text: &str) -> Result<(), FileError> {
        let file = rules::parse(path, text)?;
        self.refused.extend(file.refused);
        for group in file.groups {
            if group.name.as_ref() == EXTERNAL_GROUP {
                let cause = format_args!("`{EXTERNAL_GROUP}` is the group of violations that others report");
                self.refused
                    .push(FileError::new(path, Place::START, cause).with_hint("give it another name"));
                continue;
            }
            if self.groups.contains_key(&group.name) {
                self.refused.push(twice(path, "group", &group.name));
                continue;
            }
            let accepted = group.accepted(|rule| match self.rule(path, rule) {
                Ok(()) => true,
                Err(error) => {
                    self.refused.push(error);
                    false
                }
            });
            self.groups.insert(Arc::clone(&group.name), accepted);
        }
        Ok(())
    }

    fn rule(&self, path: &str, rule: &RuleText) -> Result<(), FileError> {
        match &rule.kind {
            RuleKind::Alert(_) => self.expr(path, &rule.expr),
            RuleKind::Record(name) => {
                let cause = format_args!("`{name}`: recording rules are not evaluated by this version");
                Err(FileError::new(path, rule.expr.at, cause))
            }
        }
    }

    fn playbook(&self, path: &Arc<str>, text: &str) -> Result<Playbook, FileError> {
        let file = playbook::parse(path, text)?;
        for expr in [Some(&file.expr), file.harm.as_ref()].into_iter().flatten() {
            self.expr(path, expr)?;
        }
        Ok(file.playbook)
    }

    fn expr(&self, path: &str, expr: &Passage) -> Result<(), FileError> {
        (self.check)(&expr.text)
            .map_err(|ExprError { offset, cause }| FileError::new(path, expr.place(offset), cause))
    }
}

/// The first one in the order of the paths counts.
fn twice(path: &str, what: &str, name: &str) -> FileError {
    FileError::new(path, Place::START, format_args!("the {what} `{name}` stands in an earlier file already"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(files: &[(&str, &str)]) -> Bundle {
        let file = |(path, text): &(&str, &str)| BundleFile { path: (*path).into(), text: (*text).into() };
        Bundle::new(files.iter().map(file).collect())
    }

    fn load_all(files: &[(&str, &str)]) -> (Configuration, Vec<String>) {
        let check = |expr: &str| match expr.find("bogus") {
            Some(offset) => Err(ExprError { offset, cause: "unknown function `bogus`".into() }),
            None => Ok(()),
        };
        let Loaded { configuration, refused } = load(&bundle(files), Generation(3), &check);
        (configuration, refused.iter().map(ToString::to_string).collect())
    }

    const RULES: &str =
        "groups:\n- name: a\n  rules:\n  - {alert: X, expr: up == 0}\n  - {alert: Y, expr: 1 + bogus(up)}\n";
    const PLAYBOOK: &str = "playbook: p\nanswers: [{cause: c}]\nsteps: [{name: s, webhook: {url: u}}]\n\
                            verify: {expr: up, within: 1s}\n";

    #[test]
    fn a_bundle_becomes_a_configuration() {
        let causes =
            "- {cause: c, prior: 0.1, symptoms: [{match: {alertname: X}, weight: 0.5, because: b}]}\n";
        let (configuration, refused) = load_all(&[
            ("rules/a.yml", RULES),
            ("playbooks/p.yaml", PLAYBOOK),
            ("causes/c.yaml", causes),
            ("charter.yaml", "mode: auto\narmed: [p]\n"),
            ("analysis.yaml", "scope_labels: [zone]\n"),
        ]);
        assert_eq!(refused, ["rules/a.yml:5:26: unknown function `bogus`"]);
        assert_eq!(configuration.generation, Generation(3));
        assert_eq!(configuration.groups[0].rules.len(), 1);
        assert_eq!((configuration.playbooks.len(), configuration.causes.len()), (1, 1));
        assert_eq!(configuration.charter.armed.len(), 1);
        assert_eq!(configuration.scope_labels, [Arc::from("zone")]);
    }

    #[test]
    fn what_cannot_be_read_is_left_out_and_the_rest_goes_on() {
        let (configuration, refused) = load_all(&[
            ("charter.yaml", "mode: auto\narmed: [p]\nspeed: 9\n"),
            ("playbooks/a.yaml", PLAYBOOK),
            ("playbooks/b.yaml", PLAYBOOK),
            ("playbooks/c.yaml", &PLAYBOOK.replace("expr: up", "expr: bogus()")),
            ("readme.txt", "hello"),
            ("rules/a.yml", RULES),
            ("rules/b.yml", "groups: [{name: a}, {name: external}]\n"),
            ("rules/c.yml", "groups: [{name: c, rules: [{record: r, expr: up}]}]\n"),
        ]);
        let places: Vec<&str> = refused.iter().map(|told| told.split(": ").next().unwrap_or(told)).collect();
        let expected = [
            "charter.yaml:3:1",
            "playbooks/b.yaml:1:1",
            "playbooks/c.yaml:4:16",
            "readme.txt:1:1",
            "rules/a.yml:5:26",
            "rules/b.yml:1:1",
            "rules/b.yml:1:1",
            "rules/c.yml:1:46",
        ];
        assert_eq!(places, expected, "{refused:#?}");
        assert_eq!(
            configuration.charter,
            Charter::default(),
            "a charter that cannot be read holds everything back"
        );
        assert_eq!((configuration.playbooks.len(), configuration.groups.len()), (1, 2));
        assert_eq!(configuration.scope_labels.len(), Configuration::SCOPE_LABELS.len());
    }
}

//! From a bundle to what decisions are made by.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::analysis::default_scope_labels;
use super::error::{FileError, Place};
use super::references::{self, Sources};
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
    /// What can be used, and is hardly meant so.
    pub warnings: Vec<FileError>,
    /// What refers to nothing that is in the bundle, or to what cannot be there.
    pub dangling: Vec<FileError>,
}

/// Reads every file of a bundle. `check` says whether an expression can be evaluated; it is called with the expression
/// of each rule and, with all places left open, of each verification.
pub fn load(
    bundle: &Bundle,
    generation: Generation,
    check: &dyn Fn(&str) -> Result<(), ExprError>,
) -> Loaded {
    let mut loader = Loader {
        check,
        groups: Vec::new(),
        sources: Sources::default(),
        refused: Vec::new(),
        warnings: Vec::new(),
    };
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
    configuration.groups = named_apart(loader.groups);
    configuration.playbooks.sort_by(|one, other| one.name.cmp(&other.name));
    let dangling = references::dangling(&configuration, &loader.sources);
    Loaded { configuration, refused: loader.refused, warnings: loader.warnings, dangling }
}

/// Groups by name. As in Prometheus a group is its file and its name: groups of one name in several files are all named
/// by both, as `file;name`, and so is one that is called as the group of violations from outside. So what a group is
/// called never depends on which file is read first, and one that is alone keeps its short name.
fn named_apart(mut groups: Vec<RuleGroup>) -> Vec<RuleGroup> {
    let mut count: BTreeMap<Arc<str>, usize> = BTreeMap::from([(EXTERNAL_GROUP.into(), 1)]);
    for group in &groups {
        *count.entry(Arc::clone(&group.name)).or_default() += 1;
    }
    for group in &mut groups {
        if count.get(&group.name).is_some_and(|count| *count > 1) {
            let name: Arc<str> = format!("{};{}", group.file, group.name).into();
            for rule in &mut group.rules {
                rule.name.group = Arc::clone(&name);
            }
            group.name = name;
        }
    }
    groups.sort_by(|one, other| one.name.cmp(&other.name));
    groups
}

struct Loader<'a> {
    check: &'a dyn Fn(&str) -> Result<(), ExprError>,
    groups: Vec<RuleGroup>,
    sources: Sources<'a>,
    refused: Vec<FileError>,
    warnings: Vec<FileError>,
}

impl<'a> Loader<'a> {
    fn file(&mut self, file: &'a BundleFile, into: &mut Configuration) -> Result<(), FileError> {
        let BundleFile { path, text } = file;
        match FileKind::of(path) {
            None => Err(FileError::new(path, Place::START, "this is no file of a bundle").with_hint(
                "rules/*.yml, playbooks/*.yaml, causes/*.yaml, charter.yaml and analysis.yaml are read",
            )),
            Some(FileKind::Rules) => self.rules(file),
            Some(FileKind::Playbook) => {
                let playbook = self.playbook(path, text)?;
                if into.playbooks.iter().any(|known| known.name == playbook.name) {
                    return Err(twice(path, "playbook", &playbook.name));
                }
                self.sources.playbooks.push((Arc::clone(&playbook.name), file));
                into.playbooks.push(playbook);
                Ok(())
            }
            Some(FileKind::Causes) => {
                for cause in analysis::parse_causes(path, text)? {
                    if into.causes.iter().any(|known| known.name == cause.name) {
                        self.refused.push(twice(path, "cause", &cause.name));
                    } else {
                        self.sources.causes.push((Arc::clone(&cause.name), file));
                        into.causes.push(cause);
                    }
                }
                Ok(())
            }
            Some(FileKind::Charter) => {
                only(self.sources.charter, file, "charter")?;
                self.sources.charter = Some(file);
                into.charter = charter::parse(path, text)?;
                Ok(())
            }
            Some(FileKind::Analysis) => {
                only(self.sources.analysis, file, "analysis")?;
                self.sources.analysis = Some(file);
                into.scope_labels = analysis::parse_analysis(path, text)?;
                Ok(())
            }
        }
    }

    fn rules(&mut self, from: &'a BundleFile) -> Result<(), FileError> {
        let path = &from.path;
        let file = rules::parse(path, &from.text)?;
        self.refused.extend(file.refused);
        self.warnings.extend(file.warnings);
        let mut severities = BTreeSet::new();
        for group in file.groups {
            let accepted = group.accepted(|rule| match self.expr(path, &rule.expr) {
                Ok(()) => true,
                Err(error) => {
                    self.refused.push(error);
                    false
                }
            });
            for rule in &accepted.rules {
                severities.extend(references::unknown_severity(&rule.labels).map(str::to_owned));
            }
            self.groups.push(accepted);
        }
        for severity in severities {
            let cause = format_args!("nobody knows the severity `{severity}`: it is taken as none");
            let warning = references::warning(from, &severity, cause);
            self.warnings.push(warning.with_hint("known here: critical, warning, info, none"));
        }
        Ok(())
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

/// There is one of it in a bundle.
fn only(known: Option<&BundleFile>, file: &BundleFile, what: &str) -> Result<(), FileError> {
    match known {
        None => Ok(()),
        Some(known) => {
            let cause = format_args!("there is a {what} in `{}` already", known.path);
            Err(FileError::new(&file.path, Place::START, cause))
        }
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
        let Loaded { configuration, refused, .. } = load(&bundle(files), Generation(3), &check);
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
            (
                "rules/c.yml",
                "groups: [{name: c, rules: [{record: r, expr: bogus()}, {record: s, expr: up}]}]\n",
            ),
        ]);
        let places: Vec<&str> = refused.iter().map(|told| told.split(": ").next().unwrap_or(told)).collect();
        let expected = [
            "charter.yaml:3:1",
            "playbooks/b.yaml:1:1",
            "playbooks/c.yaml:4:16",
            "readme.txt:1:1",
            "rules/a.yml:5:26",
            "rules/c.yml:1:46",
        ];
        assert_eq!(places, expected, "{refused:#?}");
        assert_eq!(
            configuration.charter,
            Charter::default(),
            "a charter that cannot be read holds everything back"
        );
        assert_eq!((configuration.playbooks.len(), configuration.groups.len()), (1, 4));
        assert_eq!(configuration.scope_labels.len(), Configuration::SCOPE_LABELS.len());
    }

    #[test]
    fn groups_of_one_name_are_told_apart_by_their_files_and_one_that_is_alone_keeps_its_name() {
        let rules = |group: &str| format!("groups: [{{name: {group}, rules: [{{alert: X, expr: up}}]}}]\n");
        let (a, b, c) = (rules("same"), rules("external"), rules("alone"));
        let files =
            [("rules/a.yml", a.as_str()), ("rules/b.yml", &b), ("rules/c.yml", &c), ("rules/d.yml", &a)];
        let (configuration, refused) = load_all(&files);
        assert_eq!(refused, Vec::<String>::new());
        let names: Vec<String> =
            configuration.groups.iter().map(|group| group.rules[0].name.to_string()).collect();
        let expected = ["alone/X", "rules/a.yml;same/X", "rules/b.yml;external/X", "rules/d.yml;same/X"];
        assert_eq!(names, expected);
        assert!(configuration.groups.iter().all(|group| group.name == group.rules[0].name.group));
        let (one, _) = load_all(&files[..1]);
        assert_eq!(one.groups[0].name.as_ref(), "same");
    }

    #[test]
    fn what_refers_to_nothing_is_a_warning_where_it_stands() {
        let playbook = "playbook: p\nanswers: [{cause: nothing}, {cause: 'symptom:X'}, {cause: 'symptom:Y'}]\n\
                        steps:\n- {name: a, webhook: {url: 'ftp://x'}}\n- {name: b, nats_publish: {subject: 'a b'}}\n\
                        - {name: c, command: {program: /bin/a}}\n- {name: d, webhook: {url: 'http://x/{{ $labels.url }}'}}\n\
                        verify: {expr: up, within: 1s}\n";
        let causes =
            "- {cause: c, prior: 0.1, symptoms: [{match: {alertname: Z}, weight: 0.5, because: b}]}\n";
        let rules = "groups: [{name: a, rules: [{alert: X, expr: up, labels: {severity: loud}}]}]\n";
        let bundle = bundle(&[
            ("charter.yaml", "armed: [p, q]\n"),
            ("charter.yml", "mode: auto\n"),
            ("playbooks/p.yaml", playbook),
            ("causes/c.yaml", causes),
            ("rules/a.yml", rules),
        ]);
        let loaded = load(&bundle, Generation(1), &|_| Ok(()));
        let first = |errors: &[FileError]| -> Vec<String> {
            errors.iter().map(|error| error.to_string().lines().next().unwrap().to_owned()).collect()
        };
        assert_eq!(first(&loaded.refused), ["charter.yml:1:1: there is a charter in `charter.yaml` already"]);
        let severity = "rules/a.yml:1:68: nobody knows the severity `loud`: it is taken as none";
        assert_eq!(first(&loaded.warnings), [severity]);
        assert_eq!(
            first(&loaded.dangling),
            [
                "charter.yaml:1:12: `q` is armed, and there is no such playbook",
                "playbooks/p.yaml:2:19: the cause `nothing` is in no catalogue",
                "playbooks/p.yaml:2:60: `symptom:Y`: no rule raises the alert `Y`",
                "playbooks/p.yaml:4:29: `ftp://x` is not an http or https URL",
                "playbooks/p.yaml:5:38: `a b` is not a subject to publish on",
                "playbooks/p.yaml:6:32: `/bin/a` is not among the charter's `programs`: it is never run",
                "causes/c.yaml:1:57: no rule raises the alert `Z`: only a report from outside can",
            ]
        );
    }
}

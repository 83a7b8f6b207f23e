//! Rule files of others: what Prometheus takes is taken, what it refuses is refused.

use std::path::{Path, PathBuf};

use homeostat::config;
use homeostat::model::{Bundle, BundleFile, Generation};
use homeostat::wire::files::{RuleFile, parse_rules};

use crate::data::{files, own, public};

fn parse(path: &Path) -> RuleFile {
    let text = std::fs::read_to_string(path).unwrap();
    let name = path.file_name().unwrap().to_string_lossy();
    parse_rules(&name, &text).unwrap_or_else(|error| panic!("{error}"))
}

fn rule_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = files(folder, "");
    found.retain(|path| path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml"));
    found
}

/// The files that are meant to be taken whole.
fn good_files() -> Vec<PathBuf> {
    let mut found = rule_files(&own("rules"));
    found.retain(|path| !path.file_name().unwrap().to_string_lossy().starts_with("bad-"));
    if let Some(rules) = public("rules") {
        for folder in ["awesome-prometheus-alerts", "thanos"] {
            found.extend(rule_files(&rules.join(folder)));
        }
    }
    found
}

#[test]
fn rule_files_load_unchanged() {
    let files = good_files();
    let mut rules = 0;
    for path in &files {
        let file = parse(path);
        assert_eq!(file.refused, [], "{}", path.display());
        rules += file.groups.iter().map(|group| group.rules.len()).sum::<usize>();
    }
    println!("{} files, {rules} rules", files.len());
    assert!(files.len() >= 2 && rules >= 6);
    assert!(files.len() <= 2 || files.len() > 100 && rules > 900, "{} files, {rules} rules", files.len());
}

#[test]
fn many_rule_files_are_one_bundle_and_no_group_is_lost() {
    let files = good_files();
    let (mut alerts, mut bundle) = (0, Vec::new());
    for (number, path) in files.iter().enumerate() {
        let groups = parse(path).groups;
        alerts += groups.iter().map(|group| group.accepted(|_| true).rules.len()).sum::<usize>();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(path).unwrap();
        bundle.push(BundleFile { path: format!("rules/{number}/{name}").into(), text: text.into() });
    }
    let loaded = config::load(&Bundle::new(bundle), Generation(1));
    // What the evaluator cannot do yet is refused rule by rule, never for the name of its group.
    let named: Vec<_> = loaded.refused.iter().filter(|error| error.cause.contains("group")).collect();
    assert!(named.is_empty(), "{named:?}");
    let taken: usize = loaded.configuration.groups.iter().map(|group| group.rules.len()).sum();
    let not_evaluated =
        loaded.refused.iter().filter(|error| !error.cause.contains("recording rules")).count();
    println!("{alerts} alerts in {} groups: {taken} are taken", loaded.configuration.groups.len());
    assert_eq!(taken + not_evaluated, alerts);
    let mut names: Vec<_> = loaded.configuration.groups.iter().map(|group| &group.name).collect();
    names.dedup();
    assert_eq!(names.len(), loaded.configuration.groups.len());
    assert!(names.iter().any(|name| name.contains(';')), "two files have the group `web`");
}

#[test]
fn what_prometheus_refuses_is_refused_with_its_place_and_the_rest_is_used() {
    let mut refused = vec![
        (
            own("rules/bad-fields.yml"),
            vec!["3:5: unknown field `namespace`", "9:9: unknown field `severity`"],
            1,
        ),
        (
            own("rules/bad-template.yml"),
            vec!["7:20: annotation `summary`: line 1: variable `$label` is not defined"],
            1,
        ),
    ];
    if let (Some(rules), Some(tests)) = (public("rules"), public("rule-tests")) {
        // The others of its fixtures that are meant to be invalid have an invalid expression, which is not looked at.
        refused.push((
            rules.join("prometheus-fixtures/rules_fixtures_invalid_rules.yaml"),
            vec!["6:5: unknown field `unexpected_field`"],
            0,
        ));
        refused.push((
            tests.join("promtool/rules_extrafields.yml"),
            vec!["7:5: unknown field `namespace`", "21:5: unknown field `ownership`"],
            0,
        ));
        for folder in ["prometheus-fixtures", "promtool-testdata"] {
            for path in rule_files(&rules.join(folder)) {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                let is_meant_bad = name.contains("invalid_rules") || name.contains("rules-bad");
                assert_eq!(parse(&path).refused.is_empty(), !is_meant_bad, "{name}");
            }
        }
    }
    for (path, expected, rules) in refused {
        let file = parse(&path);
        let told: Vec<String> = file.refused.iter().map(ToString::to_string).collect();
        for expected in &expected {
            assert!(told.iter().any(|told| told.contains(expected)), "{expected}: {told:#?}");
        }
        assert_eq!(told.len(), expected.len(), "{told:#?}");
        let used: usize = file.groups.iter().map(|group| group.rules.len()).sum();
        assert!(used >= rules, "{}: {used}", path.display());
    }
}

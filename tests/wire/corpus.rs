//! Rule files of others: what Prometheus takes is taken, what it refuses is refused.

use std::path::{Path, PathBuf};

use homeostat::wire::files::{RuleFile, parse_rules};

/// The development data, which is not part of the repository.
#[expect(clippy::disallowed_methods, reason = "where a test's data is, not configuration")]
fn data() -> PathBuf {
    let path =
        std::env::var_os("HOMEOSTAT_DATA").map_or_else(|| crate::root("../shared/data"), PathBuf::from);
    assert!(path.is_dir(), "the data is missing: {} (HOMEOSTAT_DATA names another place)", path.display());
    path
}

fn parse(path: &Path) -> Result<RuleFile, String> {
    let text = std::fs::read_to_string(path).unwrap();
    parse_rules(&path.file_name().unwrap().to_string_lossy(), &text).map_err(|error| error.to_string())
}

fn rule_files(folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(data().join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml"));
    assert!(!files.is_empty(), "no files in {folder}");
    files
}

#[test]
fn public_rule_files_load_unchanged() {
    let (mut rules, mut files) = (0, 0);
    for folder in ["rules/awesome-prometheus-alerts", "rules/thanos"] {
        for path in rule_files(folder) {
            let file = parse(&path).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(file.refused, [], "{}", path.display());
            files += 1;
            rules += file.groups.iter().map(|group| group.rules.len()).sum::<usize>();
        }
    }
    assert!(files > 100 && rules > 900, "{files} files, {rules} rules");
}

#[test]
fn what_prometheus_refuses_is_refused_with_its_place() {
    // The others of its fixtures that are meant to be invalid have an invalid expression, which is not looked at here.
    let refused = [
        (
            "rules/prometheus-fixtures/rules_fixtures_invalid_rules.yaml",
            "6:5: unknown field `unexpected_field`",
        ),
        ("rule-tests/promtool/rules_extrafields.yml", "7:5: unknown field `namespace`"),
    ];
    for (path, expected) in refused {
        let error = parse(&data().join(path)).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let bad = parse(&data().join("rule-tests/promtool/rules-bad.yml")).unwrap();
    assert_eq!(bad.refused.len(), 1);
    let told = bad.refused[0].to_string();
    assert!(told.contains("annotation `summary`: cannot expand `{{ $label.foo }}`"), "{told}");
    for folder in ["rules/prometheus-fixtures", "rules/promtool-testdata"] {
        for path in rule_files(folder) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let meant_bad = name.contains("invalid_rules") || name.contains("rules-bad");
            let clean = parse(&path).is_ok_and(|file| file.refused.is_empty());
            assert_eq!(clean, !meant_bad, "{name}");
        }
    }
}

//! Rule files and unit tests of rules: what can be used, and what promtool says of them.

use std::path::{Path, PathBuf};

use homeostat::promtest::lint::{self, Checked};
use homeostat::promtest::unit::{self, Check, Report, UnknownFields};

use super::corpus;

/// The files of Prometheus' `cmd/promtool/testdata` that are unit tests: whether promtool says `SUCCESS`, how many of
/// their checks hold and how many do not, and what the first error is about.
const PROMTOOL: [(&str, bool, usize, usize, &str); 15] = [
    ("at-modifier-test.yml", true, 0, 0, ""),
    ("bad-input-series.yml", false, 0, 0, "expected `,` or `}`"),
    ("bad-promql.yml", false, 0, 1, ""),
    ("bad-rules-error-test.yml", false, 0, 0, "rule joined at 0s: found duplicate series"),
    ("bad-rules-syntax-test.yml", false, 0, 0, "bad-rules-syntax.yml:7:22: the expression ends"),
    ("failing.yml", false, 0, 4, ""),
    ("long-period.yml", true, 4, 0, ""),
    ("negative-offset-test.yml", true, 0, 0, ""),
    ("no-test-group-interval.yml", true, 2, 0, ""),
    ("rules_run.yml", false, 1, 1, ""),
    ("rules_run_extrafields.yml", false, 0, 0, "unknown field `namespace`"),
    ("rules_run_fuzzy.yml", false, 2, 2, ""),
    ("rules_run_no_fuzzy.yml", false, 0, 2, ""),
    ("start-time-test.yml", true, 9, 0, ""),
    // And three about native histograms, which are not judged.
    ("unittest.yml", true, 23, 0, ""),
];

fn run(path: &Path) -> Report {
    unit::run(path, UnknownFields::Refused).unwrap()
}

#[test]
fn our_own_tests_hold_or_are_said_to_fail_and_why() {
    let folder = corpus::own("rule-tests");
    let passing = run(&folder.join("passing.yml"));
    assert_eq!((passing.passed, passing.failures, passing.errors), (13, vec![], vec![]));

    let failing = run(&folder.join("failing.yml"));
    assert_eq!((failing.passed, failing.failures.len(), failing.errors.len()), (0, 6, 0));
    let told: Vec<String> = failing.failures.iter().map(ToString::to_string).collect();
    for (told, parts) in told.iter().zip([
        &["18: wrong: alert Nothing at 1m", "no rule raises `Nothing`; there are: Absent, ErrorsHigh"][..],
        &[
            "10: wrong: alert ErrorsHigh at 3m",
            "does not fire: {alertname=\"ErrorsHigh\", job=\"a\", severity=\"page\", team=\"web\"}",
            "is pending: holds since 2m, fires when it has held 2m more",
            "`job:errors:sum` job:errors:sum{job=\"a\"",
            " is 0 at 0s–1m, 7 at 2m–3m",
        ],
        &[
            "13: wrong: alert ErrorsHigh at 6m",
            "summary: expected \"a has 3 errors\", got \"a has 7 errors\"",
        ],
        &["20: wrong: job:errors:worst at 6m", "job:errors:worst{team=\"web\"}: expected 3, got 7"],
        &["21: wrong: heartbeat[5m] at 6m", "neither a vector nor a number"],
        &["22: wrong: 0 * Inf at 0s", "expected NaN, got NaN (as with promtool, NaN is equal to nothing)"],
    ]) {
        assert!(parts.iter().all(|part| told.contains(part)), "{told}\n{parts:?}");
    }
}

#[test]
fn promtools_tests_have_promtools_verdict() {
    let Some(folder) = corpus::public("rule-tests") else { return };
    for (name, is_success, passed, failed, error) in PROMTOOL {
        let report = run(&folder.join("promtool").join(name));
        let counts = (report.has_passed(), report.passed, report.failures.len());
        assert_eq!(counts, (is_success, passed, failed), "{name}: {report:?}");
        let first = report.errors.first().map(String::as_str).unwrap_or_default();
        assert!(first.contains(error) && first.is_empty() == error.is_empty(), "{name}: {first}");
    }
    let lenient = folder.join("promtool/rules_run_extrafields.yml");
    assert!(unit::run(&lenient, UnknownFields::Ignored).unwrap().has_passed());
    assert_eq!(run(&folder.join("promtool/unittest.yml")).listed.len(), 3);
    for name in ["rules.yml", "prometheus-config.bad.yml", "good-sd-file.yml"] {
        assert!(!run(&folder.join("promtool").join(name)).has_passed(), "{name} is no file of tests");
    }
    let thanos = run(&folder.join("thanos/tests.yaml"));
    assert_eq!((thanos.passed, thanos.has_passed()), (11, true), "{thanos:?}");
}

#[test]
fn what_is_a_dialect_of_vmalert_is_refused_as_that() {
    let Some(folder) = corpus::public("rule-tests") else { return };
    for name in ["disable-group-label", "failed-test", "long-period", "test1", "test2"] {
        let report = run(&folder.join(format!("vmalert-tool/{name}.yaml")));
        assert!(
            !report.has_passed() && report.errors[0].contains("vmalert-tool, which promtool"),
            "{report:?}"
        );
    }
    // Without a test there is nothing to fail, as with promtool.
    let missing = run(&folder.join("vmalert-tool/failed-test-with-missing-rulefile.yaml"));
    assert!(missing.has_passed() && missing.warnings[0].contains("non-existing-file.yaml"), "{missing:?}");
}

#[test]
fn each_failure_says_what_it_is_about() {
    let failing = run(&corpus::own("rule-tests").join("failing.yml"));
    let alerts = failing.failures.iter().filter(|failure| matches!(failure.check, Check::Alert(_)));
    assert!(alerts.clone().count() == 3 && alerts.clone().all(|failure| !failure.why.is_empty()));
    assert!(failing.failures.iter().all(|failure| !failure.difference.is_empty()));
}

fn check(paths: &[PathBuf]) -> Checked {
    lint::check(paths, UnknownFields::Refused).unwrap()
}

fn refused(checked: &Checked) -> Vec<String> {
    let told = checked.refused.iter().map(|one| {
        let file = Path::new(&*one.error.file).file_name().unwrap_or_default().to_string_lossy();
        let rule = one.rule.as_deref().unwrap_or("-");
        format!("{file}:{} {rule}: {}", one.error.place.line, one.error.cause)
    });
    told.collect()
}

#[test]
fn rules_of_our_own_files_are_counted_and_refused_one_by_one() {
    let checked = check(&[corpus::own("rules")]);
    assert_eq!((checked.files, checked.rules, checked.loaded), (4, 10, 8));
    assert_eq!(
        refused(&checked),
        [
            "bad-fields.yml:3 -: unknown field `namespace`",
            "bad-fields.yml:9 Up: unknown field `severity`",
            "bad-template.yml:7 Wrong: annotation `summary`: line 1: variable `$label` is not defined",
        ]
    );
}

#[test]
fn rule_files_in_the_wild_load() {
    let Some(folder) = corpus::public("rules") else { return };
    let checked = check(&[folder]);
    let refused = refused(&checked);
    println!("{} files, {} of {} rules; refused:", checked.files, checked.loaded, checked.rules);
    refused.iter().for_each(|line| println!("    {line}"));
    assert!(checked.files > 100 && checked.rules > 10_000, "{checked:?}");
    assert!(checked.loaded * 1_000 >= checked.rules * 995, "{refused:#?}");
    for (file, reason) in [
        ("invalid_rules.yaml", "unknown field `unexpected_field`"),
        ("bad-rules-syntax.yml", "the expression ends where an operand is expected"),
        ("rules-bad.yml", "variable `$label` is not defined"),
        // Only with a feature flag of Prometheus.
        ("features.yml", "`anchored` is not supported"),
    ] {
        let of_file: Vec<_> = refused.iter().filter(|line| line.contains(file)).collect();
        assert!(of_file.len() == 1 && of_file[0].contains(reason), "{file}: {refused:#?}");
    }
    assert_eq!(refused.len(), 4, "{refused:#?}");
}

//! Prometheus' own tests as the oracle: PromQL scripts, unit tests of rules, rule files.
//!
//! The runners are the product's own (`homeostat test promql`, `test rules`, `check rules`). The public files are read
//! where they are there (`tests/data/README.md`), files of our own in the same languages always.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support/corpus.rs"]
mod corpus;
mod rules;

use std::fmt::Write as _;

use homeostat::engine::promql::NameRemoval;
use homeostat::promtest::script;

/// How many cases pass at least, by script: what once passed is not to fall out of the supported set unseen.
const PASSED_MIN: [(&str, usize); 12] = [
    ("aggregators.test", 126),
    ("at_modifier.test", 78),
    ("duration_expression.test", 29),
    ("extended_vectors.test", 30),
    ("fill-modifier.test", 46),
    ("functions.test", 323),
    ("literals.test", 25),
    ("native_histograms.test", 3),
    ("operators.test", 142),
    ("selectors.test", 31),
    ("staleness.test", 17),
    ("type_and_unit.test", 58),
];

/// Scripts whose results are those of delayed name removal, which Prometheus runs all of its scripts with. Every
/// other script has to give the same results with the default.
const DELAYED_ONLY: [&str; 2] = ["name_label_dropping.test", "type_and_unit.test"];

#[test]
fn every_case_of_our_own_script_gives_its_result() {
    for file in corpus::files(&corpus::own("promqltest"), ".test") {
        let text = std::fs::read_to_string(&file).unwrap();
        let cases = text.lines().filter(|line| line.starts_with("eval")).count();
        let tally = script::run(&text, NameRemoval::Immediate);
        assert_eq!(tally.failures, []);
        assert_eq!((tally.passed, tally.listed.len()), (cases, 0), "{:?}", tally.listed);
    }
}

#[test]
fn every_supported_case_of_the_official_scripts_gives_prometheus_result() {
    let Some(folder) = corpus::public("promqltest") else { return };
    let (mut report, mut failures) = (String::new(), Vec::new());
    for file in corpus::files(&folder, ".test") {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        let tally = script::run(&text, NameRemoval::Delayed);
        let listed: usize = tally.listed.values().sum();
        writeln!(report, "{name}: {} passed, {} failed, {listed} listed", tally.passed, tally.failures.len())
            .unwrap();
        for (reason, count) in &tally.listed {
            writeln!(report, "    {count:4} {reason}").unwrap();
        }
        if let Some((_, least)) = PASSED_MIN.iter().find(|(known, _)| *known == name)
            && tally.passed < *least
        {
            failures.push(format!("{name}: {} cases passed, {least} did before", tally.passed));
        }
        failures.extend(tally.failures.iter().map(|failure| format!("{name}:{failure}")));
        if !DELAYED_ONLY.contains(&name.as_str()) {
            let by_default = script::run(&text, NameRemoval::Immediate);
            failures
                .extend(by_default.failures.iter().map(|failure| format!("{name} (by default):{failure}")));
        }
    }
    println!("{report}");
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

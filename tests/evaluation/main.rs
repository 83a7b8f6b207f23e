//! The live monitor against the reference: groups with an interval give Prometheus' transitions at Prometheus' times,
//! and groups that are evaluated on every sample give the same where samples come at the grid's points only.
//!
//! The rules are those of real rule files; the samples are made so that their conditions come and go.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support/corpus.rs"]
mod corpus;
mod live;
mod made;
mod reference;

use std::time::Duration;

use fastrand::Rng;
use homeostat::model::RuleGroup;
use homeostat::wire::files::{GroupText, parse_rules};

use made::Made;

/// Of the groups in the public collections, so many are drawn in a run.
const GROUPS_PER_RUN: usize = 60;
/// Between the points of the grid, and between samples where they come at the points.
const INTERVAL: Duration = Duration::from_secs(15);

/// The groups of our own rule files, and of the public ones.
fn groups() -> Vec<GroupText> {
    let folders = [Some(corpus::own("rules")), corpus::public("rules")];
    let files = folders.iter().flatten().flat_map(|folder| corpus::files(folder, ".yml"));
    let mut groups = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let Ok(file) = parse_rules(&path.display().to_string(), &text) else { continue };
        groups.extend(file.groups.into_iter().filter(|group| !group.rules.is_empty()));
    }
    groups
}

/// What is printed before a failure, to run it again: `EVALUATION_SEED`.
#[expect(clippy::disallowed_methods, reason = "a test's only setting, read where it is needed")]
fn seed() -> u64 {
    let given = std::env::var("EVALUATION_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    println!("EVALUATION_SEED={seed}");
    seed
}

/// Calls `check` with groups that are drawn, and what is made for them.
fn for_drawn_groups(spreads: bool, check: impl Fn(&GroupText, &Made) -> Result<(), String>) {
    let mut rng = Rng::with_seed(seed());
    let mut groups = groups();
    rng.shuffle(&mut groups);
    let mut rules = 0;
    for group in groups.iter().take(GROUPS_PER_RUN) {
        let Some((group, made)) = made::of(group, spreads, &mut rng) else { continue };
        rules += group.rules.len();
        if let Err(difference) = check(&group, &made) {
            panic!("group {} of {}: {difference}", group.name, group.file);
        }
    }
    println!("{rules} rules");
    assert!(rules > 0);
}

fn with_interval(group: &GroupText, interval: Option<Duration>) -> RuleGroup {
    RuleGroup { interval, pulse: INTERVAL, ..group.accepted(|_| true) }
}

#[test]
fn groups_with_an_interval_have_the_transitions_of_the_reference() {
    for_drawn_groups(true, |group, made| {
        let expected = reference::transitions(group, made);
        let found = live::transitions(&with_interval(group, Some(INTERVAL)), made);
        same(&expected, &found)
    });
}

#[test]
fn groups_evaluated_on_every_sample_have_the_same_where_the_samples_come_at_the_points() {
    for_drawn_groups(false, |group, made| {
        let expected = reference::transitions(group, made);
        let found = live::transitions(&with_interval(group, None), made);
        same(&expected, &found)
    });
}

/// Both in the order of time, rules and labels.
fn same(expected: &[String], found: &[String]) -> Result<(), String> {
    if expected == found {
        return Ok(());
    }
    let missing: Vec<&String> = expected.iter().filter(|line| !found.contains(line)).take(5).collect();
    let extra: Vec<&String> = found.iter().filter(|line| !expected.contains(line)).take(5).collect();
    Err(format!("missing {missing:#?}\nand instead {extra:#?}"))
}

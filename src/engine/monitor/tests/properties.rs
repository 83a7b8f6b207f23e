//! What always holds.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// Samples of one producer that come at one instant.
#[derive(Clone, Debug)]
struct Instant {
    /// How long after the one before, in milliseconds.
    after: i64,
    /// Series, how long before the instant it was read, value.
    samples: Vec<(u16, i64, f64)>,
    /// Whether all were read at one time.
    is_scrape: bool,
    /// Where the samples are cut into frames, and which frames come twice.
    cuts: Vec<(prop::sample::Index, bool)>,
}

fn instants() -> impl Strategy<Value = Vec<Instant>> {
    let sample = (0..6_u16, prop_oneof![3 => Just(0_i64), 1 => 0..40_i64], 0..10_i32);
    let cut = (any::<prop::sample::Index>(), any::<bool>());
    let instant = (
        prop_oneof![4 => 1..30_i64, 1 => 100..800_i64],
        prop::collection::vec(sample, 1..12),
        any::<bool>(),
        prop::collection::vec(cut, 0..4),
    );
    let instant = instant.prop_map(|(after, samples, is_scrape, cuts)| {
        let samples = samples
            .into_iter()
            .map(|(series, age, value)| (series, if is_scrape { 0 } else { age * 250 }, f64::from(value)));
        Instant { after: after * 500, samples: samples.collect(), is_scrape, cuts }
    });
    prop::collection::vec(instant, 1..60)
}

fn all_series() -> Vec<Labels> {
    ["load", "errors"]
        .into_iter()
        .flat_map(|metric| {
            ["a", "b", "c"].into_iter().map(move |job| series(&format!(r#"{metric}{{job="{job}"}}"#)))
        })
        .collect()
}

/// Every way a rule can be evaluated.
fn every_path() -> Arc<Configuration> {
    let mut all = (*configuration(
        1,
        None,
        vec![
            rule("Threshold", "load > 5", 0, 0),
            rule("Held", "load > 4", 10, 0),
            rule("Kept", "load > 4", 5, 7),
            rule("Rate", "rate(errors[30s]) > 0.1", 5, 0),
            rule("Average", "avg_over_time(load[1m]) > 4", 0, 20),
            rule("Sum", "sum by (job) (load) > 4", 10, 0),
            rule("Both", "load > 4 and on (job) errors > 4", 5, 0),
            rule("Gone", r#"absent(load{job="a"})"#, 10, 0),
        ],
    ))
    .clone();
    let rules = vec![rule("Grid", "load > 4", 30, 0), rule("GridSum", "sum(errors) > 9", 0, 15)];
    all.groups.extend(configuration(1, Some(15), rules).groups.iter().cloned().map(|mut group| {
        group.name = "grid".into();
        group
    }));
    Arc::new(all)
}

impl World {
    /// Sends the samples of an instant, in as many frames as `is_cut` says.
    fn play(&mut self, instant: &Instant, is_cut: bool) {
        let now = self.now + Duration::from_millis(instant.after.unsigned_abs());
        self.run_until(now);
        let table = self.send_table(&all_series());
        let row = |(series, age, value): &(u16, i64, f64)| Row {
            series: *series,
            at: Timestamp::from_millis(now.as_millis() - age),
            value: *value,
        };
        let rows: Vec<Row> = instant.samples.iter().map(row).collect();
        let mut cuts: Vec<(usize, bool)> =
            instant.cuts.iter().map(|(cut, twice)| (cut.index(rows.len()), *twice)).collect();
        if !is_cut {
            cuts.clear();
        }
        cuts.extend([(0, false), (rows.len(), false)]);
        cuts.sort_unstable();
        cuts.dedup_by_key(|(cut, _)| *cut);
        let parts = u16::try_from(cuts.len()).unwrap() - 1;
        let mut before = Vec::new();
        for (part, pair) in (0..).zip(cuts.windows(2)) {
            let scrape = instant.is_scrape.then_some(ScrapePart { part, parts });
            let frame = self.frame("p", &table, scrape, rows[pair[0].0..pair[1].0].to_vec());
            if pair[1].1 && is_cut {
                before.push(frame.clone());
            }
            self.handle(Input::Frame(frame));
            for frame in &before {
                self.handle(Input::Frame(frame.clone()));
            }
        }
    }

    /// Ends in an instant that does not depend on what else there was to wake for.
    fn settle(&mut self) {
        let end = self.now + Duration::from_secs(20);
        self.run_until(end);
        let step = self.monitor.tick(end);
        self.carry_out(step);
    }

    fn sorted_story(&self) -> Vec<Violation> {
        let mut story: Vec<Violation> = self.violations().cloned().collect();
        story.sort_by_key(|violation| (violation.at, violation.episode, violation.rev));
        story
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn how_samples_are_cut_into_frames_and_repeated_makes_no_difference(instants in instants()) {
        let run = |is_cut| {
            let mut world = World::new(every_path());
            let mut stories = Vec::new();
            for instant in &instants {
                world.play(instant, is_cut);
                stories.push(world.sorted_story());
            }
            world.run_until(world.now + Duration::from_mins(10));
            stories.push(world.sorted_story());
            stories
        };
        prop_assert_eq!(run(false), run(true));
    }

    #[test]
    fn a_restored_monitor_is_where_it_would_be_had_it_not_stopped(
        instants in instants(),
        stop in any::<prop::sample::Index>(),
    ) {
        let stop = 1 + stop.index(instants.len());
        let mut world = World::new(every_path());
        for instant in &instants[..stop] {
            world.play(instant, true);
        }
        let snapshot = world.monitor.snapshot();
        let snapshot_at = snapshot.at;
        // What was published meanwhile by the one that did not stop is in the ledger already.
        let (now, wake_at, sequences) = (world.now, world.wake_at, world.sequences.clone());
        for instant in &instants[stop..] {
            world.play(instant, true);
        }
        world.settle();
        let (expected, story) = (world.monitor.snapshot(), world.sorted_story());

        (world.now, world.wake_at, world.sequences) = (now, wake_at, sequences);
        let mut world = world.restart(every_path(), Some(snapshot));
        for instant in &instants[stop..] {
            world.play(instant, true);
        }
        world.settle();
        let lines = |story: &[Violation]| story.iter().map(line).collect::<BTreeSet<String>>();
        let (found, wanted) = (lines(&world.sorted_story()), lines(&story));
        let differ: Vec<&String> = found.symmetric_difference(&wanted).collect();
        prop_assert!(differ.is_empty(), "{:#?}, stopped at {:?}", differ, snapshot_at);
        prop_assert_eq!(world.sorted_story(), story);
        prop_assert_eq!(world.monitor.snapshot(), expected);
    }

    #[test]
    fn every_path_finds_the_same(instants in instants()) {
        let rules = vec![
            rule("Same", "load > 4", 7, 5),
            rule("Same", "load + 0 > 4", 7, 5),
            rule("Same", "sum without () (load) > 4", 7, 5),
        ];
        let stories = rules.into_iter().map(|rule| {
            let mut world = World::new(configuration(1, None, vec![rule]));
            for instant in instants.iter().filter(|instant| instant.is_scrape) {
                // A series that falls silent is seen to be gone at its own deadline or at the next scrape.
                if world.now + Duration::from_millis(instant.after.unsigned_abs()) < secs(280.0) {
                    world.play(instant, false);
                }
            }
            world.settle();
            let story = world.violations().map(|violation| (violation.at, line(violation), violation.rev));
            let mut story: Vec<_> = story.collect();
            story.sort();
            story
        });
        let stories: Vec<_> = stories.collect();
        prop_assert_eq!(&stories[0], &stories[1]);
        prop_assert_eq!(&stories[0], &stories[2]);
    }

    #[test]
    fn a_grid_is_what_prometheus_evaluates(instants in instants()) {
        let mut world = World::new(configuration(1, Some(15), vec![rule("Grid", "load > 4", 30, 20)]));
        let mut samples: BTreeMap<u16, BTreeMap<Timestamp, f64>> = BTreeMap::new();
        for instant in instants.iter().filter(|instant| instant.is_scrape) {
            world.play(instant, false);
            for (series, _, value) in &instant.samples {
                samples.entry(*series).or_default().entry(world.now).or_insert(*value);
            }
        }
        world.run_until(world.now + Duration::from_secs(400));
        let mut expected = Vec::new();
        for (series, samples) in samples.iter().filter(|(series, _)| **series < 3) {
            expected.extend(prometheus(*series, samples, world.now));
        }
        expected.sort();
        let mut found: Vec<(Timestamp, String)> =
            world.violations().map(|violation| (violation.at, line(violation))).collect();
        found.sort();
        prop_assert_eq!(found, expected);
    }
}

/// `load > 4`, `for: 30s`, `keep_firing_for: 20s` every 15 s, as plainly as it can be written.
fn prometheus(series: u16, samples: &BTreeMap<Timestamp, f64>, until: Timestamp) -> Vec<(Timestamp, String)> {
    let job = ["a", "b", "c"][usize::from(series)];
    let mut told = Vec::new();
    let (mut active_at, mut firing, mut kept_since, mut value) = (None, false, None, 0.0);
    let mut at = secs(0.0);
    while at <= until {
        let newest = samples.range(..=at).next_back();
        let found = newest
            .filter(|(when, value)| at.saturating_since(**when) < Duration::from_mins(5) && **value > 4.0);
        let mut tell = |phase: &str, since: Timestamp, value: f64| {
            let seconds = |at: Timestamp| at.as_millis() as f64 / 1_000.0;
            let text = format!(
                r#"{} s Grid{{job="{job}"}} {phase} since {} = {value}"#,
                seconds(at),
                seconds(since)
            );
            told.push((at, text));
        };
        if let Some((_, found)) = found {
            value = *found;
            kept_since = None;
            let since = *active_at.get_or_insert(at);
            if !firing && at.saturating_since(since) >= Duration::from_secs(30) {
                firing = true;
                tell("firing", since, value);
            }
        } else if let Some(since) = active_at {
            let kept = *kept_since.get_or_insert(at);
            if !firing || at.saturating_since(kept) >= Duration::from_secs(20) {
                if firing {
                    tell("resolved", since, value);
                }
                (active_at, firing, kept_since) = (None, false, None);
            }
        }
        at = at + Duration::from_secs(15);
    }
    told
}

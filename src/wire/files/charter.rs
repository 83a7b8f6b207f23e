//! The charter, as people write it. What it does not say is as cautious as the default.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::error::FileError;
use super::yaml::{self, DurationText, HostName, ProgramPath};
use crate::model::{Charter, Confidence, Mode};
use crate::wire::words::ModeWord;

/// Reads a charter. An empty file is the default: shadow mode, nothing armed.
pub fn parse(file: &str, text: &str) -> Result<Charter, FileError> {
    let shape: Option<CharterShape> = yaml::read(file, text)?;
    Ok(shape.map_or_else(Charter::default, CharterShape::read))
}

/// What automation may never do. What is not given is as cautious as it can be.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Charter")]
pub(super) struct CharterShape {
    /// `shadow` holds every playbook back, armed or not. `shadow` where it is not given.
    #[schemars(with = "Option<ModeWord>")]
    mode: Option<Mode>,
    /// The playbooks that may act in auto mode.
    #[serde(default)]
    armed: Vec<String>,
    /// Plans in flight at once, from their first intent to their release. 1 where it is not given.
    concurrent_plans_max: Option<u32>,
    /// Actions started in any hour. 10 where it is not given.
    actions_per_hour_max: Option<u32>,
    /// The least time between two plans of the same playbook on the same scope. 5m where it is not given.
    cooldown: Option<DurationText>,
    /// The least confidence for any plan to be carried out. 0 where it is not given.
    #[schemars(with = "Option<f64>", range(min = 0.0, max = 1.0))]
    min_confidence: Option<Confidence>,
    /// Open violations beyond which nothing new is admitted. 1000 where it is not given.
    storm_violations: Option<u32>,
    /// Absolute paths of the programs that `command` steps may run.
    #[serde(default)]
    programs: Vec<ProgramPath>,
    /// Hosts that `webhook` steps may call, as `host` (any port) or `host:port`. Where none is given: those that the
    /// playbooks name. Labels can never change the host of a URL.
    #[serde(default)]
    hosts: Vec<HostName>,
}

impl CharterShape {
    fn read(self) -> Charter {
        let default = Charter::default();
        Charter {
            mode: self.mode.unwrap_or(default.mode),
            armed: self.armed.into_iter().map(Arc::from).collect(),
            concurrent_plans_max: self.concurrent_plans_max.unwrap_or(default.concurrent_plans_max),
            actions_per_hour_max: self.actions_per_hour_max.unwrap_or(default.actions_per_hour_max),
            cooldown: self.cooldown.map_or(default.cooldown, |cooldown| cooldown.0),
            min_confidence: self.min_confidence.unwrap_or(default.min_confidence),
            storm_violations: self.storm_violations.unwrap_or(default.storm_violations),
            programs: self.programs.into_iter().map(|program| program.0).collect(),
            hosts: self.hosts.into_iter().map(|host| host.0).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_not_given_is_the_default() {
        for text in ["", "# nothing\n", "{}\n", "mode: shadow\narmed: []\n"] {
            assert_eq!(parse("charter.yaml", text), Ok(Charter::default()), "{text:?}");
        }
        // The schema and the field's documentation name the defaults too.
        let told = (1, 10, Duration::from_mins(5), 1_000, BTreeSet::new());
        let Charter {
            concurrent_plans_max,
            actions_per_hour_max,
            cooldown,
            storm_violations,
            programs,
            hosts,
            ..
        } = Charter::default();
        assert_eq!(hosts, BTreeSet::new());
        assert_eq!((concurrent_plans_max, actions_per_hour_max, cooldown, storm_violations, programs), told);
    }

    #[test]
    fn a_charter_is_read() {
        let text = "mode: auto\narmed: [restart, scale]\nconcurrent_plans_max: 2\nactions_per_hour_max: 6\n\
                    cooldown: 1h\nmin_confidence: 0.7\nstorm_violations: 50\nprograms: [/bin/true]\n\
                    hosts: [Ops.example, \"ops:8080\", \"[::1]:80\"]\n";
        let charter = parse("charter.yaml", text).unwrap();
        assert_eq!(charter.mode, Mode::Auto);
        assert_eq!(charter.mode_of("scale"), Mode::Auto);
        assert_eq!((charter.concurrent_plans_max, charter.actions_per_hour_max), (2, 6));
        assert_eq!((charter.cooldown, charter.storm_violations), (Duration::from_hours(1), 50));
        assert_eq!(charter.min_confidence, Confidence::new(0.7).unwrap());
        assert!(charter.programs.contains("/bin/true"));
        assert!(["ops.example", "ops:8080", "[::1]:80"].iter().all(|host| charter.hosts.contains(*host)));
    }

    #[test]
    fn mistakes_are_told_with_line_and_column() {
        let cases = [
            ("mode: on\n", "c:1:7: `on` is not one of shadow, auto\nhint: "),
            ("mode: auto\ncooldwn: 1m\n", "c:2:1: unknown field `cooldwn`\nhint: did you mean `cooldown`?"),
            ("concurrent_plans_max: -1\n", "c:1:23: a whole number is expected here, 0 or more"),
            ("mode: [auto]\n", "c:1:7: one word is expected here"),
            ("armed: p\n", "c:1:8: a list is expected here"),
            ("min_confidence: high\n", "c:1:17: a number is expected here"),
            ("programs:\n- true\n", "c:2:3: `true` is not an absolute path"),
            ("hosts: [\"http://ops/\"]\n", "c:1:9: `http://ops/` is not a host or `host:port`"),
            ("min_confidence: .nan\n", "c:1:17: `NaN` is not between 0 and 1"),
        ];
        for (text, expected) in cases {
            let found = parse("c", text).unwrap_err().to_string();
            assert!(found.starts_with(expected), "{found}");
        }
    }
}

//! The program from outside: exit codes, what goes to standard output and what to standard error, and the commands
//! against a loop that runs.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/program.rs"]
mod program;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

/// After so many looks a test is not slow but stuck.
const LOOKS_MAX: u32 = 600;
const POLL: Duration = Duration::from_millis(100);

fn homeostat(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_homeostat"));
    // What the developer's own environment says is not part of the test.
    command.args(arguments).env_remove("NATS_URL").env_remove("NATS_CONTEXT").env("NO_COLOR", "1");
    command
}

fn run(arguments: &[&str]) -> Output {
    homeostat(arguments).stdin(Stdio::null()).output().unwrap()
}

/// Exit code, standard output, standard error.
fn told(arguments: &[&str]) -> (i32, String, String) {
    let output = run(arguments);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    path
}

const RULES: &str =
    "groups:\n- name: a\n  rules:\n  - alert: High\n    expr: load > 5\n    labels: {severity: critical}\n";

#[test]
fn every_command_has_help() {
    let (code, out, _) = told(&["--help"]);
    assert_eq!(code, 0);
    assert!(out.contains("Exit codes: 0 done, 1 a finding, 2 wrong usage, 3 a failure outside."), "{out}");
    let commands: Vec<&str> = out
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next().filter(|name| !name.is_empty()))
        .collect();
    assert!(commands.contains(&"replay") && !commands.contains(&"demo-worker"), "{commands:?}");
    for command in commands.into_iter().filter(|command| *command != "help") {
        let (code, out, err) = told(&[command, "--help"]);
        assert_eq!((code, out.contains("Usage: homeostat"), err.as_str()), (0, true, ""), "{command}");
    }
    assert_eq!(told(&["--version"]).1.trim(), concat!("homeostat ", env!("CARGO_PKG_VERSION")));
}

/// Words as a shell parts them: by blanks, but not in quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), _) if c == open => quote = None,
            (None, ' ') => words.push(String::new()),
            _ => words.last_mut().unwrap().push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn the_commands_of_the_readme_are_commands() {
    let readme = fs::read_to_string(program::root().join("README.md")).unwrap();
    let lines = readme.lines().filter_map(|line| line.strip_prefix("homeostat "));
    let in_text = readme.split('`').filter_map(|text| text.strip_prefix("homeostat "));
    let in_text = in_text.filter(|text| !text.contains('\n'));
    let mut count = 0;
    for line in lines.chain(in_text) {
        let command = line.split(" # ").next().unwrap();
        let mut arguments = words(command);
        // What stands before --help is read as ever: an argument that is not known would be refused.
        arguments.push("--help".to_owned());
        let (code, _, err) = told(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!((code, err.as_str()), (0, ""), "{line}");
        count += 1;
    }
    assert!(count >= 24, "{count} commands in README.md");
}

#[test]
fn exit_codes_tell_findings_from_wrong_usage_and_failures_outside() {
    let folder = tempfile::tempdir().unwrap();
    let good = write(folder.path(), "good/rules/a.yaml", RULES);
    let bad = write(folder.path(), "bad/rules/a.yaml", &RULES.replace("load > 5", "bogus(load)"));
    let (good, bad) = (good.to_str().unwrap(), bad.to_str().unwrap());
    let nowhere = folder.path().join("nowhere");
    let nowhere = nowhere.to_str().unwrap();
    for (code, arguments) in [
        (0, vec!["check", good]),
        (1, vec!["check", good, bad]),
        (2, vec!["frobnicate"]),
        (2, vec!["replay", good]),
        (2, vec!["publish", "--speed", "fast"]),
        (2, vec!["publish", "--now", "--speed", "max"]),
        (2, vec!["incidents", "-n", "0"]),
        (2, vec!["run", "--replicas", "2"]),
        (2, vec!["explain", "whatever"]),
        (2, vec!["demo", "-o", "json"]),
        (2, vec!["run", "--scrape-interval", "1ms"]),
        (2, vec!["run", "--scrape", "ftp://somewhere", "--data", nowhere]),
        (3, vec!["check", nowhere]),
        (3, vec!["replay", "--rules", good, nowhere]),
        (3, vec!["incidents", "--server", "nats://127.0.0.1:1"]),
        (3, vec!["halt", "--server", "nats://127.0.0.1:1"]),
    ] {
        let (ended, out, err) = told(&arguments);
        assert_eq!(ended, code, "{arguments:?}: {out}{err}");
        assert_eq!(err.is_empty(), code == 0, "{arguments:?}: what went wrong is on standard error: {err}");
    }
    let (_, _, err) = told(&["incidents", "--server", "nats://127.0.0.1:1"]);
    assert!(err.contains("nats://127.0.0.1:1") && err.contains("hint: "), "{err}");
}

#[test]
fn what_cannot_be_used_is_named_by_file_line_and_column() {
    let folder = tempfile::tempdir().unwrap();
    let bad = write(folder.path(), "rules/a.yaml", &RULES.replace("load > 5", "1 + bogus(load)"));
    let (code, _, err) = told(&["check", folder.path().to_str().unwrap()]);
    assert_eq!(code, 1);
    assert_eq!(err.trim(), format!("{}:5:15: unknown function with name \"bogus\"", bad.display()));
    let (_, out, _) = told(&["check", bad.to_str().unwrap(), "-o", "json"]);
    let found: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&found["files"], &found["refused"][0]["line"]), (&1.into(), &5.into()), "{found}");
}

#[test]
fn rule_files_are_linted_rule_by_rule_in_a_fixed_shape() {
    let folder = tempfile::tempdir().unwrap();
    let text =
        format!("{RULES}  - {{record: 'a:b', expr: load, for: 1m}}\n  - {{record: a.b, expr: load}}\n");
    let file = write(folder.path(), "rules/sub/a.rules", &text);
    write(folder.path(), "rules/b.yml", "groups: [\n");
    write(folder.path(), "rules/notes.txt", "no rules");
    let rules = folder.path().join("rules");
    let (code, out, err) = told(&["check", "rules", "--format", "json", rules.to_str().unwrap()]);
    assert_eq!((code, err.as_str()), (1, ""));
    let found: Value = serde_json::from_str(&out).unwrap();
    let names: Vec<&String> = found.as_object().unwrap().keys().collect();
    assert_eq!(names, ["files", "loaded", "refused", "rules"]);
    assert_eq!((&found["files"], &found["rules"], &found["loaded"]), (&2.into(), &3.into(), &2.into()));
    let refused = found["refused"].as_array().unwrap();
    let names: Vec<&String> = refused[1].as_object().unwrap().keys().collect();
    assert_eq!(names, ["file", "line", "reason", "rule"]);
    assert_eq!((refused.len(), &refused[0]["rule"], &refused[0]["line"]), (2, &Value::Null, &1.into()));
    assert_eq!(refused[1]["rule"], "a:b");
    assert_eq!(refused[1]["reason"], "a recording rule has no `for`");
    assert!(refused[1]["file"].as_str().unwrap().ends_with("rules/sub/a.rules"), "{found}");
    let (code, _, err) = told(&["check", "rules", file.to_str().unwrap()]);
    assert!(code == 1 && err.contains("a.rules:7:5: `a:b`: a recording rule has no `for`"), "{err}");
    let good = write(folder.path(), "good/a.yml", RULES);
    let (code, out, err) = told(&["check", "rules", good.to_str().unwrap()]);
    assert_eq!((code, out.trim(), err.as_str()), (0, "1 file: 1 of 1 rule can be used, 0 warnings", ""));
    for (code, path) in [(3, "nowhere.yml"), (1, "empty")] {
        fs::create_dir_all(folder.path().join("empty")).unwrap();
        let path = folder.path().join(path);
        assert_eq!(told(&["check", "rules", path.to_str().unwrap()]).0, code, "{}", path.display());
    }
}

#[test]
fn rule_tests_give_an_object_for_each_file() {
    let own = program::root().join("tests/data/rule-tests");
    let (passing, failing) = (own.join("passing.yml"), own.join("failing.yml"));
    let (passing, failing) = (passing.to_str().unwrap(), failing.to_str().unwrap());
    for format in ["json", "jsonl"] {
        let (code, out, err) = told(&["test", "rules", passing, failing, "--format", format]);
        assert_eq!((code, err.as_str()), (1, ""));
        let objects: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let counts: Vec<_> =
            objects.iter().map(|one| (&one["file"], &one["passed"], &one["failed"])).collect();
        let expected = [(&passing.into(), &13.into(), &0.into()), (&failing.into(), &0.into(), &6.into())];
        assert_eq!(counts, expected);
        assert_eq!(objects[1]["failures"][0]["alert"], "Nothing");
    }
    let (code, out, err) = told(&["test", "rules", passing]);
    assert_eq!((code, out.trim(), err.as_str()), (0, &*format!("{passing}: 13 checks passed, 0 failed"), ""));
    let (code, out, err) = told(&["test", "rules", failing]);
    assert!(code == 1 && out.contains("0 checks passed, 6 failed"), "{out}");
    assert!(err.contains("is pending: holds since 2m, fires when it has held 2m more"), "{err}");
    // What is no file of tests has failed.
    let rules = own.join("rules.yml");
    let (code, out, _) = told(&["test", "rules", rules.to_str().unwrap(), "-o", "json"]);
    let object: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &object["passed"], &object["failed"]), (1, &0.into(), &1.into()));
    assert_eq!(told(&["test", "rules"]).0, 2);
    assert_eq!(told(&["test", "rules", "nowhere.yml"]).0, 3);
}

#[test]
fn promql_scripts_are_counted_in_cases_over_all_files() {
    let folder = tempfile::tempdir().unwrap();
    let good =
        "load 1m\n  up 1 2 3\n\neval instant at 1m up\n  up 2\n\neval instant at 1m histogram_count(up)\n";
    let good = write(folder.path(), "good.test", good);
    let bad = write(folder.path(), "bad.test", "eval instant at 0 1 + 1\n  3\n\neval sometimes 1\n");
    let (good, bad) = (good.to_str().unwrap(), bad.to_str().unwrap());
    let (code, out, err) = told(&["test", "promql", good, bad, "--format", "json"]);
    assert_eq!((code, err.as_str()), (1, ""));
    let tally: Value = serde_json::from_str(&out).unwrap();
    let names: Vec<&String> = tally.as_object().unwrap().keys().collect();
    assert_eq!(names, ["failed", "failures", "listed", "passed"]);
    assert_eq!((&tally["passed"], &tally["failed"], &tally["listed"]), (&1.into(), &2.into(), &1.into()));
    assert_eq!((&tally["failures"][0]["line"], &tally["failures"][0]["expr"]), (&1.into(), &"1 + 1".into()));
    let (code, out, err) = told(&["test", "promql", good]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.trim().ends_with("1 passed, 0 failed, 1 listed"), "{out}");
    assert_eq!(told(&["test", "promql", "nowhere.test"]).0, 3);
}

#[test]
fn a_replay_gives_the_same_bytes_each_time_and_its_lines_have_a_fixed_shape() {
    let folder = tempfile::tempdir().unwrap();
    let rules = write(folder.path(), "a.yaml", RULES);
    let csv = "timestamp,value\n2026-01-01 00:00:00,1\n2026-01-01 00:01:00,9\n2026-01-01 00:02:00,1\n";
    let samples = write(folder.path(), "load.csv", csv);
    let arguments =
        ["replay", "--rules", rules.to_str().unwrap(), samples.to_str().unwrap(), "--format", "jsonl"];
    let (code, first, err) = told(&arguments);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(first, told(&arguments).1);
    let mut kinds = Vec::new();
    for line in first.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(
            line["at"].as_str().unwrap().starts_with("2026-01-01T00:0") && line["body"].is_object(),
            "{line}"
        );
        kinds.push(line["kind"].as_str().unwrap().to_owned());
    }
    assert!(kinds.iter().any(|kind| kind == "violation") && kinds.iter().any(|kind| kind == "analysis"));
    let known = ["violation", "analysis", "plan", "action", "report"];
    assert!(kinds.iter().all(|kind| known.contains(&kind.as_str())), "{kinds:?}");
}

#[test]
fn rows_that_cannot_be_read_are_told_with_their_line_and_the_rest_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let rules = write(folder.path(), "a.yaml", RULES);
    let samples = write(folder.path(), "load.csv", "timestamp,value\n1700000000,9\nsoon,9\n");
    let arguments = ["replay", "--rules", rules.to_str().unwrap(), samples.to_str().unwrap()];
    let (code, out, err) = told(&arguments);
    assert_eq!(code, 0);
    assert!(err.starts_with(&format!("{}:3: `soon` is not a time", samples.display())), "{err}");
    assert!(out.contains("firing"), "{out}");
}

#[test]
fn a_replay_that_could_not_use_everything_says_so_with_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let good = write(folder.path(), "good/rules/a.yaml", RULES);
    write(folder.path(), "half/rules/a.yaml", RULES);
    let bad = write(folder.path(), "half/rules/b.yaml", &RULES.replace("load > 5", "bogus(load)"));
    let half = folder.path().join("half");
    let (good, half) = (good.to_str().unwrap(), half.to_str().unwrap());
    let rows = |count: usize| -> String {
        let row = |row| format!("{},{}", 1_700_000_000 + row, if row < 2 { "9" } else { "x" });
        (0..count).map(row).collect::<Vec<_>>().join("\n")
    };
    let some = write(folder.path(), "load.csv", &format!("timestamp,value\n{}", rows(152)));
    let none = write(folder.path(), "none.csv", "timestamp,value\n1700000000,x\n");
    let (some, none) = (some.to_str().unwrap(), none.to_str().unwrap());

    let (code, out, err) = told(&["replay", "--rules", good, some]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("refused rows               150"), "{out}");
    assert!(err.trim_end().ends_with("140 more rows refused") && err.lines().count() == 11, "{err}");
    let (code, out, err) = told(&["replay", "--strict", "--rules", good, some]);
    assert_eq!((code, out.as_str(), err.lines().count()), (1, "", 1), "{err}");
    assert!(err.starts_with(&format!("{some}:4: `x` is not a number")), "{err}");
    let (code, _, err) = told(&["replay", "--rules", good, none]);
    assert!(code == 1 && err.ends_with("there is no sample in the files\n"), "{err}");
    let (code, out, err) = told(&["replay", "--config", half, some]);
    assert!(code == 1 && out.contains("firing"), "{out}");
    assert!(
        err.starts_with(&format!("{}:5:11: unknown function with name \"bogus\"", bad.display())),
        "{err}"
    );
    let (_, out, _) = told(&["replay", "--rules", good, some, "-o", "json"]);
    let lines: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(lines[0]["kind"], "violation");
}

#[test]
fn a_scrape_without_times_is_replayed_as_of_its_file_or_as_told() {
    let folder = tempfile::tempdir().unwrap();
    let rules = write(folder.path(), "a.yaml", RULES);
    let scrape = write(folder.path(), "scrape.txt", "load 9\nother 1 1700000000000\n");
    let (rules, scrape) = (rules.to_str().unwrap(), scrape.to_str().unwrap());
    let arguments = ["replay", "--rules", rules, "-o", "jsonl", scrape];
    let (code, out, err) = told(&arguments);
    assert!(code == 0 && out.contains("firing"), "{out}{err}");
    assert!(err.starts_with("1 sample without a time") && err.contains("hint: --at"), "{err}");
    let (code, out, _) = told(&[&arguments[..], &["--at", "2026-01-02T03:04:05Z"]].concat());
    assert!(code == 0 && out.starts_with("{\"at\":\"2026-01-02T03:04:05"), "{out}");
    let (code, _, err) = told(&["replay", "--rules", rules, rules]);
    assert!(code == 3 && err.contains("--input-format csv, exposition, openmetrics or jsonl"), "{err}");
}

#[test]
fn a_single_file_is_what_its_folder_or_its_first_name_says() {
    let folder = tempfile::tempdir().unwrap();
    let playbook = "playbook: p\nanswers: [{cause: c}]\nsteps: [{name: s, webhook: {url: 'http://a'}}]\n\
                    verify: {expr: up, within: 1s}\n";
    for (name, text, expected) in [
        ("p.yaml", playbook, "1 file: 0 rules and 1 playbook can be used, 0 refused, 0 warnings"),
        ("r.yaml", RULES, "1 file: 1 rule and 0 playbooks can be used, 0 refused, 0 warnings"),
        (
            "c.yaml",
            "# ours\nmode: auto\n",
            "1 file: 0 rules and 0 playbooks can be used, 0 refused, 0 warnings",
        ),
        (
            "s.yaml",
            "scope_labels: [job]\n",
            "1 file: 0 rules and 0 playbooks can be used, 0 refused, 0 warnings",
        ),
    ] {
        let file = write(folder.path(), name, text);
        let (code, out, err) = told(&["check", file.to_str().unwrap()]);
        assert_eq!((code, out.trim(), err.as_str()), (0, expected, ""), "{name}");
    }
    write(folder.path(), "whole/playbooks/p.yaml", playbook);
    let (code, out, err) = told(&["check", folder.path().join("whole").to_str().unwrap()]);
    assert!(
        code == 0
            && out.contains("1 warning")
            && err.contains("warning: ")
            && err.contains("in no catalogue")
    );
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let rules = write(folder.path(), "a.yaml", RULES);
    let rows = (0..20_000).map(|row| format!("{},{}", 1_700_000_000 + row * 60, row % 2 * 9));
    let rows = rows.collect::<Vec<_>>().join("\n");
    let samples = write(folder.path(), "load.csv", &format!("timestamp,value\n{rows}"));
    let mut child = homeostat(&["replay", "--rules", rules.to_str().unwrap(), samples.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert!(first.contains("violation"), "{first}");
    assert_eq!((ended.status.code(), String::from_utf8(ended.stderr).unwrap().as_str()), (Some(0), ""));
}

#[test]
fn completions_and_schemas_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, _) = told(&["completions", shell]);
        assert!(code == 0 && out.contains("replay"), "{shell}");
    }
    for kind in ["rules", "playbook", "charter", "causes", "analysis"] {
        let (code, out, _) = told(&["schema", kind]);
        let schema: Value = serde_json::from_str(&out).unwrap();
        assert!(code == 0 && schema["$schema"].is_string(), "{kind}");
    }
}

/// A program that runs until it is told to stop; ended with the test.
struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut command = homeostat(arguments);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    /// Everything up to the line that begins so, which it is.
    fn until(&mut self, beginning: &str) -> String {
        let mut said = String::new();
        loop {
            let mut line = String::new();
            let read = self.out.read_line(&mut line).unwrap();
            assert!(read > 0, "it ended before `{beginning}`: {said}");
            if line.starts_with(beginning) {
                return line;
            }
            said.push_str(&line);
        }
    }

    fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, or the test fails and is to leave nothing behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_configuration_is_applied_to_a_loop_whose_streams_are_not_as_large_as_the_usual_ones() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "rules/a.yaml", RULES);
    let config = folder.path().to_str().unwrap();
    let dev = Dev::start(&[]);
    dev.ask_until(&["kb", "stats"], Value::is_object);
    assert_eq!(dev.ask(&["apply", config])["generation"], 1);
    assert_eq!(dev.ask(&["apply", config])["changed"], false);
    // More processes share the work of a loop that runs.
    let data = folder.path().join("data");
    let arguments = ["run", "--roles", "analyzer,planner", "--http", "127.0.0.1:0", "--server", &dev.server];
    let mut beside = Running::start(&[&arguments[..], &["--data", data.to_str().unwrap()]].concat());
    beside.until("ready");
    beside.stop();
    // What the operator asks for is verified all the same, and another cell is not this one.
    let (code, _, err) = told(&["run", "--replicas", "3", "--http", "127.0.0.1:0", "--server", &dev.server]);
    assert!(code == 3 && err.contains("num_replicas: wanted 3, found 1"), "{err}");
    for arguments in [vec!["apply", config], vec!["incidents"]] {
        let (code, _, err) = told(&[&arguments[..], &["--cell", "other", "--server", &dev.server]].concat());
        assert!(code == 2 && err.contains("`default`, not of `other`"), "{err}");
    }
    dev.stop();
}

#[test]
fn the_command_line_wins_over_the_environment() {
    let dev = Dev::start(&[]);
    let home = tempfile::tempdir().unwrap();
    let context = format!("{{\"url\":\"{}\"}}", dev.server);
    write(home.path(), "nats/context/here.json", &context);
    dev.ask_until(&["kb", "stats"], Value::is_object);
    let ask = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = homeostat(&[&["incidents"], arguments].concat());
        command.env("XDG_CONFIG_HOME", home.path()).envs(variables.iter().copied()).stdin(Stdio::null());
        command.output().unwrap().status.code()
    };
    let nowhere = "nats://127.0.0.1:1";
    assert_eq!(ask(&["--context", "here"], &[("NATS_URL", nowhere)]), Some(0));
    assert_eq!(ask(&["--server", &dev.server], &[("NATS_CONTEXT", "nothing")]), Some(0));
    assert_eq!(ask(&[], &[("NATS_URL", &dev.server)]), Some(0));
    assert_eq!(ask(&[], &[("NATS_CONTEXT", "here")]), Some(0));
    assert_eq!(ask(&[], &[("NATS_URL", nowhere)]), Some(3));
    dev.stop();
}

#[test]
fn a_reader_that_goes_away_stops_what_prints_without_a_panic() {
    for arguments in [&["completions", "bash"][..], &["schema", "playbook"], &["--help"]] {
        let mut child = homeostat(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        let err = String::from_utf8(ended.stderr).unwrap();
        assert_eq!((ended.status.code(), err.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

/// `homeostat dev`, ended with the test.
struct Dev {
    child: Child,
    out: BufReader<ChildStdout>,
    server: String,
    /// Gone after the process.
    _folder: tempfile::TempDir,
}

impl Dev {
    fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = homeostat(&["dev", "--data", folder.path().to_str().unwrap()])
            .args(arguments)
            .arg("--nats-server")
            .arg(program::nats_server())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let server =
            line.trim().strip_prefix("nats-server on ").unwrap_or_else(|| panic!("{line}")).to_owned();
        Self { child, out, server, _folder: folder }
    }

    /// What a command prints about this loop.
    fn ask(&self, arguments: &[&str]) -> Value {
        let (code, out, err) = told(&[arguments, &["--server", &self.server, "-o", "json"]].concat());
        assert_eq!(code, 0, "{arguments:?}: {err}");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {out}"))
    }

    /// Asks until the answer is what is waited for.
    fn ask_until(&self, arguments: &[&str], is_it: impl Fn(&Value) -> bool) -> Value {
        let mut last = String::new();
        for _ in 0..LOOKS_MAX {
            let output = run(&[arguments, &["--server", &self.server, "-o", "json"]].concat());
            if let Ok(answer) = serde_json::from_slice(&output.stdout)
                && is_it(&answer)
            {
                return answer;
            }
            last = String::from_utf8_lossy(&output.stdout).into_owned();
            std::thread::sleep(POLL);
        }
        panic!("{arguments:?}: {last}");
    }

    fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{rest}");
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // It has ended already, or the test fails and is to leave nothing behind: the server goes with its owner.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An endpoint that shows one metric; served until the test's process ends.
fn endpoint(text: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n";
            let _ = write!(stream, "{head}Content-Length: {}\r\n\r\n{text}", text.len());
        }
    });
    format!("http://{address}/metrics")
}

#[test]
fn a_scraped_breach_becomes_an_incident_that_can_be_asked_about() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "rules/a.yaml", RULES);
    let config = folder.path().to_str().unwrap();
    let url = endpoint("# TYPE load gauge\nload 9\n");
    let scrape = format!("web={url}");
    let dev = Dev::start(&[
        "--config",
        config,
        "--scrape",
        &scrape,
        "--scrape-interval",
        "200ms",
        "--host-metrics",
    ]);

    let incidents =
        dev.ask_until(&["incidents"], |answer| answer.as_array().is_some_and(|found| !found.is_empty()));
    let incident = incidents[0].to_string();
    assert!(incident.contains("open") && incidents[0]["scope"]["job"] == "web", "{incident}");
    let samples = dev.ask(&["tail", "samples.*", "-n", "1"]);
    assert!(!samples.to_string().is_empty());
    let id = incident.split('"').find(|part| part.starts_with("in-")).unwrap().to_owned();
    assert!(dev.ask(&["explain", &id]).to_string().contains("High"));
    assert!(dev.ask(&["kb", "stats"]).is_object());

    let (code, _, err) = told(&["halt", "--reason", "a test", "--server", &dev.server]);
    assert_eq!((code, err.as_str()), (0, ""));
    let (code, _, err) = told(&["resume", "--server", &dev.server]);
    assert_eq!((code, err.as_str()), (0, ""));
    dev.stop();
}

#[test]
fn what_is_remembered_is_carried_away_and_brought_back_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "configuration/rules/a.yaml", RULES);
    let dev = Dev::start(&["--config", folder.path().join("configuration").to_str().unwrap()]);
    dev.ask_until(&["kb", "stats"], |stats| stats["applied"].as_u64() > Some(0));
    let file = folder.path().join("remembered");
    let file = file.to_str().unwrap();
    let exported = dev.ask(&["kb", "export", file]);
    assert_eq!(exported["bytes"], fs::metadata(file).unwrap().len());
    assert!(exported["applied"].as_u64() > Some(0), "{exported}");
    assert!(!Path::new(&format!("{file}.partial")).exists());

    // Another store of the same ledger.
    let data = folder.path().join("data");
    let import =
        |file: &str| told(&["kb", "import", file, "--data", data.to_str().unwrap(), "--server", &dev.server]);
    let (code, out, err) = import(file);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with(&format!("{} records read", exported["records"])), "{out}");
    // What is no export, or was cut off, is told with file, place and cause, and what is there stays.
    let foreign = write(folder.path(), "letter", "Dear Sir or Madam, this is not what you are looking for.");
    let cut = folder.path().join("cut");
    let bytes = fs::read(file).unwrap();
    fs::write(&cut, &bytes[..bytes.len() - 1]).unwrap();
    for (wrong, expected) in [
        (&foreign, "export refused at byte 0, record 0: not an export of a store"),
        (&cut, "cut off: it ends without a trailer"),
        (&folder.path().join("nothing"), "cannot be read"),
    ] {
        let (code, _, err) = import(wrong.to_str().unwrap());
        assert!(code == 3 && err.contains(expected) && err.contains(wrong.to_str().unwrap()), "{err}");
    }
    let (code, _, err) = import(file);
    assert_eq!((code, err.as_str()), (0, ""), "it is as it was, and the same once more does no harm");
    let (code, _, err) = told(&["kb", "export", folder.path().to_str().unwrap(), "--server", &dev.server]);
    assert!(code == 3 && err.contains("is a folder"), "{err}");
    dev.stop();
}

#[test]
fn what_is_published_is_found() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "rules/a.yaml", RULES);
    let dev = Dev::start(&["--config", folder.path().to_str().unwrap()]);
    dev.ask_until(&["kb", "stats"], Value::is_object);
    let samples = write(folder.path(), "load.csv", "timestamp,value\n1700000000,1\n1700000001,9\n");
    let (code, out, err) =
        told(&["publish", samples.to_str().unwrap(), "--now", "--quiet", "--server", &dev.server]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("2 samples published, 0 rows refused, 0 frames shed"), "{out}");
    let found =
        dev.ask_until(&["incidents"], |answer| answer.as_array().is_some_and(|found| !found.is_empty()));
    assert_eq!(found.as_array().unwrap().len(), 1, "{found}");

    // Sixty times as fast is a sixtieth as far apart: an hour is over in a minute, and two seconds at once.
    let samples =
        write(folder.path(), "load.csv", "timestamp,value\n1700000000,1\n1700000060,1\n1700000120,1\n");
    let watched = Running::start(&["tail", "samples.*", "-n", "1", "--server", &dev.server]);
    let (code, out, err) = told(&[
        "publish",
        samples.to_str().unwrap(),
        "--now",
        "--speed",
        "60x",
        "--server",
        &dev.server,
        "-o",
        "json",
    ]);
    assert_eq!((code, err.as_str()), (0, ""));
    let out: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&out["samples"], &out["frames_shed"]), (&3.into(), &0.into()), "{out}");
    drop(watched);
    let none = write(folder.path(), "none.csv", "timestamp,value\nsoon,1\n");
    let (code, _, err) = told(&["publish", none.to_str().unwrap(), "--server", &dev.server]);
    assert!(code == 1 && err.contains("`soon` is not a time"), "{err}");

    // What is in the ledger, from the start, and nothing but what was asked for.
    let (code, out, _) = told(&["tail", "--from", "1", "violations.*", "-n", "1", "--server", &dev.server]);
    let line: Value = serde_json::from_str(out.trim()).unwrap();
    assert!(code == 0 && line["subject"] == "homeostat.v1.violations.critical", "{out}");
    for (arguments, expected) in [
        (["--from", "1", "samples.*"], "is not in the ledger"),
        (["--from", "999999", "plans"], "the ledger ends at sequence"),
    ] {
        let (code, _, err) = told(&[&["tail", "--server", &dev.server], &arguments[..]].concat());
        assert!(code == 2 && err.contains(expected), "{err}");
    }
    let id = found[0]["id"].as_str().unwrap();
    let (code, out, _) = told(&["explain", id, "--server", &dev.server]);
    assert!(code == 0 && out.contains("ENTRY") && out.contains("High firing with value 9"), "{out}");
    let episode = id.replacen("in-", "ep-", 1);
    assert!(dev.ask(&["explain", &episode]).to_string().contains("High"));
    let (known, last) = id.split_at(id.len() - 1);
    let unknown = format!("{known}{}", if last == "0" { "1" } else { "0" });
    let (code, _, err) = told(&["explain", &unknown, "--server", &dev.server]);
    assert!(code == 1 && err.starts_with(&format!("nothing is known under the id `{unknown}`")), "{err}");
    dev.stop();
}

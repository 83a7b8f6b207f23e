//! The measurements come to an end and have the shapes that scripts read. How fast it was is told and never asserted.

#[path = "support/program.rs"]
mod program;

use std::process::Command;

use serde_json::Value;

/// What `homeostat bench …` prints as JSON.
fn bench(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_homeostat"))
        .arg("bench")
        .args(arguments)
        .args(["--format", "json"])
        .env("HOMEOSTAT_NATS_SERVER", program::nats_server())
        .output()
        .expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON document")
}

/// Each of these is there, and a number that something was measured for.
fn assert_figures(result: &Value, pointers: &[&str]) {
    for pointer in pointers {
        let figure = result.pointer(pointer).and_then(Value::as_f64);
        assert!(figure.is_some_and(|figure| figure.is_finite() && figure > 0.0), "{pointer} of {result}");
    }
}

#[test]
fn a_cycle_has_its_two_figures() {
    assert_figures(&bench(&["cycle", "--rounds", "3"]), &["/one_violation_us", "/thousand_violations_us"]);
}

#[test]
fn the_loop_is_told_beside_its_floor_also_under_load() {
    let pointers =
        ["/floor/p50_us", "/floor/p99_us", "/loop/p50_us", "/loop/p99_us", "/ratio/p50", "/ratio/p99"];
    for more in [&["--sync", "default"][..], &["--sync", "always", "--load", "100"]] {
        let result = bench(&[&["loop", "--floor", "--rounds", "3"], more].concat());
        assert_figures(&result, &pointers);
        assert_eq!(result["sync"], more[1]);
    }
}

#[test]
fn a_loop_without_a_floor_has_no_ratio() {
    let result = bench(&["loop", "--rounds", "1"]);
    assert_figures(&result, &["/loop/p50_us", "/loop/p99_us"]);
    assert!(result.get("ratio").is_none() && result.get("floor").is_none(), "{result}");
}

#[test]
fn every_sample_that_is_counted_was_taken_in() {
    let result = bench(&["ingest", "--seconds", "0.1"]);
    assert_figures(&result, &["/samples_per_second", "/samples_per_cpu_second"]);
}

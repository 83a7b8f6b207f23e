//! A part of the cause catalogue, and the labels that place an incident.
#![no_main]

use homeostat::wire::files;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = files::parse_causes("fuzz.yaml", text).map_err(|error| error.to_string());
    let _ = files::parse_analysis("fuzz.yaml", text).map_err(|error| error.to_string());
});

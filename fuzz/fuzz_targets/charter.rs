//! A charter.
#![no_main]

use homeostat::wire::files;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = files::parse_charter("fuzz.yaml", text).map_err(|error| error.to_string());
});

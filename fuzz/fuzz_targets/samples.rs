//! Samples from outside in each text format, and series in PromQL notation.
#![no_main]

use std::io::Cursor;

use homeostat::ingest::{Format, Options, from_reader, parse_moment, parse_series};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for format in Format::ALL {
        if let Ok(samples) = from_reader("fuzz", Cursor::new(data.to_vec()), format, &Options::default()) {
            samples.for_each(drop);
        }
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = parse_moment(text);
        let _ = parse_series(text);
    }
});

//! Headers: a line each, name and value parted by `:`.
#![no_main]

use homeostat::wire::{Envelope, Headers};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    // Escaping makes a value up to three times as long, and then it may be too long to be read again.
    const VALUE_BYTES_MAX: usize = 300;
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    let headers: Headers = pairs
        .filter(|(_, value)| value.len() <= VALUE_BYTES_MAX)
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    if let Ok(Some(envelope)) = Envelope::read(&headers) {
        let again = Envelope::read(&envelope.headers()).expect("what was read can be read again");
        assert_eq!(again.map(|again| (again.kind, again.content)), Some((envelope.kind, envelope.content)));
    }
});

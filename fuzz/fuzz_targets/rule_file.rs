//! A rule file, and every place in its expressions.
#![no_main]

use homeostat::wire::files;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match files::parse_rules("fuzz.yml", text) {
        Err(error) => drop(error.to_string()),
        Ok(file) => {
            for rule in file.groups.iter().flat_map(|group| &group.rules) {
                for (offset, _) in rule.expr.text.char_indices().take(64) {
                    let place = rule.expr.place(offset);
                    assert!(place.line >= 1 && place.column >= 1);
                }
            }
        }
    }
});

//! A series table that came alone.
#![no_main]

use homeostat::wire::table;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(decoded) = table::decode(data) {
        let bytes = table::encode(&decoded).expect("what was read can be written");
        assert_eq!(table::decode(&bytes), Ok(decoded));
    }
});

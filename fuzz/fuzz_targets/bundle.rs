//! A bundle of configuration.
#![no_main]

use homeostat::wire::bundle;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(decoded) = bundle::decode(data) {
        let bytes = bundle::encode(&decoded).expect("what was read can be written");
        assert_eq!(bundle::decode(&bytes), Ok(decoded));
    }
});

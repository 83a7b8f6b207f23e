//! A monitor's checkpoint.
#![no_main]

use homeostat::wire::checkpoint;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(decoded) = checkpoint::decode(data) {
        let bytes = checkpoint::encode(&decoded).expect("what was read can be written");
        let again = checkpoint::decode(&bytes).expect("what was written can be read");
        // NaN is not equal to itself, so the bytes are compared.
        assert_eq!(checkpoint::encode(&again), Ok(bytes));
    }
});

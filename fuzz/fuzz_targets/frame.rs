//! A frame of samples, with or without its table.
#![no_main]

use homeostat::wire::frame;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok((decoded, table)) = frame::decode(data) {
        let bytes = frame::encode(&decoded, table.as_ref()).expect("what was read can be written");
        let (again, table) = frame::decode(&bytes).expect("what was written can be read");
        assert_eq!(frame::encode(&again, table.as_ref()), Ok(bytes));
    }
});

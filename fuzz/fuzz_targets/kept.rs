//! Rows of the knowledge role's store.
#![no_main]

use homeostat::wire::{knowledge, ledger};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(record) = ledger::kept(data) {
        let bytes = ledger::keep(&record).expect("what was read can be written");
        let again = ledger::kept(&bytes).expect("what was written can be read");
        assert_eq!(ledger::keep(&again), Ok(bytes));
    }
    let _ = knowledge::decode_learned(data);
});

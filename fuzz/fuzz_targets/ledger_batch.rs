//! A batch of the ledger, as MessagePack and as JSON. What reads is written, and reads again as the same.
#![no_main]

use homeostat::wire::{ContentType, ledger};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for content in [ContentType::MessagePack, ContentType::Json] {
        if let Ok(batch) = ledger::decode(content, data) {
            // NaN is not equal to itself, so the bytes are compared.
            let bytes = ledger::encode(&batch).expect("what was read can be written");
            let again =
                ledger::decode(ContentType::MessagePack, &bytes).expect("what was written can be read");
            assert_eq!(ledger::encode(&again), Ok(bytes));
        }
    }
});

//! What people and tools send, as MessagePack and as JSON.
#![no_main]

use homeostat::wire::{ContentType, intake};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for content in [ContentType::MessagePack, ContentType::Json] {
        if let Ok(violation) = intake::decode_violation(content, data) {
            let bytes = intake::encode_violation(&violation).expect("what was read can be written");
            let again = intake::decode_violation(ContentType::MessagePack, &bytes);
            let again = again.expect("what was written can be read");
            assert_eq!(intake::encode_violation(&again), Ok(bytes));
        }
        if let Ok(change) = intake::decode_change(content, data) {
            let bytes = intake::encode_change(&change).expect("what was read can be written");
            assert_eq!(intake::decode_change(ContentType::MessagePack, &bytes), Ok(change));
        }
        if let Ok(request) = intake::decode_control(content, data) {
            let bytes = intake::encode_control(&request).expect("what was read can be written");
            assert_eq!(intake::decode_control(ContentType::MessagePack, &bytes), Ok(request));
        }
    }
});

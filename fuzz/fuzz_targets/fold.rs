//! A kept fold of the ledger.
#![no_main]

use homeostat::engine::fold::Fold;
use homeostat::wire::fold::{self, KeptFold};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(Some(KeptFold { ledger, snapshot })) = fold::decode(data) {
        let snapshot = Fold::restore(snapshot).snapshot();
        let bytes = fold::encode(KeptFold { ledger, snapshot }).expect("what was read can be written");
        let again = fold::decode(&bytes).expect("what was written can be read").expect("it is of our format");
        let again = KeptFold { ledger: again.ledger, snapshot: Fold::restore(again.snapshot).snapshot() };
        // NaN is not equal to itself, so the bytes are compared.
        assert_eq!(fold::encode(again), Ok(bytes));
    }
});

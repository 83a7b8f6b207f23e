//! A PromQL expression.
#![no_main]

use homeostat::engine::promql::Expr;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(error) = Expr::parse(text) {
        assert!(error.place.byte <= text.len(), "the place is in the text");
    }
});

//! `bench`: how fast the loop is here.

use serde_json::json;

use super::exit::Outcome;
use super::{Context, output, printed};
use crate::role::cycle;

/// Whole cycles in one process, without a server.
pub(super) fn cycle(rounds: u32, context: &Context) -> Outcome {
    let one = cycle::one_violation(rounds, &context.clock);
    let thousand = cycle::thousand_violations((rounds / 100).max(5), &context.clock);
    let result = json!({
        "one_violation_us": one.as_secs_f64() * 1e6,
        "thousand_violations_us": thousand.as_secs_f64() * 1e6,
        "rounds": rounds,
    });
    output::one(context.format, &result).or_else(printed)
}

//! The process that the demo heals.

use super::exit::{Outcome, outside, usage};
use crate::clock::Clock;
use crate::demo::worker;

/// Runs the worker; started by its supervisor, not by people.
pub(super) fn worker(arguments: Vec<String>) -> Outcome {
    let options = worker::Options::from_arguments(arguments).map_err(usage)?;
    let clock = Clock::system();
    let (now, stopwatch) = (clock.clone(), clock.stopwatch());
    let time = worker::Time {
        now: std::sync::Arc::new(move || now.now()),
        elapsed: std::sync::Arc::new(move || stopwatch.elapsed()),
    };
    let orders = std::io::BufReader::new(std::io::stdin());
    worker::run(&options, &time, orders, std::io::stdout()).map(drop).map_err(outside)
}

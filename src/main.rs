//! Homeostat.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use homeostat::demo::worker;
use homeostat::model::Timestamp;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("demo-worker") => demo_worker(arguments),
        _ => ExitCode::from(2),
    }
}

/// What the demo heals; started by its supervisor, not by people.
fn demo_worker(arguments: impl Iterator<Item = String>) -> ExitCode {
    let options = match worker::Options::from_arguments(arguments) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let orders = std::io::BufReader::new(std::io::stdin());
    match worker::run(&options, &time(), orders, std::io::stdout()) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(3)
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "until `clock` is here")]
fn time() -> worker::Time {
    let started = Instant::now();
    let millis = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    worker::Time {
        now: Arc::new(move || Timestamp::from_millis(i64::try_from(millis()).unwrap_or(i64::MAX))),
        elapsed: Arc::new(move || started.elapsed()),
    }
}

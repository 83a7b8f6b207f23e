//! `publish`: samples from files or standard input onto the bus.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::args::Speed;
use super::exit::{Outcome, outside};
use super::{Context, args, bus};
use crate::bus::nats::{Connection, Purpose};
use crate::ingest;
use crate::model::{Sample, Timestamp};
use crate::producer::Producer;
use crate::wire::{Subjects, subject};

/// Refused rows that are told one by one.
const REFUSALS_TOLD_MAX: u64 = 10;

pub(super) async fn publish(args: args::Publish, context: &Context) -> Outcome {
    let options = ingest::Options {
        format: args.input.input_format,
        strict: args.input.strict,
        metric: args.input.metric.clone(),
        scraped_at: Some(context.clock.now()),
    };
    let sources: Result<Vec<_>, _> = args.samples.iter().map(|path| ingest::open(path, &options)).collect();
    let settings = bus::settings(&args.bus, context)?;
    let connection = Connection::open(&settings, Purpose::Samples).await.map_err(outside)?;
    let subjects = Subjects::new(&args.bus.prefix).map_err(outside)?;
    let host = context.environment.host.clone().unwrap_or_else(|| "host".to_owned());
    let name = args.producer.clone().unwrap_or_else(|| subject::token_from(&format!("publish-{host}")));
    let mut producer = Producer::open(connection, subjects, &args.bus.cell, &name, context.clock.clone())
        .await
        .map_err(outside)?;
    let bar = bar(&args);
    let mut pace = Pace::new(args.speed, args.now, context);
    let mut scrape: Vec<Sample> = Vec::new();
    let (mut published, mut refused) = (0_u64, 0_u64);
    for sample in ingest::merge(sources.map_err(outside)?) {
        match sample {
            Ok(sample) => {
                if scrape.last().is_some_and(|last| last.at != sample.at) {
                    published += send(&mut producer, &mut pace, &mut scrape, &bar).await?;
                }
                scrape.push(sample);
            }
            Err(error) if error.is_final() => return Err(outside(error)),
            Err(error) => {
                refused += 1;
                if refused <= REFUSALS_TOLD_MAX {
                    bar.suspend(|| eprintln!("{error}"));
                }
            }
        }
    }
    published += send(&mut producer, &mut pace, &mut scrape, &bar).await?;
    let shed = producer.close().await.map_err(outside)?;
    bar.finish_and_clear();
    println!("{published} samples published, {refused} rows refused, {shed} frames shed");
    Ok(())
}

async fn send(
    producer: &mut Producer,
    pace: &mut Pace<'_>,
    scrape: &mut Vec<Sample>,
    bar: &ProgressBar,
) -> Result<u64, super::Failure> {
    let Some(at) = scrape.first().map(|sample| sample.at) else { return Ok(0) };
    let shifted = pace.wait_for(at).await;
    for sample in scrape.iter_mut() {
        sample.at = shifted;
    }
    let count = scrape.len() as u64;
    producer.push_scrape(shifted, scrape).await.map_err(outside)?;
    scrape.clear();
    bar.inc(count);
    Ok(count)
}

fn bar(args: &args::Publish) -> ProgressBar {
    if args.quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {human_pos} samples, {per_sec}, {elapsed}") {
        bar.set_style(style);
    }
    bar
}

/// When a sample's turn comes.
struct Pace<'a> {
    speed: Speed,
    shift: bool,
    context: &'a Context,
    first: Option<(Timestamp, Timestamp)>,
}

impl<'a> Pace<'a> {
    fn new(speed: Speed, shift: bool, context: &'a Context) -> Self {
        Self { speed, shift, context, first: None }
    }

    /// Waits for a sample's turn; the time it is published with.
    async fn wait_for(&mut self, at: Timestamp) -> Timestamp {
        let now = self.context.clock.now();
        let (first, begun) = *self.first.get_or_insert((at, now));
        let into = at.saturating_since(first);
        if let Speed::Times(times) = self.speed {
            let due = begun + Duration::from_secs_f64((into.as_secs_f64() / times).min(1e9));
            tokio::time::sleep(due.saturating_since(now)).await;
        }
        if self.shift { begun + into } else { at }
    }
}

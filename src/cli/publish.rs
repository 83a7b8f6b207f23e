//! `publish`: samples from files or standard input onto the bus.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::sync::mpsc;

use super::args::Speed;
use super::exit::{Failure, Outcome, outside, usage};
use super::input::{Input, Untimed};
use super::output::{self, Format};
use super::signals::Signals;
use super::{Context, args, bus, printed};
use crate::bus::nats::{Connection, Purpose};
use crate::model::{Sample, Timestamp};
use crate::producer::{Producer, Refusals};
use crate::wire::{Subjects, subject};

/// Scrapes that are read ahead.
const SCRAPES_AHEAD_MAX: usize = 64;

/// What was read: samples of one time, and at the end what the files had.
enum Read {
    Scrape(Vec<Sample>),
    End { refused: u64, is_cut_short: bool },
}

/// What became of it.
#[derive(Default)]
struct Done {
    published: u64,
    refused: u64,
    is_cut_short: bool,
    is_stopped: bool,
}

pub(super) async fn publish(args: args::Publish, context: &Context) -> Outcome {
    let speed = match (args.speed, args.now) {
        (Some(Speed::Max), true) => {
            let text = "with --now samples come as time goes by, so not at max\nhint: --speed 60x is an hour a minute";
            return Err(usage(anyhow::anyhow!(text)));
        }
        (Some(speed), _) => speed,
        (None, true) => Speed::Times(1.0),
        (None, false) => Speed::Max,
    };
    let mut signals = Signals::listen();
    let input = Input::open(&args.samples, &args.input, Untimed::At(context.clock.now()))?;
    let settings = bus::settings(&args.bus, context)?;
    let subjects = Subjects::new(&args.bus.prefix).map_err(usage)?;
    let host = context.environment.host.clone().unwrap_or_else(|| "host".to_owned());
    let name = args.producer.clone().unwrap_or_else(|| subject::token_from(&format!("publish-{host}")));
    let connection = Connection::open(&settings, Purpose::Samples).await.map_err(outside)?;
    let mut producer = Producer::open(connection, subjects, args.bus.cell(), &name, context.clock.clone())
        .await
        .map_err(outside)?;
    let bar = bar(&args);
    let mut pace = Pace::new(speed, args.now, context);
    let mut done = Done::default();
    // Reading may block for ever, on a pipe that stays open; then it is left behind.
    let (out, mut scrapes) = mpsc::channel(SCRAPES_AHEAD_MAX);
    let told = bar.clone();
    let reading = tokio::task::spawn_blocking(move || read(input, &out, &told));
    tokio::select! {
        sent = send_all(&mut scrapes, &mut producer, &mut pace, &mut done, &bar) => sent?,
        () = signals.told_to_stop() => done.is_stopped = true,
    }
    let read = if done.is_stopped { Ok(()) } else { reading.await.map_err(outside)? };
    // What was read before an error is published, too.
    let refusals = producer.refusals();
    let shed = producer.close().await.map_err(outside)?;
    bar.finish_and_clear();
    read?;
    told_how(&done, refusals, shed, context)?;
    if done.is_cut_short || done.published == 0 && !done.is_stopped { Err(Failure::Finding) } else { Ok(()) }
}

/// Reads everything, in a thread of its own.
fn read(mut input: Input, out: &mpsc::Sender<Read>, bar: &ProgressBar) -> Result<(), Failure> {
    let note = |text: &str| bar.suspend(|| output::note(text));
    let mut scrape: Vec<Sample> = Vec::new();
    loop {
        let sample = input.next(&note)?;
        let is_new = |sample: &Sample| scrape.last().is_some_and(|last| last.at != sample.at);
        if sample.as_ref().is_none_or(is_new)
            && !scrape.is_empty()
            && out.blocking_send(Read::Scrape(std::mem::take(&mut scrape))).is_err()
        {
            return Ok(());
        }
        let Some(sample) = sample else { break };
        scrape.push(sample);
    }
    // Nobody listens any more where publishing was stopped.
    let _ = out.blocking_send(Read::End { refused: input.refused(), is_cut_short: input.is_cut_short() });
    Ok(())
}

async fn send_all(
    scrapes: &mut mpsc::Receiver<Read>,
    producer: &mut Producer,
    pace: &mut Pace<'_>,
    done: &mut Done,
    bar: &ProgressBar,
) -> Outcome {
    while let Some(read) = scrapes.recv().await {
        match read {
            Read::Scrape(mut scrape) => {
                let Some(first) = scrape.first() else { continue };
                let at = pace.wait_for(first.at).await;
                for sample in &mut scrape {
                    sample.at = at;
                }
                let count = scrape.len() as u64;
                done.published += count;
                producer.push_scrape(at, &scrape).await.map_err(outside)?;
                bar.inc(count);
            }
            Read::End { refused, is_cut_short } => {
                done.refused = refused;
                done.is_cut_short = is_cut_short;
            }
        }
    }
    Ok(())
}

/// What is told at the end.
fn told_how(done: &Done, refusals: Refusals, shed: u64, context: &Context) -> Outcome {
    let Refusals { no_metric, too_many_series, too_many_rows, unknown_series } = refusals;
    let left_out = no_metric + too_many_series + too_many_rows + unknown_series;
    let samples = done.published.saturating_sub(left_out);
    let told = match context.format {
        Format::Table => {
            let mut text = format!(
                "{} published, {} refused, {} shed",
                output::count(samples, "sample"),
                output::count(done.refused, "row"),
                output::count(shed, "frame")
            );
            for (count, why) in [
                (no_metric, "without a metric name"),
                (too_many_series, "of more series than a producer may have"),
                (too_many_rows, "for which there was no room"),
                (unknown_series, "of an unknown series"),
            ] {
                if count > 0 {
                    text = format!("{text}\nleft out: {} {why}", output::count(count, "sample"));
                }
            }
            if done.is_stopped {
                text.push_str("\nstopped before the end");
            }
            output::line(text)
        }
        format @ (Format::Json | Format::Jsonl | Format::Yaml) => output::one(
            format,
            &json!({
                "samples": samples,
                "rows_refused": done.refused,
                "samples_left_out": {
                    "no_metric": no_metric,
                    "too_many_series": too_many_series,
                    "too_many_rows": too_many_rows,
                    "unknown_series": unknown_series,
                },
                "frames_shed": shed,
                "stopped": done.is_stopped,
            }),
        ),
    };
    told.or_else(printed)
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
        let turn = begun + into(at.saturating_since(first), self.speed);
        if self.speed != Speed::Max {
            tokio::time::sleep(turn.saturating_since(now)).await;
        }
        if self.shift { turn } else { at }
    }
}

/// How long after the first one a sample comes. What is published faster is also closer together: otherwise it would run
/// ahead of time.
fn into(recorded: Duration, speed: Speed) -> Duration {
    /// Some thirty years: a turn that never comes.
    const LONGEST_SECONDS: f64 = 1e9;
    match speed {
        Speed::Max => recorded,
        Speed::Times(times) => Duration::from_secs_f64((recorded.as_secs_f64() / times).min(LONGEST_SECONDS)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_faster_is_closer_together() {
        let hour = Duration::from_hours(1);
        for (speed, expected) in [
            (Speed::Times(1.0), hour),
            (Speed::Times(60.0), Duration::from_mins(1)),
            (Speed::Times(0.5), hour * 2),
            (Speed::Times(f64::MIN_POSITIVE), Duration::from_secs(1_000_000_000)),
        ] {
            assert_eq!(into(hour, speed), expected, "{speed:?}");
        }
    }
}

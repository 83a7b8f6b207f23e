//! Collecting: endpoints that are scraped and the host itself, each at a steady pace, into one producer.

use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashSet;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Producer, ProducerError};
use crate::clock::Clock;
use crate::engine::promql::STALE;
use crate::ingest::{Host, SCRAPE_TIMEOUT, ScrapeClient, ScrapeError, ScrapeTarget};
use crate::model::{Labels, LabelsError, Sample, Timestamp};
use crate::telemetry;

/// Readings between the sources and the producer; a source behind a full queue waits, and skips what it missed.
const READINGS_WAITING_MAX: usize = 16;
/// More often, an endpoint is mostly answering.
pub const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// What is collected, and how often.
#[derive(Default)]
pub struct Sources {
    /// Endpoints to scrape.
    pub targets: Vec<ScrapeTarget>,
    /// The host, with the labels that all its samples get.
    pub host: Option<(Host, Labels)>,
    /// The time between two readings of a source.
    pub every: Duration,
}

/// Why nothing can be collected.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// There is no HTTP client.
    #[error(transparent)]
    Client(#[from] ScrapeError),
    /// The samples cannot be published.
    #[error(transparent)]
    Producer(#[from] ProducerError),
    /// A task of ours panicked: a bug.
    #[error("a source ended unexpectedly: {0}")]
    Panicked(String),
}

/// What a source saw at one time.
struct Reading {
    at: Timestamp,
    samples: Vec<Sample>,
}

impl Sources {
    /// Whether there is nothing to collect.
    pub const fn is_empty(&self) -> bool {
        self.targets.is_empty() && self.host.is_none()
    }

    /// Collects until `stop`. An endpoint that does not answer is `up 0`, and its series end; it is asked again.
    pub async fn collect(
        self,
        mut producer: Producer,
        clock: Clock,
        stop: CancellationToken,
    ) -> Result<(), CollectError> {
        let client = ScrapeClient::new()?;
        let (out, mut readings) = mpsc::channel(READINGS_WAITING_MAX);
        let mut sources = JoinSet::new();
        let every = self.every.max(INTERVAL_MIN);
        let count = u32::try_from(self.targets.len()).unwrap_or(u32::MAX).max(1);
        for (place, target) in (0_u32..).zip(self.targets) {
            // Spread over the interval, so that all endpoints are not asked at once.
            let pace = Pace { every, offset: every / count * place };
            sources.spawn(scrape(target, client.clone(), pace, clock.clone(), out.clone()));
        }
        if let Some((host, labels)) = self.host {
            sources.spawn(look(host, labels, Pace { every, offset: Duration::ZERO }, clock, out.clone()));
        }
        drop(out);
        loop {
            let reading = tokio::select! {
                () = stop.cancelled() => break,
                reading = readings.recv() => reading,
            };
            let Some(reading) = reading else { break };
            // Never waits: a server that is away must neither hold the sources up nor keep us from stopping.
            producer.offer_scrape(reading.at, &reading.samples)?;
        }
        sources.abort_all();
        while let Some(ended) = sources.join_next().await {
            if let Err(error) = ended
                && error.is_panic()
            {
                return Err(CollectError::Panicked(error.to_string()));
            }
        }
        producer.close().await?;
        Ok(())
    }
}

/// When a source is read.
#[derive(Clone, Copy)]
struct Pace {
    every: Duration,
    /// Before the first time.
    offset: Duration,
}

impl Pace {
    async fn begin(self) -> tokio::time::Interval {
        tokio::time::sleep(self.offset).await;
        let mut pace = tokio::time::interval(self.every);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        pace
    }
}

async fn scrape(
    mut target: ScrapeTarget,
    client: ScrapeClient,
    pace: Pace,
    clock: Clock,
    out: mpsc::Sender<Reading>,
) {
    let address: Arc<str> = target.address().into();
    let timeout = pace.every.clamp(INTERVAL_MIN, SCRAPE_TIMEOUT);
    let mut pace = pace.begin().await;
    let mut ending = Endings::default();
    loop {
        pace.tick().await;
        let at = clock.now();
        let watch = clock.stopwatch();
        let body = match tokio::time::timeout(timeout, target.fetch(&client)).await {
            Ok(Ok(body)) => Some(body),
            Ok(Err(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a scrape failed");
                None
            }
            Err(_) => {
                tracing::warn!(target = %address, ?timeout, "a scrape was given up");
                None
            }
        };
        let mut scrape = target.samples(body.as_ref(), at, watch.elapsed());
        telemetry::scraped(&address, body.is_some(), scrape.refused);
        for (line, cause) in &scrape.refusals {
            tracing::debug!(target = %address, line, %cause, "a line was refused");
        }
        ending.mark(at, &mut scrape.samples);
        if out.send(Reading { at, samples: scrape.samples }).await.is_err() {
            return;
        }
    }
}

async fn look(host: Host, labels: Labels, pace: Pace, clock: Clock, out: mpsc::Sender<Reading>) {
    let mut pace = pace.begin().await;
    let mut host = Some(host);
    let mut ending = Endings::default();
    loop {
        pace.tick().await;
        let Some(mut looking) = host.take() else { return };
        // It reads files of the system.
        let looked = tokio::task::spawn_blocking(move || {
            let reading = looking.look();
            (looking, reading)
        });
        let Ok((looking, reading)) = looked.await else { return };
        host = Some(looking);
        let at = clock.now();
        let samples: Result<Vec<Sample>, LabelsError> = reading.samples(at, &labels);
        match samples {
            Ok(mut samples) => {
                ending.mark(at, &mut samples);
                if out.send(Reading { at, samples }).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::warn!(%error, "a reading of this host breaks a limit"),
        }
    }
}

/// Ends the series that a source does not show any more, as Prometheus does: with a stale marker. Series with times of
/// their own are left alone.
#[derive(Default)]
struct Endings {
    shown: FxHashSet<Labels>,
}

impl Endings {
    fn mark(&mut self, at: Timestamp, samples: &mut Vec<Sample>) {
        let own = samples.iter().filter(|sample| sample.at == at);
        let shown: FxHashSet<Labels> = own.map(|sample| sample.series.clone()).collect();
        let mut gone: Vec<Labels> = self.shown.drain().filter(|series| !shown.contains(series)).collect();
        gone.sort_unstable();
        samples.extend(gone.into_iter().map(|series| Sample { series, at, value: STALE }));
        self.shown = shown;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::promql::is_stale;

    fn sample(name: &str, at: i64) -> Sample {
        let series = Labels::new([("__name__", name)]).unwrap();
        Sample { series, at: Timestamp::from_millis(at), value: 1.0 }
    }

    #[test]
    fn a_series_that_is_gone_ends_once_and_one_with_a_time_of_its_own_does_not() {
        let mut endings = Endings::default();
        let mut marked = |at: i64, mut samples: Vec<Sample>| {
            let told = samples.len();
            endings.mark(Timestamp::from_millis(at), &mut samples);
            let ended = samples.drain(told..);
            ended
                .map(|sample| {
                    assert!(is_stale(sample.value) && sample.at.as_millis() == at);
                    sample.series.to_string()
                })
                .collect::<Vec<_>>()
        };
        assert!(marked(1, vec![sample("a", 1), sample("b", 1), sample("c", 0)]).is_empty());
        assert_eq!(marked(2, vec![sample("b", 2)]), ["a"]);
        assert!(marked(3, vec![sample("b", 3)]).is_empty());
        assert_eq!(marked(4, Vec::new()), ["b"]);
        assert!(marked(5, vec![sample("a", 5)]).is_empty());
    }
}

//! What `run` and `dev` collect themselves: scrapes and this host's metrics.

use super::exit::{Failure, outside, usage};
use super::{Context, args};
use crate::bus::nats::{Connection, Purpose};
use crate::ingest::{Host, ProcessChoice, ScrapeTarget};
use crate::model::Labels;
use crate::producer::{Producer, Sources};
use crate::role::process::ProcessSettings;
use crate::wire::{Subjects, subject};

/// The job of endpoints that were given without one, and of this host.
const SCRAPE_JOB: &str = "scrape";
const HOST_JOB: &str = "host";

/// What the arguments ask for, checked before anything runs.
pub(super) fn sources(args: &args::Collect, context: &Context) -> Result<Sources, Failure> {
    let targets: Result<Vec<_>, _> = args.scrape.iter().map(|given| target(given)).collect();
    let host = if args.host_metrics {
        let name = context.environment.host.as_deref().unwrap_or("localhost");
        let labels = Labels::new([("instance", name), ("job", HOST_JOB)]).map_err(usage)?;
        let choice = args.processes.clone().unwrap_or(ProcessChoice::None);
        Some((Host::new(choice).map_err(outside)?, labels))
    } else {
        None
    };
    Ok(Sources { targets: targets.map_err(usage)?, host, every: args.scrape_interval })
}

fn target(given: &str) -> Result<ScrapeTarget, crate::ingest::ScrapeError> {
    // A `=` after the scheme is part of a query.
    match given.split_once('=').filter(|(job, _)| !job.contains(':')) {
        Some((job, url)) => ScrapeTarget::new(url, job),
        None => ScrapeTarget::new(given, SCRAPE_JOB),
    }
}

/// A producer for them; the streams must be there.
pub(super) async fn producer(
    name: Option<&str>,
    settings: &ProcessSettings,
    context: &Context,
) -> Result<Producer, Failure> {
    let connection = Connection::open(&settings.bus, Purpose::Samples).await.map_err(outside)?;
    let subjects = Subjects::new(&settings.topology.prefix).map_err(usage)?;
    let usual = || subject::token_from(&format!("collect-{}", settings.instance));
    let name = name.map_or_else(usual, str::to_owned);
    let cell = settings.topology.cell.as_str();
    Producer::open(connection, subjects, cell, &name, context.clock.clone()).await.map_err(outside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_given_with_or_without_a_job() {
        for (given, address) in [
            ("http://a:9100/metrics", "http://a:9100/metrics"),
            ("node=http://a:9100/metrics", "http://a:9100/metrics"),
            ("http://a/probe?target=b", "http://a/probe?target=b"),
        ] {
            assert_eq!(target(given).unwrap().address(), address);
        }
        assert!(target("node=a:9100").is_err());
    }
}

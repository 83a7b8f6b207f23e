//! Samples in many shapes read as they should: whole, without a refused row, in order.
//!
//! Hand-made files always, public collections where they are there: see `tests/data/README.md`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/corpus.rs"]
mod corpus;

use std::path::Path;

use homeostat::ingest::{IngestError, Options, Samples, merge, open};
use homeostat::model::{Sample, Timestamp};

use corpus::{files, own, public};

fn stream(path: &Path) -> Samples {
    let scraped_at = Some(Timestamp::from_millis(1_700_000_000_000));
    open(path, &Options { scraped_at, ..Options::default() }).unwrap()
}

fn read(path: &Path) -> Vec<Sample> {
    let samples: Result<Vec<Sample>, IngestError> = stream(path).collect();
    samples.unwrap_or_else(|error| panic!("{error}"))
}

/// Lines that hold more than a line end.
fn lines(path: &Path) -> usize {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().filter(|line| !line.trim().is_empty()).count()
}

/// The series of samples, each once.
fn series(samples: &[Sample]) -> Vec<String> {
    let mut series: Vec<String> = samples.iter().map(|sample| sample.series.to_string()).collect();
    series.sort_unstable();
    series.dedup();
    series
}

fn is_read_whole_as_one_series(path: &Path) {
    let samples = read(path);
    assert_eq!(samples.len(), lines(path) - 1, "{}", path.display());
    assert!(samples.iter().all(|sample| sample.series == samples[0].series));
}

#[test]
fn tables_of_time_and_value_read_whole_without_a_refused_row() {
    for name in ["daily_load.csv", "step_at_twenty.csv"] {
        is_read_whole_as_one_series(&own("csv").join(name));
    }
    if let Some(nab) = public("nab") {
        let files = files(&nab, ".csv");
        assert_eq!(files.len(), 31);
        files.iter().for_each(|path| is_read_whole_as_one_series(path));
    }
}

#[test]
fn files_merge_into_one_stream_in_order_of_time() {
    let mut sets = vec![vec![own("csv/daily_load.csv"), own("csv/step_at_twenty.csv")]];
    sets.extend(public("nab").map(|nab| files(&nab, ".csv")));
    for set in sets {
        let rows: usize = set.iter().map(|path| lines(path) - 1).sum();
        let merged: Result<Vec<Sample>, IngestError> =
            merge(set.iter().map(|path| stream(path)).collect()).collect();
        let merged = merged.unwrap();
        assert_eq!(merged.len(), rows);
        assert!(merged.is_sorted_by_key(|sample| sample.at));
    }
}

#[test]
fn labelled_values_are_one_series_for_each_label() {
    let mut paths = vec![own("csv/kpi_labelled.csv")];
    paths.extend(public("kpi").into_iter().flat_map(|kpi| files(&kpi, ".csv.gz").into_iter().take(2)));
    for path in paths {
        let samples = read(&path);
        let mut labels: Vec<_> = samples.iter().filter_map(|sample| sample.series.get("label")).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels, ["0", "1"], "{}", path.display());
    }
}

#[test]
fn a_metric_column_in_the_notation_of_promql_gives_a_series_for_each_machine() {
    let mut sets = vec![(own("csv/machines.csv"), 9, 3)];
    sets.extend(public("planetlab/cpu-20110303.csv.gz").map(|path| (path, 302_976, 1_052)));
    for (path, rows, machines) in sets {
        let samples = read(&path);
        assert_eq!(samples.len(), rows);
        assert_eq!(series(&samples).len(), machines);
        assert!(samples.iter().all(|sample| sample.series.metric_name() == Some("vm_cpu_percent")));
    }
}

#[test]
fn tables_of_one_metric_a_column_read_as_those_metrics() {
    let mut fronts = vec![(own("csv/front_service.csv"), 1_767_225_619_000)];
    if let Some(rca) = public("rca") {
        let tables = files(&rca.join("sockshop"), ".csv").into_iter();
        for path in tables.chain(files(&rca.join("nezha"), "_metric.csv")) {
            let samples = read(&path);
            assert!(samples.len() > lines(&path), "{}: several metrics a row", path.display());
        }
        fronts.push((rca.join("nezha/2022-08-22/front_service.csv"), 1_661_140_279_000));
    }
    for (path, at) in fronts {
        let front = read(&path);
        assert!(front.len() > lines(&path), "several metrics a row");
        assert_eq!(front[0].series.to_string(), "SuccessRate___{ServiceName=\"Frontend\"}");
        assert_eq!((front[0].at.as_millis(), front[0].value), (at, 100.0));
    }
}

#[test]
fn tables_that_are_no_samples_are_refused_whole() {
    let mut paths = files(&own("no-samples"), ".csv");
    if let Some(rca) = public("rca") {
        paths.extend(files(&rca, "graph.csv"));
        paths.extend(files(&rca.join("petshop"), "metrics.csv"));
    }
    for path in paths {
        let items: Vec<_> = stream(&path).collect();
        assert!(
            matches!(items[..], [Err(IngestError::Layout { line: 1, .. })]),
            "{}: {:?}",
            path.display(),
            items.first()
        );
    }
}

#[test]
fn a_scrape_of_an_exporter_reads_whole() {
    let mut scrapes = vec![(own("exposition/exporter.txt"), 14)];
    scrapes.extend(public("exposition/node_exporter.txt").map(|path| (path, 3_027)));
    for (path, count) in scrapes {
        let samples = read(&path);
        assert_eq!(samples.len(), count, "{}", path.display());
        assert_eq!(series(&samples).len(), samples.len());
    }
}

//! Public data reads as it should: whole, without a refused row, in order.
//!
//! The data lies beside the repository in `../shared/data`, or where `HOMEOSTAT_DATA` says.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};

use homeostat::ingest::{IngestError, Options, Samples, merge, open};
use homeostat::model::{Sample, Timestamp};

#[expect(clippy::disallowed_methods, reason = "a test's only setting, read where it is needed")]
fn data(folder: &str) -> PathBuf {
    let root = std::env::var("HOMEOSTAT_DATA").unwrap_or_else(|_| "../shared/data".into());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(root).join(folder);
    assert!(
        path.exists(),
        "{} is missing: these tests read public data from beside the repository; set HOMEOSTAT_DATA to its folder",
        path.display()
    );
    path
}

/// All files below a folder whose names end so, in order.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut folders = vec![data(folder)];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no {ending} below {folder}");
    found
}

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

#[test]
fn each_nab_file_reads_whole_without_a_refused_row() {
    let files = files("nab", ".csv");
    assert_eq!(files.len(), 31);
    for path in &files {
        let samples = read(path);
        assert_eq!(samples.len(), lines(path) - 1, "{}", path.display());
        assert!(samples.iter().all(|sample| sample.series == samples[0].series));
    }
}

#[test]
fn nab_files_merge_into_one_stream_in_order_of_time() {
    let files = files("nab", ".csv");
    let rows: usize = files.iter().map(|path| lines(path) - 1).sum();
    let merged: Result<Vec<Sample>, IngestError> =
        merge(files.iter().map(|path| stream(path)).collect()).collect();
    let merged = merged.unwrap();
    assert_eq!(merged.len(), rows);
    assert!(merged.is_sorted_by_key(|sample| sample.at));
}

#[test]
fn labelled_kpis_are_one_series_for_each_label() {
    for path in files("kpi", ".csv.gz").into_iter().take(2) {
        let samples = read(&path);
        let mut labels: Vec<_> = samples.iter().filter_map(|sample| sample.series.get("label")).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels, ["0", "1"], "{}", path.display());
    }
}

#[test]
fn planetlab_reads_as_its_thousand_machines() {
    let samples = read(&data("planetlab/cpu-20110303.csv.gz"));
    assert_eq!(samples.len(), 302_976);
    let mut machines: Vec<_> = samples.iter().map(|sample| &sample.series).collect();
    machines.sort_unstable();
    machines.dedup();
    assert_eq!(machines.len(), 1_052);
    assert!(machines.iter().all(|series| series.metric_name() == Some("vm_cpu_percent")));
}

#[test]
fn tables_of_one_metric_a_column_read_as_those_metrics() {
    for path in files("rca/sockshop", ".csv").into_iter().chain(files("rca/nezha", "_metric.csv")) {
        let samples = read(&path);
        assert!(samples.len() > lines(&path), "{}: several metrics a row", path.display());
    }
    let front = read(&data("rca/nezha/2022-08-22/front_service.csv"));
    assert_eq!(front[0].series.to_string(), "SuccessRate___{ServiceName=\"Frontend\"}");
    assert_eq!((front[0].at.as_millis(), front[0].value), (1_661_140_279_000, 100.0));
}

#[test]
fn tables_that_are_no_samples_are_refused_whole() {
    for path in files("rca", "graph.csv").into_iter().chain(files("rca/petshop", "metrics.csv")) {
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
fn a_real_scrape_of_node_exporter_reads_whole() {
    let path = data("exposition/node_exporter.txt");
    let samples = read(&path);
    assert_eq!(samples.len(), 3_027);
    let mut series: Vec<_> = samples.iter().map(|sample| &sample.series).collect();
    series.sort_unstable();
    series.dedup();
    assert_eq!(series.len(), samples.len());
}

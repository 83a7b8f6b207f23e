//! Several streams of samples as one, ordered by time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::model::{Sample, Timestamp};

use super::error::{IngestError, RowError};
use super::samples::Samples;

/// Samples that are read ahead, over all files, to put them in order: 64 MB and about a second of reading. A file
/// with fewer rows than its share is sorted whole; in a longer one a row may be late by half the share.
const SORT_WINDOW_SAMPLES_MAX: usize = 2_000_000;

/// The least share of a file, however many there are.
const SHARE_SAMPLES_MIN: usize = 1_024;

/// Orders samples by time; at the same time, by the order of the files, then of their rows. A row that is further out
/// of order than the read-ahead reaches is refused, as it would arrive after later ones.
pub fn merge(sources: Vec<Samples>) -> Merged {
    merge_within(sources, SORT_WINDOW_SAMPLES_MAX)
}

/// [`merge`] with another read-ahead.
fn merge_within(sources: Vec<Samples>, window_samples: usize) -> Merged {
    let share = (window_samples / sources.len().max(1)).max(SHARE_SAMPLES_MIN.min(window_samples)).max(2);
    let is_strict = sources.iter().any(Samples::is_strict);
    let sources: Vec<Source> = sources.into_iter().map(|samples| Source::new(samples, share)).collect();
    let mut merged = Merged { heads: BinaryHeap::new(), sources, reports: VecDeque::new(), is_strict };
    for index in 0..merged.sources.len() {
        merged.advance(index);
    }
    merged
}

/// The merged stream. Errors come as early as they are known, which is before the samples around them.
pub struct Merged {
    sources: Vec<Source>,
    /// The time of each source's next sample, with the source's index.
    heads: BinaryHeap<Reverse<(Timestamp, usize)>>,
    reports: VecDeque<IngestError>,
    is_strict: bool,
}

impl Merged {
    /// How many rows were refused so far.
    pub fn refused(&self) -> u64 {
        self.sources.iter().map(|source| source.samples.refused()).sum()
    }

    /// How many samples had no time of their own so far, and got the scrape's.
    pub fn untimed(&self) -> u64 {
        self.sources.iter().map(|source| source.samples.untimed()).sum()
    }

    /// Makes the source's next sample known.
    fn advance(&mut self, index: usize) {
        let source = &mut self.sources[index];
        if source.releasable == 0 {
            source.fill(&mut self.reports);
        }
        if let Some(sample) = source.buffer.front() {
            self.heads.push(Reverse((sample.at, index)));
        }
    }
}

impl Iterator for Merged {
    type Item = Result<Sample, IngestError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(report) = self.reports.pop_front() {
            if self.is_strict {
                self.heads.clear();
                self.reports.clear();
            }
            return Some(Err(report));
        }
        let Reverse((_, index)) = self.heads.pop()?;
        let sample = self.sources[index].release()?;
        self.advance(index);
        Some(Ok(sample))
    }
}

struct Source {
    samples: Samples,
    /// Sorted by time.
    buffer: VecDeque<Sample>,
    /// As many samples at the front as no row still to be read may precede.
    releasable: usize,
    share: usize,
    passed: Timestamp,
}

impl Source {
    fn new(samples: Samples, share: usize) -> Self {
        Self { samples, buffer: VecDeque::new(), releasable: 0, share, passed: Timestamp::MIN }
    }

    fn fill(&mut self, reports: &mut VecDeque<IngestError>) {
        while self.buffer.len() < self.share {
            match self.samples.next() {
                None => {
                    self.sort();
                    self.releasable = self.buffer.len();
                    return;
                }
                Some(Err(error)) => reports.push_back(error),
                Some(Ok(sample)) if sample.at < self.passed => {
                    let cause = RowError::OutOfOrder { at: sample.at, passed: self.passed };
                    reports.extend(self.samples.refuse(cause));
                }
                Some(Ok(sample)) => self.buffer.push_back(sample),
            }
        }
        self.sort();
        self.releasable = self.share / 2;
    }

    /// Stable, and linear where the rows are in order already.
    fn sort(&mut self) {
        self.buffer.make_contiguous().sort_by_key(|sample| sample.at);
    }

    fn release(&mut self) -> Option<Sample> {
        let sample = self.buffer.pop_front()?;
        self.releasable -= 1;
        self.passed = sample.at;
        Some(sample)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::super::{Format, Options, from_reader};
    use super::*;

    fn source(name: &str, seconds: &[u32], strict: bool) -> Samples {
        let rows: Vec<String> = seconds.iter().enumerate().map(|(row, at)| format!("{at},{row}\n")).collect();
        let text = format!("timestamp,value\n{}", rows.concat());
        let options = Options { strict, ..Options::default() };
        from_reader(name, Cursor::new(text), Format::Csv, &options).unwrap()
    }

    fn lines(merged: Merged) -> Vec<String> {
        merged
            .map(|item| match item {
                Ok(sample) => format!("{} {} {}", sample.series, sample.at.as_millis() / 1_000, sample.value),
                Err(error) => error.to_string(),
            })
            .collect()
    }

    #[test]
    fn ties_keep_the_order_of_files_and_rows() {
        let sources = vec![source("b", &[1, 2, 2, 5], false), source("a", &[2, 2, 1], false)];
        assert_eq!(lines(merge(sources)), ["b 1 0", "a 1 2", "b 2 1", "b 2 2", "a 2 0", "a 2 1", "b 5 3"]);
        assert_eq!(lines(merge(vec![])), [""; 0]);
    }

    #[test]
    fn a_row_beyond_the_window_is_refused_with_its_line() {
        let seconds = [10, 11, 12, 13, 14, 15, 3, 16];
        let mut merged = merge_within(vec![source("a", &seconds, false)], 4);
        let lines: Vec<String> = merged
            .by_ref()
            .map(|item| item.map_or_else(|e| e.to_string(), |s| s.value.to_string()))
            .collect();
        assert_eq!(merged.refused(), 1);
        let refusal = "a:8: 1970-01-01T00:00:03.000Z is before 1970-01-01T00:00:13.000Z, which has been passed on \
            already\nhint: sort the file by time first";
        assert!(lines.contains(&refusal.to_owned()), "{lines:?}");
        assert_eq!(lines.len(), seconds.len());
    }

    #[test]
    fn strict_ends_the_whole_merge() {
        let bad = from_reader(
            "bad",
            Cursor::new("1,1\n2,x\n"),
            Format::Csv,
            &Options { strict: true, ..Options::default() },
        );
        let merged = merge(vec![source("a", &[1, 2], true), bad.unwrap()]);
        assert_eq!(lines(merged), ["bad:2: `x` is not a number"]);
    }

    proptest! {
        #[test]
        fn merging_is_a_stable_sort_of_all_rows(
            files in prop::collection::vec(prop::collection::vec(0_u32..20, 0..40), 0..5),
        ) {
            let name = |file: usize| format!("f{file}");
            let sources = files.iter().enumerate().map(|(file, rows)| source(&name(file), rows, false)).collect();
            let mut expected: Vec<(u32, usize, usize)> = files
                .iter()
                .enumerate()
                .flat_map(|(file, rows)| rows.iter().enumerate().map(move |(row, at)| (*at, file, row)))
                .collect();
            expected.sort_unstable();
            let expected: Vec<String> =
                expected.into_iter().map(|(at, file, row)| format!("{} {at} {row}", name(file))).collect();
            prop_assert_eq!(lines(merge(sources)), expected);
        }

        #[test]
        fn any_window_gives_each_row_once_in_order_or_refuses_it(
            rows in prop::collection::vec(0_u32..50, 0..80),
            window in 1_usize..40,
        ) {
            let mut merged = merge_within(vec![source("a", &rows, false)], window);
            let times: Vec<Timestamp> = merged.by_ref().filter_map(|item| Some(item.ok()?.at)).collect();
            prop_assert!(times.is_sorted());
            prop_assert_eq!(times.len() as u64 + merged.refused(), rows.len() as u64);
        }
    }
}

//! Samples from files, as the commands that take them read them: refused rows are told, some of them one by one.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::exit::{Failure, outside};
use super::{args, output};
use crate::ingest::{self, IngestError, Merged};
use crate::model::{Sample, Timestamp};

/// Refused rows that are told one by one.
const REFUSALS_TOLD_MAX: u64 = 10;

/// Samples of several files in the order of their times.
pub(super) struct Input {
    merged: Merged,
    strict: bool,
    told: u64,
    is_cut_short: bool,
}

/// The time of samples that have none, where `--at` does not say.
#[derive(Clone, Copy)]
pub(super) enum Untimed {
    /// They are published as of then.
    At(Timestamp),
    /// They were written when their file was.
    FileTime,
}

impl Input {
    /// Opens the files.
    pub(super) fn open(paths: &[PathBuf], args: &args::Input, untimed: Untimed) -> Result<Self, Failure> {
        let open = |path: &PathBuf| {
            let options = ingest::Options {
                format: args.input_format,
                strict: args.strict,
                metric: args.metric.clone(),
                scraped_at: args.at.or_else(|| match untimed {
                    Untimed::At(at) => Some(at),
                    Untimed::FileTime => written_at(path),
                }),
            };
            ingest::open(path, &options)
        };
        let sources: Result<Vec<_>, IngestError> = paths.iter().map(open).collect();
        let merged = ingest::merge(sources.map_err(outside)?);
        Ok(Self { merged, strict: args.strict, told: 0, is_cut_short: false })
    }

    /// The next sample; `note` gets what is told of refused rows. After the last one nothing comes any more.
    pub(super) fn next(&mut self, note: &impl Fn(&str)) -> Result<Option<Sample>, Failure> {
        while !self.is_cut_short {
            match self.merged.next() {
                Some(Ok(sample)) => return Ok(Some(sample)),
                Some(Err(error)) if error.is_final() => return Err(outside(error)),
                // Told by its number at the end.
                Some(Err(IngestError::More { .. })) => {}
                Some(Err(error)) => {
                    self.is_cut_short = self.strict;
                    self.told += 1;
                    if self.told <= REFUSALS_TOLD_MAX {
                        note(&error.to_string());
                    }
                }
                None => {
                    let more = self.merged.refused().saturating_sub(REFUSALS_TOLD_MAX);
                    if more > 0 {
                        note(&format!("{} refused", output::count(more, "more row")));
                    }
                    let untimed = self.merged.untimed();
                    if untimed > 0 {
                        let samples = output::count(untimed, "sample");
                        note(&format!(
                            "{samples} without a time: taken as of the scrape\nhint: --at TIME says when that was"
                        ));
                    }
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }

    /// How many rows were refused so far.
    pub(super) fn refused(&self) -> u64 {
        self.merged.refused()
    }

    /// Whether a refused row ended the reading.
    pub(super) fn is_cut_short(&self) -> bool {
        self.is_cut_short
    }
}

/// When a file was written.
fn written_at(path: &Path) -> Option<Timestamp> {
    let written = std::fs::metadata(path).ok()?.modified().ok()?;
    Some(Timestamp::from_millis(0) + written.duration_since(UNIX_EPOCH).ok()?)
}

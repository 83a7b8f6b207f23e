//! What a monitor has counted: for metrics, and for the reports that a limit was reached.

/// Sums since the core was made; they are not part of a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames taken in, duplicates not among them.
    pub frames: u64,
    /// Frames seen before, or too far behind to tell.
    pub frames_duplicate: u64,
    /// Frames that never came: gaps in the sequences, less what came late.
    pub frames_lost: u64,
    /// Frames of an epoch of their producer that is over.
    pub frames_of_older_epoch: u64,
    /// Frames of producers above the limit.
    pub frames_refused: u64,
    /// Frames dropped because their table did not come in time or too many were waiting.
    pub frames_dropped: u64,
    /// Samples that were stored.
    pub samples: u64,
    /// Samples known with the same value.
    pub samples_duplicate: u64,
    /// Samples known with another value: the first one counts.
    pub samples_conflicting: u64,
    /// Samples too late to be taken.
    pub samples_too_late: u64,
    /// Samples from further in the future than clocks are off, or from before 1970.
    pub samples_out_of_time: u64,
    /// Samples refused because the store was full.
    pub samples_refused: u64,
    /// Samples dropped before their time because the store was full.
    pub samples_evicted: u64,
    /// Samples that point at no series: outside their table, or at a series that was refused.
    pub samples_unknown_series: u64,
    /// Series known now.
    pub series: u64,
    /// Tables asked for now.
    pub tables_missing: u64,
    /// Producers whose clock is marked as wrong now.
    pub producers_skewed: u64,
    /// Series refused by a limit.
    pub series_refused: u64,
    /// Tables whose name is not the hash of their contents.
    pub tables_refused: u64,
    /// Tables forgotten to make room.
    pub tables_forgotten: u64,
    /// Evaluations of rules, each of a batch of series counted once.
    pub evaluations: u64,
    /// Evaluations that ended in an error.
    pub evaluations_failed: u64,
    /// Label sets that did not become violations because a rule has too many, or the labels are not allowed.
    pub violations_refused: u64,
    /// Violations and changes from outside that were recorded.
    pub intake_recorded: u64,
    /// Those that said nothing new.
    pub intake_repeated: u64,
    /// Those that were refused.
    pub intake_refused: u64,
    /// Batches that the ledger refused for good.
    pub batches_refused: u64,
    /// Grid points of interval groups that were left out because too many were due.
    pub grid_points_skipped: u64,
}

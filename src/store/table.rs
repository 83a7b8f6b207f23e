//! Tables, keys and ranges of keys, as callers name them.

use std::fmt;
use std::ops::Bound;

/// Keys sort inside sled's index nodes; long ones make each split copy more. Ours are ids and times.
pub const KEY_BYTES_MAX: usize = 256;

/// What a record is about. The byte is part of the format on disk: append, never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// What the fold must remember about itself.
    Meta = 1,
    /// Episodes of rules that held.
    Violations = 2,
    /// Violations with one supposed cause.
    Incidents = 3,
    /// Patterns and ranked root causes.
    Analyses = 4,
    /// Remediation policies.
    Plans = 5,
    /// Steps of plans, with their attempts and outcomes.
    Actions = 6,
    /// What the samples said about a plan afterwards.
    Verdicts = 7,
    /// Why something was not done.
    Reports = 8,
    /// Deploys, configuration, scaling, our own effects.
    Changes = 9,
    /// How well a playbook answers a cause in a scope.
    Learned = 10,
    /// Halts, bundles, approvals and what else operators said.
    Control = 11,
    /// Index: time, then table and key of what happened.
    ByTime = 12,
}

impl Table {
    /// All of them, in the order of their bytes.
    pub const ALL: [Self; 12] = [
        Self::Meta,
        Self::Violations,
        Self::Incidents,
        Self::Analyses,
        Self::Plans,
        Self::Actions,
        Self::Verdicts,
        Self::Reports,
        Self::Changes,
        Self::Learned,
        Self::Control,
        Self::ByTime,
    ];

    /// The name in messages and exports' summaries.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Violations => "violations",
            Self::Incidents => "incidents",
            Self::Analyses => "analyses",
            Self::Plans => "plans",
            Self::Actions => "actions",
            Self::Verdicts => "verdicts",
            Self::Reports => "reports",
            Self::Changes => "changes",
            Self::Learned => "learned",
            Self::Control => "control",
            Self::ByTime => "by_time",
        }
    }

    /// The byte in front of each key on disk.
    pub(super) const fn byte(self) -> u8 {
        self as u8
    }

    /// The table of a byte read from disk or from an export.
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.byte() == byte)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One record: its key inside its table, and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// 1 to [`KEY_BYTES_MAX`] bytes.
    pub key: Vec<u8>,
    /// Up to [`super::VALUE_BYTES_MAX`] bytes.
    pub value: Vec<u8>,
}

/// A run of keys of one table, in byte order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    pub(super) from: Bound<Vec<u8>>,
    pub(super) to: Bound<Vec<u8>>,
}

impl KeyRange {
    /// The whole table.
    pub const fn all() -> Self {
        Self { from: Bound::Unbounded, to: Bound::Unbounded }
    }

    /// The keys that begin with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        let to = match successor(prefix) {
            Some(end) => Bound::Excluded(end),
            None => Bound::Unbounded,
        };
        Self { from: Bound::Included(prefix.to_vec()), to }
    }

    /// `from` and what follows, up to but without `to`.
    #[cfg(test)]
    pub(super) fn between(from: &[u8], to: &[u8]) -> Self {
        Self { from: Bound::Included(from.to_vec()), to: Bound::Excluded(to.to_vec()) }
    }

    /// The same range without `key` and what stands before it: the next page.
    #[must_use]
    pub fn after(self, key: &[u8]) -> Self {
        Self { from: Bound::Excluded(key.to_vec()), to: self.to }
    }
}

/// The first byte string after all that begin with `prefix`; none after `0xff…`.
fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_tables_are_distinct_leave_room_for_parts_and_read_back() {
        for (n, table) in Table::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(table.byte()), n + 1);
            assert!(table.byte() < 0x80, "the top bit marks parts of long values");
            assert_eq!(Table::from_byte(table.byte()), Some(table));
        }
        assert_eq!(Table::from_byte(0), None);
        assert_eq!(Table::from_byte(13), None);
    }

    #[test]
    fn a_prefix_ends_before_the_next_byte_string() {
        assert_eq!(KeyRange::prefix(b"ab").to, Bound::Excluded(b"ac".to_vec()));
        assert_eq!(KeyRange::prefix(&[7, 0xff]).to, Bound::Excluded(vec![8]));
        assert_eq!(KeyRange::prefix(&[0xff, 0xff]).to, Bound::Unbounded);
        assert_eq!(KeyRange::prefix(b"").to, Bound::Unbounded);
    }
}

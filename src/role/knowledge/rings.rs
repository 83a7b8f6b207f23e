//! How much is remembered: each kind by number and age, and all of it by the room that the store has. The oldest goes first,
//! in pieces; nothing that comes in can fill the store.

use std::time::Duration;

use super::KnowledgeError;
use super::facts::{self, join};
use super::writing::Writing;
use crate::model::Timestamp;
use crate::store::{KeyRange, Store, Table};
use crate::telemetry;
use crate::wire;

const DAY: Duration = Duration::from_hours(24);

/// Rows that are dropped before the next look.
const DROPPED_AT_ONCE: usize = 512;
/// Incidents that are dropped before the next look: about ten rows each.
const INCIDENTS_DROPPED_AT_ONCE: usize = 16;
/// Learned pairs that go when there are too many: finding the oldest reads all of them.
const LEARNED_DROPPED_AT_ONCE: usize = 1_000;
/// Rows of one page of a scan.
const PAGE_ROWS: usize = 1_000;

/// Above this many thousandths of its room the store gives up what is oldest, whatever it is: far enough from the limit for
/// the largest record.
const FULL_ABOVE: u64 = 900;
/// Down to this: giving up a little with every record would be as much work each time.
const FULL_UNTIL: u64 = 880;

/// What is kept in the order of time and given up from its oldest end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ring {
    /// With all that was thought and done about them.
    Incidents,
    Violations,
    Reports,
    Changes,
    Control,
    /// In the order of the last verdict.
    Learned,
}

impl Ring {
    pub(super) const ALL: [Self; 6] =
        [Self::Incidents, Self::Violations, Self::Reports, Self::Changes, Self::Control, Self::Learned];

    /// The key of its count, and its name in metrics.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Incidents => "incidents",
            Self::Violations => "violations",
            Self::Reports => "reports",
            Self::Changes => "changes",
            Self::Control => "control",
            Self::Learned => "learned",
        }
    }

    pub(super) const fn table(self) -> Table {
        match self {
            Self::Incidents => Table::Incidents,
            Self::Violations => Table::Violations,
            Self::Reports => Table::Reports,
            Self::Changes => Table::Changes,
            Self::Control => Table::Control,
            Self::Learned => Table::Learned,
        }
    }

    /// How many are kept. Together they stay below a gigabyte at their usual size: about 10 KiB for an incident, less than
    /// one for the others.
    pub(super) const fn max(self) -> u64 {
        match self {
            Self::Incidents | Self::Changes => 50_000,
            Self::Violations => 300_000,
            Self::Reports => 100_000,
            Self::Control => 10_000,
            // Twice what the fold keeps of each kind.
            Self::Learned => 40_000,
        }
    }

    /// How old they may become, in ledger time; incidents and what was learned stay while there is room for them.
    const fn age_max(self) -> Option<Duration> {
        const QUARTER: Duration = Duration::from_secs(90 * DAY.as_secs());
        match self {
            Self::Violations | Self::Reports | Self::Changes => Some(QUARTER),
            Self::Incidents | Self::Control | Self::Learned => None,
        }
    }

    /// The byte that keeps the two indexes by time apart; none where the table's own keys are in the order of time.
    const fn index(self) -> Option<u8> {
        match self {
            Self::Incidents => Some(b'i'),
            Self::Violations => Some(b'v'),
            Self::Reports | Self::Changes | Self::Control | Self::Learned => None,
        }
    }

    /// The key in the index by time of a `subject` that was first seen at `place`.
    pub(super) fn by_time(self, place: &[u8], subject: &[u8]) -> Vec<u8> {
        let mut key: Vec<u8> = self.index().into_iter().collect();
        key.extend_from_slice(place);
        join(&key, subject)
    }

    /// What a key of the index by time leads to.
    pub(super) fn subject(by_time: &[u8]) -> Option<&[u8]> {
        by_time.get(PLACE_END..).filter(|subject| !subject.is_empty())
    }

    /// Where its members lie in the order of time.
    pub(super) fn in_time(self) -> (Table, KeyRange) {
        match self.index() {
            Some(byte) => (Table::ByTime, KeyRange::prefix(&[byte])),
            None => (self.table(), KeyRange::all()),
        }
    }

    /// The place in the ledger that a key of [`Self::in_time`] begins with.
    fn sequence(self, key: &[u8]) -> u64 {
        let start = usize::from(self.index().is_some());
        let sequence = key.get(start..).and_then(<[u8]>::first_chunk);
        sequence.map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }
}

/// Index byte, sequence, place in the batch.
const PLACE_END: usize = 1 + 8 + 2;

/// How many there are.
pub(super) fn count(store: &Store, ring: Ring) -> Result<u64, KnowledgeError> {
    Writing::begin(store).count(ring)
}

/// Drops what is too many or too old.
pub(super) fn trim(store: &Store, now: Timestamp) -> Result<(), KnowledgeError> {
    for ring in Ring::ALL {
        loop {
            let surplus = count(store, ring)?.saturating_sub(ring.max());
            let surplus = usize::try_from(surplus).unwrap_or(usize::MAX);
            let surplus = if surplus > 0 { surplus } else { too_old(store, ring, now)? };
            if surplus == 0 || drop_oldest(store, ring, surplus)? == 0 {
                break;
            }
        }
    }
    Ok(())
}

/// Whether the store is nearly full.
pub(super) fn is_full(store: &Store) -> bool {
    store.fullness() >= FULL_ABOVE
}

/// Gives up what is oldest until there is room again.
pub(super) fn relieve(store: &Store) -> Result<(), KnowledgeError> {
    tracing::warn!(
        thousandths = store.fullness(),
        "the store is nearly full: what is oldest is given up before its time"
    );
    telemetry::knowledge_full();
    give_up_while(store, |store| store.fullness() > FULL_UNTIL)
}

fn give_up_while(store: &Store, is_full: impl Fn(&Store) -> bool) -> Result<(), KnowledgeError> {
    while is_full(store) {
        let Some(ring) = oldest(store)? else { break };
        if drop_oldest(store, ring, DROPPED_AT_ONCE)? == 0 {
            break;
        }
    }
    Ok(())
}

/// The ring whose oldest member came first.
fn oldest(store: &Store) -> Result<Option<Ring>, KnowledgeError> {
    let mut oldest: Option<(u64, Ring)> = None;
    for ring in [Ring::Incidents, Ring::Violations, Ring::Reports, Ring::Changes, Ring::Control] {
        let (table, range) = ring.in_time();
        if let Some(first) = store.scan(table, &range, 1)?.records.first() {
            let sequence = ring.sequence(&first.key);
            if oldest.is_none_or(|(known, _)| sequence < known) {
                oldest = Some((sequence, ring));
            }
        }
    }
    Ok(oldest.map(|(_, ring)| ring))
}

/// How many of the oldest are too old, as far as they are dropped at once.
fn too_old(store: &Store, ring: Ring, now: Timestamp) -> Result<usize, KnowledgeError> {
    let Some(age_max) = ring.age_max() else { return Ok(0) };
    let (table, range) = ring.in_time();
    // Nearly always the first one is young enough.
    for look in [1, DROPPED_AT_ONCE] {
        for (place, row) in store.scan(table, &range, look)?.records.into_iter().enumerate() {
            let row = match (ring.index(), Ring::subject(&row.key)) {
                (None, _) => Some(row.value),
                (Some(_), Some(subject)) => store.get(ring.table(), subject)?,
                (Some(_), None) => None,
            };
            // An index that leads nowhere, or a row that nobody can read any more, has served its time.
            let stored_at = row.and_then(|row| wire::ledger::kept(&row).ok()).map(|record| record.stored_at);
            if stored_at.is_some_and(|stored_at| now.saturating_since(stored_at) <= age_max) {
                return Ok(place);
            }
        }
    }
    Ok(DROPPED_AT_ONCE)
}

/// Drops some of the oldest, at most `most`; how many.
fn drop_oldest(store: &Store, ring: Ring, most: usize) -> Result<usize, KnowledgeError> {
    let mut writing = Writing::begin(store);
    let dropped = match ring {
        Ring::Learned => drop_learned(&mut writing)?,
        Ring::Incidents => drop_first(&mut writing, ring, most.min(INCIDENTS_DROPPED_AT_ONCE))?,
        Ring::Violations | Ring::Reports | Ring::Changes | Ring::Control => {
            drop_first(&mut writing, ring, most.min(DROPPED_AT_ONCE))?
        }
    };
    writing.finish()?;
    telemetry::knowledge_dropped(ring.name(), dropped as u64);
    Ok(dropped)
}

fn drop_first(writing: &mut Writing<'_>, ring: Ring, most: usize) -> Result<usize, KnowledgeError> {
    let (table, range) = ring.in_time();
    let page = writing.store().scan(table, &range, most)?;
    for row in &page.records {
        if ring == Ring::Incidents {
            facts::forget(writing, &row.key)?;
            continue;
        }
        writing.make_room(3, row.key.len())?;
        if table == Table::ByTime
            && let Some(subject) = Ring::subject(&row.key)
        {
            writing.delete(ring.table(), subject)?;
        }
        writing.delete(table, &row.key)?;
        writing.count_down(ring)?;
    }
    Ok(page.records.len())
}

/// The least recently taught.
fn drop_learned(writing: &mut Writing<'_>) -> Result<usize, KnowledgeError> {
    let mut taught = Vec::new();
    let mut range = KeyRange::all();
    loop {
        let page = writing.store().scan(Table::Learned, &range, PAGE_ROWS)?;
        for row in &page.records {
            let at = wire::knowledge::decode_learned(&row.value).map(|row| row.effectiveness.at);
            taught.push((at.unwrap_or(Timestamp::MIN), row.key.clone()));
        }
        match page.records.last() {
            Some(last) if page.more => range = range.after(&last.key),
            Some(_) | None => break,
        }
    }
    taught.sort_unstable();
    taught.truncate(LEARNED_DROPPED_AT_ONCE);
    for (_, key) in &taught {
        writing.make_room(2, key.len())?;
        writing.delete(Table::Learned, key)?;
        writing.count_down(Ring::Learned)?;
    }
    Ok(taught.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Entry, Topic};
    use crate::role::knowledge::tests::{Home, change, incident, record, violation};

    fn rows(store: &Store, table: Table) -> usize {
        store.scan(table, &KeyRange::all(), 10_000).unwrap().records.len()
    }

    #[test]
    fn what_is_too_many_goes_from_its_oldest_end() {
        let home = Home::new();
        let knowledge = home.open();
        let most = Ring::Control.max();
        let entry = |n: u64| Entry::Applied { generation: crate::model::Generation(n), hash: "h".into() };
        for sequence in 1..=(most / 250 + 2) {
            let entries = (0..250).map(|n| entry(sequence * 1_000 + n)).collect();
            knowledge.remember(&[record(sequence, 0, Topic::Control, entries)]).unwrap();
            assert!(count(knowledge.store(), Ring::Control).unwrap() <= most);
        }
        assert_eq!(rows(knowledge.store(), Table::Control) as u64, most);
        let first = knowledge.store().scan(Table::Control, &KeyRange::all(), 1).unwrap().records.remove(0);
        assert_eq!(Ring::Control.sequence(&first.key), 3);
    }

    #[test]
    fn what_is_too_old_goes_and_the_rest_stays() {
        let home = Home::new();
        let knowledge = home.open();
        let (day, quarter) = (86_400_000, 90 * 86_400_000);
        let both = |sequence, at| {
            let changed = record(sequence, at, Topic::Changes, vec![change(sequence)]);
            [
                changed,
                record(
                    sequence + 1,
                    at,
                    Topic::Violations(crate::model::Severity::Info),
                    vec![violation(sequence)],
                ),
            ]
        };
        knowledge.remember(&both(1, 0)).unwrap();
        knowledge.remember(&both(3, day)).unwrap();
        assert_eq!(
            (rows(knowledge.store(), Table::Changes), rows(knowledge.store(), Table::Violations)),
            (2, 2)
        );
        knowledge.remember(&both(5, quarter + day)).unwrap();
        for (table, ring) in [(Table::Changes, Ring::Changes), (Table::Violations, Ring::Violations)] {
            assert_eq!((rows(knowledge.store(), table), count(knowledge.store(), ring).unwrap()), (2, 2));
        }
        assert_eq!(rows(knowledge.store(), Table::ByTime), 2, "no index leads nowhere");
    }

    #[test]
    fn without_room_the_oldest_goes_whatever_it_is() {
        let home = Home::new();
        let knowledge = home.open();
        for n in 0..40 {
            let sequence = 2 * n + 1;
            knowledge
                .remember(&[
                    record(sequence, 0, Topic::Analyses(crate::model::Shard(0)), vec![incident(n)]),
                    record(sequence + 1, 0, Topic::Changes, vec![change(n)]),
                ])
                .unwrap();
        }
        let store = knowledge.store();
        let left = |store: &Store| count(store, Ring::Incidents).unwrap();
        give_up_while(store, |store| left(store) > 20).unwrap();
        assert_eq!(left(store), 8, "sixteen at once");
        // Changes are given up by the hundreds, and all forty were older than the second lot of incidents.
        assert_eq!(count(store, Ring::Changes).unwrap(), 0);
        give_up_while(store, |_| true).unwrap();
        for table in [Table::Incidents, Table::Changes, Table::ByTime] {
            assert_eq!(rows(store, table), 0, "{table}");
        }
    }
}

//! Evaluations that wait for the rest of their moment: an expression that reads several series is evaluated when all
//! parts of a scrape are in, or [`JOIN_WAIT`] after its first sample, never on half a scrape.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::deadlines::JOIN_WAIT;
use super::producers::ProducerId;
use crate::model::{PlanId, ScrapePart, Timestamp};

/// Parts of a scrape are remembered this long: the lateness that is allowed to samples.
const SCRAPE_REMEMBERED: Duration = Duration::from_secs(5);
/// A scrape of more parts than this has over half a million series; its parts are not waited for.
const PARTS_MAX: u16 = 1_024;
/// A minute's worth of scrapes of a thousand producers; beyond, the oldest are no longer waited for.
const SCRAPES_MAX: usize = 16_384;

/// Evaluations that wait at once: a minute of a hundred rules. Beyond, the first is carried out at once.
const WAITING_MAX: usize = 65_536;

/// What waits for its moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Reader {
    /// A rule, by its place.
    Rule(u32),
    /// The verification of a plan.
    Verification(PlanId),
}

/// A scrape: a producer's samples of one time.
pub(super) type ScrapeKey = (ProducerId, Timestamp);

/// A scrape that is not whole.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scrape {
    /// How many parts it has.
    pub(super) parts: u16,
    /// Those that are in.
    pub(super) seen: BTreeSet<u16>,
    /// When it is no longer remembered.
    pub(super) forget_at: Timestamp,
    /// What waits for the rest.
    pub(super) readers: BTreeSet<Reader>,
}

/// Evaluations that are due at some time, and scrapes that are not whole.
#[derive(Debug, Default)]
pub(super) struct Joins {
    /// Event time and reader → when it is evaluated at the latest.
    waiting: BTreeMap<(Timestamp, Reader), Timestamp>,
    by_due: BTreeSet<(Timestamp, Timestamp, Reader)>,
    scrapes: BTreeMap<ScrapeKey, Scrape>,
    scrapes_by_end: BTreeSet<(Timestamp, ScrapeKey)>,
}

impl Joins {
    /// An evaluation at `at` is wanted.
    pub(super) fn want(&mut self, reader: Reader, at: Timestamp, scrape: Option<ScrapeKey>, now: Timestamp) {
        if let Some(scrape) = scrape.and_then(|key| self.scrapes.get_mut(&key)) {
            scrape.readers.insert(reader);
        }
        self.restore_wait(reader, at, now + JOIN_WAIT);
    }

    /// The same, with the time it is evaluated at the latest.
    pub(super) fn restore_wait(&mut self, reader: Reader, at: Timestamp, due: Timestamp) {
        if let std::collections::btree_map::Entry::Vacant(place) = self.waiting.entry((at, reader)) {
            place.insert(due);
            self.by_due.insert((due, at, reader));
        }
    }

    /// A part of a scrape comes in: what its rows want may wait for the rest.
    pub(super) fn open_scrape(&mut self, key: ScrapeKey, part: ScrapePart, now: Timestamp) -> bool {
        if part.parts == 0 || part.parts > PARTS_MAX {
            return false;
        }
        if !self.scrapes.contains_key(&key) {
            let is_full = self.scrapes.len() >= SCRAPES_MAX;
            if let Some((_, oldest)) = is_full.then(|| self.scrapes_by_end.pop_first()).flatten() {
                self.scrapes.remove(&oldest);
            }
            let forget_at = now + SCRAPE_REMEMBERED;
            let (seen, readers) = (BTreeSet::new(), BTreeSet::new());
            self.restore_scrape(key, Scrape { parts: part.parts, seen, forget_at, readers });
        }
        true
    }

    pub(super) fn restore_scrape(&mut self, key: ScrapeKey, scrape: Scrape) {
        self.scrapes_by_end.insert((scrape.forget_at, key));
        self.scrapes.insert(key, scrape);
    }

    /// The rows of a part are stored; returns what is to be evaluated where it was the last one.
    pub(super) fn close_part(&mut self, key: ScrapeKey, part: ScrapePart) -> Vec<Reader> {
        let Some(scrape) = self.scrapes.get_mut(&key) else { return Vec::new() };
        scrape.seen.insert(part.part);
        if scrape.seen.len() < usize::from(scrape.parts) {
            return Vec::new();
        }
        let forget_at = scrape.forget_at;
        let readers = self.scrapes.remove(&key).map(|scrape| scrape.readers).unwrap_or_default();
        self.scrapes_by_end.remove(&(forget_at, key));
        readers.into_iter().filter(|reader| self.take(*reader, key.1)).collect()
    }

    /// An evaluation is carried out now; whether it was wanted.
    pub(super) fn take(&mut self, reader: Reader, at: Timestamp) -> bool {
        match self.waiting.remove(&(at, reader)) {
            Some(due) => self.by_due.remove(&(due, at, reader)),
            None => false,
        }
    }

    /// The evaluations that a reader waits for are carried out now, in this order.
    pub(super) fn take_of(&mut self, reader: Reader) -> Vec<Timestamp> {
        let times: Vec<Timestamp> =
            self.waiting.keys().filter(|(_, waiting)| *waiting == reader).map(|(at, _)| *at).collect();
        times.into_iter().filter(|at| self.take(reader, *at)).collect()
    }

    /// The evaluation that has waited longest, where too many wait.
    pub(super) fn overflow(&mut self) -> Option<(Timestamp, Reader)> {
        if self.waiting.len() <= WAITING_MAX {
            return None;
        }
        let (_, at, reader) = self.by_due.pop_first()?;
        self.waiting.remove(&(at, reader));
        Some((at, reader))
    }

    /// Takes out what has waited long enough, in the order of event time.
    pub(super) fn due(&mut self, now: Timestamp) -> Vec<(Timestamp, Reader)> {
        let mut due = Vec::new();
        while let Some((_, at, reader)) = self.by_due.first().copied().filter(|(due, ..)| *due <= now) {
            self.by_due.pop_first();
            self.waiting.remove(&(at, reader));
            due.push((at, reader));
        }
        due.sort_unstable();
        while let Some((_, key)) = self.scrapes_by_end.first().copied().filter(|(end, _)| *end <= now) {
            self.scrapes_by_end.pop_first();
            self.scrapes.remove(&key);
        }
        due
    }

    /// When something has waited long enough.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.by_due.first().map(|(due, ..)| *due)
    }

    pub(super) fn waiting(&self) -> impl Iterator<Item = (Reader, Timestamp, Timestamp)> {
        self.waiting.iter().map(|((at, reader), due)| (*reader, *at, *due))
    }

    pub(super) fn scrapes(&self) -> impl Iterator<Item = (ScrapeKey, &Scrape)> {
        self.scrapes.iter().map(|(key, scrape)| (*key, scrape))
    }

    /// Rules have other places now; `place` says which, or that there is none.
    pub(super) fn renumber(&mut self, place: impl Fn(u32) -> Option<u32>) {
        let renumber = |reader: Reader| match reader {
            Reader::Rule(old) => place(old).map(Reader::Rule),
            Reader::Verification(_) => Some(reader),
        };
        let old = std::mem::take(&mut self.waiting);
        self.by_due.clear();
        for ((at, reader), due) in old {
            if let Some(reader) = renumber(reader) {
                self.restore_wait(reader, at, due);
            }
        }
        for scrape in self.scrapes.values_mut() {
            scrape.readers = scrape.readers.iter().filter_map(|reader| renumber(*reader)).collect();
        }
    }
}

/// Where samples are no part of a scrape, the moments they are joined at: at most twenty a second for each reader,
/// however the series' times are spread.
pub(super) fn joined_at(at: Timestamp) -> Timestamp {
    #[expect(clippy::cast_possible_truncation, reason = "fifty fits")]
    let step = JOIN_WAIT.as_millis() as i64;
    let over = at.as_millis().rem_euclid(step);
    Timestamp::from_millis(at.as_millis().saturating_add((step - over) % step))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANYBODY: ProducerId = ProducerId(1);
    const RULE: Reader = Reader::Rule(0);

    fn ms(at: i64) -> Timestamp {
        Timestamp::from_millis(at)
    }

    fn part(part: u16) -> ScrapePart {
        ScrapePart { part, parts: 2 }
    }

    #[test]
    fn a_scrape_is_evaluated_when_its_last_part_is_in() {
        let mut joins = Joins::default();
        let key = (ANYBODY, ms(1_000));
        for (number, expected) in [(0, vec![]), (0, vec![]), (1, vec![RULE])] {
            assert!(joins.open_scrape(key, part(number), ms(1_001)));
            joins.want(RULE, ms(1_000), Some(key), ms(1_001));
            assert_eq!(joins.close_part(key, part(number)), expected);
        }
        assert_eq!(joins.next(), None);
        assert_eq!(joins.due(ms(9_000)), []);
    }

    #[test]
    fn half_a_scrape_is_evaluated_after_the_wait_and_its_late_part_once_more() {
        let mut joins = Joins::default();
        let key = (ANYBODY, ms(1_000));
        joins.open_scrape(key, part(0), ms(1_001));
        joins.want(RULE, ms(1_000), Some(key), ms(1_001));
        joins.close_part(key, part(0));
        assert_eq!(joins.due(ms(1_050)), []);
        assert_eq!(joins.next(), Some(ms(1_051)));
        assert_eq!(joins.due(ms(1_051)), [(ms(1_000), RULE)]);
        joins.open_scrape(key, part(1), ms(2_000));
        joins.want(RULE, ms(1_000), Some(key), ms(2_000));
        assert_eq!(joins.close_part(key, part(1)), [RULE]);
    }

    #[test]
    fn moments_without_a_scrape_are_joined_upwards() {
        let cases = [(0, 0), (1, 50), (50, 50), (51, 100), (-1, 0), (-50, -50), (-51, -50)];
        for (at, joined) in cases {
            assert_eq!(joined_at(ms(at)), ms(joined), "{at}");
        }
    }
}

//! The series of a test: they come into being as its time goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::engine::promql::{Appended, Limits, SeriesStore};
use crate::model::{Labels, Timestamp};
use crate::promtest::notation::{Line, Point, series_line};
use crate::wire::files::RuleTest;

/// Everything is kept: longer than any test.
const KEPT: Duration = Duration::from_secs(1 << 40);
/// As many as a test may name or record: a hundred times the largest rule file we know.
const SERIES_MAX: usize = 1_000_000;

/// What is known at a time of the test.
pub(super) struct World {
    pub(super) store: SeriesStore,
    input: Vec<Input>,
    /// The series that have something the store cannot hold.
    pub(super) unheld: Vec<Labels>,
    start: Timestamp,
    interval: Duration,
}

/// A series of the test.
struct Input {
    labels: Labels,
    points: Vec<Point>,
    /// The first of them that is not known yet.
    next: usize,
}

impl World {
    /// The world before anything is known, or what is wrong with the series.
    pub(super) fn new(test: &RuleTest) -> Result<Self, String> {
        let mut store = SeriesStore::new(Limits { series: SERIES_MAX, lateness: KEPT, ..Limits::default() });
        store.retain(KEPT);
        // A series that is given twice is what the second line says.
        let mut input: BTreeMap<Labels, Vec<Point>> = BTreeMap::new();
        for series in &test.input_series {
            let line = format!("{} {}", series.series, series.values);
            let at = |error: String| format!("input series `{line}`: {error}");
            let Line { labels, points } = series_line(&line).map_err(at)?;
            let labels = labels.filter(|labels| !labels.is_empty());
            input.insert(labels.ok_or_else(|| at("it has no labels".to_owned()))?, points);
        }
        let is_unheld =
            |points: &[Point]| points.iter().any(|one| matches!(one, Point::Histogram | Point::Start));
        let unheld = input.iter().filter(|(_, points)| is_unheld(points)).map(|(labels, _)| labels.clone());
        Ok(Self {
            store,
            unheld: unheld.collect(),
            input: input.into_iter().map(|(labels, points)| Input { labels, points, next: 0 }).collect(),
            start: test.start,
            interval: test.interval,
        })
    }

    /// Lets the values up to and including a time be known.
    pub(super) fn advance(&mut self, to: Timestamp) -> Result<(), String> {
        let passed = to.saturating_since(self.start).as_millis() / self.interval.as_millis().max(1);
        let until = usize::try_from(passed).unwrap_or(usize::MAX).saturating_add(1);
        for Input { labels, points, next } in &mut self.input {
            let end = until.min(points.len());
            let Some(news) = points.get(*next..end).filter(|news| !news.is_empty()) else { continue };
            let id = self.store.series(labels).map_err(|error| error.to_string())?;
            for (index, point) in (*next..).zip(news) {
                let Point::Float(value) = *point else { continue };
                let steps = u32::try_from(index).unwrap_or(u32::MAX);
                let at = self.start + self.interval * steps;
                match self.store.append(id, at, value) {
                    Appended::Stored | Appended::StoredLate | Appended::Duplicate => {}
                    Appended::Conflict => return Err(format!("{labels} was recorded by a rule, too")),
                    Appended::TooOld | Appended::Full | Appended::Forgotten => {
                        return Err(format!("{labels}: no room for more samples"));
                    }
                }
            }
            *next = end;
        }
        Ok(())
    }
}

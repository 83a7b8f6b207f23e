//! Groups with an interval: evaluated at its multiples, as Prometheus does, when the samples up to there are in.

use std::collections::BTreeSet;
use std::time::Duration;

use super::deadlines::wall_of;
use super::evaluation::{Evaluation, just_before};
use super::producers::{ProducerId, Producers};
use super::rules::GridGroup;
use crate::model::Timestamp;

/// Prometheus' own limit for points of a range. A group that is further behind goes on from there.
const POINTS_PER_STEP_MAX: u64 = 11_000;

/// A producer's bucket.
pub(super) type LaneKey = (ProducerId, u32);

/// A group with an interval, and how far it is.
#[derive(Clone, Debug)]
pub(super) struct Grid {
    pub(super) group: GridGroup,
    /// The next point to evaluate at.
    pub(super) next: Option<Timestamp>,
    /// Whose samples it reads.
    pub(super) lanes: BTreeSet<LaneKey>,
    /// Whether a point was evaluated since there are samples.
    pub(super) has_begun: bool,
    /// The frame that was looked at last.
    mark: u64,
    /// Whether samples behind the next point have come since the points were last looked at.
    pub(super) may_pass: bool,
    /// When the next point is evaluated at the latest, going by the lags when that was last looked at.
    pub(super) due_at: Timestamp,
}

impl Grid {
    pub(super) fn new(group: GridGroup) -> Self {
        Self {
            group,
            next: None,
            lanes: BTreeSet::new(),
            has_begun: false,
            mark: 0,
            may_pass: false,
            due_at: Timestamp::MIN,
        }
    }

    /// A frame has a sample that the group reads.
    #[inline]
    pub(super) fn touch(&mut self, frame: u64, lane: LaneKey, at: Timestamp) {
        if self.mark != frame || !self.has_begun {
            self.mark = frame;
            self.touch_first(lane, at);
        }
    }

    #[cold]
    fn touch_first(&mut self, lane: LaneKey, at: Timestamp) {
        self.lanes.insert(lane);
        self.begin(at);
    }

    fn begin(&mut self, at: Timestamp) {
        if self.has_begun {
            return;
        }
        // Points before the first samples have nothing to say; samples may be older than we are.
        let first = self.point_from(at);
        if self.next.is_none_or(|next| first < next) {
            self.next = Some(first);
            self.may_pass = true;
        }
    }

    /// A rule has recorded a sample that the group reads. Its time is that of the samples it was made of, which say how
    /// far their producers are.
    pub(super) fn touch_recorded(&mut self, at: Timestamp) {
        self.begin(at);
    }

    /// Samples up to here have come: of series that the group reads or of others, which tell as well how far a producer is.
    pub(super) fn pass(&mut self, newest: Timestamp) {
        self.may_pass |= self.next.is_none_or(|next| newest > next);
    }

    /// The first point that is not before `at`.
    fn point_from(&self, at: Timestamp) -> Timestamp {
        let step = i64::try_from(self.group.interval.as_millis()).unwrap_or(i64::MAX);
        let over = at.as_millis().rem_euclid(step);
        Timestamp::from_millis(at.as_millis().saturating_add((step - over) % step))
    }

    /// Up to where all samples are in, going by the samples themselves.
    fn watermark(&self, producers: &Producers) -> Option<Timestamp> {
        let watermarks = self.lanes.iter().map(|(producer, bucket)| {
            producers.get(*producer).lanes.get(bucket).map_or(Timestamp::MIN, |lane| lane.watermark)
        });
        watermarks.min().map(just_before)
    }

    /// When a point may be evaluated although samples are missing.
    fn wall(&self, producers: &Producers, point: Timestamp) -> Timestamp {
        let walls = self.lanes.iter().map(|(producer, _)| wall_of(producers, *producer, point));
        walls.max().unwrap_or_else(|| wall_of(producers, ProducerId::NOBODY, point))
    }

    fn is_due(&self, producers: &Producers, point: Timestamp, now: Timestamp) -> bool {
        self.watermark(producers).is_some_and(|watermark| watermark >= point)
            || self.wall(producers, point) <= now
    }
}

impl Evaluation {
    /// Evaluates all points that are due.
    pub(super) fn run_grids(&mut self, producers: &Producers, now: Timestamp) {
        for place in 0..self.grids.len() {
            let since = self.observed_since.unwrap_or(now);
            let grid = &mut self.grids[place];
            if !std::mem::take(&mut grid.may_pass) && grid.due_at > now {
                continue;
            }
            let mut next = *grid.next.get_or_insert_with(|| {
                let step = i64::try_from(grid.group.interval.as_millis()).unwrap_or(i64::MAX);
                let over = since.as_millis().rem_euclid(step);
                Timestamp::from_millis(since.as_millis().saturating_add((step - over) % step))
            });
            let interval = grid.group.interval;
            next = self.skip_what_is_too_far_behind(producers, place, next, now);
            while self.grids[place].is_due(producers, next, now) {
                for rule in self.grids[place].group.rules.clone() {
                    self.evaluate_all(producers, rule, next);
                }
                next = next + interval;
                let grid = &mut self.grids[place];
                grid.has_begun |= !grid.lanes.is_empty();
            }
            let grid = &mut self.grids[place];
            grid.next = Some(next);
            grid.due_at = grid.wall(producers, next);
        }
    }

    /// When the next point is due, at the latest.
    pub(super) fn next_grid_point(&self, now: Timestamp) -> Option<Timestamp> {
        self.grids.iter().map(|grid| if grid.may_pass { now } else { grid.due_at }).min()
    }

    fn skip_what_is_too_far_behind(
        &mut self,
        producers: &Producers,
        place: usize,
        next: Timestamp,
        now: Timestamp,
    ) -> Timestamp {
        let grid = &self.grids[place];
        let interval = i64::try_from(grid.group.interval.as_millis()).unwrap_or(i64::MAX);
        let lag = grid.wall(producers, next).as_millis().saturating_sub(next.as_millis());
        let by_wall = Timestamp::from_millis(now.as_millis().saturating_sub(lag));
        let until = grid.watermark(producers).map_or(by_wall, |watermark| watermark.max(by_wall));
        let points = until.as_millis().saturating_sub(next.as_millis()) / interval;
        let Some(skipped) =
            u64::try_from(points).ok().and_then(|points| points.checked_sub(POINTS_PER_STEP_MAX))
        else {
            return next;
        };
        self.counters.grid_points_skipped += skipped;
        let skipped = i64::try_from(skipped).unwrap_or(i64::MAX).saturating_mul(interval);
        next + Duration::from_millis(u64::try_from(skipped).unwrap_or(0))
    }
}

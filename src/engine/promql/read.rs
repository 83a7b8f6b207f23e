//! What an evaluation reads: the newest samples of series, their windows, and the windows that subqueries make.

use std::borrow::Cow;

use crate::model::{Labels, Timestamp};

use super::annotations::{self, Severity};
use super::ast::{Instant, Moment, Range, Samples, Subquery, Vector, Window};
use super::error::EvalError;
use super::eval::{Evaluation, Items};
use super::expr::LOOKBACK;
use super::functions::window::{self, Frame, WindowFunction};
use super::index::Slot;
use super::matcher::Selector;
use super::series::is_stale;
use super::signature::{Distinction, Groups, Item, Tag};
use super::walk::Part;
use super::{distinct, separable, single};

/// One series of a range vector: an element, whose value means nothing, and its samples.
type Row<'s> = (Item<'s>, Vec<(Timestamp, f64)>);

pub(super) fn lookback_millis() -> i64 {
    i64::try_from(LOOKBACK.as_millis()).unwrap_or(i64::MAX)
}

/// Where a range begins and ends.
pub(super) fn frame(samples: &Samples, moment: Moment) -> Frame {
    let (when, length) = match samples {
        Samples::Series(Range { when, length_millis, .. }) => (when, length_millis),
        Samples::Subquery(subquery) => (&subquery.when, &subquery.length_millis),
    };
    let until = when.reference(moment);
    Frame { after: until.saturating_sub(*length), until, at: moment.at }
}

/// The times at which a subquery is evaluated: the multiples of its step in its window.
pub(super) fn grid(subquery: &Subquery, frame: Frame) -> impl Iterator<Item = i64> + use<> {
    let step = subquery.step_millis.max(1);
    let first = frame.after.div_euclid(step).saturating_add(1).saturating_mul(step);
    let times = std::iter::successors(Some(first), move |at| at.checked_add(step));
    times.take_while(move |at| *at <= frame.until)
}

impl<'s> Evaluation<'s> {
    pub(super) fn select(&mut self, instant: &Instant) -> Items<'s> {
        self.newest(instant, |_, value| value)
    }

    pub(super) fn timestamp(&mut self, whole: &Vector, instant: &Instant) -> Items<'s> {
        let mut items = self.newest(instant, |at, _| at as f64 / 1_000.0)?;
        for item in &mut items {
            item.tag = item.tag.clone().nameless(self.removal);
        }
        self.check(distinct::without_name(whole), &items)?;
        Ok(items)
    }

    fn newest(&mut self, instant: &Instant, value: impl Fn(i64, f64) -> f64) -> Items<'s> {
        let store = self.store;
        let reference = instant.when.reference(self.moment);
        let slots = self.slots(&instant.selector);
        self.count(slots.len())?;
        let item = |&slot: &Slot| {
            let (at, read) = store.series_at(slot)?.latest_at(reference, lookback_millis())?;
            Some(Item { tag: Tag::series(store.labels_at(slot)?), value: value(at, read) })
        };
        Ok(slots.iter().filter_map(item).collect())
    }

    pub(super) fn window(&mut self, whole: &Vector, window: &Window) -> Items<'s> {
        let function = window.function.resolve(|number| self.scalar(number))?;
        let frame = frame(&window.samples, self.moment);
        let mut items = Vec::new();
        match &window.samples {
            Samples::Series(range) => {
                let store = self.store;
                for &slot in self.slots(&range.selector).iter() {
                    let (Some(series), Some(labels)) = (store.series_at(slot), store.labels_at(slot)) else {
                        continue;
                    };
                    let samples = series.window(frame.after, frame.until);
                    self.count(samples.len())?;
                    let mut kept = std::mem::take(&mut self.scratch);
                    let samples = window::without_stale(samples, series.has_stale(), &mut kept);
                    if let Some(value) = window::checked(function, samples, frame)? {
                        self.note_window(window, function, || Tag::series(labels));
                        items.push(self.windowed(function, Tag::series(labels), value));
                    }
                    self.scratch = kept;
                }
            }
            Samples::Subquery(subquery) => {
                for (Item { tag, .. }, samples) in self.steps(subquery, frame)? {
                    if let Some(value) = window::checked(function, &samples, frame)? {
                        self.note_window(window, function, || tag.clone());
                        items.push(self.windowed(function, tag, value));
                    }
                }
            }
        }
        if !function.keeps_name() {
            self.check(distinct::without_name(whole), &items)?;
        }
        Ok(items)
    }

    fn windowed(&self, function: WindowFunction<f64>, tag: Tag<'s>, value: f64) -> Item<'s> {
        Item { tag: if function.keeps_name() { tag } else { tag.nameless(self.removal) }, value }
    }

    /// Says what there is to say about the window of one series that gave a value.
    fn note_window(&mut self, window: &Window, function: WindowFunction<f64>, tag: impl FnOnce() -> Tag<'s>) {
        if !self.is_noting() {
            return;
        }
        if let WindowFunction::Quantile(quantile) = function {
            self.check_quantile(quantile, window.number_at);
        }
        if function.wants_counter()
            && let Some(message) = annotations::possible_non_counter(tag().metric_name())
        {
            self.note(Severity::Info, window.samples_at, || message);
        }
    }

    pub(super) fn absent_over_time(&mut self, samples: &Samples, labels: &Labels) -> Items<'s> {
        let is_absent = self.rows(samples)?.is_empty();
        let element = is_absent.then(|| Item { tag: Tag::made(labels.clone()), value: 1.0 });
        Ok(element.into_iter().collect())
    }

    /// A range vector: the series that have samples in it.
    pub(super) fn rows(&mut self, samples: &Samples) -> Result<Vec<Row<'s>>, EvalError> {
        let frame = frame(samples, self.moment);
        let range = match samples {
            Samples::Series(range) => range,
            Samples::Subquery(subquery) => return self.steps(subquery, frame),
        };
        let store = self.store;
        let mut rows = Vec::new();
        for &slot in self.slots(&range.selector).iter() {
            let (Some(series), Some(labels)) = (store.series_at(slot), store.labels_at(slot)) else {
                continue;
            };
            let samples = series.window(frame.after, frame.until);
            self.count(samples.len())?;
            let kept: Vec<_> = samples.iter().copied().filter(|(_, value)| !is_stale(*value)).collect();
            if !kept.is_empty() {
                rows.push((Item { tag: Tag::series(labels), value: 0.0 }, kept));
            }
        }
        Ok(rows)
    }

    /// The values at the steps of a subquery.
    fn steps(&mut self, subquery: &Subquery, frame: Frame) -> Result<Vec<Row<'s>>, EvalError> {
        // Series by series nothing is said, and nothing fails.
        let is_quiet = !Part::Vector(&subquery.vector).has(&|part| match part {
            Part::Vector(Vector::Window(window)) => !window.function.is_quiet(self.is_noting()),
            Part::Vector(_) | Part::Scalar(_) | Part::Subquery(_) | Part::Instant(_) | Part::Range(_) => {
                false
            }
        });
        match single::leaf(&subquery.vector).filter(|_| is_quiet && subquery.is_separable) {
            Some(leaf) => self.steps_by_series(subquery, frame, leaf),
            None => self.steps_by_time(subquery, frame),
        }
    }

    /// Series by series: no labels are hashed, and no vectors made.
    fn steps_by_series(
        &mut self,
        subquery: &Subquery,
        frame: Frame,
        leaf: single::Leaf<'_>,
    ) -> Result<Vec<Row<'s>>, EvalError> {
        let store = self.store;
        let keeps_name = separable::keeps_name(&subquery.vector);
        let mut rows = Vec::new();
        for &slot in self.slots(leaf.selector).iter() {
            let (Some(series), Some(labels)) = (store.series_at(slot), store.labels_at(slot)) else {
                continue;
            };
            let per_step = leaf.samples_per_step(series, self.moment.moved(frame.until)).max(1);
            let mut samples = Vec::new();
            for at in grid(subquery, frame) {
                self.count(per_step)?;
                if let Some(value) = single::value(&subquery.vector, series, self.moment.moved(at)) {
                    samples.push((Timestamp::from_millis(at), value));
                }
            }
            if !samples.is_empty() {
                let tag = Tag::series(labels);
                let tag = if keeps_name { tag } else { tag.nameless(self.removal) };
                rows.push((Item { tag, value: 0.0 }, samples));
            }
        }
        Ok(rows)
    }

    /// Step by step: the whole vector at each time, elements of the same labels put together.
    fn steps_by_time(&mut self, subquery: &Subquery, frame: Frame) -> Result<Vec<Row<'s>>, EvalError> {
        let outer = self.moment;
        let mut groups = Groups::new(Distinction::All, 0);
        let (mut firsts, mut tracks): (Vec<Item<'s>>, Vec<Vec<_>>) = (Vec::new(), Vec::new());
        for at in grid(subquery, frame) {
            self.moment = outer.moved(at);
            let items = self.vector(&subquery.vector)?;
            self.count(1 + items.len())?;
            for item in items {
                let sample = (Timestamp::from_millis(at), item.value);
                if let Some(group) = groups.find(&item.tag, &firsts) {
                    tracks[group].push(sample);
                } else {
                    firsts.push(item);
                    groups.insert(&firsts, firsts.len() - 1);
                    tracks.push(vec![sample]);
                }
            }
        }
        self.moment = outer;
        Ok(firsts.into_iter().zip(tracks).collect())
    }

    fn slots(&self, selector: &Selector) -> Cow<'s, [Slot]> {
        let store = self.store;
        match &self.only {
            None => store.slots(selector),
            Some(slots) => slots
                .iter()
                .copied()
                .filter(|&slot| store.labels_at(slot).is_some_and(|labels| selector.matches(labels)))
                .collect(),
        }
    }
}

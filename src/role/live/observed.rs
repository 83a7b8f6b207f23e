//! What time it is for a core that takes samples: no later than it has seen.
//!
//! Deadlines (`for`, absence, verdicts) run on the clock, and samples come through queues. A process that was stopped or
//! starved wakes up with the clock ahead of what it has taken in, and a deadline that passed now would pass before samples
//! that had come in time. So where the core is woken later than it wanted to be, time stands still for it until all that
//! was under way is here: each frame that waited is taken in at its own time, as if it were read from the stream, and
//! deadlines pass between them in their order. When the server has answered a question behind the last of them, the clock
//! counts again, up to the moment of that question.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::engine::Input;
use crate::model::Timestamp;

/// A core that is woken this much later than it wanted may have samples waiting: half of what deadlines wait for samples
/// anyway (`engine::monitor::deadlines::JOIN_WAIT`), and above what a busy process needs.
const LATE_MAX: Duration = Duration::from_millis(25);
/// Without an answer for so long there is no server, and nothing is coming: as long as a request may take.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Where samples come from.
pub(in crate::role) struct Sampled {
    /// What came, in its order.
    pub(in crate::role) arrivals: mpsc::Receiver<Arrival>,
    /// Takes questions whether all is here that was under way at a time; an [`Arrival::AllUntil`] answers.
    pub(in crate::role) questions: mpsc::Sender<Timestamp>,
    /// Up to when all that came was taken in before.
    pub(in crate::role) observed: Timestamp,
}

/// What came.
pub(in crate::role) enum Arrival {
    /// Samples and series tables.
    Some(Vec<Input>),
    /// All that was under way at this time has been handed on.
    AllUntil(Timestamp),
}

impl Sampled {
    /// Asks whether all is here.
    pub(super) fn look(&self, asked_at: Timestamp) {
        // Full: the answer to an earlier question is coming, and there will be reason to ask again.
        let _ = self.questions.try_send(asked_at);
    }
}

/// How far time has passed for a core.
#[derive(Debug)]
pub(super) struct Observed {
    /// The latest time that it was told.
    told: Timestamp,
    /// Since when it waits for what is under way.
    waits: Option<Wait>,
}

#[derive(Clone, Copy, Debug)]
struct Wait {
    since: Timestamp,
    asked: bool,
}

impl Observed {
    /// All was taken in up to `observed`; what came since may be waiting.
    pub(super) fn new(observed: Timestamp, now: Timestamp) -> Self {
        Self { told: observed, waits: Some(Wait { since: now, asked: false }) }
    }

    /// The latest time that the core was told.
    pub(super) fn told(&self) -> Timestamp {
        self.told
    }

    /// Whether time stands still.
    pub(super) fn is_waiting(&self) -> bool {
        self.waits.is_some()
    }

    /// When waiting is to be given up.
    pub(super) fn waits_until(&self) -> Option<Timestamp> {
        self.waits.map(|wait| wait.since + WAIT_MAX)
    }

    /// What time it is for the core, which wanted to be woken at `wake_at`. Where samples may be waiting, `ask` is called
    /// with the time of the question.
    pub(super) fn now(
        &mut self,
        now: Timestamp,
        wake_at: Option<Timestamp>,
        ask: impl FnOnce(Timestamp),
    ) -> Timestamp {
        if self.waits.is_none() && wake_at.is_some_and(|at| now.saturating_since(at) > LATE_MAX) {
            self.waits = Some(Wait { since: now, asked: false });
        }
        match &mut self.waits {
            Some(wait) => {
                if !std::mem::replace(&mut wait.asked, true) {
                    ask(wait.since);
                }
            }
            None => self.told = self.told.max(now),
        }
        self.told
    }

    /// The time at which an input from the samples' queue is taken in: one that has waited, at the time of its newest
    /// sample, as far as that is past; any other at `now`.
    pub(super) fn taken_in(&mut self, input: &Input, now: Timestamp, wall: Timestamp) -> Timestamp {
        if !self.is_waiting() {
            return now;
        }
        if let Input::Frame(frame) = input
            && let Some(newest) = frame.rows.iter().map(|row| row.at).max()
        {
            self.told = self.told.max(newest.min(wall));
        }
        self.told
    }

    /// All that was under way at `until` is taken in; returns what time it is.
    pub(super) fn all_until(&mut self, until: Timestamp) -> Timestamp {
        self.waits = None;
        self.told = self.told.max(until);
        self.told
    }

    /// Goes by the clock again where nobody has answered for too long; returns what time it is then.
    pub(super) fn give_up_waiting(&mut self, now: Timestamp) -> Option<Timestamp> {
        self.waits_until().filter(|until| *until <= now)?;
        tracing::warn!("it is not known which samples are under way: deadlines pass without them");
        Some(self.all_until(now))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config;
    use crate::engine::monitor::Monitor;
    use crate::engine::{Configuration, Core as _, Step};
    use crate::model::{
        Bundle, BundleFile, Entry, Frame, Generation, Labels, METRIC_NAME, Phase, Row, SeriesTable,
    };

    const RULES: &str = "\
groups:
  - name: g
    rules:
      - { alert: Hot, expr: heat > 10, for: 5s, labels: { severity: warning } }
";

    fn secs(seconds: i64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + seconds * 1_000)
    }

    fn configuration() -> Arc<Configuration> {
        let file = BundleFile { path: "rules/g.yaml".into(), text: RULES.into() };
        let loaded = config::load(&Bundle::new(vec![file]), Generation(1));
        assert!(loaded.refused.is_empty(), "{:?}", loaded.refused);
        Arc::new(loaded.configuration)
    }

    /// A monitor behind a queue, and what it said was firing.
    struct Room {
        core: Monitor,
        observed: Option<Observed>,
        wake_at: Option<Timestamp>,
        questions: Vec<Timestamp>,
        firing: Vec<Timestamp>,
        sequence: u64,
        table: SeriesTable,
    }

    impl Room {
        fn new(observed: bool) -> Self {
            let labels = Labels::new([(METRIC_NAME, "heat")]).unwrap();
            let mut room = Self {
                core: Monitor::new("cell".into(), "one".into(), configuration()),
                observed: observed.then(|| Observed::new(secs(0), secs(0))),
                wake_at: None,
                questions: Vec::new(),
                firing: Vec::new(),
                sequence: 0,
                table: SeriesTable::new(vec![labels]),
            };
            if let Some(observed) = &mut room.observed {
                observed.all_until(secs(0));
            }
            let step = room.core.handle(secs(0), Input::Table(room.table.clone()));
            room.carry_out(&step);
            room
        }

        fn frame(&mut self, at: i64, value: f64) -> Input {
            self.sequence += 1;
            Input::Frame(Frame {
                producer: "p".into(),
                epoch: 1,
                sequence: self.sequence,
                bucket: 0,
                scrape: None,
                table: self.table.hash,
                rows: vec![Row { series: 0, at: secs(at), value }],
            })
        }

        fn now(&mut self, wall: Timestamp) -> Timestamp {
            let Some(observed) = &mut self.observed else { return wall };
            observed.now(wall, self.wake_at, |asked_at| self.questions.push(asked_at))
        }

        /// As the loop takes in what comes.
        fn take_in(&mut self, wall: Timestamp, input: Input) {
            let now = self.now(wall);
            let at = self.observed.as_mut().map_or(now, |observed| observed.taken_in(&input, now, wall));
            let step = self.core.handle(at, input);
            self.carry_out(&step);
        }

        /// As the loop wakes up at a deadline.
        fn wake(&mut self, wall: Timestamp) {
            let given_up = self.observed.as_mut().and_then(|observed| observed.give_up_waiting(wall));
            let now = given_up.unwrap_or_else(|| self.now(wall));
            if self.observed.as_ref().is_none_or(|observed| !observed.is_waiting()) {
                self.tick(now);
            }
        }

        fn tick(&mut self, now: Timestamp) {
            self.wake_at = None;
            let step = self.core.tick(now);
            self.carry_out(&step);
        }

        fn answer(&mut self) {
            let until = self.questions.pop().unwrap();
            let now = self.observed.as_mut().unwrap().all_until(until);
            self.tick(now);
        }

        fn carry_out(&mut self, step: &Step) {
            if let Some(at) = step.wake_at {
                self.wake_at = Some(self.wake_at.map_or(at, |known| known.min(at)));
            }
            let entries = step.emit.iter().flat_map(|emit| &emit.batch.entries);
            let firing = entries.filter_map(Entry::as_violation).filter(|it| it.phase == Phase::Firing);
            self.firing.extend(firing.map(|violation| violation.at));
        }

        /// It breaches from the first second on, the process stops after the third, and goes on in the fortieth; what came
        /// meanwhile is in the queue.
        fn stopped(observed: bool, queued: &[(i64, f64)]) -> Self {
            let mut room = Self::new(observed);
            for at in 1..=3 {
                let frame = room.frame(at, 20.0);
                room.take_in(secs(at), frame);
            }
            room.wake(secs(40));
            for (at, value) in queued {
                let frame = room.frame(*at, *value);
                room.take_in(secs(40), frame);
            }
            room
        }
    }

    const CALM: [(i64, f64); 4] = [(4, 0.0), (5, 0.0), (6, 0.0), (7, 0.0)];

    #[test]
    fn no_deadline_passes_before_a_sample_that_waited_while_the_process_was_stopped() {
        let mut room = Room::stopped(true, &CALM);
        assert_eq!(room.questions, [secs(40)]);
        room.answer();
        room.wake(secs(41));
        assert_eq!(room.firing, []);
        // The same by the clock: the deadline has passed before the sample that it was about.
        assert_eq!(Room::stopped(false, &CALM).firing.len(), 1);
    }

    #[test]
    fn a_deadline_that_passed_meanwhile_passes_between_the_samples_before_it_and_after_it() {
        let queued: Vec<(i64, f64)> = (4..=8).map(|at| (at, 20.0)).chain([(9, 0.0)]).collect();
        let mut room = Room::stopped(true, &queued);
        room.answer();
        assert_eq!(room.firing, [secs(6)]);
    }

    #[test]
    fn what_is_silent_passes_when_all_is_here_or_when_nobody_answers() {
        let mut room = Room::stopped(true, &[]);
        assert_eq!(room.firing, []);
        room.answer();
        assert_eq!(room.firing.len(), 1);
        let mut room = Room::stopped(true, &[]);
        room.wake(secs(40) + WAIT_MAX);
        assert_eq!(room.firing.len(), 1);
    }

    #[test]
    fn time_goes_by_the_clock_where_the_core_is_woken_in_time() {
        let mut observed = Observed::new(secs(0), secs(0));
        observed.all_until(secs(0));
        let ask = |_| panic!("nothing can have waited");
        let wake_at = Some(secs(2));
        assert_eq!(observed.now(secs(1), wake_at, ask), secs(1));
        assert_eq!(observed.now(secs(2) + LATE_MAX, wake_at, ask), secs(2) + LATE_MAX);
        // A clock that was set back.
        assert_eq!(observed.now(secs(1), None, ask), secs(2) + LATE_MAX);
    }
}

//! Makes a case that differs smaller, as long as it differs.

use std::path::Path;

use anyhow::Result;
use homeostat::engine::promql::{Query, SeriesStore};

use crate::answer::Answer;
use crate::fleet::{Fleet, Series};
use crate::prometheus::Prometheus;
use crate::question::{Question, When};

/// Most questions for a smaller expression; one takes a few milliseconds.
const QUESTIONS_MAX: usize = 400;
/// Most fleets that are tried; each takes the start of a Prometheus.
const FLEETS_MAX: usize = 80;

/// A case on which the two sides differ.
pub(crate) struct Difference {
    pub question: Question,
    pub theirs: Answer,
    pub ours: Answer,
    /// How they differ, in words.
    pub what: String,
}

/// The two answers, where they differ.
pub(crate) async fn difference(
    prometheus: &Prometheus,
    store: &SeriesStore,
    question: &Question,
) -> Result<Option<Difference>> {
    let (theirs, ours) = (prometheus.ask(question).await?, question.ask_us(store));
    let what = theirs.difference(&ours, question.order());
    Ok(what.map(|what| Difference { question: question.clone(), theirs, ours, what }))
}

/// A smaller question about the same series.
pub(crate) async fn question(
    prometheus: &Prometheus,
    store: &SeriesStore,
    found: Difference,
) -> Result<Difference> {
    let mut smallest = found;
    let mut left = QUESTIONS_MAX;
    'again: loop {
        for candidate in candidates(&smallest.question) {
            if left == 0 {
                return Ok(smallest);
            }
            left -= 1;
            if candidate.is_hazardous(store) {
                continue;
            }
            if let Some(smaller) = difference(prometheus, store, &candidate).await? {
                smallest = smaller;
                continue 'again;
            }
        }
        return Ok(smallest);
    }
}

fn candidates(question: &Question) -> Vec<Question> {
    let mut candidates = Vec::new();
    if let When::Range { start, end, step } = question.when {
        let times = question.when.times();
        candidates.extend(times.iter().map(|&at| Question { when: When::Instant(at), ..question.clone() }));
        if let [_, second, .., before, _] = times[..] {
            let shorter = [(start, before), (second, end), (start, start + (end - start) / 2)];
            candidates.extend(
                shorter.map(|(start, end)| Question {
                    when: When::Range { start, end, step },
                    ..question.clone()
                }),
            );
        }
    }
    let simpler = question.expression.simpler().into_iter();
    candidates.extend(simpler.map(|expression| Question { expression, ..question.clone() }));
    candidates
}

/// Fewer series with fewer samples for the same question.
pub(crate) async fn fleet(program: &Path, fleet: &Fleet, found: Difference) -> Result<(Fleet, Difference)> {
    let (mut smallest, mut found) = (fleet.clone(), found);
    let mut left = FLEETS_MAX;
    let selected = selected(fleet, &found.question);
    try_fleet(program, selected, &mut smallest, &mut found, &mut left).await?;
    // Ever smaller parts of the series, then of the samples of each.
    let mut size = smallest.0.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        while at < smallest.0.len() && smallest.0.len() > 1 {
            let mut fewer = smallest.0.clone();
            fewer.drain(at..(at + size).min(fewer.len()));
            if !try_fleet(program, Fleet(fewer), &mut smallest, &mut found, &mut left).await? {
                at += size;
            }
        }
        size /= 2;
    }
    let mut part = 2;
    while part <= 16 {
        for index in 0..smallest.0.len() {
            for half in 0..part {
                let fewer = without_part(&smallest, index, half, part);
                try_fleet(program, fewer, &mut smallest, &mut found, &mut left).await?;
            }
        }
        part *= 2;
    }
    Ok((smallest, found))
}

/// The series without one of `parts` parts of its samples.
fn without_part(fleet: &Fleet, index: usize, part: usize, parts: usize) -> Fleet {
    let mut fewer = fleet.clone();
    let samples = &mut fewer.0[index].samples;
    let (from, to) = (part * samples.len() / parts, (part + 1) * samples.len() / parts);
    samples.drain(from..to);
    fewer
}

/// Whether the sides still differ about this fleet, which then is the smallest.
async fn try_fleet(
    program: &Path,
    fewer: Fleet,
    smallest: &mut Fleet,
    found: &mut Difference,
    left: &mut usize,
) -> Result<bool> {
    if fewer == *smallest || *left == 0 || fewer.0.iter().any(|series| series.samples.is_empty()) {
        return Ok(false);
    }
    *left -= 1;
    let store = fewer.store();
    if found.question.is_hazardous(&store) {
        return Ok(false);
    }
    let prometheus = Prometheus::with(program, &fewer).await?;
    let still = difference(&prometheus, &store, &found.question).await?;
    prometheus.stop().await?;
    let Some(still) = still else { return Ok(false) };
    (*smallest, *found) = (fewer, still);
    Ok(true)
}

/// The series that the question's selectors mean.
fn selected(fleet: &Fleet, question: &Question) -> Fleet {
    let Ok(query) = Query::parse(&question.expression.to_string()) else { return fleet.clone() };
    let store = fleet.store();
    let is_read = |series: &&Series| {
        query.reads().any(|read| {
            store
                .select(read.selector)
                .any(|id| store.labels(id).is_some_and(|labels| *labels == series.labels))
        })
    };
    Fleet(fleet.0.iter().filter(is_read).cloned().collect())
}

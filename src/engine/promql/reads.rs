//! Which series an expression reads, and how far it looks back.

use std::sync::Arc;
use std::time::Duration;

use super::ast::{Anchor, Node, When};
use super::expr::LOOKBACK;
use super::matcher::Selector;
use super::walk::Part;

/// One selector of an expression, and how far it looks back.
#[derive(Clone, Copy, Debug)]
pub struct Read<'e> {
    /// The series.
    pub selector: &'e Selector,
    /// Range or lookback, and offset, those of the subqueries around it included. [`Duration::MAX`] where an `@` with a
    /// fixed time ties it to the past.
    pub window: Duration,
}

#[derive(Clone, Debug)]
pub(super) struct ReadOf {
    pub selector: Arc<Selector>,
    pub window: Duration,
}

impl ReadOf {
    pub(super) fn as_read(&self) -> Read<'_> {
        Read { selector: &self.selector, window: self.window }
    }
}

/// What an expression reads, in the order of its text.
pub(super) fn of(root: &Node) -> Box<[ReadOf]> {
    let mut reads = Vec::new();
    let part = match root {
        Node::Vector(vector) => Part::Vector(vector),
        Node::Scalar(scalar) => Part::Scalar(scalar),
        Node::Samples(samples) => Part::from(samples),
        Node::Text(_) => return [].into(),
    };
    collect(part, Some(Duration::ZERO), &mut reads);
    reads.into()
}

/// What parts read. `before` is how long before the evaluation the enclosing subqueries begin, which is not known
/// where one of them is tied to the past.
fn collect(part: Part<'_>, before: Option<Duration>, reads: &mut Vec<ReadOf>) {
    let mut read = |selector: &Arc<Selector>, when, length| {
        let window = before_of(before, when, length).unwrap_or(Duration::MAX);
        reads.push(ReadOf { selector: Arc::clone(selector), window });
    };
    match part {
        Part::Instant(instant) => read(&instant.selector, instant.when, LOOKBACK),
        Part::Range(range) => read(&range.selector, range.when, duration(range.length_millis)),
        Part::Subquery(subquery) => {
            let before = before_of(before, subquery.when, duration(subquery.length_millis));
            collect(Part::Vector(&subquery.vector), before, reads);
        }
        Part::Scalar(_) | Part::Vector(_) => part.parts(&mut |part| collect(part, before, reads)),
    }
}

/// How long before the evaluation a window begins, in a subquery that begins `before` it.
fn before_of(before: Option<Duration>, when: When, length: Duration) -> Option<Duration> {
    // A negative offset reads what is newer, which needs nothing older.
    let own = length.saturating_add(duration(when.offset_millis.max(0)));
    match when.anchor {
        Anchor::Evaluation => before.map(|before| before.saturating_add(own)),
        // The query, which is no subquery, and which a rule is evaluated as at one time.
        Anchor::Start | Anchor::End => Some(own),
        Anchor::Fixed(_) => None,
    }
}

fn duration(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

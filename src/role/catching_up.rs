//! What a role does before anything else: it folds the ledger as it stands. On a part of it, it would decide about the past:
//! give verdicts that were given, drop the end of a violation whose beginning it has not read.

use std::sync::Arc;

use super::RoleError;
use super::reading::Reader;
use crate::bus::nats::{Feed, Ledger};
use crate::engine::fold::Fold;
use crate::engine::{Core, Input, Step};
use crate::model::Timestamp;

/// Records that are folded at once: more only takes more memory.
const RECORDS_AT_ONCE_MAX: usize = 256;

/// Gives the core what is known of the ledger, and the rest of it up to where it ends now. Cancel safe as far as the core is dropped too.
pub(super) async fn catch_up<C: Core>(
    core: &mut C,
    known: Option<Arc<Fold>>,
    ledger: &Ledger,
    feed: &mut Feed,
    reader: &Reader,
    now: impl Fn() -> Timestamp,
) -> Result<Vec<Step>, RoleError> {
    let tail = ledger.tail().await?;
    let is_empty = tail.first_sequence > tail.last_sequence || tail.last_sequence == 0;
    let mut steps: Vec<Step> =
        known.into_iter().map(|known| core.handle(now(), Input::Known(known))).collect();
    while !is_empty && feed.next_sequence() <= tail.last_sequence {
        let stored = feed.next_batch(RECORDS_AT_ONCE_MAX).await?;
        steps.push(core.handle(now(), Input::Ledger(reader.records(&stored)?)));
    }
    Ok(steps)
}

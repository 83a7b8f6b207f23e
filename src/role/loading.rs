//! Which configuration a process decides by: the newest that is applied.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::applying::{ApplyError, Shelf};
use crate::clock::Clock;
use crate::config;
use crate::engine::Configuration;
use crate::engine::fold::Fold;
use crate::model::Generation;

/// How often the ledger is asked which bundle holds, beside what the roles see on their feeds.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often is looked whether the ledger is about to forget which bundle holds.
const RESTATE_LOOK: Duration = Duration::from_hours(1);

/// What is loaded, and what is known to be applied. Clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct Loading {
    configuration: watch::Sender<Arc<Configuration>>,
    announced: watch::Sender<Generation>,
}

impl Default for Loading {
    fn default() -> Self {
        let (configuration, announced) = (watch::Sender::new(Arc::default()), watch::Sender::default());
        Self { configuration, announced }
    }
}

impl Loading {
    /// What is loaded now.
    pub(super) fn loaded(&self) -> Arc<Configuration> {
        Arc::clone(&self.configuration.borrow())
    }

    /// What is loaded, and what will be.
    pub(super) fn configuration(&self) -> watch::Receiver<Arc<Configuration>> {
        self.configuration.subscribe()
    }

    /// The newest generation that is known to be applied.
    pub(super) fn announced(&self) -> watch::Receiver<Generation> {
        self.announced.subscribe()
    }

    /// What a role has seen applied wakes [`Loading::keep`].
    pub(super) fn announced_in(&self, fold: &Fold) {
        if let Some((generation, _)) = fold.announced() {
            self.announce(*generation);
        }
    }

    fn announce(&self, generation: Generation) {
        self.announced.send_if_modified(|known| {
            let newer = *known < generation;
            *known = generation.max(*known);
            newer
        });
    }

    /// Loads the newest bundle, if it is not loaded.
    pub(super) async fn newest(&self, shelf: &Shelf) -> Result<(), ApplyError> {
        let Some((generation, hash)) = shelf.announced().await? else { return Ok(()) };
        self.announce(generation);
        if self.configuration.borrow().generation >= generation {
            return Ok(());
        }
        let bundle = shelf.bundle(&hash).await?;
        let loaded = config::load(&bundle, generation);
        for refused in &loaded.refused {
            tracing::warn!(%refused, "a part of the configuration is left out");
        }
        tracing::info!(generation = generation.0, hash = &*hash, "configuration loaded");
        self.configuration.send_replace(Arc::new(loaded.configuration));
        Ok(())
    }

    /// Loads what is applied, and says again what was applied long ago, until it is told to stop.
    pub(super) async fn keep(self, shelf: Shelf, clock: Clock, stop: CancellationToken) {
        let mut news = self.announced.subscribe();
        let mut restating = tokio::time::interval(RESTATE_LOOK);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = news.changed() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
                _ = restating.tick() => {
                    if let Err(error) = shelf.restate(clock.now()).await {
                        tracing::warn!(%error, "the applied configuration cannot be said again");
                    }
                }
            }
            // Not loaded is not ready; the roles go on with what they have.
            if let Err(error) = self.newest(&shelf).await {
                tracing::error!(%error, "the newest configuration cannot be loaded");
            }
        }
    }
}

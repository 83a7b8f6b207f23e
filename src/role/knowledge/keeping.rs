//! Keeps the store open. Where it fails, mostly because the disk is full, the role says so and is not ready, while the rest
//! of the loop goes on: nothing is decided by what is in the store. It is opened again when there is room, and follows the
//! ledger from what it has.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::following::{self, Halted};
use super::{Knowledge, KnowledgeError, explain, serving};
use crate::bus::nats::{Connection, Ledger, Objects};
use crate::bus::{ReadError, Tail};
use crate::clock::Clock;
use crate::role::RoleError;
use crate::store::StoreError;
use crate::telemetry::{self, Traces};
use crate::wire::Subjects;

/// Before the store is tried again for the first time; then twice as long, each time.
pub(super) const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Opening reads the whole store, and a full disk is full for minutes.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(30);

/// What the role needs.
pub(in crate::role) struct Keeping {
    /// Where the store is.
    pub(in crate::role) folder: PathBuf,
    pub(in crate::role) ledger: Ledger,
    pub(in crate::role) objects: Objects,
    /// Where questions come from.
    pub(in crate::role) services: Connection,
    pub(in crate::role) subjects: Subjects,
    /// This process's name.
    pub(in crate::role) instance: Arc<str>,
    pub(in crate::role) clock: Clock,
    /// Where traces are sent to: this role sees all of the ledger, once.
    pub(in crate::role) traces: Traces,
    /// Whether the ledger is known to its end.
    pub(in crate::role) ready: watch::Sender<bool>,
    /// Why nothing can be kept, as long as that is so.
    pub(in crate::role) hindrance: watch::Sender<Option<Arc<str>>>,
}

/// The store while it is open; else why it is not. Whoever reads holds off whoever closes it.
#[derive(Clone)]
pub(super) struct Shelf(Arc<RwLock<Result<Knowledge, String>>>);

impl Shelf {
    pub(super) fn new() -> Self {
        Self(Arc::new(RwLock::new(Err("it is being opened".to_owned()))))
    }

    /// Looks at the store, if it is open. Blocks.
    pub(super) fn with<T>(&self, look: impl FnOnce(&Knowledge) -> T) -> Result<T, String> {
        match &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            Ok(knowledge) => Ok(look(knowledge)),
            Err(cause) => Err(cause.clone()),
        }
    }

    pub(super) fn put(&self, state: Result<Knowledge, String>) -> Result<Knowledge, String> {
        std::mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), state)
    }
}

/// Why the store is not open.
#[derive(Debug)]
enum NotOpen {
    Store(KnowledgeError),
    Ledger(ReadError),
    Panicked(String),
}

impl NotOpen {
    /// At the start, what else there is to say is said to whoever started us: a folder that cannot be written to, a
    /// store that somebody else has open.
    fn at_the_start(self) -> Result<String, RoleError> {
        match self {
            // Refusing: it is open, and there was no room to be set aside.
            Self::Store(KnowledgeError::Store(error))
                if error.is_full() || matches!(error, StoreError::Refusing { .. }) =>
            {
                Ok(explain(&error))
            }
            Self::Store(error) => Err(RoleError::Knowledge(explain(&error))),
            Self::Ledger(error) => Err(error.into()),
            Self::Panicked(text) => Err(RoleError::Knowledge(text)),
        }
    }

    /// Once it was open, everything may pass.
    fn later(self) -> String {
        match self {
            Self::Store(error) => explain(&error),
            Self::Ledger(error) => explain(&error),
            Self::Panicked(text) => text,
        }
    }
}

impl Keeping {
    /// Follows the ledger into the store and answers what is asked, until it is told to stop.
    pub(in crate::role) async fn run(self, stop: CancellationToken) -> Result<(), RoleError> {
        let shelf = Shelf::new();
        let opened = match self.open(&shelf).await {
            Ok(tail) => Ok(tail),
            Err(error) => Err(error.at_the_start()?),
        };
        tokio::try_join!(
            serving::serve(&self, shelf.clone(), stop.clone()),
            self.follow(&shelf, opened, &stop)
        )?;
        Ok(())
    }

    async fn follow(
        &self,
        shelf: &Shelf,
        mut opened: Result<Tail, String>,
        stop: &CancellationToken,
    ) -> Result<(), RoleError> {
        let mut delay = RETRY_DELAY;
        loop {
            let cause = match opened {
                Ok(tail) => {
                    let followed = following::follow(self, shelf, &tail, &mut delay, stop).await;
                    match followed {
                        Ok(()) => return Ok(()),
                        Err(Halted::Role(error)) => return Err(error),
                        Err(Halted::Store(cause)) => cause,
                    }
                }
                Err(cause) => cause,
            };
            self.tell(&cause);
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(delay) => {}
            }
            delay = (delay * 2).min(RETRY_DELAY_MAX);
            opened = self.open(shelf).await.map_err(NotOpen::later);
        }
    }

    /// Opens the store, in place of one that takes no writes any more: that one answers what is asked for as long as there
    /// is no room for another.
    async fn open(&self, shelf: &Shelf) -> Result<Tail, NotOpen> {
        let tail = self.ledger.tail().await.map_err(NotOpen::Ledger)?;
        let (shelf, folder) = (shelf.clone(), self.folder.clone());
        let (created, last) = (tail.created, tail.last_sequence);
        let opening = tokio::task::spawn_blocking(move || {
            shelf.with(|knowledge| knowledge.store().keep_room()).unwrap_or(Ok(()))?;
            if let Ok(knowledge) = shelf.put(Err("it is being opened again".to_owned())) {
                knowledge.close();
            }
            let opened = Knowledge::open(&folder, created).and_then(|knowledge| {
                // A ledger that is shorter than what was folded is another one.
                if knowledge.applied() > last {
                    return knowledge.set_aside("the ledger ends before what was folded");
                }
                Ok(knowledge)
            });
            match opened {
                Ok(knowledge) => {
                    let refusing = knowledge.store().refusing();
                    drop(shelf.put(Ok(knowledge)));
                    refusing.map_or(Ok(()), |reason| Err(StoreError::Refusing { reason }.into()))
                }
                Err(error) => {
                    drop(shelf.put(Err(explain(&error))));
                    Err(error)
                }
            }
        });
        let opened = opening.await.map_err(|panic| NotOpen::Panicked(panic.to_string()))?;
        opened.map_err(NotOpen::Store)?;
        if self.hindrance.send_replace(None).is_some() {
            tracing::info!("the knowledge store is open again and catches up with the ledger");
        }
        telemetry::store_usable(true);
        Ok(tail)
    }

    /// Once for each time it happens, however often it is tried again.
    fn tell(&self, cause: &str) {
        self.ready.send_replace(false);
        telemetry::store_usable(false);
        let text: Arc<str> = format!("knowledge cannot be kept: {cause}").into();
        if self.hindrance.send_replace(Some(text)).is_none() {
            telemetry::store_failed();
            tracing::error!(
                folder = %self.folder.display(), cause,
                "the knowledge store cannot be used: it is tried again, and the rest of the loop goes on"
            );
        } else {
            tracing::debug!(cause, "the knowledge store still cannot be used");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    #[test]
    fn at_the_start_only_a_full_disk_is_waited_for() {
        let system =
            |kind| StoreError::System { doing: "open", path: "knowledge".into(), source: Error::from(kind) };
        let refusing = StoreError::Refusing { reason: "no room for the ballast".to_owned() };
        for (error, is_waited_for) in [
            (system(ErrorKind::StorageFull), true),
            (system(ErrorKind::QuotaExceeded), true),
            (refusing, true),
            (system(ErrorKind::PermissionDenied), false),
            (StoreError::Locked { dir: "knowledge".into() }, false),
        ] {
            let said = NotOpen::Store(error.into()).at_the_start();
            assert_eq!(said.is_ok(), is_waited_for, "{said:?}");
        }
    }

    #[test]
    fn a_store_that_is_not_open_says_why() {
        let shelf = Shelf::new();
        drop(shelf.put(Err("no space left".to_owned())));
        assert_eq!(shelf.with(Knowledge::applied), Err("no space left".to_owned()));
        let folder = tempfile::tempdir().unwrap();
        let knowledge = Knowledge::open(&folder.path().join("kb"), crate::model::Timestamp::from_millis(1));
        drop(shelf.put(Ok(knowledge.unwrap())));
        assert_eq!(shelf.with(Knowledge::applied), Ok(0));
    }
}

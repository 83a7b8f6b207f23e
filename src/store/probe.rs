//! Opens a generation and believes it only after every row was read and the sum is right.

use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::time::Duration;

use super::engine::{Engine, EngineError};
use super::error::Doubt;
use super::folder;
use super::guard::{self, Escape};
use super::header::{Header, Identity, Totals};
use super::row::{self, HEADER_KEY, Row};
use super::{Options, StoreError};

/// The largest store allowed is read in well under a minute; longer, and the engine goes round in circles.
const OPEN_TIME_MAX: Duration = Duration::from_mins(3);

/// Why a generation was not opened.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The system's or the predecessor's fault: try again later, the files are as good as they were.
    Outside(EngineError),
    /// The files are not to be believed.
    Doubt(Doubt),
}

impl From<EngineError> for Trouble {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::System(_) | EngineError::Locked => Self::Outside(error),
            EngineError::Damaged(problem) => Self::Doubt(Doubt::Damaged(problem)),
            EngineError::Escaped(Escape::Panicked(message)) => Self::Doubt(Doubt::Panicked(message)),
            EngineError::Escaped(Escape::TimedOut) => Self::Doubt(Doubt::TimedOut),
        }
    }
}

impl Trouble {
    /// For a generation that was just written, where doubt is a failure like any other.
    pub(super) fn into_error(self, dir: &Path) -> StoreError {
        match self {
            Self::Outside(EngineError::Locked) => StoreError::Locked { dir: dir.to_owned() },
            Self::Outside(EngineError::System(source)) => StoreError::system("open", dir)(source),
            Self::Outside(error @ (EngineError::Damaged(_) | EngineError::Escaped(_))) => {
                StoreError::Damaged { problem: error.reason() }
            }
            Self::Doubt(doubt) => StoreError::Damaged { problem: doubt.to_string() },
        }
    }
}

/// Opens `generation`, waiting for a dying predecessor, and checks it whole.
pub(super) fn open(
    generation: &Path,
    identity: &Identity,
    options: &Options,
) -> Result<(Engine, Header), Trouble> {
    let opened = folder::retry_while_locked(&options.sleep, || {
        let (path, wanted, cache_bytes) = (generation.to_owned(), identity.clone(), options.cache_bytes);
        let opened = guard::within(OPEN_TIME_MAX, move || {
            let engine = Engine::open(&path, cache_bytes)?;
            let header = verify(&engine, &wanted)?;
            Ok((engine, header))
        });
        match opened.unwrap_or_else(|escape| Err(EngineError::from(escape).into())) {
            Err(Trouble::Outside(EngineError::Locked)) => None,
            answer => Some(answer),
        }
    });
    opened.unwrap_or(Err(Trouble::Outside(EngineError::Locked)))
}

/// Reads all rows once. A store that passes holds exactly what the last commit in it left.
fn verify(engine: &Engine, wanted: &Identity) -> Result<Header, Trouble> {
    let stored = engine.read(HEADER_KEY)?.ok_or_else(|| doubt("the header is missing"))?;
    let header = Header::decode(&stored).map_err(Trouble::Doubt)?;
    if let Some(doubt) = header.identity.doubt(wanted) {
        return Err(Trouble::Doubt(doubt));
    }
    let mut counted = Totals::default();
    let mut problem = None;
    engine.walk(Bound::Excluded(HEADER_KEY), Bound::Unbounded, |row_key, stored| {
        problem = misfit(row_key, stored);
        counted.add(row_key, stored);
        // More rows than were written: no need to see them all.
        if problem.is_some() || counted.rows > header.totals.rows {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    if let Some(problem) = problem {
        return Err(doubt(problem));
    }
    if counted != header.totals {
        return Err(Trouble::Doubt(Doubt::Totals {
            rows: (counted.rows, header.totals.rows),
            checksum_agrees: counted.checksum == header.totals.checksum,
        }));
    }
    Ok(header)
}

/// What is wrong with a row, seen alone.
fn misfit(row_key: &[u8], stored: &[u8]) -> Option<&'static str> {
    match Row::decode(row_key, stored) {
        Ok(row) if row.begins_record() == row::record_of(row_key).is_some() => None,
        Ok(_) => Some("a row under a key of another kind"),
        Err(problem) => Some(problem),
    }
}

fn doubt(problem: &str) -> Trouble {
    Trouble::Doubt(Doubt::Damaged(problem.to_owned()))
}

//! A kept fold of the ledger: what a role begins with instead of reading all of it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::leaf::float;
use super::msgpack::{self, Limits};
use super::words::mirrored;
use super::{DecodeError, EncodeError};
use crate::engine::fold::{
    Attempt, Effectiveness, EpisodeSnapshot, FoldSnapshot, GateSnapshot, IncidentSnapshot, LearnedSnapshot,
    PlanSnapshot,
};
use crate::model::{
    Analysis, EpisodeId, Generation, Incident, IncidentId, Intent, Labels, Outcome, Plan, PlanEnd, PlanId,
    Reason, Shard, Timestamp, Verdict, Violation,
};

/// What a fold means to the code that reads it. Raised when the same records make another fold than before: a kept one of
/// another format is left alone, and the ledger is read.
const FORMAT: u32 = 1;

/// A fold larger than this is not kept: the object store's own limit of an object.
const FOLD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a kept fold may hold.
const LIMITS: Limits =
    Limits { message_bytes: FOLD_BYTES_MAX, text_bytes: 1024 * 1024, items: 4_000_000, depth: 24 };

/// A fold, and the ledger it is of.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptFold {
    /// When the ledger's stream was created: one that was made anew has other records under the same numbers.
    pub ledger: Timestamp,
    /// The fold.
    pub snapshot: FoldSnapshot,
}

#[derive(Serialize, Deserialize)]
struct File {
    format: u32,
    ledger: Timestamp,
    snapshot: FoldSnapshot,
}

/// Writes a fold.
pub fn encode(kept: KeptFold) -> Result<Vec<u8>, EncodeError> {
    let KeptFold { ledger, snapshot } = kept;
    let file = File { format: FORMAT, ledger, snapshot };
    let bytes = rmp_serde::to_vec_named(&file).map_err(|error| EncodeError::Refused(error.to_string()))?;
    if bytes.len() > FOLD_BYTES_MAX {
        return Err(EncodeError::TooMany { what: "bytes", count: bytes.len(), max: FOLD_BYTES_MAX });
    }
    Ok(bytes)
}

/// Reads a fold; `None` where it is of another format.
pub fn decode(bytes: &[u8]) -> Result<Option<KeptFold>, DecodeError> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let Format { format } = msgpack::decode(bytes, &LIMITS)?;
    if format != FORMAT {
        return Ok(None);
    }
    let File { ledger, snapshot, .. } = msgpack::decode(bytes, &LIMITS)?;
    Ok(Some(KeptFold { ledger, snapshot }))
}

mirrored! {
    FoldSnapshot => FoldShape,
    EpisodeSnapshot => EpisodeShape,
    IncidentSnapshot => IncidentShape,
    PlanSnapshot => PlanShape,
    Attempt => AttemptShape,
    GateSnapshot => GateShape,
    LearnedSnapshot => LearnedShape,
    Effectiveness => EffectivenessShape,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "FoldSnapshot")]
struct FoldShape {
    applied: u64,
    stored_at: Timestamp,
    announced: Option<(Generation, Arc<str>)>,
    episodes: Vec<EpisodeSnapshot>,
    incidents: Vec<IncidentSnapshot>,
    open: Vec<IncidentId>,
    #[serde(with = "shards")]
    last_analyses: Vec<(Shard, u64)>,
    plans: Vec<PlanSnapshot>,
    gate: GateSnapshot,
    learned: Vec<LearnedSnapshot>,
    conflicts: u64,
    over: Vec<(Timestamp, IncidentId)>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "EpisodeSnapshot")]
struct EpisodeShape {
    violation: Arc<Violation>,
    first_at: Timestamp,
    first_stored_at: Timestamp,
    incident: Option<IncidentId>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "IncidentSnapshot")]
struct IncidentShape {
    incident: Arc<Incident>,
    analysis: Option<Arc<Analysis>>,
    first_stored_at: Timestamp,
    stable_since: Timestamp,
    firing: Vec<EpisodeId>,
    resolved: Vec<(Timestamp, EpisodeId)>,
    forgotten: u64,
    reported: Vec<Reason>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "PlanSnapshot")]
struct PlanShape {
    plan: Arc<Plan>,
    sequence: u64,
    stored_at: Timestamp,
    attempts: Vec<Attempt>,
    verdict: Option<Arc<Verdict>>,
    release: Option<(PlanEnd, Timestamp)>,
    reported: Vec<Reason>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Attempt")]
struct AttemptShape {
    intent: Arc<Intent>,
    sequence: u64,
    stored_at: Timestamp,
    outcome: Option<Arc<Outcome>>,
    ended_at: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "GateSnapshot")]
struct GateShape {
    last_sequence: u64,
    halted: Option<(Arc<str>, Arc<str>)>,
    last_request: u64,
    halt_said_at: Timestamp,
    charter: Generation,
    charter_said_at: Timestamp,
    in_flight: Vec<PlanId>,
    acting_for: Vec<(IncidentId, PlanId)>,
    started: Vec<Timestamp>,
    acted: Vec<(Arc<str>, Labels, Timestamp)>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "LearnedSnapshot")]
struct LearnedShape {
    playbook: Arc<str>,
    cause: Arc<str>,
    scope: Option<Labels>,
    known: Effectiveness,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Effectiveness")]
struct EffectivenessShape {
    #[serde(with = "float")]
    helped: f64,
    #[serde(with = "float")]
    failed: f64,
    at: Timestamp,
}

mod shards {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use crate::model::Shard;

    pub(super) fn serialize<S: Serializer>(shards: &[(Shard, u64)], to: S) -> Result<S::Ok, S::Error> {
        shards.iter().map(|(shard, sequence)| (shard.0, *sequence)).collect::<Vec<_>>().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(Shard, u64)>, D::Error> {
        let read = Vec::<(u16, u64)>::deserialize(from)?;
        Ok(read.into_iter().map(|(shard, sequence)| (Shard(shard), sequence)).collect())
    }
}

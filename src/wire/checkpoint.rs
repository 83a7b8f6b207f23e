//! The monitor's checkpoint: its state, and the place in the sample stream behind which frames are read again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::leaf::{bits, float, millis, pairs};
use super::msgpack::{self, Limits};
use super::words::mirrored;
use super::{DecodeError, EncodeError};
use crate::engine::monitor::{
    Course, Delay, GridSnapshot, JoinSnapshot, Lane, Measurement, MonitorSnapshot, Producer, PulseSnapshot,
    RuleKey, RuleSnapshot, ScrapeSnapshot, SeriesSnapshot, Stage, TableSnapshot, ViolationSnapshot,
    WaitingFrame,
};
use crate::model::{Entry, EpisodeId, Labels, RuleName, TableHash, Timestamp};

/// A checkpoint larger than this is not kept: the object store's own limit of an object.
const CHECKPOINT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a checkpoint may hold.
const LIMITS: Limits =
    Limits { message_bytes: CHECKPOINT_BYTES_MAX, text_bytes: 4 * 1024 * 1024, items: 4_000_000, depth: 24 };

/// The monitor's state at a place in the sample stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// When the sample stream was created that `sequence` is a place in: a server that was restarted has another one
    /// under the same name.
    pub stream: Timestamp,
    /// Every frame up to here is in the state; frames behind it may be.
    pub sequence: u64,
    /// The state.
    pub snapshot: MonitorSnapshot,
}

/// Writes a checkpoint.
pub fn encode(checkpoint: &Checkpoint) -> Result<Vec<u8>, EncodeError> {
    let bytes =
        rmp_serde::to_vec_named(checkpoint).map_err(|error| EncodeError::Refused(error.to_string()))?;
    if bytes.len() > CHECKPOINT_BYTES_MAX {
        return Err(EncodeError::TooMany { what: "bytes", count: bytes.len(), max: CHECKPOINT_BYTES_MAX });
    }
    Ok(bytes)
}

/// Reads a checkpoint.
pub fn decode(bytes: &[u8]) -> Result<Checkpoint, DecodeError> {
    msgpack::decode(bytes, &LIMITS)
}

mirrored! {
    Checkpoint => CheckpointShape,
    MonitorSnapshot => MonitorShape,
    Producer => ProducerShape,
    Delay => DelayShape,
    Measurement => MeasurementShape,
    Lane => LaneShape,
    SeriesSnapshot => SeriesShape,
    TableSnapshot => TableShape,
    RuleSnapshot => RuleShape,
    RuleKey => RuleKeyShape,
    ViolationSnapshot => ViolationShape,
    Course => CourseShape,
    Stage => StageShape,
    GridSnapshot => GridShape,
    PulseSnapshot => PulseShape,
    JoinSnapshot => JoinShape,
    ScrapeSnapshot => ScrapeShape,
    WaitingFrame => WaitingShape,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Checkpoint")]
struct CheckpointShape {
    /// Without it, it is nobody's place, and windows are as incomplete as behind a gap.
    #[serde(default)]
    stream: Timestamp,
    sequence: u64,
    snapshot: MonitorSnapshot,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "MonitorSnapshot")]
struct MonitorShape {
    at: Option<Timestamp>,
    observed_since: Option<Timestamp>,
    swept_at: Timestamp,
    producers: Vec<Producer>,
    series: Vec<SeriesSnapshot>,
    tables: Vec<TableSnapshot>,
    rules: Vec<RuleSnapshot>,
    violations: Vec<ViolationSnapshot>,
    grids: Vec<GridSnapshot>,
    #[serde(default)]
    pulses: Vec<PulseSnapshot>,
    joins: Vec<JoinSnapshot>,
    scrapes: Vec<ScrapeSnapshot>,
    waiting: Vec<WaitingFrame>,
    unpublished: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Producer")]
struct ProducerShape {
    name: Arc<str>,
    delay: Option<Delay>,
    instant: Option<Measurement>,
    skewed: bool,
    lost: u64,
    heard_at: Timestamp,
    #[serde(with = "lanes")]
    lanes: BTreeMap<u32, Lane>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Delay")]
struct DelayShape {
    #[serde(with = "float")]
    skew_ms: f64,
    #[serde(with = "float")]
    lag_ms: f64,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Measurement")]
struct MeasurementShape {
    now: Timestamp,
    oldest: Timestamp,
    newest: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Lane")]
struct LaneShape {
    epoch: u64,
    first: u64,
    high: u64,
    #[serde(with = "bits")]
    seen: u128,
    watermark: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "SeriesSnapshot")]
struct SeriesShape {
    labels: Labels,
    producer: u32,
    #[serde(with = "samples")]
    samples: Vec<(Timestamp, f64)>,
    is_forgotten: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "TableSnapshot")]
struct TableShape {
    #[serde(with = "table_hash")]
    hash: TableHash,
    series: Vec<u32>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "RuleSnapshot")]
struct RuleShape {
    key: RuleKey,
    evaluated_at: Timestamp,
    read_at: Timestamp,
    producer: u32,
    expires_at: Option<Timestamp>,
    /// Checkpoints of before there were recording rules do not have it.
    #[serde(default)]
    recorded: Vec<Labels>,
    told_limit: bool,
    told_failure: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "RuleKey")]
struct RuleKeyShape {
    name: RuleName,
    expr: Arc<str>,
    #[serde(rename = "hold_ms", with = "millis")]
    hold: Duration,
    #[serde(with = "pairs")]
    labels: Vec<(Arc<str>, Arc<str>)>,
    #[serde(rename = "interval_ms", with = "millis_option")]
    interval: Option<Duration>,
    number: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "ViolationSnapshot")]
struct ViolationShape {
    rule: u32,
    series: Option<u32>,
    is_series_gone: bool,
    element: Labels,
    labels: Labels,
    episode: EpisodeId,
    course: Course,
    expires_at: Option<Timestamp>,
    producer: u32,
    contradicted: Option<Timestamp>,
    #[serde(default)]
    held_since: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Course")]
struct CourseShape {
    since: Timestamp,
    stage: Stage,
    rev: u32,
    #[serde(with = "float")]
    value: f64,
    evaluated_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Stage", rename_all = "snake_case")]
enum StageShape {
    Pending,
    Firing { kept_since: Option<Timestamp> },
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "GridSnapshot")]
struct GridShape {
    name: Arc<str>,
    #[serde(rename = "interval_ms", with = "millis")]
    interval: Duration,
    has_begun: bool,
    #[serde(default)]
    may_pass: bool,
    next: Option<Timestamp>,
    #[serde(default)]
    due_at: Timestamp,
    lanes: Vec<(u32, u32)>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "PulseSnapshot")]
struct PulseShape {
    name: Arc<str>,
    #[serde(rename = "interval_ms", with = "millis")]
    interval: Duration,
    next: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "JoinSnapshot")]
struct JoinShape {
    rule: u32,
    at: Timestamp,
    due: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "ScrapeSnapshot")]
struct ScrapeShape {
    producer: u32,
    at: Timestamp,
    parts: u16,
    seen: Vec<u16>,
    forget_at: Timestamp,
    rules: Vec<u32>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "WaitingFrame")]
struct WaitingShape {
    #[serde(with = "frame_bytes")]
    frame: crate::model::Frame,
    since: Timestamp,
}

mod lanes {
    use std::collections::BTreeMap;

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use crate::engine::monitor::Lane;

    pub(super) fn serialize<S: Serializer>(lanes: &BTreeMap<u32, Lane>, to: S) -> Result<S::Ok, S::Error> {
        lanes.iter().collect::<Vec<_>>().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<u32, Lane>, D::Error> {
        Ok(Vec::<(u32, Lane)>::deserialize(from)?.into_iter().collect())
    }
}

/// Columns of sixteen bytes a sample: a list of pairs would be three times as large and ten times as slow.
mod samples {
    use serde::de::Error as _;
    use serde::{Deserializer, Serializer};
    use serde_bytes::ByteBuf;

    use crate::model::Timestamp;

    pub(super) fn serialize<S: Serializer>(samples: &[(Timestamp, f64)], to: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::with_capacity(samples.len() * 16);
        for (at, value) in samples {
            bytes.extend_from_slice(&at.as_millis().to_le_bytes());
            bytes.extend_from_slice(&value.to_bits().to_le_bytes());
        }
        to.serialize_bytes(&bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(Timestamp, f64)>, D::Error> {
        let bytes: ByteBuf = serde_bytes::deserialize(from)?;
        let mut samples = Vec::with_capacity(bytes.len() / 16);
        let (rows, rest) = bytes.as_chunks::<16>();
        if !rest.is_empty() {
            return Err(D::Error::custom("samples are sixteen bytes each"));
        }
        for row in rows {
            let (at, value) = row.split_at(8);
            let read =
                |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
            samples.push((Timestamp::from_millis(read(at).cast_signed()), f64::from_bits(read(value))));
        }
        Ok(samples)
    }
}

mod table_hash {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::model::TableHash;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's shape")]
    pub(super) fn serialize<S: Serializer>(hash: &TableHash, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(hash.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<TableHash, D::Error> {
        u64::deserialize(from).map(TableHash)
    }
}

mod millis_option {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    #[expect(clippy::ref_option, reason = "serde's shape")]
    pub(super) fn serialize<S: Serializer>(duration: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        let millis = duration.map(|duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
        millis.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(Duration::from_millis))
    }
}

/// As a frame is written on the bus.
mod frame_bytes {
    use serde::de::Error as _;
    use serde::ser::Error as _;
    use serde::{Deserializer, Serializer};
    use serde_bytes::ByteBuf;

    use crate::model::Frame;
    use crate::wire::frame;

    pub(super) fn serialize<S: Serializer>(value: &Frame, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(&frame::encode(value, None).map_err(S::Error::custom)?)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Frame, D::Error> {
        let bytes: ByteBuf = serde_bytes::deserialize(from)?;
        frame::decode(&bytes).map(|(frame, _)| frame).map_err(D::Error::custom)
    }
}

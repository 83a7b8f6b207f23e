//! What the knowledge role keeps beside records, and what it is asked and answers.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::body::{self, ContentType};
use super::{DecodeError, EncodeError};
use crate::engine::fold::Effectiveness;
use crate::model::Timestamp;

/// How often a playbook helped against a cause.
#[derive(Clone, Debug, PartialEq)]
pub struct LearnedRow {
    /// The playbook.
    pub playbook: String,
    /// The cause.
    pub cause: String,
    /// What is known.
    pub effectiveness: Effectiveness,
}

#[derive(Serialize, Deserialize)]
struct Row {
    playbook: String,
    cause: String,
    helped: f64,
    failed: f64,
    at: Timestamp,
}

/// The key of a playbook and a cause: a hash, because both may be longer than a key.
pub fn learned_key(playbook: &str, cause: &str) -> [u8; 16] {
    crate::model::MessageId::of(&[&"learned", &playbook, &cause]).as_u128().to_be_bytes()
}

/// Writes a row.
pub fn encode_learned(playbook: &str, cause: &str, known: Effectiveness) -> Result<Vec<u8>, EncodeError> {
    let Effectiveness { helped, failed, at } = known;
    body::encode(&Row { playbook: playbook.into(), cause: cause.into(), helped, failed, at })
}

/// Reads a row.
pub fn decode_learned(bytes: &[u8]) -> Result<LearnedRow, DecodeError> {
    let Row { playbook, cause, helped, failed, at } = body::decode(ContentType::MessagePack, bytes)?;
    Ok(LearnedRow { playbook, cause, effectiveness: Effectiveness { helped, failed, at } })
}

/// A row for people.
pub fn learned_json(row: &LearnedRow) -> Value {
    let known = &row.effectiveness;
    json!({
        "playbook": row.playbook,
        "cause": row.cause,
        "helped": known.helped,
        "failed": known.failed,
        "expected": known.mean(),
        "at_least": known.lower_bound(),
        "at": known.at.to_rfc3339(),
    })
}

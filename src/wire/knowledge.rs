//! What the knowledge role keeps beside records, and what it is asked and answers.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::body::{self, ContentType};
use super::{DecodeError, EncodeError};
use crate::engine::fold::Effectiveness;
use crate::model::{Labels, MessageId, Timestamp};

/// How often a playbook helped against a cause, in one scope or in all.
#[derive(Clone, Debug, PartialEq)]
pub struct LearnedRow {
    /// The playbook.
    pub playbook: String,
    /// The cause.
    pub cause: String,
    /// Where; nowhere in particular for all scopes together.
    pub scope: Option<Labels>,
    /// What is known.
    pub effectiveness: Effectiveness,
}

#[derive(Serialize, Deserialize)]
struct Row {
    playbook: String,
    cause: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<Labels>,
    helped: f64,
    failed: f64,
    at: Timestamp,
}

/// The key of a playbook, a cause and a scope: a hash, because all may be longer than a key.
pub fn learned_key(playbook: &str, cause: &str, scope: Option<&Labels>) -> [u8; 16] {
    let id = match scope {
        Some(scope) => MessageId::of(&[&"learned", &playbook, &cause, scope]),
        None => MessageId::of(&[&"learned", &playbook, &cause]),
    };
    id.as_u128().to_be_bytes()
}

/// Writes a row.
pub fn encode_learned(row: &LearnedRow) -> Result<Vec<u8>, EncodeError> {
    let LearnedRow { playbook, cause, scope, effectiveness } = row.clone();
    let Effectiveness { helped, failed, at } = effectiveness;
    body::encode(&Row { playbook, cause, scope, helped, failed, at })
}

/// Reads a row.
pub fn decode_learned(bytes: &[u8]) -> Result<LearnedRow, DecodeError> {
    let Row { playbook, cause, scope, helped, failed, at } = body::decode(ContentType::MessagePack, bytes)?;
    Ok(LearnedRow { playbook, cause, scope, effectiveness: Effectiveness { helped, failed, at } })
}

/// A row for people.
pub fn learned_json(row: &LearnedRow) -> Value {
    let known = &row.effectiveness;
    json!({
        "playbook": row.playbook,
        "cause": row.cause,
        "scope": row.scope,
        "helped": known.helped,
        "failed": known.failed,
        "expected": known.mean(),
        "at_least": known.lower_bound(),
        "at": known.at.to_rfc3339(),
    })
}

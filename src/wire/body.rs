//! Bodies: MessagePack between processes, JSON where a person or a tool wrote them.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{DecodeError, EncodeError};
use super::msgpack::{self, Limits};
use crate::model::FILLED_BYTES_MAX;

/// The server's own limit of a payload.
pub const MESSAGE_BYTES_MAX: usize = 1_048_576;
/// A template of a playbook has at most 8 KiB; filled in, and for the output of a program, this is plenty.
pub const TEXT_BYTES_MAX: usize = FILLED_BYTES_MAX;
/// Items of one list: the episodes of an incident in a storm.
const ITEMS_MAX: usize = 16_384;
/// A plan's command in a batch nests eight deep; the rest is room for later versions.
const DEPTH_MAX: usize = 16;

/// What a message of the ledger or the intake may hold.
pub(super) const MESSAGE_LIMITS: Limits = Limits {
    message_bytes: MESSAGE_BYTES_MAX,
    text_bytes: TEXT_BYTES_MAX,
    items: ITEMS_MAX,
    depth: DEPTH_MAX,
};

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContentType {
    /// `application/msgpack`
    MessagePack,
    /// `application/json`
    Json,
}

impl ContentType {
    /// The value of the header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MessagePack => "application/msgpack",
            Self::Json => "application/json",
        }
    }

    /// From the value of the header, with or without parameters.
    pub(super) fn parse(text: &str) -> Result<Self, DecodeError> {
        let bare = text.split(';').next().unwrap_or("").trim();
        match bare.to_ascii_lowercase().as_str() {
            "application/msgpack" | "application/x-msgpack" | "application/vnd.msgpack" => {
                Ok(Self::MessagePack)
            }
            "application/json" => Ok(Self::Json),
            _ => Err(DecodeError::malformed(format_args!(
                "the content type `{bare}` is neither application/msgpack nor application/json"
            ))),
        }
    }

    /// What a body without a header is: our bodies are maps, which in JSON start with `{`, and in MessagePack with a
    /// byte that is no ASCII.
    pub fn sniff(body: &[u8]) -> Self {
        let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
        if first == Some(&b'{') { Self::Json } else { Self::MessagePack }
    }
}

/// Writes a body as MessagePack, not larger than a message may be.
pub(super) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, EncodeError> {
    encode_within(value, &MESSAGE_LIMITS)
}

/// The same for a body with other limits.
pub(super) fn encode_within<T: Serialize>(value: &T, limits: &Limits) -> Result<Vec<u8>, EncodeError> {
    // Most messages are one entry of some hundred bytes.
    const USUAL_BYTES: usize = 1_024;
    let mut bytes = Vec::with_capacity(USUAL_BYTES);
    rmp_serde::encode::write_named(&mut bytes, value)
        .map_err(|error| EncodeError::Refused(error.to_string()))?;
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(EncodeError::TooMany { what: "bytes", count: bytes.len(), max: MESSAGE_BYTES_MAX });
    }
    // What no reader takes must not be written: everybody would skip it, and its writer wait for it for ever.
    msgpack::check(&bytes, limits).map_err(|error| EncodeError::Refused(error.to_string()))?;
    Ok(bytes)
}

/// Reads a body.
pub(super) fn decode<T: DeserializeOwned>(content: ContentType, body: &[u8]) -> Result<T, DecodeError> {
    match content {
        ContentType::MessagePack => msgpack::decode(body, &MESSAGE_LIMITS),
        ContentType::Json => msgpack::decode(&transcode(body)?, &MESSAGE_LIMITS),
    }
}

/// JSON takes the detour over MessagePack: one reader knows limits, places and unknown words, and nobody waits for it.
fn transcode(body: &[u8]) -> Result<Vec<u8>, DecodeError> {
    if body.len() > MESSAGE_BYTES_MAX {
        let found = body.len();
        return Err(DecodeError::limit(format_args!("{found} bytes, at most {MESSAGE_BYTES_MAX} are taken")));
    }
    let value: serde_json::Value = serde_json::from_slice(body)
        .map_err(|error| DecodeError::malformed(format_args!("not JSON: {error}")))?;
    rmp_serde::to_vec(&value).map_err(DecodeError::malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Fault;

    #[test]
    fn content_types_are_read_with_their_parameters() {
        assert_eq!(ContentType::parse("Application/JSON; charset=utf-8"), Ok(ContentType::Json));
        assert_eq!(ContentType::parse("application/x-msgpack"), Ok(ContentType::MessagePack));
        assert_eq!(ContentType::parse("application/cloudevents+json").unwrap_err().fault(), Fault::Malformed);
    }

    #[test]
    fn a_body_without_a_header_is_recognised() {
        assert_eq!(ContentType::sniff(b" \n{\"a\":1}"), ContentType::Json);
        assert_eq!(ContentType::sniff(&encode(&[("a", 1)]).unwrap()), ContentType::MessagePack);
        assert_eq!(ContentType::sniff(b""), ContentType::MessagePack);
    }

    #[test]
    fn broken_json_is_told_with_its_place() {
        let error = decode::<Vec<u8>>(ContentType::Json, b"[1,\n2,,]").unwrap_err();
        assert_eq!(error.to_string(), "not JSON: expected value at line 2 column 3");
        let deep = "[".repeat(100_000);
        assert!(decode::<Vec<u8>>(ContentType::Json, deep.as_bytes()).is_err());
    }

    #[test]
    fn what_a_reader_would_refuse_is_not_written() {
        #[derive(Serialize)]
        struct Step {
            body: String,
        }
        #[derive(Serialize)]
        struct Plan {
            steps: Vec<Step>,
        }
        let plan = |bytes: usize| Plan { steps: vec![Step { body: "x".repeat(bytes) }] };
        assert!(encode(&plan(TEXT_BYTES_MAX)).is_ok());
        let error = encode(&plan(TEXT_BYTES_MAX + 1)).unwrap_err();
        assert_eq!(error.to_string(), "`steps[0].body`: a text of 65537 bytes, at most 65536 are taken");
        let error = encode(&vec![0_u8; ITEMS_MAX + 1]).unwrap_err();
        assert_eq!(error.to_string(), "16385 items, at most 16384 are taken");
    }

    #[test]
    fn what_is_larger_than_a_message_is_not_written() {
        let error = encode(&vec![u64::MAX; 200_000]).unwrap_err();
        assert!(error.to_string().contains("at most 1048576"), "{error}");
    }
}

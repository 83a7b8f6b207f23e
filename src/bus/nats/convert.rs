//! Between the client library's types and ours.

use std::str::FromStr;

use async_nats::datetime::DateTime;
use async_nats::jetstream::message::StreamMessage;
use async_nats::{HeaderMap, HeaderName, HeaderValue};

use crate::bus::{Incoming, Stored};
use crate::model::Timestamp;

/// `Err` names the header that cannot be sent. The client's own conversions panic on a line break.
pub(super) fn header_map(headers: &[(String, String)]) -> Result<HeaderMap, String> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let bad = || format!("the header `{name}` cannot be sent");
        // The client takes an empty name, and the server closes the connection over it.
        if name.is_empty() {
            return Err(bad());
        }
        map.append(
            HeaderName::from_str(name).map_err(|_| bad())?,
            HeaderValue::from_str(value).map_err(|_| bad())?,
        );
    }
    Ok(map)
}

/// Sorted by name: the map's own order is a different one each time.
pub(super) fn headers(map: &HeaderMap) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = map
        .iter()
        .flat_map(|(name, values)| {
            values.iter().map(|value| (AsRef::<str>::as_ref(name).to_owned(), value.as_str().to_owned()))
        })
        .collect();
    headers.sort_by(|one, other| one.0.cmp(&other.0));
    headers
}

pub(super) fn timestamp(at: DateTime) -> Timestamp {
    Timestamp::from_millis(i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX))
}

pub(super) fn stored(message: StreamMessage) -> Stored {
    Stored {
        subject: message.subject.into_string(),
        headers: headers(&message.headers),
        payload: message.payload,
        sequence: message.sequence,
        stored_at: timestamp(message.time),
    }
}

pub(super) fn incoming(message: async_nats::Message) -> Incoming {
    Incoming {
        subject: message.subject.into_string(),
        headers: message.headers.as_ref().map(headers).unwrap_or_default(),
        payload: message.payload,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_keep_repeats_and_are_sorted_and_line_breaks_are_refused() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let given = [pair("b", "2"), pair("a", "1"), pair("b", "1")];
        assert_eq!(headers(&header_map(&given).unwrap()), [pair("a", "1"), pair("b", "2"), pair("b", "1")]);
        for bad in [pair("a", "1\r\n2"), pair("a b:", "1"), pair("", "1")] {
            assert!(header_map(std::slice::from_ref(&bad)).is_err(), "{bad:?}");
        }
    }
}

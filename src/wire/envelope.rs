//! Envelopes: what a message says about itself in its headers, as CloudEvents 1.0 in binary mode over NATS.
//!
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/nats-protocol-binding.md>

use std::borrow::Cow;
use std::fmt;
use std::fmt::Write as _;

use bytes::Bytes;

use super::body::ContentType;
use super::error::{DecodeError, shortened};
use super::leaf::{bits, parse_rfc3339};
use crate::model::{AttemptId, IncidentId, MessageId, Timestamp};

/// The header by which the server drops what it already has.
pub const MESSAGE_ID: &str = "Nats-Msg-Id";
const CONTENT_TYPE: &str = "Content-Type";
const TRACEPARENT: &str = "traceparent";
const SPEC_VERSION: &str = "ce-specversion";
const TYPE: &str = "ce-type";
const ID: &str = "ce-id";
const SOURCE: &str = "ce-source";
const TIME: &str = "ce-time";
/// What our types start with.
const TYPE_ROOT: &str = "io.homeostat.";
/// Longest header value that is read: ids and sources are far shorter.
const VALUE_BYTES_MAX: usize = 1_024;

/// Headers in their order. Names are compared without case, as CloudEvents asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(Cow<'static, str>, String)>);

impl Headers {
    /// None.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Puts one behind the others. A line break would start a header of its own: it becomes a space.
    pub fn push(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) {
        let mut value = value.into();
        if value.contains(['\r', '\n']) {
            value = value.replace(['\r', '\n'], " ");
        }
        self.0.push((name.into(), value));
    }

    /// The first value of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Names and values in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value.as_str()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<N: Into<Cow<'static, str>>, V: Into<String>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut headers = Self::new();
        for (name, value) in pairs {
            headers.push(name, value);
        }
        headers
    }
}

/// A message as it is handed to a bus, or comes from one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where.
    pub subject: String,
    /// What it says about itself.
    pub headers: Headers,
    /// What it carries.
    pub payload: Bytes,
}

/// What a message carries; the `ce-type` without its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A batch of the ledger.
    Ledger,
    /// A frame of samples.
    Samples,
    /// A series table, in answer to a request.
    SeriesTable,
    /// A violation that somebody else found.
    IntakeViolation,
    /// A change to the system.
    IntakeChange,
    /// Halt or resume.
    IntakeControl,
}

impl Kind {
    const ALL: [Self; 6] = [
        Self::Ledger,
        Self::Samples,
        Self::SeriesTable,
        Self::IntakeViolation,
        Self::IntakeChange,
        Self::IntakeControl,
    ];

    /// The `ce-type`. A new major version is a new word here: readers of the old one leave it alone.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ledger => "io.homeostat.ledger.v1",
            Self::Samples => "io.homeostat.samples.v1",
            Self::SeriesTable => "io.homeostat.table.v1",
            Self::IntakeViolation => "io.homeostat.intake.violation.v1",
            Self::IntakeChange => "io.homeostat.intake.change.v1",
            Self::IntakeControl => "io.homeostat.intake.control.v1",
        }
    }

    fn parse(text: &str) -> Result<Self, DecodeError> {
        let known = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        known.ok_or_else(|| {
            let told = shortened(text, 80);
            if text.starts_with(TYPE_ROOT) {
                DecodeError::unknown(format_args!("`{told}` is no type that this version knows"))
            } else {
                DecodeError::malformed(format_args!("`{told}` does not start with `{TYPE_ROOT}`"))
            }
        })
    }
}

/// Who wrote a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source<'a> {
    /// The cell's id.
    pub cell: &'a str,
    /// A role's word, or `producer`, `operator`.
    pub role: &'a str,
    /// Which process.
    pub instance: &'a str,
}

impl fmt::Display for Source<'_> {
    /// A relative URI: what may not stand in one of its segments is escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("/homeostat")?;
        for segment in [self.cell, self.role, self.instance] {
            f.write_char('/')?;
            escape(f, segment, |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))?;
        }
        Ok(())
    }
}

/// The place of a message in a trace, as W3C's `traceparent` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The trace's 128 bits, not 0.
    pub trace: u128,
    /// The 64 bits of the span that wrote the message, not 0.
    pub span: u64,
}

impl Trace {
    /// The span of the decision that this message tells; `None` where there is no trace.
    pub fn of(trace: u128, message: MessageId) -> Option<Self> {
        let span = u64::try_from(message.as_u128() >> 64).unwrap_or(u64::MAX);
        (trace != 0 && span != 0).then_some(Self { trace, span })
    }

    /// The span of an attempt: what its target is told, and what a trace shows of it.
    pub fn of_attempt(incident: IncidentId, attempt: AttemptId) -> Option<Self> {
        Self::of(incident.as_u128(), MessageId::of(&[&attempt]))
    }

    /// From a `traceparent`; one that is not valid is no trace, as W3C asks.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace, span, _flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let span_fits = span.len() == 16 && span.bytes().all(|byte| byte.is_ascii_hexdigit());
        let version_fits =
            version.len() == 2 && version != "ff" && (version != "00" || parts.next().is_none());
        let trace = bits::parse(trace).ok()?;
        let span = u64::from_str_radix(span, 16).ok()?;
        (span_fits && version_fits && trace != 0 && span != 0).then_some(Self { trace, span })
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-01", self.trace, self.span)
    }
}

/// What a message says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// What it carries.
    pub kind: Kind,
    /// Unique per source; the ledger's is the message id.
    pub id: String,
    /// Who wrote it.
    pub source: String,
    /// When it was written.
    pub at: Option<Timestamp>,
    /// Its place in a trace.
    pub trace: Option<Trace>,
    /// How the body is written.
    pub content: ContentType,
}

impl Envelope {
    /// As headers.
    pub fn headers(&self) -> Headers {
        let mut headers = Headers(Vec::with_capacity(8));
        headers.push(SPEC_VERSION, "1.0");
        headers.push(TYPE, self.kind.as_str());
        headers.push(ID, escaped(&self.id));
        headers.push(SOURCE, escaped(&self.source));
        if let Some(at) = self.at {
            headers.push(TIME, at.to_rfc3339());
        }
        headers.push(CONTENT_TYPE, self.content.as_str());
        if let Some(trace) = self.trace {
            headers.push(TRACEPARENT, trace.to_string());
        }
        headers
    }

    /// From headers; `None` where they are none of CloudEvents, as when a person publishes by hand.
    pub fn read(headers: &Headers) -> Result<Option<Self>, DecodeError> {
        let Some(version) = headers.get(SPEC_VERSION) else { return Ok(None) };
        if version != "1.0" {
            let version = shortened(version, 16);
            return Err(DecodeError::unknown(format_args!("`{SPEC_VERSION}` is `{version}`, 1.0 is known")));
        }
        let kind = Kind::parse(required(headers, TYPE)?).map_err(|error| error.in_field(TYPE))?;
        let at = match headers.get(TIME) {
            None => None,
            Some(text) => Some(parse_rfc3339(text).ok_or_else(|| {
                DecodeError::malformed(format_args!("`{}` is no time in RFC 3339", shortened(text, 40)))
                    .in_field(TIME)
            })?),
        };
        Ok(Some(Self {
            kind,
            id: unescaped(required(headers, ID)?),
            source: unescaped(required(headers, SOURCE)?),
            at,
            trace: headers.get(TRACEPARENT).and_then(Trace::parse),
            content: content(headers)?.unwrap_or(ContentType::MessagePack),
        }))
    }
}

/// What the headers say about the body.
pub(super) fn content(headers: &Headers) -> Result<Option<ContentType>, DecodeError> {
    headers
        .get(CONTENT_TYPE)
        .map(ContentType::parse)
        .transpose()
        .map_err(|error| error.in_field(CONTENT_TYPE))
}

fn required<'a>(headers: &'a Headers, name: &'static str) -> Result<&'a str, DecodeError> {
    match headers.get(name) {
        None | Some("") => Err(DecodeError::malformed("is missing").in_field(name)),
        Some(value) if value.len() > VALUE_BYTES_MAX => {
            let bytes = value.len();
            Err(DecodeError::limit(format_args!("{bytes} bytes, at most {VALUE_BYTES_MAX} are taken"))
                .in_field(name))
        }
        Some(value) => Ok(value),
    }
}

/// Header values are printable ASCII without space, quote and percent sign; the rest is escaped.
fn escaped(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'%';
    if value.bytes().all(plain) {
        return value.into();
    }
    let mut text = String::new();
    // Writing to a `String` does not fail.
    let _ = escape(&mut text, value, plain);
    text
}

fn escape(out: &mut impl fmt::Write, text: &str, plain: impl Fn(u8) -> bool) -> fmt::Result {
    for byte in text.bytes() {
        if plain(byte) {
            out.write_char(char::from(byte))?;
        } else {
            write!(out, "%{byte:02X}")?;
        }
    }
    Ok(())
}

/// The other way round; what is no escape stays as it is.
fn unescaped(value: &str) -> String {
    if !value.contains('%') {
        return value.into();
    }
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let digits = behind.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let byte = digits.filter(|_| first == b'%').and_then(|two| u8::from_str_radix(two, 16).ok());
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::Fault;

    fn envelope() -> Envelope {
        Envelope {
            kind: Kind::Ledger,
            id: "ms-1".into(),
            source: Source { cell: "eu-1", role: "monitor", instance: "host a/7" }.to_string(),
            at: Some(Timestamp::from_millis(1_700_000_000_123)),
            trace: Some(Trace { trace: 0xabc, span: 0xdef }),
            content: ContentType::MessagePack,
        }
    }

    #[test]
    fn headers_are_those_of_cloudevents_over_nats() {
        let headers = envelope().headers();
        let lines: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let expected = [
            "ce-specversion: 1.0",
            "ce-type: io.homeostat.ledger.v1",
            "ce-id: ms-1",
            "ce-source: /homeostat/eu-1/monitor/host%2520a%252F7",
            "ce-time: 2023-11-14T22:13:20.123Z",
            "Content-Type: application/msgpack",
            "traceparent: 00-00000000000000000000000000000abc-0000000000000def-01",
        ];
        assert_eq!(lines, expected);
        assert_eq!(Envelope::read(&headers), Ok(Some(envelope())));
    }

    #[test]
    fn a_newer_major_version_is_unknown_and_a_foreign_type_is_malformed() {
        let with_type = |kind: &str| -> Headers {
            let headers = envelope().headers();
            headers
                .iter()
                .map(|(name, value)| {
                    (name.to_owned(), if name == TYPE { kind.to_owned() } else { value.to_owned() })
                })
                .collect()
        };
        let fault = |headers: &Headers| Envelope::read(headers).unwrap_err().fault();
        assert_eq!(fault(&with_type("io.homeostat.ledger.v2")), Fault::Unknown);
        assert_eq!(fault(&with_type("io.homeostat.forecast.v1")), Fault::Unknown);
        assert_eq!(fault(&with_type("com.example.thing")), Fault::Malformed);
        assert_eq!(fault(&with_type("")), Fault::Malformed);
        assert_eq!(fault(&Headers::from_iter([(SPEC_VERSION, "2.0")])), Fault::Unknown);
    }

    #[test]
    fn a_plain_message_has_no_envelope() {
        assert_eq!(Envelope::read(&Headers::from_iter([("X-Mine", "1")])), Ok(None));
    }

    #[test]
    fn header_names_are_compared_without_case_and_values_cannot_smuggle_lines() {
        let headers = Headers::from_iter([("CE-Type", "a\r\nNats-Rollup: all")]);
        assert_eq!(headers.get("ce-type"), Some("a  Nats-Rollup: all"));
    }

    #[test]
    fn a_trace_that_is_none_is_not_told() {
        assert_eq!(Trace::of(0, MessageId::of(&[&1_u64])), None);
        for text in [
            "",
            "00-0-0-01",
            "00-00000000000000000000000000000000-0000000000000001-01",
            "00-00000000000000000000000000000001-0000000000000001",
            "ff-00000000000000000000000000000001-0000000000000001-01",
            "00-00000000000000000000000000000001-+000000000000001-01",
        ] {
            assert_eq!(Trace::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_envelope_reads_back(id in "[^\r\n]{1,40}", source in ".{1,40}", trace in any::<u128>()) {
            let trace = Trace::of(trace, MessageId::of(&[&id.as_str()]));
            let envelope = Envelope { id, source, trace, ..envelope() };
            prop_assert_eq!(Envelope::read(&envelope.headers()), Ok(Some(envelope)));
        }

        #[test]
        fn any_headers_are_survived(pairs in proptest::collection::vec(("(ce-|Content-)?[a-zA-Z]{1,12}", ".{0,60}"), 0..8)) {
            let _ = Envelope::read(&pairs.into_iter().collect());
        }
    }
}

//! How the smallest values are written: ids as text, times as milliseconds (RFC 3339 where people read), durations as
//! milliseconds, label sets as maps, readings as floats that keep NaN and infinities even in JSON.

use std::borrow::Cow;
use std::fmt;
use std::fmt::Write as _;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::model::{
    ActionId, AnalysisId, AttemptId, ChangeId, Confidence, EpisodeId, IncidentId, Labels, MessageId, PlanId,
    ReportId, Timestamp,
};

/// Longest text form of an id: two letters, a dash, 26 digits.
const ID_BYTES_MAX: usize = 32;

/// A text that is written without asking for memory.
struct Stack {
    bytes: [u8; ID_BYTES_MAX],
    used: usize,
}

impl Stack {
    fn of(text: impl fmt::Display) -> Result<Self, fmt::Error> {
        let mut stack = Self { bytes: [0; ID_BYTES_MAX], used: 0 };
        write!(stack, "{text}")?;
        Ok(stack)
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.used]).unwrap_or("")
    }
}

impl fmt::Write for Stack {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.used + text.len();
        self.bytes.get_mut(self.used..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.used = end;
        Ok(())
    }
}

/// Reads a text and makes something of it, without a copy where it can be parsed in place.
struct Parse<T> {
    expected: &'static str,
    parse: fn(&str) -> Result<T, String>,
}

impl<T> Visitor<'_> for Parse<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(E::custom)
    }
}

/// Every id is written as its text form. A macro, because the ids are eight types of one making.
macro_rules! ids {
    ($($id:ident),*) => {$(
        impl Serialize for $id {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let text = Stack::of(self).map_err(serde::ser::Error::custom)?;
                serializer.serialize_str(text.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $id {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let parse = |text: &str| $id::from_str(text).map_err(|error| error.to_string());
                deserializer.deserialize_str(Parse { expected: "an id", parse })
            }
        }
    )*};
}

ids!(ActionId, AnalysisId, AttemptId, ChangeId, EpisodeId, IncidentId, MessageId, PlanId, ReportId);

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            let text = self.to_rfc3339();
            if text.ends_with('Z') {
                return serializer.serialize_str(&text);
            }
        }
        serializer.serialize_i64(self.as_millis())
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TimestampVisitor)
    }
}

struct TimestampVisitor;

impl Visitor<'_> for TimestampVisitor {
    type Value = Timestamp;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("milliseconds since 1970 or a time in RFC 3339")
    }

    fn visit_i64<E: de::Error>(self, millis: i64) -> Result<Timestamp, E> {
        Ok(Timestamp::from_millis(millis))
    }

    fn visit_u64<E: de::Error>(self, millis: u64) -> Result<Timestamp, E> {
        let outside = || E::invalid_value(Unexpected::Unsigned(millis), &self);
        i64::try_from(millis).map(Timestamp::from_millis).map_err(|_| outside())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Timestamp, E> {
        parse_rfc3339(text).ok_or_else(|| E::custom(format_args!("`{text}` is no time in RFC 3339")))
    }
}

/// A time in RFC 3339, cut to milliseconds.
pub(super) fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    let millis = at.unix_timestamp_nanos().div_euclid(1_000_000);
    i64::try_from(millis).ok().map(Timestamp::from_millis)
}

/// A text that borrows from the message where it can.
pub(super) struct Text<'de>(pub(super) Cow<'de, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.into())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Not `collect_map`: the iterator does not know its length, and MessagePack wants it first.
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (name, value) in self.iter() {
            serde::ser::SerializeMap::serialize_entry(&mut map, name, value)?;
        }
        serde::ser::SerializeMap::end(map)
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pairs = deserializer.deserialize_map(PairsVisitor)?;
        Self::new(pairs).map_err(de::Error::custom)
    }
}

struct PairsVisitor;

impl<'de> Visitor<'de> for PairsVisitor {
    type Value = Vec<(Cow<'de, str>, Cow<'de, str>)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of names and texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        const PREALLOCATED_MAX: usize = 64;
        let mut pairs = Vec::with_capacity(map.size_hint().unwrap_or(0).min(PREALLOCATED_MAX));
        while let Some((Text(name), Text(value))) = map.next_entry()? {
            pairs.push((name, value));
        }
        Ok(pairs)
    }
}

impl Serialize for Confidence {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.as_f64())
    }
}

impl<'de> Deserialize<'de> for Confidence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = f64::deserialize(deserializer)?;
        Self::new(value).ok_or_else(|| de::Error::custom(format_args!("`{value}` is not between 0 and 1")))
    }
}

/// Names and texts in the order of the names, as a map.
pub(super) mod pairs {
    use std::sync::Arc;

    use super::{Deserializer, PairsVisitor, Serializer, de};

    type Pairs = Vec<(Arc<str>, Arc<str>)>;

    pub(in crate::wire) fn serialize<S: Serializer>(
        pairs: &[(Arc<str>, Arc<str>)],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(pairs.iter().map(|(name, text)| (name, text)))
    }

    pub(in crate::wire) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Pairs, D::Error> {
        let mut pairs: Pairs = deserializer
            .deserialize_map(PairsVisitor)?
            .into_iter()
            .map(|(name, text)| (name.into(), text.into()))
            .collect();
        pairs.sort_unstable();
        match pairs.windows(2).find(|two| two[0].0 == two[1].0) {
            Some(two) => Err(de::Error::custom(format_args!("`{}` is given twice", two[0].0))),
            None => Ok(pairs),
        }
    }
}

/// Durations as whole milliseconds, which is as fine as the loop's times are.
pub(super) mod millis {
    use super::{Deserialize, Deserializer, Duration, Serializer};

    pub(in crate::wire) fn serialize<S: Serializer>(
        value: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    pub(in crate::wire) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

/// 128 bits as 32 hexadecimal digits, as trace ids are written.
pub(super) mod bits {
    use super::{Deserializer, Parse, Serializer, Stack};

    pub(in crate::wire) fn is_zero(bits: &u128) -> bool {
        *bits == 0
    }

    pub(in crate::wire) fn serialize<S: Serializer>(bits: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        let text = Stack::of(format_args!("{bits:032x}")).map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(text.as_str())
    }

    pub(in crate::wire) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        deserializer.deserialize_str(Parse { expected: "32 hexadecimal digits", parse })
    }

    pub(in crate::wire) fn parse(text: &str) -> Result<u128, String> {
        let digits = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let bits = digits.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        bits.ok_or_else(|| format!("`{text}` is not 32 lower-case hexadecimal digits"))
    }
}

/// Readings. JSON has no NaN and no infinities: there they are `"NaN"`, `"+Inf"` and `"-Inf"`, as Prometheus says.
pub(super) mod float {
    use super::{Deserializer, Serializer, Visitor, de, fmt};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
    pub(in crate::wire) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        if value.is_finite() || !serializer.is_human_readable() {
            return serializer.serialize_f64(*value);
        }
        serializer.serialize_str(match value {
            _ if value.is_nan() => "NaN",
            _ if *value > 0.0 => "+Inf",
            _ => "-Inf",
        })
    }

    pub(in crate::wire) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        deserializer.deserialize_any(FloatVisitor)
    }

    struct FloatVisitor;

    impl Visitor<'_> for FloatVisitor {
        type Value = f64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number, `NaN`, `+Inf` or `-Inf`")
        }

        fn visit_f64<E: de::Error>(self, value: f64) -> Result<f64, E> {
            Ok(value)
        }

        fn visit_i64<E: de::Error>(self, value: i64) -> Result<f64, E> {
            Ok(value as f64)
        }

        fn visit_u64<E: de::Error>(self, value: u64) -> Result<f64, E> {
            Ok(value as f64)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<f64, E> {
            match text {
                "NaN" => Ok(f64::NAN),
                "+Inf" | "Inf" => Ok(f64::INFINITY),
                "-Inf" => Ok(f64::NEG_INFINITY),
                _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
            }
        }
    }
}

/// A reading that may be missing.
pub(super) mod float_option {
    use super::{Deserialize, Deserializer, Serialize, Serializer, float};

    #[derive(Serialize, Deserialize)]
    struct Float(#[serde(with = "float")] f64);

    #[expect(clippy::ref_option, reason = "serde passes fields by reference")]
    pub(in crate::wire) fn serialize<S: Serializer>(
        value: &Option<f64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.map(Float).serialize(serializer)
    }

    pub(in crate::wire) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<f64>, D::Error> {
        Ok(Option::<Float>::deserialize(deserializer)?.map(|Float(value)| value))
    }
}

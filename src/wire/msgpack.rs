//! MessagePack, read with limits: each error names its place, and a newer word is told apart from nonsense.
//!
//! `rmp_serde` writes; it does not read here, because its errors know neither the place nor that difference. A
//! length is believed only as far as bytes are there for it, so that no message makes us allocate more than a small
//! multiple of its size.

use serde::Deserialize;
use serde::de::value::BorrowedStrDeserializer;
use serde::de::{DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::error::DecodeError;

/// What a message may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes of the whole message.
    pub(super) message_bytes: usize,
    /// Bytes of one text.
    pub(super) text_bytes: usize,
    /// Items of one list, or fields of one map.
    pub(super) items: usize,
    /// Lists and maps inside each other.
    pub(super) depth: usize,
}

/// Reads one value that fills `bytes` to the end.
pub(super) fn decode<'de, T: Deserialize<'de>>(bytes: &'de [u8], limits: &Limits) -> Result<T, DecodeError> {
    if bytes.len() > limits.message_bytes {
        let (found, max) = (bytes.len(), limits.message_bytes);
        return Err(DecodeError::limit(format_args!("{found} bytes, at most {max} are taken")));
    }
    let mut decoder = Decoder { bytes, offset: 0, depth: 0, limits };
    let value = T::deserialize(&mut decoder)?;
    let left = bytes.len() - decoder.offset;
    if left > 0 {
        return Err(DecodeError::malformed(format_args!("{left} bytes too many behind the value")));
    }
    Ok(value)
}

/// Whether a reader would take what was written, as far as its limits go.
pub(super) fn check(bytes: &[u8], limits: &Limits) -> Result<(), DecodeError> {
    Decoder { bytes, offset: 0, depth: 0, limits }.check()
}

/// A value, or the start of one.
enum Token<'de> {
    Nil,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(&'de str),
    Bytes(&'de [u8]),
    List(usize),
    Map(usize),
    Extension,
}

struct Decoder<'de, 'limits> {
    bytes: &'de [u8],
    offset: usize,
    depth: usize,
    limits: &'limits Limits,
}

impl<'de> Decoder<'de, '_> {
    fn take(&mut self, count: usize) -> Result<&'de [u8], DecodeError> {
        let taken = self.bytes[self.offset..].get(..count).ok_or_else(|| self.truncated(count))?;
        self.offset += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, _) =
            self.bytes[self.offset..].split_first_chunk::<N>().ok_or_else(|| self.truncated(N))?;
        self.offset += N;
        Ok(*taken)
    }

    fn truncated(&self, wanted: usize) -> DecodeError {
        let (at, left) = (self.offset, self.bytes.len() - self.offset);
        DecodeError::malformed(format_args!("cut off at byte {at}: {wanted} more expected, {left} are there"))
    }

    fn token(&mut self) -> Result<Token<'de>, DecodeError> {
        let [marker] = self.array()?;
        Ok(match marker {
            0x00..=0x7f => Token::Unsigned(u64::from(marker)),
            0x80..=0x8f => self.map(usize::from(marker & 0x0f))?,
            0x90..=0x9f => self.list(usize::from(marker & 0x0f))?,
            0xa0..=0xbf => self.text(usize::from(marker & 0x1f))?,
            0xc0 => Token::Nil,
            0xc1 => {
                let at = self.offset - 1;
                return Err(DecodeError::malformed(format_args!("byte {at} is no MessagePack")));
            }
            0xc2 => Token::Bool(false),
            0xc3 => Token::Bool(true),
            0xc4..=0xc6 => {
                let count = self.length(marker - 0xc4)?;
                Token::Bytes(self.take(count)?)
            }
            0xc7..=0xc9 => {
                let count = self.length(marker - 0xc7)?;
                self.extension(count)?
            }
            0xca => Token::Float(f64::from(f32::from_be_bytes(self.array()?))),
            0xcb => Token::Float(f64::from_be_bytes(self.array()?)),
            0xcc => Token::Unsigned(u64::from(u8::from_be_bytes(self.array()?))),
            0xcd => Token::Unsigned(u64::from(u16::from_be_bytes(self.array()?))),
            0xce => Token::Unsigned(u64::from(u32::from_be_bytes(self.array()?))),
            0xcf => Token::Unsigned(u64::from_be_bytes(self.array()?)),
            0xd0 => Token::Signed(i64::from(i8::from_be_bytes(self.array()?))),
            0xd1 => Token::Signed(i64::from(i16::from_be_bytes(self.array()?))),
            0xd2 => Token::Signed(i64::from(i32::from_be_bytes(self.array()?))),
            0xd3 => Token::Signed(i64::from_be_bytes(self.array()?)),
            0xd4..=0xd8 => self.extension(1 << (marker - 0xd4))?,
            0xd9..=0xdb => {
                let count = self.length(marker - 0xd9)?;
                self.text(count)?
            }
            0xdc | 0xdd => {
                let count = self.length(marker - 0xdc + 1)?;
                self.list(count)?
            }
            0xde | 0xdf => {
                let count = self.length(marker - 0xde + 1)?;
                self.map(count)?
            }
            0xe0..=0xff => Token::Signed(i64::from(i8::from_be_bytes([marker]))),
        })
    }

    /// A length of one, two or four bytes.
    fn length(&mut self, width: u8) -> Result<usize, DecodeError> {
        Ok(match width {
            0 => usize::from(u8::from_be_bytes(self.array()?)),
            1 => usize::from(u16::from_be_bytes(self.array()?)),
            // Where a `usize` is shorter than 32 bits, no message is that long either.
            _ => usize::try_from(u32::from_be_bytes(self.array()?)).unwrap_or(usize::MAX),
        })
    }

    fn text(&mut self, count: usize) -> Result<Token<'de>, DecodeError> {
        let at = self.offset;
        let bytes = self.take(count)?;
        let text = std::str::from_utf8(bytes)
            .map_err(|_| DecodeError::malformed(format_args!("the text at byte {at} is no UTF-8")))?;
        Ok(Token::Text(text))
    }

    fn extension(&mut self, count: usize) -> Result<Token<'de>, DecodeError> {
        let [_kind] = self.array()?;
        self.take(count)?;
        Ok(Token::Extension)
    }

    /// Each item is a byte at least: a length beyond the message is a lie.
    fn list(&self, count: usize) -> Result<Token<'de>, DecodeError> {
        if count > self.bytes.len() - self.offset {
            Err(self.truncated(count))
        } else {
            Ok(Token::List(count))
        }
    }

    fn map(&self, count: usize) -> Result<Token<'de>, DecodeError> {
        let count_bytes = count.saturating_mul(2);
        if count_bytes > self.bytes.len() - self.offset {
            Err(self.truncated(count_bytes))
        } else {
            Ok(Token::Map(count))
        }
    }

    /// Passes over one value, without recursion, whatever its depth.
    fn skip(&mut self) -> Result<(), DecodeError> {
        let mut pending = 1_usize;
        while pending > 0 {
            pending -= 1;
            match self.token()? {
                Token::List(count) => pending += count,
                Token::Map(count) => pending += 2 * count,
                Token::Nil
                | Token::Bool(_)
                | Token::Unsigned(_)
                | Token::Signed(_)
                | Token::Float(_)
                | Token::Text(_)
                | Token::Bytes(_)
                | Token::Extension => {}
            }
        }
        Ok(())
    }

    /// Passes over one value and holds it against the limits. As deep as they allow.
    fn check(&mut self) -> Result<(), DecodeError> {
        match self.token()? {
            Token::Text(text) => self.checked_text(text).map(drop),
            Token::List(count) => self.enter(count, |decoder| {
                (0..count).try_for_each(|index| decoder.check().map_err(|error| error.in_item(index)))
            }),
            Token::Map(count) => self.enter(count, |decoder| {
                (0..count).try_for_each(|_| {
                    let name = decoder.key()?;
                    decoder.check().map_err(|error| error.in_field(name))
                })
            }),
            Token::Nil
            | Token::Bool(_)
            | Token::Unsigned(_)
            | Token::Signed(_)
            | Token::Float(_)
            | Token::Bytes(_)
            | Token::Extension => Ok(()),
        }
    }

    fn checked_text(&mut self, text: &'de str) -> Result<&'de str, DecodeError> {
        let (found, max) = (text.len(), self.limits.text_bytes);
        if found > max {
            return Err(DecodeError::limit(format_args!("a text of {found} bytes, at most {max} are taken")));
        }
        Ok(text)
    }

    fn key(&mut self) -> Result<&'de str, DecodeError> {
        match self.token()? {
            Token::Text(text) => self.checked_text(text),
            Token::Nil
            | Token::Bool(_)
            | Token::Unsigned(_)
            | Token::Signed(_)
            | Token::Float(_)
            | Token::Bytes(_)
            | Token::List(_)
            | Token::Map(_)
            | Token::Extension => Err(DecodeError::malformed("a field's name is no text")),
        }
    }

    /// Goes one level down for the items of a list or the fields of a map.
    fn enter<T>(
        &mut self,
        count: usize,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        if count > self.limits.items {
            let max = self.limits.items;
            return Err(DecodeError::limit(format_args!("{count} items, at most {max} are taken")));
        }
        if self.depth >= self.limits.depth {
            let max = self.limits.depth;
            return Err(DecodeError::limit(format_args!("nested more than {max} deep")));
        }
        self.depth += 1;
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }
}

impl<'de> serde::Deserializer<'de> for &mut Decoder<'de, '_> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.token()? {
            Token::Nil => visitor.visit_unit(),
            Token::Bool(value) => visitor.visit_bool(value),
            Token::Unsigned(value) => visitor.visit_u64(value),
            Token::Signed(value) => visitor.visit_i64(value),
            Token::Float(value) => visitor.visit_f64(value),
            Token::Text(text) => visitor.visit_borrowed_str(self.checked_text(text)?),
            Token::Bytes(bytes) => visitor.visit_borrowed_bytes(bytes),
            Token::List(count) => self.enter(count, |decoder| {
                let mut items = Items { decoder, count, next: 0 };
                let value = visitor.visit_seq(&mut items)?;
                all_taken(items.count - items.next, value)
            }),
            Token::Map(count) => self.enter(count, |decoder| {
                let mut fields = Fields { decoder, left: count, name: "" };
                let value = visitor.visit_map(&mut fields)?;
                all_taken(fields.left, value)
            }),
            Token::Extension => Err(DecodeError::malformed("extension types are not taken")),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        const NIL: u8 = 0xc0;
        if self.bytes.get(self.offset) == Some(&NIL) {
            self.offset += 1;
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    /// A word, or a map of one field whose name is the word.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.token()? {
            Token::Text(word) => {
                let word = self.checked_text(word)?;
                visitor.visit_enum(BorrowedStrDeserializer::new(word))
            }
            Token::Map(1) => self.enter(1, |decoder| {
                let word = decoder.key()?;
                visitor.visit_enum(Variant { decoder, word })
            }),
            Token::Nil
            | Token::Bool(_)
            | Token::Unsigned(_)
            | Token::Signed(_)
            | Token::Float(_)
            | Token::Bytes(_)
            | Token::List(_)
            | Token::Map(_)
            | Token::Extension => Err(DecodeError::malformed("neither a word nor a map of one field")),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.skip()?;
        visitor.visit_unit()
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq
        tuple tuple_struct map struct identifier
    }
}

fn all_taken<T>(left: usize, value: T) -> Result<T, DecodeError> {
    if left > 0 { Err(DecodeError::malformed(format_args!("{left} items too many"))) } else { Ok(value) }
}

struct Items<'a, 'de, 'limits> {
    decoder: &'a mut Decoder<'de, 'limits>,
    count: usize,
    next: usize,
}

impl<'de> SeqAccess<'de> for &mut Items<'_, 'de, '_> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        if self.next == self.count {
            return Ok(None);
        }
        let index = self.next;
        self.next += 1;
        seed.deserialize(&mut *self.decoder).map(Some).map_err(|error| error.in_item(index))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.count - self.next)
    }
}

struct Fields<'a, 'de, 'limits> {
    decoder: &'a mut Decoder<'de, 'limits>,
    left: usize,
    name: &'de str,
}

impl<'de> MapAccess<'de> for &mut Fields<'_, 'de, '_> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.name = self.decoder.key()?;
        seed.deserialize(BorrowedStrDeserializer::new(self.name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, DecodeError> {
        seed.deserialize(&mut *self.decoder).map_err(|error| error.in_field(self.name))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

struct Variant<'a, 'de, 'limits> {
    decoder: &'a mut Decoder<'de, 'limits>,
    word: &'de str,
}

impl<'de> EnumAccess<'de> for Variant<'_, 'de, '_> {
    type Error = DecodeError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), DecodeError> {
        let value = seed.deserialize(BorrowedStrDeserializer::new(self.word))?;
        Ok((value, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de, '_> {
    type Error = DecodeError;

    fn unit_variant(self) -> Result<(), DecodeError> {
        serde::de::IgnoredAny::deserialize(self.decoder).map(drop)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, DecodeError> {
        seed.deserialize(self.decoder).map_err(|error| error.in_field(self.word))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, DecodeError> {
        serde::Deserializer::deserialize_any(self.decoder, visitor).map_err(|error| error.in_field(self.word))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        serde::Deserializer::deserialize_any(self.decoder, visitor).map_err(|error| error.in_field(self.word))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Serialize;

    use super::*;
    use crate::wire::Fault;

    const LIMITS: Limits = Limits { message_bytes: 10_000, text_bytes: 100, items: 50, depth: 4 };

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Plain,
        Wrapped(i32),
        Fields { flag: bool },
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Everything {
        name: String,
        counts: Vec<u64>,
        signed: Vec<i64>,
        reading: f64,
        maybe: Option<u8>,
        kinds: Vec<Kind>,
        map: BTreeMap<String, i16>,
        #[serde(with = "serde_bytes")]
        column: Vec<u8>,
    }

    fn everything() -> Everything {
        Everything {
            name: "ä".repeat(40),
            counts: vec![0, 127, 128, 255, 256, 65_535, 65_536, u64::from(u32::MAX), u64::MAX],
            signed: vec![0, -1, -32, -33, -128, -129, -32_769, i64::from(i32::MIN), i64::MIN],
            reading: -0.0,
            maybe: Some(3),
            kinds: vec![Kind::Plain, Kind::Wrapped(-7), Kind::Fields { flag: true }],
            map: (0..20).map(|n| (format!("k{n}"), n)).collect(),
            column: vec![7; 300],
        }
    }

    #[test]
    fn what_rmp_serde_writes_is_read_back() {
        let value = everything();
        let bytes = rmp_serde::to_vec_named(&value).unwrap();
        assert_eq!(decode::<Everything>(&bytes, &LIMITS).unwrap(), value);
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_survived() {
        let bytes = rmp_serde::to_vec_named(&everything()).unwrap();
        for end in 0..bytes.len() {
            assert!(decode::<Everything>(&bytes[..end], &LIMITS).is_err(), "{end}");
        }
        for index in 0..bytes.len() {
            for bit in 0..8 {
                let mut bent = bytes.clone();
                bent[index] ^= 1 << bit;
                let _ = decode::<Everything>(&bent, &LIMITS);
            }
        }
    }

    #[test]
    fn unknown_fields_are_passed_over_however_deep() {
        #[derive(Debug, PartialEq, Deserialize)]
        struct Old {
            b: u8,
        }
        let mut bytes = vec![0x82, 0xa1, b'a'];
        bytes.extend([0x91; 200]);
        bytes.extend([0x81, 0x05, 0xd4, 0x00, 0x00]);
        bytes.extend([0xa1, b'b', 9]);
        assert_eq!(decode::<Old>(&bytes, &LIMITS).unwrap(), Old { b: 9 });
    }

    #[test]
    fn a_new_word_is_unknown_and_nonsense_is_malformed() {
        let new = rmp_serde::to_vec_named(&BTreeMap::from([("name", "later")])).unwrap();
        let error = decode::<BTreeMap<String, Kind>>(&new, &LIMITS).unwrap_err();
        assert_eq!(error.fault(), Fault::Unknown);
        assert_eq!(error.to_string(), "`name`: `later` is not one of plain, wrapped, fields");
        let error = decode::<Vec<u8>>(&[0x92, 1, 0xa1, b'x'], &LIMITS).unwrap_err();
        assert_eq!(error.fault(), Fault::Malformed);
        assert_eq!(error.place(), "[1]");
    }

    #[test]
    fn each_limit_is_told() {
        let cases: [(Vec<u8>, &str); 4] = [
            (vec![0; 10_001], "10001 bytes"),
            (rmp_serde::to_vec_named(&"x".repeat(101)).unwrap(), "a text of 101 bytes"),
            (rmp_serde::to_vec_named(&vec![0; 51]).unwrap(), "51 items"),
            (vec![0x91, 0x91, 0x91, 0x91, 0x91, 0x00], "nested more than 4 deep"),
        ];
        for (bytes, expected) in cases {
            let error = decode::<serde_json::Value>(&bytes, &LIMITS).unwrap_err();
            assert_eq!(error.fault(), Fault::Limit);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn a_length_without_bytes_behind_it_is_not_believed() {
        for marker in [0xdd_u8, 0xdf, 0xdb, 0xc6, 0xc9] {
            let error =
                decode::<serde_json::Value>(&[marker, 0xff, 0xff, 0xff, 0xff, 0], &LIMITS).unwrap_err();
            assert!(error.to_string().contains("cut off"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<Everything>(&bytes, &LIMITS);
            let _ = decode::<serde_json::Value>(&bytes, &LIMITS);
        }
    }
}

//! Ids: functions of their causes, so that whoever derives one twice derives the same one.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use super::{Labels, Timestamp};

/// Crockford base 32: no `i`, `l`, `o`, `u`, so that an id survives being read aloud.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Digits of 128 bits in base 32.
const DIGITS: usize = 26;

/// Why a text is not an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an id of the form `{prefix}-` and 26 letters or digits")]
pub struct IdError {
    prefix: &'static str,
    text: String,
}

/// The 128 bits of an id, in the order of the number. A `u128` lies at multiples of 16 bytes only, so that everything with
/// an optional id or an id beside a number in it was a third larger, and so was all that a decision has to read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Bits {
    high: u64,
    /// Enough to find an id by: it is a hash already.
    low: u64,
}

impl Bits {
    #[expect(clippy::cast_possible_truncation, reason = "the halves on purpose")]
    const fn of(bits: u128) -> Self {
        Self { high: (bits >> 64) as u64, low: bits as u64 }
    }

    const fn as_u128(self) -> u128 {
        (self.high as u128) << 64 | self.low as u128
    }
}

/// One identifier type per noun, all of the same making; a macro because a generic `Id<Noun>` would put a phantom
/// parameter into every signature of the program.
macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(Bits);

        impl Hash for $name {
            #[inline]
            fn hash<H: Hasher>(&self, state: &mut H) {
                state.write_u64(self.0.low);
            }
        }

        impl $name {
            /// What the text form starts with.
            pub const PREFIX: &'static str = $prefix;

            /// The id that these causes have, in this order.
            pub fn of(causes: &[&dyn Causal]) -> Self {
                Self(Bits::of(digest($prefix, causes)))
            }

            /// The 128 bits.
            pub const fn as_u128(self) -> u128 {
                self.0.as_u128()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_id(f, $prefix, self.as_u128())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_id(f, $prefix, self.as_u128())
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_id($prefix, text).map(|bits| Self(Bits::of(bits)))
            }
        }

        impl Causal for $name {
            fn feed(&self, causes: &mut Causes) {
                causes.add_array(self.as_u128().to_be_bytes());
            }
        }
    )*};
}

ids! {
    /// A violation's episode: cell, rule, labels and start.
    EpisodeId = "ep";
    /// An incident: its first episode.
    IncidentId = "in";
    /// An analysis: incident and the incident's revision.
    AnalysisId = "an";
    /// A plan: incident and generation.
    PlanId = "pl";
    /// An action: plan and step.
    ActionId = "ac";
    /// One try at an action: action and number.
    AttemptId = "at";
    /// A change: where, what and when.
    ChangeId = "ch";
    /// A report: what it is about and why.
    ReportId = "re";
    /// A message on the ledger: the entries it carries. It is the `Nats-Msg-Id`.
    MessageId = "ms";
}

impl IncidentId {
    /// An incident has the bits of its first episode: one number follows a failure from its violation to its verdict.
    pub const fn of_episode(first: EpisodeId) -> Self {
        Self(first.0)
    }
}

/// Something an id can be a function of.
pub trait Causal {
    /// Adds itself to the causes, in a form that no other value of the type shares.
    fn feed(&self, causes: &mut Causes);
}

/// Causes of most ids fit: three blocks of the hash function.
const CAUSES_IN_HAND: usize = 192;

/// The causes of an id, as bytes: kept together, because one call for all of them is the cheapest way to hash few, and
/// many are hashed several blocks at once.
pub struct Causes {
    in_hand: [u8; CAUSES_IN_HAND],
    filled: usize,
    /// What came before, where there was more than fits.
    before: Vec<u8>,
}

impl Causes {
    fn new() -> Self {
        Self { in_hand: [0; CAUSES_IN_HAND], filled: 0, before: Vec::new() }
    }

    /// Adds a number: the length is known where it is written, which makes this one move.
    #[inline]
    pub fn add_array<const N: usize>(&mut self, bytes: [u8; N]) {
        match self.in_hand.get_mut(self.filled..self.filled + N).and_then(<[u8]>::first_chunk_mut) {
            Some(room) => {
                *room = bytes;
                self.filled += N;
            }
            None => self.add_behind(&bytes),
        }
    }

    /// Adds a part of a cause.
    #[inline]
    pub fn add(&mut self, bytes: &[u8]) {
        if let Some(room) = self.in_hand.get_mut(self.filled..self.filled + bytes.len()) {
            room.copy_from_slice(bytes);
            self.filled += bytes.len();
        } else {
            self.add_behind(bytes);
        }
    }

    #[cold]
    fn add_behind(&mut self, bytes: &[u8]) {
        self.before.extend_from_slice(&self.in_hand[..self.filled]);
        self.before.extend_from_slice(bytes);
        self.filled = 0;
    }

    fn digest(mut self) -> u128 {
        let hash = if self.before.is_empty() {
            blake3::hash(&self.in_hand[..self.filled])
        } else {
            self.add_behind(&[]);
            blake3::hash(&self.before)
        };
        let mut bytes = [0_u8; 16];
        bytes.copy_from_slice(&hash.as_bytes()[..16]);
        u128::from_be_bytes(bytes)
    }
}

impl Causal for &str {
    fn feed(&self, causes: &mut Causes) {
        // The length first: ("ab", "c") and ("a", "bc") are different causes.
        causes.add_array((self.len() as u64).to_be_bytes());
        causes.add(self.as_bytes());
    }
}

impl Causal for u64 {
    fn feed(&self, causes: &mut Causes) {
        causes.add_array(self.to_be_bytes());
    }
}

impl Causal for Timestamp {
    fn feed(&self, causes: &mut Causes) {
        causes.add_array(self.as_millis().to_be_bytes());
    }
}

impl Causal for Labels {
    fn feed(&self, causes: &mut Causes) {
        (self.len() as u64).feed(causes);
        for (name, value) in self.iter() {
            name.feed(causes);
            value.feed(causes);
        }
    }
}

fn digest(prefix: &'static str, causes: &[&dyn Causal]) -> u128 {
    let mut fed = Causes::new();
    prefix.feed(&mut fed);
    for cause in causes {
        cause.feed(&mut fed);
    }
    fed.digest()
}

fn write_id(f: &mut fmt::Formatter<'_>, prefix: &str, bits: u128) -> fmt::Result {
    let mut text = [0_u8; DIGITS];
    for (index, digit) in text.iter_mut().enumerate() {
        let shift = 5 * (DIGITS - 1 - index);
        *digit = ALPHABET[(bits >> shift) as usize & 31];
    }
    write!(f, "{prefix}-{}", std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
}

fn parse_id(prefix: &'static str, text: &str) -> Result<u128, IdError> {
    let refuse = || IdError { prefix, text: text.chars().take(64).collect() };
    let digits = text.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-')).ok_or_else(refuse)?;
    if digits.len() != DIGITS {
        return Err(refuse());
    }
    let mut bits = 0_u128;
    for (index, byte) in digits.bytes().enumerate() {
        let digit = ALPHABET.iter().position(|&known| known == byte).ok_or_else(refuse)?;
        // 26 digits hold 130 bits: the first may use only three of its five.
        if index == 0 && digit > 7 {
            return Err(refuse());
        }
        bits = bits << 5 | digit as u128;
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_causes_give_the_same_id_and_others_do_not() {
        let id = EpisodeId::of(&[&"cell", &"rule", &7_u64]);
        assert_eq!(id, EpisodeId::of(&[&"cell", &"rule", &7_u64]));
        assert_ne!(id, EpisodeId::of(&[&"cell", &"rule", &8_u64]));
        assert_ne!(EpisodeId::of(&[&"ab", &"c"]), EpisodeId::of(&[&"a", &"bc"]));
    }

    #[test]
    fn causes_of_any_length_are_hashed_as_one_text() {
        for length in [0, 1, 150, 181, 182, 183, 400, 5_000] {
            let long = "x".repeat(length);
            let mut hasher = blake3::Hasher::new();
            for part in ["pl", long.as_str(), "end"] {
                hasher.update(&(part.len() as u64).to_be_bytes()).update(part.as_bytes());
            }
            let hash = hasher.finalize();
            let id = PlanId::of(&[&long.as_str(), &"end"]);
            assert_eq!(id.as_u128().to_be_bytes(), hash.as_bytes()[..16], "{length}");
        }
    }

    #[test]
    fn an_id_reads_back_from_its_text() {
        for seed in 0..200_u64 {
            let id = PlanId::of(&[&seed]);
            assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    #[test]
    fn what_is_not_an_id_is_refused() {
        let good = PlanId::of(&[&1_u64]).to_string();
        let cases = [
            "",
            "pl-",
            "in-00000000000000000000000000",
            &good[1..],
            &format!("{good}0"),
            "pl-zzzzzzzzzzzzzzzzzzzzzzzzzz",
        ];
        for case in cases {
            assert!(case.parse::<PlanId>().is_err(), "{case}");
        }
    }
}

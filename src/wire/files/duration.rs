//! Durations in Prometheus' notation: `1h30m`, `500ms`, `0`.

use std::time::Duration;

/// Units from the longest to the shortest, in milliseconds; a year has 365 days and a week seven, as in Prometheus.
const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not in the notation.
    #[error("`{0}` is not a duration such as `1m30s`")]
    Notation(String),
    /// Longer than Prometheus takes, which is 292 years.
    #[error("`{0}` is longer than a duration can be")]
    TooLong(String),
}

/// Reads the notation: units from the longest to the shortest, each at most once.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    const NANOS_PER_MILLI: u64 = 1_000_000;
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let refuse = || DurationError::Notation(text.chars().take(40).collect());
    let too_long = || DurationError::TooLong(text.chars().take(40).collect());
    let (mut rest, mut units, mut millis) = (text, UNITS.iter(), 0_u64);
    if text.is_empty() {
        return Err(refuse());
    }
    while !rest.is_empty() {
        let digits =
            rest.find(|c: char| !c.is_ascii_digit()).filter(|digits| *digits > 0).ok_or_else(refuse)?;
        let (number, behind) = rest.split_at(digits);
        let unit = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit);
        // The iterator goes on from where it is: a unit that stands behind a shorter one is not found any more.
        let (_, factor) = units.find(|(name, _)| *name == unit).ok_or_else(refuse)?;
        let amount = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor));
        millis = amount.and_then(|amount| amount.checked_add(millis)).ok_or_else(too_long)?;
        rest = behind;
    }
    // Prometheus counts in signed nanoseconds.
    let fits = millis.checked_mul(NANOS_PER_MILLI).is_some_and(|nanos| i64::try_from(nanos).is_ok());
    if fits { Ok(Duration::from_millis(millis)) } else { Err(too_long()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_notation_is_prometheus() {
        // From prometheus/common, model/time_test.go.
        let cases = [
            ("0", 0),
            ("0w", 0),
            ("0s", 0),
            ("324ms", 324),
            ("3s", 3_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("4d", 345_600_000),
            ("4d1h", 349_200_000),
            ("14d", 1_209_600_000),
            ("3w", 1_814_400_000),
            ("3w2d1h", 1_990_800_000),
            ("10y", 315_360_000_000),
            ("1m30s", 90_000),
        ];
        for (text, millis) in cases {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "1",
            "1y1m1d",
            "-1w",
            "1.5d",
            "d",
            "294y",
            "200y10400w",
            "107675d",
            "2584200h",
            "1s1s",
            "5 m",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}

//! Points in time as people and exporters write them.

use time::{Date, Month};

use crate::model::Timestamp;

use super::error::excerpt;

/// An epoch number from here on is milliseconds, below it seconds: 1e11 s is the year 5138, 1e11 ms is March 1973.
/// Decided row by row, so that the meaning of a row never depends on its neighbours.
const EPOCH_MILLIS_MIN: u64 = 100_000_000_000;
/// An epoch number from here on is neither: in microseconds it is March 1973 again.
const EPOCH_MILLIS_MAX: u64 = 100_000_000_000_000;

/// A text that is no point in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MomentError {
    /// Not of any kind that is taken.
    #[error("`{0}` is not a time (epoch seconds or milliseconds, RFC 3339, or YYYY-MM-DD hh:mm:ss in UTC)")]
    Unreadable(String),
    /// A number too large for milliseconds.
    #[error("`{0}` is too large for epoch milliseconds: micro- and nanoseconds are not taken")]
    TooLarge(String),
    /// Exposition text 0.0.4 takes nothing else.
    #[error("`{0}` is not a time in whole milliseconds\nhint: seconds are OpenMetrics")]
    NotMillis(String),
    /// A date or time of day that does not exist.
    #[error("`{0}` does not exist in the calendar")]
    NoSuchDay(String),
}

/// Reads epoch seconds or milliseconds (integers or decimals, told apart by their size), RFC 3339, or
/// `YYYY-MM-DD hh:mm:ss` with an optional fraction, which is UTC. What is finer than a millisecond is cut off.
pub fn parse_moment(text: &str) -> Result<Timestamp, MomentError> {
    let text = text.trim_ascii();
    let bytes = text.as_bytes();
    if bytes.len() >= 19 && bytes[4] == b'-' { calendar(text) } else { epoch(text) }
}

/// OpenMetrics' timestamps: always seconds.
pub(crate) fn epoch_seconds(text: &str) -> Result<Timestamp, MomentError> {
    let (negative, whole, millis) = decimal(text)?;
    let magnitude = i64::try_from(whole)
        .ok()
        .and_then(|seconds| seconds.checked_mul(1_000)?.checked_add(i64::from(millis)))
        .ok_or_else(|| MomentError::TooLarge(excerpt(text)))?;
    Ok(Timestamp::from_millis(if negative { -magnitude } else { magnitude }))
}

/// Seconds or milliseconds by magnitude.
fn epoch(text: &str) -> Result<Timestamp, MomentError> {
    let (negative, whole, millis) = decimal(text)?;
    let magnitude = match whole {
        0..EPOCH_MILLIS_MIN => whole * 1_000 + u64::from(millis),
        EPOCH_MILLIS_MIN..EPOCH_MILLIS_MAX => whole,
        EPOCH_MILLIS_MAX.. => return Err(MomentError::TooLarge(excerpt(text))),
    };
    // Below 1e14 either way, so that the sign cannot overflow.
    let magnitude = magnitude.cast_signed();
    Ok(Timestamp::from_millis(if negative { -magnitude } else { magnitude }))
}

/// Sign, whole part and thousandths. Exact where the text is a plain decimal; with an exponent as exact as a double.
fn decimal(text: &str) -> Result<(bool, u64, u16), MomentError> {
    let unreadable = || MomentError::Unreadable(excerpt(text));
    let (negative, digits) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        all => (false, all),
    };
    if digits.iter().any(|byte| matches!(byte, b'e' | b'E')) {
        let number: f64 = text.parse().map_err(|_| unreadable())?;
        let millis = (number.abs() * 1_000.0).round();
        if millis >= u64::MAX as f64 {
            return Err(MomentError::TooLarge(excerpt(text)));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked one line above")]
        let millis = millis as u64;
        return Ok((negative, millis / 1_000, (millis % 1_000) as u16));
    }
    let (whole, fraction) = match digits.iter().position(|byte| *byte == b'.') {
        Some(point) => (&digits[..point], &digits[point + 1..]),
        None => (digits, &digits[..0]),
    };
    let value = |digits: &[u8]| {
        digits.iter().try_fold(0_u64, |sum, byte| {
            byte.is_ascii_digit().then(|| sum.saturating_mul(10).saturating_add(u64::from(byte - b'0')))
        })
    };
    if whole.is_empty() || value(fraction).is_none() {
        return Err(unreadable());
    }
    Ok((negative, value(whole).ok_or_else(unreadable)?, thousandths(fraction)))
}

/// `YYYY-MM-DD`, `T` or a blank, `hh:mm:ss`, optionally a fraction, and nothing or a zone.
fn calendar(text: &str) -> Result<Timestamp, MomentError> {
    let bytes = text.as_bytes();
    let unreadable = || MomentError::Unreadable(excerpt(text));
    let number = |from: usize, digits: usize| {
        bytes[from..from + digits].iter().try_fold(0_u16, |sum, byte| {
            byte.is_ascii_digit().then(|| sum * 10 + u16::from(byte - b'0')).ok_or_else(unreadable)
        })
    };
    let separators = [(7, b"-".as_slice()), (10, b"Tt "), (13, b":"), (16, b":")];
    if separators.iter().any(|(at, allowed)| !allowed.contains(&bytes[*at])) {
        return Err(unreadable());
    }
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
    let (millis, zone) = fraction_of_second(&bytes[19..]).ok_or_else(unreadable)?;
    let offset_minutes = zone_offset(zone).ok_or_else(unreadable)?;

    // A leap second is the first moment after its minute, as in POSIX time.
    if hour > 23 || minute > 59 || second > 60 {
        return Err(MomentError::NoSuchDay(excerpt(text)));
    }
    let days = u8::try_from(month)
        .ok()
        .and_then(|month| Month::try_from(month).ok())
        .and_then(|month| Date::from_calendar_date(i32::from(year), month, u8::try_from(day).ok()?).ok())
        .map(|date| i64::from(date.to_julian_day() - JULIAN_DAY_OF_EPOCH))
        .ok_or_else(|| MomentError::NoSuchDay(excerpt(text)))?;
    let minutes = (days * 24 + i64::from(hour)) * 60 + i64::from(minute) - offset_minutes;
    Ok(Timestamp::from_millis((minutes * 60 + i64::from(second)) * 1_000 + i64::from(millis)))
}

/// 1970-01-01.
const JULIAN_DAY_OF_EPOCH: i32 = 2_440_588;

/// Milliseconds and what follows them.
fn fraction_of_second(rest: &[u8]) -> Option<(u16, &[u8])> {
    let Some(fraction) = rest.strip_prefix(b".").or_else(|| rest.strip_prefix(b",")) else {
        return Some((0, rest));
    };
    let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (digits > 0).then(|| (thousandths(&fraction[..digits]), &fraction[digits..]))
}

/// The first three of the digits behind a decimal point.
fn thousandths(digits: &[u8]) -> u16 {
    let digit = |place: usize| digits.get(place).map_or(0, |byte| u16::from(byte - b'0'));
    digit(0) * 100 + digit(1) * 10 + digit(2)
}

/// Minutes east of Greenwich; nothing is UTC.
fn zone_offset(zone: &[u8]) -> Option<i64> {
    let zone = zone.strip_prefix(b" ").unwrap_or(zone);
    let (sign, digits) = match zone {
        [] | b"Z" | b"z" | b"UTC" => return Some(0),
        [b'+', h1, h2, b':', m1, m2] | [b'+', h1, h2, m1, m2] => (1, [h1, h2, m1, m2]),
        [b'-', h1, h2, b':', m1, m2] | [b'-', h1, h2, m1, m2] => (-1, [h1, h2, m1, m2]),
        _ => return None,
    };
    let [h1, h2, m1, m2] = digits.map(|byte| i64::from(*byte) - i64::from(b'0'));
    let digits_only = [h1, h2, m1, m2].iter().all(|digit| (0..=9).contains(digit));
    let (hours, minutes) = (h1 * 10 + h2, m1 * 10 + m2);
    (digits_only && hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn millis(text: &str) -> Result<i64, MomentError> {
        parse_moment(text).map(Timestamp::as_millis)
    }

    #[test]
    fn each_notation_means_the_moment_it_says() {
        for (text, expected) in [
            ("0", 0),
            ("1491041280", 1_491_041_280_000),
            ("1491041280.5", 1_491_041_280_500),
            ("1491041280.1239", 1_491_041_280_123),
            ("1681866420.0", 1_681_866_420_000),
            ("1491041280.", 1_491_041_280_000),
            ("1491041280123", 1_491_041_280_123),
            ("1491041280123.7", 1_491_041_280_123),
            ("99999999999", 99_999_999_999_000),
            ("100000000000", 100_000_000_000),
            ("1.49104128e9", 1_491_041_280_000),
            ("1.4910412805E+09", 1_491_041_280_500),
            ("-1.5", -1_500),
            (" 12 ", 12_000),
            ("2014-04-01 00:00:00", 1_396_310_400_000),
            ("2014-04-01 00:00:00.25", 1_396_310_400_250),
            ("2014-04-01T00:00:00Z", 1_396_310_400_000),
            ("2014-04-01t00:00:00.123456789z", 1_396_310_400_123),
            ("2014-04-01T02:00:00+02:00", 1_396_310_400_000),
            ("2014-03-31T18:30:00-05:30", 1_396_310_400_000),
            ("2014-04-01 02:00:00 +0200", 1_396_310_400_000),
            ("2014-04-01 00:00:00 UTC", 1_396_310_400_000),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000),
            ("2024-02-29 12:00:00", 1_709_208_000_000),
            ("1969-12-31T23:59:59.5Z", -500),
            ("0001-01-01T00:00:00Z", -62_135_596_800_000),
        ] {
            assert_eq!(millis(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_moment_is_refused_with_its_reason() {
        for text in [
            "",
            "-",
            ".5",
            "now",
            "1.2.3",
            "12:00",
            "2014-04-01",
            "2014/04/01 00:00:00",
            "2014-04-01X00:00:00",
            "2014-04-01 00:00:00 CET",
            "2014-04-01T00:00:00+2:00",
            "2014-04-01T00:00:00+24:00",
            "2014-04-01 00:00:00.",
            "nan",
            "inf",
            "1e",
            "12abc",
            "２０１４-04-01 00:00:00",
        ] {
            assert!(matches!(millis(text), Err(MomentError::Unreadable(_))), "{text}: {:?}", millis(text));
        }
        for text in [
            "2014-02-29 00:00:00",
            "2014-13-01T00:00:00Z",
            "2014-00-01T00:00:00Z",
            "2014-04-01T24:00:00Z",
            "2014-04-01T00:61:00Z",
            "2014-04-31T00:00:00Z",
        ] {
            assert!(matches!(millis(text), Err(MomentError::NoSuchDay(_))), "{text}: {:?}", millis(text));
        }
        for text in
            ["100000000000000", "1491041280123456", "1491041280123456789", "99999999999999999999999", "1e300"]
        {
            assert!(matches!(millis(text), Err(MomentError::TooLarge(_))), "{text}: {:?}", millis(text));
        }
    }

    #[test]
    fn open_metrics_counts_seconds_whatever_their_size() {
        assert_eq!(epoch_seconds("1520879607.789").map(Timestamp::as_millis), Ok(1_520_879_607_789));
        assert_eq!(epoch_seconds("100000000000").map(Timestamp::as_millis), Ok(100_000_000_000_000));
        assert!(matches!(epoch_seconds("9223372036854775807"), Err(MomentError::TooLarge(_))));
    }

    proptest! {
        #[test]
        fn rfc3339_of_any_moment_reads_back(at in -62_135_596_800_000_i64..253_402_300_800_000) {
            let at = Timestamp::from_millis(at);
            prop_assert_eq!(parse_moment(&at.to_rfc3339()), Ok(at));
        }

        #[test]
        fn epoch_numbers_read_back(at in 100_000_000_000_i64..100_000_000_000_000) {
            let expected = Ok(Timestamp::from_millis(at));
            prop_assert_eq!(parse_moment(&at.to_string()), expected.clone());
            prop_assert_eq!(parse_moment(&format!("{}.{:03}", at / 1_000, at % 1_000)), expected);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}", digits in "[0-9T:. eE+Z-]{0,32}") {
            let _ = (parse_moment(&text), parse_moment(&digits));
        }
    }
}

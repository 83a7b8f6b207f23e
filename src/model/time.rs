//! Points in time. Durations are `std::time::Duration`.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A point in time: milliseconds since 1970-01-01T00:00:00Z, as Prometheus and the frames count it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Before everything that happened.
    pub const MIN: Self = Self(i64::MIN);
    /// After everything that will happen.
    pub const MAX: Self = Self(i64::MAX);

    /// From milliseconds since the epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// How long after `earlier` this is; zero where it is not later.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// RFC 3339 in UTC with milliseconds; plain milliseconds outside the years 0 to 9999.
    pub fn to_rfc3339(self) -> String {
        self.to_string()
    }

    /// The 24 characters, where the year has four digits.
    fn rfc3339(self) -> Option<[u8; 24]> {
        let (year, month, day) = date_of(self.0.div_euclid(MILLIS_PER_DAY));
        let millis = self.0.rem_euclid(MILLIS_PER_DAY);
        let (hour, minute) = (millis / 3_600_000, millis / 60_000 % 60);
        let (second, milli) = (millis / 1_000 % 60, millis % 1_000);
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let fields = [
            (0, 4, year),
            (5, 2, month),
            (8, 2, day),
            (11, 2, hour),
            (14, 2, minute),
            (17, 2, second),
            (20, 3, milli),
        ];
        for (from, digits, mut value) in fields {
            for place in (from..from + digits).rev() {
                text[place] += u8::try_from(value % 10).unwrap_or(0);
                value /= 10;
            }
        }
        (0..=9_999).contains(&year).then_some(text)
    }
}

const MILLIS_PER_DAY: i64 = 86_400_000;

/// Year, month and day of a day counted from 1970-01-01: `civil_from_days` of Howard Hinnant's *chrono-Compatible
/// Low-Level Date Algorithms*. A decision writes some times into its texts, and the general formatter took a
/// microsecond for each.
fn date_of(day: i64) -> (i64, i64, i64) {
    // Eras of 400 years from 0000-03-01, so that a leap day is the last of its year.
    let day = day + 719_468;
    let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day_of_month = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_month)
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rfc3339().as_ref().map(|text| std::str::from_utf8(text)) {
            Some(Ok(text)) => f.write_str(text),
            Some(Err(_)) | None => write!(f, "{} ms", self.0),
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_the_ends_of_time() {
        assert_eq!(Timestamp::MAX + Duration::from_secs(1), Timestamp::MAX);
        assert_eq!(Timestamp::MIN - Duration::MAX, Timestamp::MIN);
        assert_eq!(Timestamp::from_millis(5).saturating_since(Timestamp::from_millis(9)), Duration::ZERO);
    }

    #[test]
    fn each_day_has_the_date_that_the_time_crate_gives_it() {
        let from = time::Date::from_calendar_date(0, time::Month::January, 1).unwrap();
        let to = time::Date::from_calendar_date(9_999, time::Month::December, 31).unwrap();
        let epoch = time::macros::date!(1970 - 01 - 01).to_julian_day();
        for julian in from.to_julian_day()..=to.to_julian_day() {
            let expected = time::Date::from_julian_day(julian).unwrap();
            let (year, month, day) = date_of(i64::from(julian - epoch));
            let found =
                (i32::try_from(year).unwrap(), u8::try_from(month).unwrap(), u8::try_from(day).unwrap());
            assert_eq!(found, (expected.year(), u8::from(expected.month()), expected.day()));
        }
        let day = i64::from(from.to_julian_day() - epoch) * MILLIS_PER_DAY;
        assert_eq!(Timestamp(day).to_string(), "0000-01-01T00:00:00.000Z");
        assert_eq!(Timestamp(day - 1).to_string(), format!("{} ms", day - 1));
        let day = i64::from(to.to_julian_day() - epoch + 1) * MILLIS_PER_DAY;
        assert_eq!(Timestamp(day - 1).to_string(), "9999-12-31T23:59:59.999Z");
        assert_eq!(Timestamp(day).to_string(), format!("{day} ms"));
        assert_eq!(Timestamp::MIN.to_string(), format!("{} ms", i64::MIN));
    }

    #[test]
    fn text_is_rfc3339_with_milliseconds() {
        assert_eq!(Timestamp::from_millis(1_700_000_000_123).to_string(), "2023-11-14T22:13:20.123Z");
        assert_eq!(Timestamp::MAX.to_string(), format!("{} ms", i64::MAX));
    }
}

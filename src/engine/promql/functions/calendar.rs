//! Parts of a time: the civil calendar in UTC, without leap seconds.

/// A part of a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine::promql) enum Calendar {
    Minute,
    Hour,
    DayOfWeek,
    DayOfMonth,
    DayOfYear,
    DaysInMonth,
    Month,
    Year,
}

const SECONDS_PER_DAY: i64 = 86_400;
/// Days from the first of March of the year 0 to 1970-01-01.
const EPOCH_DAYS: i64 = 719_468;
/// Days in four centuries, after which the calendar repeats.
const DAYS_PER_ERA: i64 = 146_097;
/// A year beyond this is no date; far enough for every time in milliseconds.
const SECONDS_MAX: f64 = 1e17;

impl Calendar {
    pub(in crate::engine::promql) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "minute" => Self::Minute,
            "hour" => Self::Hour,
            "day_of_week" => Self::DayOfWeek,
            "day_of_month" => Self::DayOfMonth,
            "day_of_year" => Self::DayOfYear,
            "days_in_month" => Self::DaysInMonth,
            "month" => Self::Month,
            "year" => Self::Year,
            _ => return None,
        })
    }

    /// The part of a time in seconds since the epoch; NaN where that is no time.
    pub(in crate::engine::promql) fn of(self, seconds: f64) -> f64 {
        if !(-SECONDS_MAX..=SECONDS_MAX).contains(&seconds) {
            return f64::NAN;
        }
        #[expect(clippy::cast_possible_truncation, reason = "in range; Prometheus truncates, too")]
        let seconds = seconds as i64;
        let (days, second_of_day) =
            (seconds.div_euclid(SECONDS_PER_DAY), seconds.rem_euclid(SECONDS_PER_DAY));
        let (year, month, day) = civil(days);
        let part = match self {
            Self::Minute => second_of_day / 60 % 60,
            Self::Hour => second_of_day / 3_600,
            // 1970 began on a Thursday.
            Self::DayOfWeek => (days + 4).rem_euclid(7),
            Self::DayOfMonth => day,
            Self::DayOfYear => days - days_from_civil(year, 1, 1) + 1,
            Self::DaysInMonth => days_in_month(year, month),
            Self::Month => month,
            Self::Year => year,
        };
        part as f64
    }
}

/// Year, month and day of a number of days since 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms"): counted in years that begin with March, so that the odd day is the last of a year.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + EPOCH_DAYS;
    let (era, day_of_era) = (days.div_euclid(DAYS_PER_ERA), days.rem_euclid(DAYS_PER_ERA));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The inverse of `civil`.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    era * DAYS_PER_ERA + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - EPOCH_DAYS
}

fn days_in_month(year: i64, month: i64) -> i64 {
    let (next_year, next) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    days_from_civil(next_year, next, 1) - days_from_civil(year, month, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "whole numbers")]
    fn the_parts_of_a_time_are_those_of_the_calendar() {
        use Calendar::{DayOfMonth, DayOfWeek, DayOfYear, DaysInMonth, Hour, Minute, Month, Year};
        let parts = [Year, Month, DayOfMonth, DayOfYear, DayOfWeek, DaysInMonth, Hour, Minute];
        let cases = [
            (0.0, [1970.0, 1.0, 1.0, 1.0, 4.0, 31.0, 0.0, 0.0]),
            // 2016-02-29 23:59:59
            (1_456_790_399.0, [2016.0, 2.0, 29.0, 60.0, 1.0, 29.0, 23.0, 59.0]),
            // 2100 is no leap year: 2100-03-01 00:01:00
            (4_107_542_460.0, [2100.0, 3.0, 1.0, 60.0, 1.0, 31.0, 0.0, 1.0]),
            // 1969-12-31 23:59:00
            (-60.0, [1969.0, 12.0, 31.0, 365.0, 3.0, 31.0, 23.0, 59.0]),
        ];
        for (seconds, expected) in cases {
            assert_eq!(parts.map(|part| part.of(seconds)), expected, "{seconds}");
        }
        assert!([f64::NAN, f64::INFINITY, 1e300].iter().all(|&time| Year.of(time).is_nan()));
    }

    #[test]
    fn days_and_dates_are_inverse() {
        for days in (-1_000_000..1_000_000).step_by(13) {
            let (year, month, day) = civil(days);
            assert_eq!(days_from_civil(year, month, day), days);
            assert!((1..=days_in_month(year, month)).contains(&day));
        }
    }
}

//! Numbers for people, as Prometheus' templates write them.

use super::number;

const LARGE: [&str; 8] = ["k", "M", "G", "T", "P", "E", "Z", "Y"];
const BINARY: [&str; 8] = ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"];
const SMALL: [&str; 8] = ["m", "u", "n", "p", "f", "a", "z", "y"];
const DIGITS: usize = 4;

fn four_digits(value: f64) -> String {
    number::general(value, Some(DIGITS))
}

/// `1.235M`, `1.5m`.
pub(crate) fn humanize(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return four_digits(value);
    }
    if value.abs() >= 1.0 { large(value, 1_000.0, &LARGE) } else { small(value) }
}

/// `1Mi`.
pub(crate) fn humanize1024(value: f64) -> String {
    if value.abs() <= 1.0 || !value.is_finite() { four_digits(value) } else { large(value, 1_024.0, &BINARY) }
}

/// `12.35%`.
pub(crate) fn percentage(value: f64) -> String {
    format!("{}%", four_digits(value * 100.0))
}

/// Seconds as `1d 2h 3m 4s`, or as `1.5ms`.
#[expect(clippy::cast_possible_truncation, reason = "whole seconds, cut as Prometheus cuts them")]
pub(crate) fn duration(value: f64) -> String {
    if !value.is_finite() {
        return four_digits(value);
    }
    if value == 0.0 {
        return format!("{}s", four_digits(value));
    }
    if value.abs() < 1.0 {
        return format!("{}s", small(value));
    }
    let (sign, size) = if value < 0.0 { ("-", -value) } else { ("", value) };
    let whole = size as i64;
    let (seconds, minutes, hours, days) = (whole % 60, whole / 60 % 60, whole / 3_600 % 24, whole / 86_400);
    if days != 0 {
        format!("{sign}{days}d {hours}h {minutes}m {seconds}s")
    } else if hours != 0 {
        format!("{sign}{hours}h {minutes}m {seconds}s")
    } else if minutes != 0 {
        format!("{sign}{minutes}m {seconds}s")
    } else {
        format!("{sign}{}s", four_digits(size))
    }
}

fn large(mut value: f64, base: f64, units: &[&'static str]) -> String {
    let mut unit = "";
    for next in units {
        if value.abs() < base {
            break;
        }
        unit = next;
        value /= base;
    }
    format!("{}{unit}", four_digits(value))
}

fn small(mut value: f64) -> String {
    let mut unit = "";
    for next in SMALL {
        if value.abs() >= 1.0 {
            break;
        }
        unit = next;
        value *= 1_000.0;
    }
    format!("{}{unit}", four_digits(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        for (found, expected) in [
            (humanize(1_234_567.0), "1.235M"),
            (humanize(0.001_234), "1.234m"),
            (humanize(0.0), "0"),
            (humanize(-10.0), "-10"),
            (humanize(f64::NAN), "NaN"),
            (humanize1024(1_048_576.0), "1Mi"),
            (humanize1024(0.5), "0.5"),
            (percentage(0.123_456), "12.35%"),
            (duration(93_784.0), "1d 2h 3m 4s"),
            (duration(1.5), "1.5s"),
            (duration(0.0), "0s"),
            (duration(0.02), "20ms"),
            (duration(-65.0), "-1m 5s"),
            (duration(3_600.0), "1h 0m 0s"),
        ] {
            assert_eq!(found, expected);
        }
    }
}

//! Numbers as Go prints them.

/// Exponents from which the shortest form has one.
const EXPONENT_MIN: i32 = -4;
const EXPONENT_MAX: i32 = 6;
/// So many digits at most: a double has fewer, and a format asks for what it likes.
const DIGITS_MAX: usize = 400;

/// What is no number in digits.
pub(crate) fn special(value: f64) -> Option<&'static str> {
    if value.is_nan() {
        Some("NaN")
    } else if value.is_infinite() {
        Some(if value > 0.0 { "+Inf" } else { "-Inf" })
    } else {
        None
    }
}

/// The shortest form that reads back as the same number: `%v`.
pub(crate) fn shortest(value: f64) -> String {
    if let Some(text) = special(value) {
        return text.to_owned();
    }
    if value == 0.0 {
        return if value.is_sign_negative() { "-0".to_owned() } else { "0".to_owned() };
    }
    let scientific = format!("{value:e}");
    let exponent = exponent_of(&scientific);
    if (EXPONENT_MIN..EXPONENT_MAX).contains(&exponent) {
        format!("{value}")
    } else {
        go_exponent(&scientific)
    }
}

/// `%e`, with so many decimals.
pub(crate) fn scientific(value: f64, decimals: usize) -> String {
    match special(value) {
        Some(text) => text.to_owned(),
        None => go_exponent(&format!("{value:.decimals$e}")),
    }
}

/// `%f`, with so many decimals.
pub(crate) fn fixed(value: f64, decimals: usize) -> String {
    match special(value) {
        Some(text) => text.to_owned(),
        None => format!("{value:.decimals$}"),
    }
}

/// `%g`: the shorter one of the two with so many digits, without zeros at its end. `None` takes as many as it needs.
pub(crate) fn general(value: f64, digits: Option<usize>) -> String {
    let Some(digits) = digits else { return shortest(value) };
    if let Some(text) = special(value) {
        return text.to_owned();
    }
    if value == 0.0 {
        return shortest(value);
    }
    let digits = digits.clamp(1, DIGITS_MAX);
    let rounded = format!("{:.*e}", digits - 1, value);
    let exponent = exponent_of(&rounded);
    let (mantissa, _) = rounded.split_once('e').unwrap_or((&rounded, ""));
    if exponent < EXPONENT_MIN || exponent >= i32::try_from(digits).unwrap_or(i32::MAX) {
        let mantissa = without_zeros(mantissa);
        return go_exponent(&format!("{mantissa}e{exponent}"));
    }
    let decimals =
        usize::try_from(i64::try_from(digits).unwrap_or(i64::MAX) - 1 - i64::from(exponent)).unwrap_or(0);
    // What was rounded to so many digits before is not rounded a second time.
    let value: f64 = rounded.parse().unwrap_or(value);
    without_zeros(&format!("{value:.decimals$}")).to_owned()
}

fn without_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

fn exponent_of(scientific: &str) -> i32 {
    scientific.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or(0)
}

/// An exponent has a sign and two digits at least.
fn go_exponent(scientific: &str) -> String {
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(("+", exponent), |digits| ("-", digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// A number in a text, as Go's `strconv.ParseFloat` reads it.
pub(crate) fn parse(text: &str) -> Option<f64> {
    let (sign, size) = match text.strip_prefix(['+', '-']) {
        Some(size) => (if text.starts_with('-') { -1.0 } else { 1.0 }, size),
        None => (1.0, text),
    };
    match size.to_ascii_lowercase().as_str() {
        "inf" | "infinity" => return Some(sign * f64::INFINITY),
        "nan" if size.len() == text.len() => return Some(f64::NAN),
        _ => {}
    }
    size.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        .then(|| size.parse::<f64>().ok())
        .flatten()
        .map(|size| sign * size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_as_go_prints_them() {
        for (value, expected) in [
            (1.0, "1"),
            (0.1, "0.1"),
            (123_456.7, "123456.7"),
            (1_234_567.0, "1.234567e+06"),
            (1e21, "1e+21"),
            (0.000_1, "0.0001"),
            (0.000_01, "1e-05"),
            (-2.5e-7, "-2.5e-07"),
            (f64::NEG_INFINITY, "-Inf"),
            (-0.0, "-0"),
        ] {
            assert_eq!(shortest(value), expected);
        }
        for (value, digits, expected) in [
            (12_345.678, 4, "1.235e+04"),
            (1_234.5, 4, "1234"),
            (0.123_456, 4, "0.1235"),
            (9_999.6, 4, "1e+04"),
            (100.0, 4, "100"),
            (0.000_012_345, 4, "1.234e-05"),
            (99.994, 4, "99.99"),
            (1.0, 4, "1"),
        ] {
            assert_eq!(general(value, Some(digits)), expected, "{value}");
        }
        assert_eq!(scientific(123_456.0, 6), "1.234560e+05");
    }
}

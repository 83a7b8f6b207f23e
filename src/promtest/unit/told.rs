//! Durations, numbers and labels as messages write them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

/// Names and values, an empty value being one.
pub(super) type Texts = BTreeMap<Arc<str>, Arc<str>>;

/// As Prometheus writes a duration: `1h30m`, `0s`.
pub(super) fn duration(duration: Duration) -> String {
    const UNITS: [(&str, u128); 5] =
        [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    let mut rest = duration.as_millis();
    let mut text = String::new();
    for (unit, millis) in UNITS {
        if rest >= millis {
            let _ = write!(text, "{}{unit}", rest / millis);
            rest %= millis;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// The shortest digits that name the number, so that the next float is told from it.
pub(super) fn number(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() };
    }
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e21).contains(&size) { format!("{value:e}") } else { format!("{value}") }
}

/// `{a="1", b="2"}`
pub(super) fn texts(texts: &Texts) -> String {
    let pairs: Vec<String> = texts.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{{{}}}", pairs.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_prometheus() {
        for (millis, expected) in
            [(0, "0s"), (90_000, "1m30s"), (86_400_000, "1d"), (3_599_999, "59m59s999ms"), (1, "1ms")]
        {
            assert_eq!(duration(Duration::from_millis(millis)), expected);
        }
    }

    #[test]
    fn neighbouring_floats_are_told_apart() {
        let texts = [3.0, 2.999_999_999_999_999_6, f64::INFINITY, f64::NAN, 1e-9, 1e300].map(number);
        assert_eq!(texts, ["3", "2.9999999999999996", "+Inf", "NaN", "1e-9", "1e300"]);
    }
}

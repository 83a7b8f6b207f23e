//! Series as tests of PromQL and of rules write them: `name{label="value"} 1 2+3x4 _ stale`.

use crate::engine::promql::STALE;
use crate::ingest::parse_beginning;
use crate::model::Labels;

/// Most values of one series: a week of them at a second's distance is less than a tenth of it.
const POINTS_PER_SERIES_MAX: usize = 10_000_000;

/// A series of a test, or an expected element: its labels and its values, one per step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    /// `None` where a number stands alone.
    pub(crate) labels: Option<Labels>,
    pub(crate) points: Vec<Point>,
}

/// What a series has at one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Point {
    /// `_`: nothing.
    Missing,
    Float(f64),
    /// `{{…}}`: a native histogram, of which nothing but that it is one is understood.
    Histogram,
    /// A start timestamp, which another sample has (`metric@st`).
    Start,
}

/// Reads a series with its values.
pub(crate) fn series_line(line: &str) -> Result<Line, String> {
    let line = line.trim_start();
    if let Some(start) = start_line(line) {
        return start;
    }
    // As Prometheus reads them: a blank ends the series, and a number is no metric.
    let name = line.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | ':')));
    let (name, behind) = line.split_at(name.unwrap_or(line.len()));
    let is_apart = behind.starts_with([' ', '\t']) && is_brace(behind.trim_start());
    if is_apart || (!is_brace(behind) && is_word_number(name)) {
        return Err(format!("`{line}` does not begin with a series"));
    }
    let (labels, values) = parse_beginning(line).map_err(|error| error.to_string())?;
    Ok(Line { labels: Some(labels), points: points(values)? })
}

/// Whether labels begin here; `{{` begins a native histogram.
fn is_brace(text: &str) -> bool {
    text.starts_with('{') && !text.starts_with("{{")
}

fn is_word_number(text: &str) -> bool {
    text.eq_ignore_ascii_case("inf") || text.eq_ignore_ascii_case("nan")
}

/// Reads an expected element, which may be a number by itself.
pub(crate) fn expected_line(line: &str) -> Result<Line, String> {
    match number(line.trim()) {
        Ok(value) => Ok(Line { labels: None, points: vec![Point::Float(value)] }),
        Err(_) => series_line(line),
    }
}

/// `metric{…}@st 1 2`: the times at which the series' counters began, an experiment of Prometheus. Without a metric it is
/// about all series that follow.
fn start_line(line: &str) -> Option<Result<Line, String>> {
    let first = line.split([' ', '\t']).next()?;
    let series = first.strip_suffix("@st")?;
    Some(series_line(series).map(|line| Line { points: vec![Point::Start], ..line }))
}

/// Reads a sequence of values.
pub(crate) fn points(text: &str) -> Result<Vec<Point>, String> {
    let mut points = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let mut depth = 0_usize;
        let end = rest
            .char_indices()
            .find(|&(_, c)| {
                depth = (depth + usize::from(c == '{')).saturating_sub(usize::from(c == '}'));
                depth == 0 && c.is_whitespace()
            })
            .map_or(rest.len(), |(at, _)| at);
        expand(&rest[..end], &mut points)?;
        rest = rest[end..].trim_start();
    }
    Ok(points)
}

/// One item of a sequence: `1`, `_`, `stale`, `_x3`, `5x3`, `0+10x5`, `{{…}}`.
fn expand(item: &str, points: &mut Vec<Point>) -> Result<(), String> {
    // A word with something behind it is another word: `NaNx3` is none that is known.
    let repeated = item.rsplit_once('x').filter(|(start, times)| {
        !start.ends_with(char::is_alphabetic) && times.starts_with(|c: char| c.is_ascii_digit())
    });
    let (start, times) = match repeated.map(|(start, times)| (start, times.parse::<usize>())) {
        Some((start, Ok(times))) => (start, Some(times)),
        Some((_, Err(_))) | None => (item, None),
    };
    let most = POINTS_PER_SERIES_MAX.saturating_sub(points.len());
    if times.unwrap_or(0) >= most {
        return Err(format!("`{item}`: more than {POINTS_PER_SERIES_MAX} values"));
    }
    let mut repeat = |point, count| points.extend(std::iter::repeat_n(point, count));
    if start.starts_with("{{") {
        if !start.ends_with("}}") {
            return Err(format!("`{item}` is not closed"));
        }
        repeat(Point::Histogram, times.map_or(1, |times| times + 1));
        return Ok(());
    }
    match (start, times) {
        ("_", _) => repeat(Point::Missing, times.unwrap_or(1)),
        ("stale", None) => points.push(Point::Float(STALE)),
        (_, None) => points.push(Point::Float(number(item)?)),
        (_, Some(times)) => {
            let (from, by) = stepping(start)?;
            // Added up, as the original does: 1.33 ten times is not 13.3.
            let values = std::iter::successors(Some(from), |value| Some(value + by));
            points.extend(values.take(times + 1).map(Point::Float));
        }
    }
    Ok(())
}

/// `0+10`: where it begins, and by how much it grows.
fn stepping(text: &str) -> Result<(f64, f64), String> {
    let bytes = text.as_bytes();
    let sign = (1..bytes.len())
        .find(|&at| matches!(bytes[at], b'+' | b'-') && !matches!(bytes[at - 1], b'e' | b'E'));
    match sign {
        Some(at) => Ok((number(&text[..at])?, number(&text[at..])?)),
        None => Ok((number(text)?, 0.0)),
    }
}

fn number(text: &str) -> Result<f64, String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_number = is_word_number(digits) || digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    text.parse().ok().filter(|_| is_number).ok_or_else(|| format!("`{text}` is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::promql::is_stale;

    #[test]
    fn sequences_are_written_short() {
        use Point::{Histogram, Missing};
        let floats = |values: &[f64]| values.iter().copied().map(Point::Float).collect::<Vec<_>>();
        for (text, expected) in [
            ("1 2 3", floats(&[1.0, 2.0, 3.0])),
            ("1x2", floats(&[1.0, 1.0, 1.0])),
            ("0x2", floats(&[0.0, 0.0, 0.0])),
            ("1+2x2", floats(&[1.0, 3.0, 5.0])),
            ("-4-2x1", floats(&[-4.0, -6.0])),
            ("1e+1+1e1x1", floats(&[10.0, 20.0])),
            ("Inf -Inf", floats(&[f64::INFINITY, f64::NEG_INFINITY])),
            ("_ _x2", vec![Missing; 3]),
            ("{{schema:1 sum:2}} {{}}x1", vec![Histogram; 3]),
            ("{{sum:3 buckets:[2 1]}}+{{sum:1}}x2", vec![Histogram; 3]),
            ("", vec![]),
        ] {
            assert_eq!(points(text), Ok(expected), "{text}");
        }
        assert!(matches!(points("NaN").unwrap()[..], [Point::Float(value)] if value.is_nan()));
        assert!(matches!(points("stale").unwrap()[..], [Point::Float(value)] if is_stale(value)));
    }

    #[test]
    fn what_is_no_sequence_is_refused() {
        for text in [
            "x",
            "1x",
            "1+x2",
            "one",
            "1_000",
            "}",
            "{{sum:1",
            "1x99999999999",
            "1x9999999 _x9",
            "1x+2",
            "stalex2",
            "NaNx2",
            "infinity",
            "1++1x2",
            "1 x2",
            "STALE",
            "1,2",
        ] {
            assert!(points(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_series_has_labels_and_values() {
        let line = series_line(r#"up{job="a b"} 1 _"#).unwrap();
        assert_eq!(line.labels.unwrap().to_string(), r#"up{job="a b"}"#);
        assert_eq!(line.points, [Point::Float(1.0), Point::Missing]);
        let start = series_line("up@st 1m 2m").unwrap();
        assert_eq!((start.labels.unwrap().to_string().as_str(), start.points), ("up", vec![Point::Start]));
        assert_eq!(expected_line("3").unwrap(), Line { labels: None, points: vec![Point::Float(3.0)] });
        assert_eq!(expected_line("{} 3").unwrap().labels, Some(Labels::empty()));
        for text in [r#"up{job="a", instance="b" 0x9"#, r#"up {job="a"} 1"#, "Inf 1", "nan 1"] {
            assert!(series_line(text).is_err(), "{text}");
        }
        assert!(series_line("  up {{sum:1}}").is_ok() && series_line("inf_total 1").is_ok());
    }
}

//! Reads Prometheus' PromQL test scripts (`promql/promqltest` in its repository).

use homeostat::engine::promql::STALE;
use homeostat::model::{Labels, METRIC_NAME};

/// A series of a `load`, or an expected element: its labels and its values, one per step.
pub(crate) struct Line {
    /// `None` where a number stands alone.
    pub labels: Option<Labels>,
    pub points: Vec<Point>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Point {
    Missing,
    Float(f64),
    Histogram,
    /// A start timestamp, which another sample has (`metric@st`).
    Start,
}

pub(crate) enum Command {
    Load { step_millis: i64, series: Vec<Line> },
    Clear,
    Eval(Box<Eval>),
}

pub(crate) struct Eval {
    /// Where it stands in the file, from 1.
    pub line: usize,
    pub when: When,
    pub expr: String,
    pub expected: Expected,
}

#[derive(Clone, Copy)]
pub(crate) enum When {
    Instant(i64),
    Range { start: i64, end: i64, step: i64 },
}

#[derive(Default)]
pub(crate) struct Expected {
    pub fails: bool,
    /// What the error says.
    pub failure: Option<Words>,
    pub text: Option<String>,
    pub is_ordered: bool,
    pub warnings: Said,
    pub infos: Said,
    /// The times of the samples of a range vector: the first, and the step.
    pub samples: Option<(i64, i64)>,
    pub lines: Vec<Line>,
}

/// What is to be said beside a value.
#[derive(Default)]
pub(crate) struct Said {
    pub is_wanted: bool,
    pub is_unwanted: bool,
    pub words: Vec<Words>,
}

pub(crate) enum Words {
    Text(String),
    Pattern(regex::Regex),
}

impl Words {
    pub(crate) fn accept(&self, text: &str) -> bool {
        match self {
            Self::Text(known) => known == text,
            Self::Pattern(pattern) => pattern.is_match(text),
        }
    }

    /// `msg: …`, `regex: …`, or nothing.
    fn parse(text: &str) -> Result<Option<Self>, String> {
        let text = text.trim();
        if let Some(message) = text.strip_prefix("msg:") {
            return Ok(Some(Self::Text(message.trim().to_owned())));
        }
        let Some(pattern) = text.strip_prefix("regex:") else {
            return if text.is_empty() {
                Ok(None)
            } else {
                Err(format!("`msg:` or `regex:` expected at `{text}`"))
            };
        };
        regex::Regex::new(pattern.trim())
            .map(|pattern| Some(Self::Pattern(pattern)))
            .map_err(|error| error.to_string())
    }
}

pub(crate) fn commands(text: &str) -> Result<Vec<Command>, String> {
    let mut commands = Vec::new();
    let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim())).peekable();
    while let Some((number, line)) = lines.next() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut body = Vec::new();
        let (head, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        if head != "clear" {
            while let Some((_, line)) = lines.next_if(|(_, line)| !line.is_empty()) {
                if !line.starts_with('#') {
                    body.push(line);
                }
            }
        }
        let at_line = |error: String| format!("line {number}: {error}");
        commands.push(match head {
            "clear" => Command::Clear,
            "load" | "load_with_nhcb" => {
                let step_millis = millis(rest).map_err(at_line)?;
                let mut series = body
                    .iter()
                    .map(|line| series_line(line))
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(at_line)?;
                if head == "load_with_nhcb" {
                    series.extend(native_twins(&series));
                }
                Command::Load { step_millis, series }
            }
            "eval" | "eval_fail" | "eval_warn" | "eval_info" | "eval_ordered" => {
                Command::Eval(eval(head, rest, &body, number).map_err(at_line)?.into())
            }
            _ => return Err(at_line(format!("unknown command `{head}`"))),
        });
    }
    Ok(commands)
}

/// `load_with_nhcb` makes a native histogram of each classic one.
fn native_twins(series: &[Line]) -> Vec<Line> {
    let twin = |line: &Line| {
        let labels = line.labels.as_ref()?;
        let name = labels.metric_name()?.strip_suffix("_bucket")?;
        let labels = labels.filter(|label| label != "le").with(METRIC_NAME, name).ok()?;
        Some(Line { labels: Some(labels), points: vec![Point::Histogram] })
    };
    series.iter().filter_map(twin).collect()
}

fn eval(head: &str, rest: &str, body: &[&str], line: usize) -> Result<Eval, String> {
    let mut words = rest.split_whitespace();
    let kind = words.next().ok_or("eval what?")?;
    let mut rest = rest.trim_start()[kind.len()..].trim_start();
    let mut argument = |word: &str| -> Result<i64, String> {
        rest = rest.strip_prefix(word).ok_or_else(|| format!("`{word}` expected at `{rest}`"))?.trim_start();
        let (value, tail) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        rest = tail.trim_start();
        millis(value)
    };
    let when = match kind {
        "instant" => When::Instant(argument("at")?),
        "range" => When::Range { start: argument("from")?, end: argument("to")?, step: argument("step")? },
        _ => return Err(format!("eval `{kind}` is unknown")),
    };
    let mut expected = Expected {
        fails: head == "eval_fail",
        is_ordered: head == "eval_ordered",
        warnings: Said { is_wanted: head == "eval_warn", ..Said::default() },
        infos: Said { is_wanted: head == "eval_info", ..Said::default() },
        ..Expected::default()
    };
    for line in body {
        expectation(line, &mut expected)?;
    }
    Ok(Eval { line, when, expr: rest.to_owned(), expected })
}

fn expectation(line: &str, expected: &mut Expected) -> Result<(), String> {
    let Some(rest) = line.strip_prefix("expect ") else {
        if let Some(message) = line.strip_prefix("expected_fail_message ") {
            expected.failure = Some(Words::Text(message.trim().to_owned()));
        } else if let Some(pattern) = line.strip_prefix("expected_fail_regexp ") {
            expected.failure = Words::parse(&format!("regex:{pattern}"))?;
        } else {
            expected.lines.push(series_line(line)?);
        }
        return Ok(());
    };
    let rest = rest.trim_start();
    let (word, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    match word {
        "fail" => (expected.fails, expected.failure) = (true, Words::parse(rest)?),
        "ordered" => expected.is_ordered = true,
        "warn" => expected.warnings.wants(rest)?,
        "info" => expected.infos.wants(rest)?,
        "no_warn" => expected.warnings.is_unwanted = true,
        "no_info" => expected.infos.is_unwanted = true,
        "string" => expected.text = Some(rest.trim().trim_matches(['"', '`']).to_owned()),
        "range" => {
            let words: Vec<&str> = rest.split_whitespace().collect();
            let ["vector", "from", from, "to", _, "step", step] = words.as_slice() else {
                return Err(format!("`expect range {rest}` is unknown"));
            };
            expected.samples = Some((millis(from)?, millis(step)?));
        }
        _ => return Err(format!("`expect {word}` is unknown")),
    }
    Ok(())
}

impl Said {
    fn wants(&mut self, rest: &str) -> Result<(), String> {
        self.is_wanted = true;
        self.words.extend(Words::parse(rest)?);
        Ok(())
    }
}

/// `name{label="value", …} 1 2+3x4 _`, or a number by itself.
pub(crate) fn series_line(line: &str) -> Result<Line, String> {
    if let Some(line) = start_line(line) {
        return line;
    }
    let (name, rest) =
        match line.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.' | '+' | '-'))) {
            Some(end) => line.split_at(end),
            None => (line, ""),
        };
    let is_number = name.parse::<f64>().is_ok();
    if is_number && !rest.trim_start().starts_with('{') {
        return Ok(Line { labels: None, points: points(line)? });
    }
    let mut pairs: Vec<(String, String)> = Vec::new();
    if !name.is_empty() {
        pairs.push((METRIC_NAME.into(), name.into()));
    }
    let rest = rest.trim_start();
    let values = match rest.strip_prefix('{').filter(|rest| !rest.starts_with('{')) {
        Some(inside) => braces(inside, &mut pairs)?,
        None => rest,
    };
    let labels = Labels::new(pairs).map_err(|error| format!("`{line}`: {error}"))?;
    Ok(Line { labels: Some(labels), points: points(values)? })
}

/// `metric{…}@st 1 2`: the times at which the series' counters began, an experiment of Prometheus.
fn start_line(line: &str) -> Option<Result<Line, String>> {
    let (series, _) = line.split_once("@st")?;
    Some(series_line(series).map(|line| Line { points: vec![Point::Start], ..line }))
}

/// Takes what stands between braces; returns what stands after them.
fn braces<'t>(mut rest: &'t str, pairs: &mut Vec<(String, String)>) -> Result<&'t str, String> {
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if let Some(after) = rest.strip_prefix('}') {
            return Ok(after);
        }
        let (name, after) = if rest.starts_with('"') {
            quoted(rest)?
        } else {
            let end = rest.find(['=', '}', ',']).ok_or("unclosed brace")?;
            (rest[..end].trim().to_owned(), &rest[end..])
        };
        if let Some(value) = after.trim_start().strip_prefix('=') {
            let (value, after) = quoted(value.trim_start())?;
            pairs.push((name, value));
            rest = after;
        } else {
            pairs.push((METRIC_NAME.into(), name));
            rest = after;
        }
    }
}

fn quoted(text: &str) -> Result<(String, &str), String> {
    let quote = text
        .chars()
        .next()
        .filter(|c| matches!(c, '"' | '\'' | '`'))
        .ok_or_else(|| format!("no quote at `{text}`"))?;
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        if c == quote {
            return Ok((value, &text[at + 1..]));
        }
        value.push(if c == '\\' { chars.next().map_or('\\', |(_, c)| c) } else { c });
    }
    Err(format!("unclosed quote at `{text}`"))
}

fn points(text: &str) -> Result<Vec<Point>, String> {
    let mut points = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let mut depth = 0_usize;
        let end = rest
            .char_indices()
            .find(|&(_, c)| {
                depth = depth + usize::from(c == '{') - usize::from(c == '}');
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
    let (start, times) = match item.rsplit_once('x').map(|(start, times)| (start, times.parse::<usize>())) {
        Some((start, Ok(times))) => (start, Some(times)),
        _ => (item, None),
    };
    if start.starts_with("{{") {
        points.extend(std::iter::repeat_n(Point::Histogram, times.map_or(1, |times| times + 1)));
        return Ok(());
    }
    if start == "_" {
        points.extend(std::iter::repeat_n(Point::Missing, times.unwrap_or(1)));
        return Ok(());
    }
    if start == "stale" {
        points.push(Point::Float(STALE));
        return Ok(());
    }
    let Some(times) = times else {
        points.push(Point::Float(number(item)?));
        return Ok(());
    };
    let bytes = start.as_bytes();
    let sign = (1..bytes.len())
        .find(|&at| matches!(bytes[at], b'+' | b'-') && !matches!(bytes[at - 1], b'e' | b'E'));
    let (from, by) = match sign {
        Some(at) => (number(&start[..at])?, number(&start[at..])?),
        None => (number(start)?, 0.0),
    };
    // Added up, as the original does: 1.33 ten times is not 13.3.
    let mut value = from;
    for _ in 0..=times {
        points.push(Point::Float(value));
        value += by;
    }
    Ok(())
}

fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| format!("`{text}` is no number"))
}

/// `1h30m`, `10s53ms`, `50`: in milliseconds.
fn millis(text: &str) -> Result<i64, String> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        #[expect(clippy::cast_possible_truncation, reason = "times of a script are small")]
        return Ok((seconds * 1_000.0) as i64);
    }
    let (sign, mut rest) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let mut total = 0;
    while !rest.is_empty() {
        let digits =
            rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(|| format!("`{text}` is no duration"))?;
        let count: i64 = rest[..digits].parse().map_err(|_| format!("`{text}` is no duration"))?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        total += count
            * match &rest[..unit] {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                "w" => 604_800_000,
                other => return Err(format!("`{other}` is no unit")),
            };
        rest = &rest[unit..];
    }
    Ok(sign * total)
}

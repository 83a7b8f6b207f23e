//! Reads Prometheus' PromQL test scripts (`promql/promqltest` in its repository).

use super::notation::{Line, Point, expected_line, series_line};
use crate::model::METRIC_NAME;

pub(crate) enum Command {
    Load { step_millis: i64, series: Vec<Line> },
    Clear,
    Eval(Box<Eval>),
}

pub(crate) struct Eval {
    /// Where it stands in the file, from 1.
    pub(crate) line: usize,
    pub(crate) when: When,
    pub(crate) expr: String,
    pub(crate) expected: Expected,
}

#[derive(Clone, Copy)]
pub(crate) enum When {
    Instant(i64),
    Range { start: i64, end: i64, step: i64 },
}

#[derive(Default)]
pub(crate) struct Expected {
    pub(crate) fails: bool,
    /// What the error says.
    pub(crate) failure: Option<Words>,
    pub(crate) text: Option<String>,
    pub(crate) is_ordered: bool,
    pub(crate) warnings: Said,
    pub(crate) infos: Said,
    /// The times of the samples of a range vector: the first, and the step.
    pub(crate) samples: Option<(i64, i64)>,
    pub(crate) lines: Vec<Line>,
}

/// What is to be said beside a value.
#[derive(Default)]
pub(crate) struct Said {
    pub(crate) is_wanted: bool,
    pub(crate) is_unwanted: bool,
    pub(crate) words: Vec<Words>,
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

/// A command that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {cause}")]
pub(crate) struct ScriptError {
    /// Where the command stands in the file, from 1.
    pub(crate) line: usize,
    pub(crate) cause: String,
}

/// The commands of a script; one that cannot be read leaves the others.
pub(crate) fn commands(text: &str) -> Vec<Result<Command, ScriptError>> {
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
        let command = command(head, rest, &body, number);
        commands.push(command.map_err(|cause| ScriptError { line: number, cause }));
    }
    commands
}

fn command(head: &str, rest: &str, body: &[&str], number: usize) -> Result<Command, String> {
    match head {
        "clear" => Ok(Command::Clear),
        "load" | "load_with_nhcb" => {
            let step_millis = millis(rest)?;
            if step_millis <= 0 {
                return Err(format!("`{rest}` is no step"));
            }
            let mut series = body.iter().map(|line| series_line(line)).collect::<Result<Vec<_>, _>>()?;
            if head == "load_with_nhcb" {
                series.extend(native_twins(&series));
            }
            Ok(Command::Load { step_millis, series })
        }
        "eval" | "eval_fail" | "eval_warn" | "eval_info" | "eval_ordered" => {
            Ok(Command::Eval(eval(head, rest, body, number)?.into()))
        }
        _ => Err(format!("unknown command `{head}`")),
    }
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
    let when = match kind {
        // Prometheus' scripts may leave the time out.
        "instant" if !rest.starts_with("at ") => When::Instant(0),
        "instant" => When::Instant(argument(&mut rest, "at")?),
        "range" => When::Range {
            start: argument(&mut rest, "from")?,
            end: argument(&mut rest, "to")?,
            step: argument(&mut rest, "step")?,
        },
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

/// Takes `word` and the time behind it.
fn argument(rest: &mut &str, word: &str) -> Result<i64, String> {
    let behind = rest.strip_prefix(word).ok_or_else(|| format!("`{word}` expected at `{rest}`"))?;
    let behind = behind.trim_start();
    let (value, tail) = behind.split_once(char::is_whitespace).unwrap_or((behind, ""));
    *rest = tail.trim_start();
    millis(value)
}

fn expectation(line: &str, expected: &mut Expected) -> Result<(), String> {
    let Some(rest) = line.strip_prefix("expect ") else {
        if let Some(message) = line.strip_prefix("expected_fail_message ") {
            expected.failure = Some(Words::Text(message.trim().to_owned()));
        } else if let Some(pattern) = line.strip_prefix("expected_fail_regexp ") {
            expected.failure = Words::parse(&format!("regex:{pattern}"))?;
        } else {
            expected.lines.push(expected_line(line)?);
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

/// `1h30m`, `10s53ms`, `50`: in milliseconds.
fn millis(text: &str) -> Result<i64, String> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        #[expect(clippy::cast_possible_truncation, reason = "times of a script are small")]
        return Ok((seconds * 1_000.0) as i64);
    }
    let (sign, mut rest) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let refuse = || format!("`{text}` is no duration");
    let mut total = 0_i64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(refuse)?;
        let count: i64 = rest[..digits].parse().map_err(|_| refuse())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let millis = match &rest[..unit] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            "y" => 31_536_000_000,
            other => return Err(format!("`{other}` is no unit")),
        };
        total = count.checked_mul(millis).and_then(|part| part.checked_add(total)).ok_or_else(refuse)?;
        rest = &rest[unit..];
    }
    Ok(sign * total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_cannot_be_read_leaves_the_others() {
        let read = commands("load 1m\n  up 1\n\nfrobnicate\n\neval instant at 1x up\n  up 1\n\nclear\n");
        let told: Vec<String> = read.iter().filter_map(|one| Some(one.as_ref().err()?.to_string())).collect();
        assert_eq!(told, ["line 4: unknown command `frobnicate`", "line 6: `x` is no unit"]);
        assert_eq!(read.len(), 4);
    }

    #[test]
    fn times_are_durations_or_seconds() {
        for (text, expected) in [
            ("1h30m", Ok(5_400_000)),
            ("10s53ms", Ok(10_053)),
            ("-1m", Ok(-60_000)),
            ("50", Ok(50_000)),
            ("9999999999999y", Err("`9999999999999y` is no duration".to_owned())),
        ] {
            assert_eq!(millis(text), expected, "{text}");
        }
    }
}

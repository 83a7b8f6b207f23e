//! The templates of playbooks: texts with places for labels and the value, in the notation of Prometheus' rule files, and
//! of it only as much as can be filled in safely wherever it stands (rules have the whole of it, `engine::template`):
//! `{{ $labels.name }}`, `{{ $labels }}`, `{{ $value }}` (also `.Labels.name`, `.Value`), and behind a `|`
//! one or more of `humanize`, `humanize1024`, `humanizePercentage`, `humanizeDuration`, `printf "%.2f"`.

use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;

use super::filling::Piece;
use super::{Labels, humanize, number};

/// Longest template in bytes: runbooks belong behind a link.
const TEMPLATE_BYTES_MAX: usize = 8_192;

/// Why a text is not a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// `{{` without `}}`.
    #[error("`{{{{` at byte {0} is never closed")]
    Unclosed(usize),
    /// An action we cannot expand.
    #[error("cannot expand `{{{{ {0} }}}}`")]
    Unknown(String),
    /// Longer than 8 KiB.
    #[error("the template is {0} bytes long, at most {TEMPLATE_BYTES_MAX} are taken")]
    TooLong(usize),
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(Arc<str>),
    Label(Arc<str>, Vec<Filter>),
    /// All labels, as Go prints a map.
    Labels,
    Value(Vec<Filter>),
}

#[derive(Clone, Debug, PartialEq)]
enum Filter {
    Humanize,
    Humanize1024,
    HumanizePercentage,
    HumanizeDuration,
    /// `%.Nf`, `%.Ng`-like verbs: the number of decimals, `None` for as many as needed.
    Printf {
        before: Arc<str>,
        decimals: Option<usize>,
        after: Arc<str>,
    },
}

/// A parsed template.
#[derive(Clone, PartialEq)]
pub struct Template {
    source: Arc<str>,
    parts: Vec<Part>,
}

impl Template {
    /// Reads the notation.
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        if source.len() > TEMPLATE_BYTES_MAX {
            return Err(TemplateError::TooLong(source.len()));
        }
        let mut parts = Vec::new();
        let mut rest = source;
        while let Some(open) = rest.find("{{") {
            let before = source.len() - rest.len() + open;
            let close = rest[open..].find("}}").ok_or(TemplateError::Unclosed(before))? + open;
            if open > 0 {
                parts.push(Part::Text(rest[..open].into()));
            }
            parts.push(parse_action(rest[open + 2..close].trim_matches('-').trim())?);
            rest = &rest[close + 2..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        Ok(Self { source: source.into(), parts })
    }

    /// A template that is just this text, whatever it contains.
    pub fn verbatim(text: &str) -> Self {
        Self { source: text.into(), parts: vec![Part::Text(text.into())] }
    }

    /// The notation it was parsed from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The labels it asks for.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Label(name, _) => Some(name.as_ref()),
            Part::Text(_) | Part::Labels | Part::Value(_) => None,
        })
    }

    /// The text for people, with labels and value filled in as they are; a label that is not there is empty. What is used
    /// as anything else is filled in for its place, by [`Template::fill`].
    pub fn render(&self, labels: &Labels, value: f64) -> Arc<str> {
        if let Some(text) = self.literal() {
            return Arc::clone(text);
        }
        let mut text = String::new();
        for piece in self.pieces(labels, value) {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Value(value) => text.push_str(&value),
            }
        }
        text.into()
    }

    /// The text, where there is nothing to fill in.
    pub(super) fn literal(&self) -> Option<&Arc<str>> {
        if let [Part::Text(text)] = self.parts.as_slice() { Some(text) } else { None }
    }

    /// What stands in the template, and what labels and value make of its places.
    pub(super) fn pieces<'a>(&'a self, labels: &'a Labels, value: f64) -> impl Iterator<Item = Piece<'a>> {
        self.parts.iter().map(move |part| match part {
            Part::Text(literal) => Piece::Literal(literal),
            Part::Label(name, filters) => {
                let raw = labels.get(name).unwrap_or("");
                Piece::Value(match raw.parse::<f64>() {
                    Ok(number) if !filters.is_empty() => apply(filters, number),
                    _ => raw.to_owned(),
                })
            }
            Part::Labels => Piece::Value(map_of(labels)),
            Part::Value(filters) => Piece::Value(apply(filters, value)),
        })
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.source)
    }
}

fn parse_action(action: &str) -> Result<Part, TemplateError> {
    let refuse = || TemplateError::Unknown(action.chars().take(80).collect());
    let mut stages = action.split('|').map(str::trim);
    let subject = stages.next().ok_or_else(refuse)?;
    // `printf "%.2f" $value` is the other way round of `$value | printf "%.2f"`.
    let (subject, mut filters) = match subject.strip_prefix("printf ") {
        Some(call) => {
            let (format, argument) = call.trim().rsplit_once(char::is_whitespace).ok_or_else(refuse)?;
            (argument.trim(), vec![parse_printf(format).ok_or_else(refuse)?])
        }
        None => match subject.split_once(char::is_whitespace) {
            Some((function, argument)) => (argument.trim(), vec![parse_filter(function).ok_or_else(refuse)?]),
            None => (subject, Vec::new()),
        },
    };
    for stage in stages {
        filters.push(parse_filter(stage).ok_or_else(refuse)?);
    }
    if matches!(subject, "$value" | ".Value") {
        return Ok(Part::Value(filters));
    }
    if matches!(subject, "$labels" | ".Labels") && filters.is_empty() {
        return Ok(Part::Labels);
    }
    let name = subject.strip_prefix("$labels.").or_else(|| subject.strip_prefix(".Labels."));
    match name {
        Some(name) if is_name(name) => Ok(Part::Label(name.into(), filters)),
        Some(_) | None => Err(refuse()),
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !text.starts_with(|first: char| first.is_ascii_digit())
}

fn parse_filter(text: &str) -> Option<Filter> {
    match text {
        "humanize" => Some(Filter::Humanize),
        "humanize1024" => Some(Filter::Humanize1024),
        "humanizePercentage" => Some(Filter::HumanizePercentage),
        "humanizeDuration" => Some(Filter::HumanizeDuration),
        _ => parse_printf(text.strip_prefix("printf ")?),
    }
}

/// `"%.2f"`, `"%f"`, `"%v"`, `"%s"`, `"%.0f%%"`: one verb with text around it.
fn parse_printf(quoted: &str) -> Option<Filter> {
    let format = quoted.trim().strip_prefix(['"', '`'])?.strip_suffix(['"', '`'])?;
    let (before, verb) = format.split_once('%')?;
    let digits_end = verb.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (flags, rest) = verb.split_at(digits_end);
    let kind = rest.chars().next()?;
    let after = rest[kind.len_utf8()..].replace("%%", "%");
    let precision = flags.split_once('.').and_then(|(_, digits)| digits.parse().ok());
    let decimals = match kind {
        'f' => Some(precision.unwrap_or(6).min(20)),
        'd' => Some(0),
        'v' | 's' | 'g' => None,
        _ => return None,
    };
    Some(Filter::Printf { before: before.into(), decimals, after: after.into() })
}

/// `map[instance:a job:b]`: what rule files mean by `LABELS = {{ $labels }}`.
fn map_of(labels: &Labels) -> String {
    let mut text = String::from("map[");
    for (index, (name, value)) in labels.iter().enumerate() {
        let space = if index > 0 { " " } else { "" };
        let _ = write!(text, "{space}{name}:{value}");
    }
    text.push(']');
    text
}

/// The filters one after the other; a text that is no number any more is passed on as it is.
fn apply(filters: &[Filter], value: f64) -> String {
    let mut text = number::shortest(value);
    for filter in filters {
        let Ok(number) = text.parse::<f64>() else { continue };
        text = match filter {
            Filter::Humanize => humanize::humanize(number),
            Filter::Humanize1024 => humanize::humanize1024(number),
            Filter::HumanizePercentage => humanize::percentage(number),
            Filter::HumanizeDuration => humanize::duration(number),
            Filter::Printf { before, decimals, after } => match decimals {
                Some(decimals) => format!("{before}{number:.decimals$}{after}"),
                None => format!("{before}{}{after}", number::shortest(number)),
            },
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str, value: f64) -> String {
        let labels = Labels::new([("job", "api"), ("limit", "2048")]).unwrap();
        Template::parse(source).unwrap().render(&labels, value).to_string()
    }

    #[test]
    fn places_are_filled_in() {
        let cases = [
            ("no places", 0.0, "no places"),
            ("{{ $labels.job }} is at {{$value}}", 0.5, "api is at 0.5"),
            ("{{ .Labels.job }}{{ $labels.gone }}!", 0.0, "api!"),
            ("LABELS = {{ $labels }}", 0.0, "LABELS = map[job:api limit:2048]"),
            ("{{ $value | humanize }}", 1_234_567.0, "1.235M"),
            ("{{ $value | humanize }}", 0.001_234, "1.234m"),
            ("{{ humanize $value }}", 10.0, "10"),
            ("{{ $value | humanize1024 }}", 1_048_576.0, "1Mi"),
            ("{{ $value | humanize1024 }}", 0.5, "0.5"),
            ("{{ $value | humanizePercentage }}", 0.123_456, "12.35%"),
            ("{{ $value | humanizeDuration }}", 93_784.0, "1d 2h 3m 4s"),
            ("{{ $value | humanizeDuration }}", 1.5, "1.5s"),
            ("{{ printf \"%.2f\" $value }}%", 3.256_78, "3.26%"),
            ("{{ $value | printf \"%.0f%%\" }}", 99.6, "100%"),
            ("{{ $labels.limit | humanize }}", 0.0, "2.048k"),
            ("{{ $value }}", f64::INFINITY, "+Inf"),
        ];
        for (source, value, expected) in cases {
            assert_eq!(render(source, value), expected, "{source}");
        }
    }

    #[test]
    fn what_cannot_be_expanded_is_refused() {
        assert_eq!(Template::parse("a {{ $value"), Err(TemplateError::Unclosed(2)));
        for source in
            ["{{ range query \"up\" }}", "{{ $labels. }}", "{{ $x }}", "{{ $value | shout }}", "{{ }}"]
        {
            assert!(matches!(Template::parse(source), Err(TemplateError::Unknown(_))), "{source}");
        }
    }
}

//! Go's `fmt.Sprintf`: verbs, flags, width and precision, and what it says where a verb does not fit.

use std::fmt::Write as _;

use super::value::Value;
use crate::model::number;

/// Widths and precisions above are cut: a template is not for making megabytes of blanks.
const WIDTH_MAX: usize = 1_000;

/// How one argument is to be printed.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "Go's flags, each by its sign")]
struct Layout {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// `format` with its verbs replaced by the arguments.
pub(super) fn sprintf(format: &str, arguments: &[Value<'_>]) -> String {
    let mut text = String::with_capacity(format.len());
    let mut rest = arguments.iter();
    let mut used = 0;
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let mut layout = Layout::default();
        while let Some(flag) = chars.peek() {
            match flag {
                '-' => (layout.minus, layout.zero) = (true, false),
                '+' => layout.plus = true,
                '#' => layout.sharp = true,
                ' ' => layout.space = true,
                '0' => layout.zero = !layout.minus,
                _ => break,
            }
            chars.next();
        }
        let mut size = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            if chars.next_if_eq(&'*').is_some() {
                used += 1;
                return match rest.next() {
                    Some(Value::Int(size)) => Some(*size),
                    _ => None,
                };
            }
            let mut digits = None;
            while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                digits = Some((digits.unwrap_or(0_i64) * 10 + i64::from(digit)).min(1_000_000));
                chars.next();
            }
            digits
        };
        if let Some(width) = size(&mut chars) {
            (layout.minus, layout.width) = (layout.minus || width < 0, Some(bounded(width)));
        }
        if chars.next_if_eq(&'.').is_some() {
            layout.precision = Some(size(&mut chars).map_or(0, bounded));
        }
        match chars.next() {
            None => text.push_str("%!(NOVERB)"),
            Some('%') => text.push('%'),
            Some(verb) => match rest.next() {
                None => drop(write!(text, "%!{verb}(MISSING)")),
                Some(argument) => {
                    used += 1;
                    text.push_str(&formatted(argument, verb, layout));
                }
            },
        }
    }
    if used < arguments.len() {
        text.push_str("%!(EXTRA ");
        for (index, extra) in arguments[used..].iter().enumerate() {
            text.push_str(if index > 0 { ", " } else { "" });
            if matches!(extra, Value::Missing | Value::Nil) {
                text.push_str("<nil>");
            } else {
                let _ = write!(text, "{}={}", extra.type_name(), extra.printed());
            }
        }
        text.push(')');
    }
    text
}

fn bounded(size: i64) -> usize {
    usize::try_from(size.unsigned_abs()).unwrap_or(WIDTH_MAX).min(WIDTH_MAX)
}

fn formatted(value: &Value<'_>, verb: char, layout: Layout) -> String {
    match (value, verb) {
        (_, 'T') => padded(value.type_name(), layout),
        (Value::Missing | Value::Nil, 'v') => padded("<nil>", layout),
        (Value::Missing | Value::Nil, _) => format!("%!{verb}(<nil>)"),
        (Value::Float(number), 'v' | 'e' | 'E' | 'f' | 'F' | 'g' | 'G') => float(*number, verb, layout),
        (Value::Int(number), 'v' | 'd' | 'b' | 'o' | 'O' | 'x' | 'X' | 'c' | 'q' | 'U') => {
            integer(*number, verb, layout)
        }
        (Value::Text(text), 'v' | 's') => padded(&cut(text, layout.precision), layout),
        (Value::Text(text), 'q') => padded(&quoted(&cut(text, layout.precision)), layout),
        (Value::Text(text), 'x' | 'X') => padded(&hex(text.as_bytes(), verb == 'X'), layout),
        (Value::Bool(_), _) if !matches!(verb, 'v' | 't') => {
            format!("%!{verb}(bool={})", value.printed())
        }
        (Value::Float(_) | Value::Int(_) | Value::Text(_), _) => {
            format!("%!{verb}({}={})", value.type_name(), value.printed())
        }
        (Value::List(items), _) => {
            let items: Vec<String> = items.iter().map(|item| formatted(item, verb, layout)).collect();
            format!("[{}]", items.join(" "))
        }
        (
            Value::Bool(_)
            | Value::Labels(_)
            | Value::Sample(_)
            | Value::Arguments(_)
            | Value::Data(_)
            | Value::Time(_)
            | Value::Duration(_),
            _,
        ) => padded(&value.printed(), layout),
    }
}

fn cut(text: &str, precision: Option<usize>) -> String {
    text.chars().take(precision.unwrap_or(usize::MAX)).collect()
}

fn padded(text: &str, layout: Layout) -> String {
    let missing = layout.width.unwrap_or(0).saturating_sub(text.chars().count());
    if layout.minus {
        return format!("{text}{}", " ".repeat(missing));
    }
    format!("{}{text}", if layout.zero { "0" } else { " " }.repeat(missing))
}

/// Zeros go between the sign and the digits.
fn padded_number(sign: &str, digits: &str, layout: Layout) -> String {
    let missing = layout.width.unwrap_or(0).saturating_sub(sign.len() + digits.len());
    if layout.zero && !layout.minus {
        return format!("{sign}{}{digits}", "0".repeat(missing));
    }
    padded(&format!("{sign}{digits}"), layout)
}

fn sign_of(is_negative: bool, layout: Layout) -> &'static str {
    if is_negative {
        "-"
    } else if layout.plus {
        "+"
    } else if layout.space {
        " "
    } else {
        ""
    }
}

fn float(value: f64, verb: char, layout: Layout) -> String {
    const DECIMALS_DEFAULT: usize = 6;
    let decimals = layout.precision.unwrap_or(DECIMALS_DEFAULT);
    let text = match verb {
        'e' | 'E' => number::scientific(value, decimals),
        'f' | 'F' => number::fixed(value, decimals),
        _ => number::general(value, layout.precision),
    };
    let text = if verb.is_ascii_uppercase() && value.is_finite() { text.to_uppercase() } else { text };
    let digits = text.trim_start_matches(['-', '+']);
    if !value.is_finite() {
        // Go writes the plus of an infinity only where one is asked for, or with `%v`.
        let is_signed =
            layout.plus || (verb == 'v' && value > 0.0 && layout.width.is_none() && !layout.space);
        let sign =
            sign_of(value < 0.0, Layout { plus: is_signed || (value > 0.0 && !layout.space), ..layout });
        let sign = if value.is_nan() { if layout.plus { "+" } else { "" } } else { sign };
        return padded(&format!("{sign}{digits}"), Layout { zero: false, ..layout });
    }
    padded_number(sign_of(value.is_sign_negative(), layout), digits, layout)
}

fn integer(value: i64, verb: char, layout: Layout) -> String {
    let size = value.unsigned_abs();
    let code = u32::try_from(value).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER);
    let (prefix, digits) = match verb {
        'c' => return padded(&code.to_string(), layout),
        'q' => return padded(&format!("'{code}'"), layout),
        'U' => return padded(&format!("U+{size:04X}"), layout),
        'b' => ("0b", format!("{size:b}")),
        'o' => ("0", format!("{size:o}")),
        'O' => ("0o", format!("{size:o}")),
        'x' => ("0x", format!("{size:x}")),
        'X' => ("0X", format!("{size:X}")),
        _ => ("", size.to_string()),
    };
    let prefix = if layout.sharp || verb == 'O' { prefix } else { "" };
    let zeros = layout.precision.unwrap_or(0).saturating_sub(digits.len());
    let digits = format!("{prefix}{}{digits}", "0".repeat(zeros));
    let layout = Layout { zero: layout.zero && layout.precision.is_none(), ..layout };
    padded_number(sign_of(value < 0, layout), &digits, layout)
}

fn hex(bytes: &[u8], is_upper: bool) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    if is_upper { text.to_uppercase() } else { text }
}

/// As Go's `strconv.Quote`.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{b}' => quoted.push_str("\\v"),
            '\u{c}' => quoted.push_str("\\f"),
            _ if c.is_control() => drop(write!(quoted, "\\x{:02x}", u32::from(c))),
            _ => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Go's `fmt.Sprint`: a blank between two values that are no texts.
pub(super) fn sprint(values: &[Value<'_>]) -> String {
    let mut text = String::new();
    let mut last_was_text = true;
    for (index, value) in values.iter().enumerate() {
        let is_text = matches!(value, Value::Text(_));
        if index > 0 && !is_text && !last_was_text {
            text.push(' ');
        }
        last_was_text = is_text;
        if matches!(value, Value::Missing) {
            text.push_str("<nil>");
        } else {
            value.write(&mut text);
        }
    }
    text
}

/// Go's `fmt.Sprintln`.
pub(super) fn sprintln(values: &[Value<'_>]) -> String {
    let texts: Vec<String> = values.iter().map(Value::printed).collect();
    format!("{}\n", texts.join(" "))
}

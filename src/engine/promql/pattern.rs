//! Regular expressions as Prometheus reads them (Go's RE2 syntax), for the engine we have. The two agree on nearly
//! everything; what they do not agree on is spelled anew here.

use regex::{Regex, RegexBuilder};

/// Anchored at both ends, and the dot matches line breaks.
pub(super) fn compile(pattern: &str) -> Result<Regex, Box<regex::Error>> {
    let anchored = format!("^(?:{})$", translated(pattern)?);
    RegexBuilder::new(&anchored).dot_matches_new_line(true).build().map_err(Box::new)
}

fn translated(pattern: &str) -> Result<String, Box<regex::Error>> {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    let mut is_repeated = false;
    while let Some(c) = rest.chars().next() {
        let was_repeated = std::mem::take(&mut is_repeated);
        rest = match c {
            '\\' => escape(rest, &mut out, false),
            '[' => class(rest, &mut out),
            // Flags that are none, which ours refuses.
            '(' if rest.starts_with("(?)") => &rest[3..],
            // What follows is no repetition.
            '(' if rest.starts_with("(?") => copied(rest, 2, &mut out),
            // Ours takes every brace for a repetition; theirs is a brace where it is none.
            '{' if !is_repetition(rest) => {
                out.push_str("\\{");
                &rest[1..]
            }
            // Ours repeats what is repeated, theirs refuses it.
            '*' | '+' | '?' | '{' if was_repeated => {
                let what = rest.chars().take(2).collect::<String>();
                return Err(Box::new(regex::Error::Syntax(format!(
                    "invalid nested repetition operator at `{what}`"
                ))));
            }
            '*' | '+' | '?' | '{' => {
                is_repeated = true;
                let end = 1 + if c == '{' { rest.find('}').unwrap_or(0) } else { 0 };
                let is_lazy = rest[end..].starts_with('?');
                copied(rest, end + usize::from(is_lazy), &mut out)
            }
            _ => copied(rest, c.len_utf8(), &mut out),
        };
    }
    Ok(out)
}

/// Takes so many bytes as they are.
fn copied<'t>(rest: &'t str, bytes: usize, out: &mut String) -> &'t str {
    let (taken, rest) = rest.split_at(bytes);
    out.push_str(taken);
    rest
}

/// Takes an escape. Classes like `\d` are of ASCII alone there.
fn escape<'t>(rest: &'t str, out: &mut String, in_class: bool) -> &'t str {
    let Some(escaped) = rest[1..].chars().next() else {
        out.push('\\');
        return "";
    };
    let after = &rest[1 + escaped.len_utf8()..];
    if escaped == 'Q' && !in_class {
        let (literal, after) = after.split_once("\\E").unwrap_or((after, ""));
        out.push_str(&regex::escape(literal));
        return after;
    }
    let (open, close) = if in_class { ("", "") } else { ("[", "]") };
    match escaped {
        'd' => out.extend([open, "0-9", close]),
        'w' => out.extend([open, "0-9A-Za-z_", close]),
        's' => out.extend([open, "\\t\\n\\x0C\\r ", close]),
        'D' => out.push_str("[^0-9]"),
        'W' => out.push_str("[^0-9A-Za-z_]"),
        'S' => out.push_str("[^\\t\\n\\x0C\\r ]"),
        'b' if !in_class => out.push_str("(?-u:\\b)"),
        // Ours are borders of words.
        '<' | '>' => out.push(escaped),
        _ => out.extend(['\\', escaped]),
    }
    after
}

/// Takes a class in brackets. Ours nest and know set operations, theirs do not.
fn class<'t>(text: &'t str, out: &mut String) -> &'t str {
    let mut rest = &text[1..];
    out.push('[');
    if let Some(after) = rest.strip_prefix('^') {
        out.push('^');
        rest = after;
    }
    if let Some(after) = rest.strip_prefix(']') {
        out.push_str("\\]");
        rest = after;
    }
    while let Some(c) = rest.chars().next() {
        match c {
            ']' => {
                out.push(']');
                return &rest[1..];
            }
            '\\' => rest = escape(rest, out, true),
            '[' if rest.starts_with("[:") && rest.contains(":]") => {
                let end = rest.find(":]").map_or(rest.len(), |end| end + 2);
                out.push_str(&rest[..end]);
                rest = &rest[end..];
            }
            '[' | '&' | '~' => {
                out.extend(['\\', c]);
                rest = &rest[1..];
            }
            '-' if out.ends_with('-') && !out.ends_with("\\-") => {
                out.push_str("\\-");
                rest = &rest[1..];
            }
            _ => {
                out.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    rest
}

/// `{2}`, `{2,}`, `{2,5}`
fn is_repetition(text: &str) -> bool {
    let Some((inside, _)) = text[1..].split_once('}') else { return false };
    let (least, most) = inside.split_once(',').unwrap_or((inside, ""));
    let is_number = |text: &str| text.bytes().all(|digit| digit.is_ascii_digit());
    !least.is_empty() && is_number(least) && is_number(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_to_prometheus() {
        let cases = [
            ("a.c", "a\nc", true),
            ("b+", "abb", false),
            ("(?i:PRO).*", "production", true),
            ("a{2}", "aa", true),
            ("a{x}", "a{x}", true),
            ("{}", "{}", true),
            ("a{,2}", "a{,2}", true),
            ("\\d+", "42", true),
            ("\\d", "\u{663}", false),
            ("[\\d.]+", "1.5", true),
            ("\\w+\\s\\S", "a_1 -", true),
            ("\\Qa.b\\E+", "a.bb", true),
            ("\\Qa.b\\E", "axb", false),
            ("[[]a[]]", "[a]", true),
            ("[^[:alpha:]]", "1", true),
            ("[a&&b]+", "a&b", true),
            ("[+--]", ",", true),
            ("[]a]+", "]a", true),
            ("\\<b\\>", "<b>", true),
            ("\\bfoo\\b", "foo", true),
            ("[^\\]]*", "\u{fc}", true),
            ("a*?b{1,2}?c+?", "abbc", true),
            ("(?:a)?(b?)*", "ab", true),
            ("a\\**", "a**", true),
            ("(?)a", "a", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(compile(pattern).unwrap().is_match(text), expected, "{pattern} on {text}");
        }
        for wrong in ["(", "a**b", "a+*", "(a)?*", "a{2}{3}", "a*??", "[", "\\", "(?P<n", "[z-a]"] {
            assert!(compile(wrong).is_err(), "{wrong}");
        }
    }
}

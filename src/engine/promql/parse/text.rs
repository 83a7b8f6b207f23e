//! Texts in quotes, with the escapes of Go.

/// What stands between the quotes. Escapes can make it something else than UTF-8.
pub(super) fn unquoted(quoted: &str) -> Result<Vec<u8>, String> {
    let inside = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or("");
    if quoted.starts_with('`') {
        return Ok(inside.replace('\r', "").into());
    }
    let mut bytes = Vec::with_capacity(inside.len());
    let mut rest = inside;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c != '\\' {
            bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let Some(kind) = rest.chars().next() else { return Err(format!("{quoted} ends with an escape")) };
        rest = escaped(kind, &rest[kind.len_utf8()..], &mut bytes)
            .ok_or_else(|| format!("`\\{kind}` is not an escape of a text"))?;
    }
    Ok(bytes)
}

/// Takes what belongs to an escape; returns what stands after it.
fn escaped<'t>(kind: char, rest: &'t str, bytes: &mut Vec<u8>) -> Option<&'t str> {
    let (digits, radix) = match kind {
        'x' => (2, 16),
        'u' => (4, 16),
        'U' => (8, 16),
        '0'..='7' => (2, 8),
        _ => (0, 10),
    };
    let (number, after) = rest.split_at_checked(digits)?;
    match kind {
        'a' => bytes.push(0x07),
        'b' => bytes.push(0x08),
        'f' => bytes.push(0x0c),
        'n' => bytes.push(b'\n'),
        'r' => bytes.push(b'\r'),
        't' => bytes.push(b'\t'),
        'v' => bytes.push(0x0b),
        '\\' | '\'' | '"' => bytes.push(u8::try_from(kind).ok()?),
        'x' => bytes.push(u8::from_str_radix(number, radix).ok()?),
        '0'..='7' => bytes.push(u8::from_str_radix(&format!("{kind}{number}"), radix).ok()?),
        'u' | 'U' => {
            let c = char::from_u32(u32::from_str_radix(number, radix).ok()?)?;
            bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
        _ => return None,
    }
    Some(after)
}

/// In quotes again, as Go's `%q` writes it: bytes that are no text as `\x…`.
pub(super) fn quoted(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        out.extend(chunk.valid().chars().flat_map(|c| {
            let is_plain = c == '\'' || !c.is_ascii();
            if is_plain { c.to_string() } else { c.escape_default().to_string() }.chars().collect::<Vec<_>>()
        }));
        out.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_those_of_go() {
        let cases: [(&str, &[u8]); 6] = [
            ("\"a\\n\\t\\\"'\"", b"a\n\t\"'"),
            ("'\\x41\\101\\u00fc'", "AA\u{fc}".as_bytes()),
            ("`\\d\"`", b"\\d\""),
            ("\"\\U0001F600\"", "\u{1f600}".as_bytes()),
            ("\"a\\xc5z\"", b"a\xc5z"),
            ("\"\"", b""),
        ];
        for (quoted, expected) in cases {
            assert_eq!(unquoted(quoted).unwrap(), expected, "{quoted}");
        }
        for wrong in ["\"\\d\"", "\"\\x4\"", "\"\\uD800\"", "\"\\9\"", "\"\\777\""] {
            assert!(unquoted(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_text_is_written_in_bytes() {
        assert_eq!(quoted(b"a\xc5z\"\n"), "\"a\\xc5z\\\"\\n\"");
        assert_eq!(quoted("'\u{fc}".as_bytes()), "\"'\u{fc}\"");
    }
}

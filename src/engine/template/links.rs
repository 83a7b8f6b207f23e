//! Texts for links, and parts of addresses.

use std::fmt::Write as _;

/// For a URL's query, as Go's `url.QueryEscape`.
pub(super) fn query_escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(char::from(byte));
            }
            b' ' => escaped.push('+'),
            _ => {
                let _ = write!(escaped, "%{byte:02X}");
            }
        }
    }
    escaped
}

/// For HTML.
pub(super) fn html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => escaped.push_str("&#34;"),
            '\'' => escaped.push_str("&#39;"),
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\0' => escaped.push('\u{fffd}'),
            _ => escaped.push(c),
        }
    }
    escaped
}

/// For a string of JavaScript.
pub(super) fn js(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '\'' => escaped.push_str("\\'"),
            '"' => escaped.push_str("\\\""),
            '<' | '>' | '&' | '=' => drop(write!(escaped, "\\u{:04X}", u32::from(c))),
            _ if c.is_control() => drop(write!(escaped, "\\u{:04X}", u32::from(c))),
            _ => escaped.push(c),
        }
    }
    escaped
}

/// Each word begins with a capital letter; the others stay as they are.
pub(super) fn title(text: &str) -> String {
    let mut before = ' ';
    let mut titled = String::with_capacity(text.len());
    for c in text.chars() {
        if before.is_alphanumeric() || matches!(before, '_' | '\'') {
            titled.push(c);
        } else {
            titled.extend(c.to_uppercase());
        }
        before = c;
    }
    titled
}

/// `host:port` without the port; what is no such thing stays as it is.
pub(super) fn without_port(address: &str) -> &str {
    if let Some(rest) = address.strip_prefix('[') {
        return match rest.split_once("]:") {
            Some((host, port)) if !port.contains(':') => host,
            Some(_) | None => address,
        };
    }
    match address.split_once(':') {
        Some((host, port)) if !port.contains([':', '[', ']']) => host,
        Some(_) | None => address,
    }
}

/// The first part of a host's name; an IP address stays as it is, and so does the port.
pub(super) fn without_domain(address: &str) -> String {
    let host = without_port(address);
    let port = if host.len() < address.len() { address.rsplit_once(':').map(|(_, port)| port) } else { None };
    if host.parse::<core::net::IpAddr>().is_ok() {
        return address.to_owned();
    }
    let short = host.split('.').next().unwrap_or(host);
    match port {
        Some(port) => format!("{short}:{port}"),
        None => short.to_owned(),
    }
}

/// The path of a URL.
pub(super) fn path_of(url: &str) -> &str {
    let behind = url.split_once("://").map_or(url, |(_, behind)| behind);
    let path =
        if behind.len() == url.len() { behind } else { behind.find('/').map_or("", |at| &behind[at..]) };
    path.split(['?', '#']).next().unwrap_or("")
}

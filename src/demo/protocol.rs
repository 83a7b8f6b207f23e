//! What worker and supervisor say to each other: one line each, words on the worker's stdin, JSON on its stdout.

use std::fmt;
use std::str::FromStr;

use serde_json::{Value, json};

use crate::model::Timestamp;

/// A cache of this many entries is 64 MiB: more would be a leak of its own.
pub(super) const CACHE_SIZE_MAX: u64 = 1 << 19;

/// How the worker fails. Nothing makes it healthy again but a new process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Sessions are opened and forgotten: memory grows, and every request looks through all of it.
    Leak,
    /// The index is lost, and built again only at a start: every lookup reads the table.
    LostIndex,
}

impl Fault {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Leak => "leak",
            Self::LostIndex => "lost_index",
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Leak, Self::LostIndex]
            .into_iter()
            .find(|fault| fault.as_str() == text)
            .ok_or_else(|| format!("`{}` is not one of leak, lost_index", head(text)))
    }
}

/// What the supervisor tells the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Fail in this way from now on.
    Fail(Fault),
    /// Keep this many results.
    CacheSize(u64),
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fail(fault) => write!(f, "fail {}", fault.as_str()),
            Self::CacheSize(size) => write!(f, "cache_size {size}"),
        }
    }
}

impl FromStr for Order {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        match line.split_once(' ') {
            Some(("fail", fault)) => fault.parse().map(Self::Fail),
            Some(("cache_size", size)) => {
                let size = size.parse().ok().filter(|size| *size <= CACHE_SIZE_MAX);
                size.map(Self::CacheSize).ok_or_else(|| format!("a cache size is 0 to {CACHE_SIZE_MAX}"))
            }
            Some(_) | None => Err(format!("`{}` is not an order", head(line))),
        }
    }
}

/// What the worker tells the supervisor, again and again.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Status {
    /// When it was measured.
    pub(super) at: Timestamp,
    /// Resident set, in bytes.
    pub(super) resident: u64,
    /// 95 % of the latest requests took no longer, in seconds.
    pub(super) p95: f64,
    /// Requests since the start.
    pub(super) requests: u64,
    /// Pages of the table that were read since the start.
    pub(super) pages: u64,
    /// Results that are kept at most.
    pub(super) cache_size: u64,
    /// How it fails, where it does.
    pub(super) fault: Option<Fault>,
}

impl Status {
    pub(super) fn to_line(&self) -> String {
        json!({
            "at": self.at.as_millis(),
            "resident": self.resident,
            "p95": self.p95,
            "requests": self.requests,
            "pages": self.pages,
            "cache_size": self.cache_size,
            "fault": self.fault.map(Fault::as_str),
        })
        .to_string()
    }

    pub(super) fn from_line(line: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(line).ok()?;
        let number = |name: &str| value.get(name).and_then(Value::as_u64);
        Some(Self {
            at: Timestamp::from_millis(value.get("at")?.as_i64()?),
            resident: number("resident")?,
            p95: value.get("p95")?.as_f64()?,
            requests: number("requests")?,
            pages: number("pages")?,
            cache_size: number("cache_size")?,
            fault: match value.get("fault")? {
                Value::Null => None,
                fault => Some(fault.as_str()?.parse().ok()?),
            },
        })
    }
}

fn head(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        for order in [
            Order::Fail(Fault::Leak),
            Order::Fail(Fault::LostIndex),
            Order::CacheSize(0),
            Order::CacheSize(9),
        ] {
            assert_eq!(order.to_string().parse(), Ok(order));
        }
        let healthy = Status {
            at: Timestamp::from_millis(1_700_000_000_123),
            resident: 1 << 28,
            p95: 0.000_123,
            requests: 7,
            pages: 99,
            cache_size: 256,
            fault: None,
        };
        for status in [Status { fault: Some(Fault::Leak), ..healthy.clone() }, healthy] {
            assert_eq!(Status::from_line(&status.to_line()), Some(status));
        }
    }

    #[test]
    fn other_lines_are_not_understood() {
        for line in
            ["", "fail", "fail fast", "cache_size", "cache_size -1", "cache_size 99999999", "exit now"]
        {
            assert!(line.parse::<Order>().is_err(), "{line}");
        }
        for line in ["", "{}", "[1]", r#"{"at": 1, "fault": "leak"}"#] {
            assert_eq!(Status::from_line(line), None, "{line}");
        }
    }
}

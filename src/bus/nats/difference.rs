//! How an existing stream or consumer differs from the wanted one, field by field.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

/// One field that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its name, as NATS calls it.
    pub field: String,
    /// What we need.
    pub wanted: String,
    /// What is there.
    pub found: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: wanted {}, found {}", self.field, self.wanted, self.found)
    }
}

/// For error messages: one difference a line.
pub(super) fn lines(differences: &[Difference]) -> String {
    let lines: Vec<_> = differences.iter().map(ToString::to_string).collect();
    format!("\n  {}", lines.join("\n  "))
}

/// Compares two configurations as JSON on the given fields; a missing field equals `null`. Lists are sets, and of
/// maps only the wanted keys count (the server adds its own).
pub(super) fn differences(wanted: &Value, found: &Value, fields: &[&str]) -> Vec<Difference> {
    fields
        .iter()
        .flat_map(|field| {
            let (wanted, found) = (&wanted[*field], &found[*field]);
            match (wanted, found) {
                (Value::Object(wanted), found) => wanted
                    .iter()
                    .filter(|(key, value)| found[key.as_str()] != **value)
                    .map(|(key, value)| difference(&format!("{field}.{key}"), value, &found[key.as_str()]))
                    .collect(),
                (Value::Array(_), Value::Array(_)) if sorted(wanted) == sorted(found) => Vec::new(),
                _ if wanted == found => Vec::new(),
                _ => vec![difference(field, wanted, found)],
            }
        })
        .collect()
}

fn difference(field: &str, wanted: &Value, found: &Value) -> Difference {
    Difference { field: field.to_owned(), wanted: readable(field, wanted), found: readable(field, found) }
}

fn sorted(list: &Value) -> Vec<String> {
    let mut items: Vec<String> = list.as_array().into_iter().flatten().map(ToString::to_string).collect();
    items.sort();
    items
}

/// Durations are nanoseconds on the wire.
fn readable(field: &str, value: &Value) -> String {
    let is_duration =
        matches!(field, "max_age" | "duplicate_window" | "subject_delete_marker_ttl" | "ack_wait");
    match (value, value.as_u64()) {
        (Value::Null, _) => "nothing".into(),
        (_, Some(nanos)) if is_duration => format!("{:?}", Duration::from_nanos(nanos)),
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_compared_by_meaning() {
        let wanted =
            json!({"subjects": ["a", "b"], "max_age": 60_000_000_000_u64, "metadata": {"cell": "x"}});
        let same = json!({"subjects": ["b", "a"], "max_age": 60_000_000_000_u64, "sealed": null,
            "metadata": {"cell": "x", "_nats.ver": "2.15.1"}});
        let fields = ["subjects", "max_age", "metadata", "sealed"];
        assert_eq!(differences(&wanted, &same, &fields), []);

        let other = json!({"subjects": ["a"], "max_age": 3_600_000_000_000_u64, "sealed": true,
            "metadata": {"cell": "y"}});
        let found = differences(&wanted, &other, &fields);
        assert_eq!(
            found.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                r#"subjects: wanted ["a","b"], found ["a"]"#,
                "max_age: wanted 60s, found 3600s",
                r#"metadata.cell: wanted "x", found "y""#,
                "sealed: wanted nothing, found true",
            ]
        );
    }
}

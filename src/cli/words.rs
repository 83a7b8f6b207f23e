//! Entries of the ledger in words, for people.

use serde_json::Value;

/// What kind of entry it is, and what it says.
pub(super) fn told(entry: &Value) -> (String, String) {
    let Some((kind, body)) = entry.as_object().and_then(|entry| entry.iter().next()) else {
        return ("unknown".to_owned(), entry.to_string());
    };
    let text = |name: &str| said(&body[name]);
    let what = match kind.as_str() {
        "violation" => {
            let value = said(&body["value"]);
            format!(
                "{} {} with value {value} on {}",
                said(&body["rule"]["alert"]),
                text("phase"),
                text("labels")
            )
        }
        "incident" => {
            let count = body["violations"].as_u64().unwrap_or(0);
            format!("{} on {}, {}", text("phase"), text("scope"), super::output::count(count, "violation"))
        }
        "analysis" => analysis(body),
        "plan" => format!(
            "{} against {} on {}, {}: {}",
            text("playbook"),
            text("cause"),
            text("scope"),
            text("mode"),
            list(&body["steps"], |step| said(&step["name"]))
        ),
        "admission" => return admission(body),
        "outcome" if text("output").is_empty() => with_underscores_as_blanks(&text("result")),
        "outcome" => format!("{}: {}", with_underscores_as_blanks(&text("result")), text("output")),
        "verdict" => {
            let values = match (&body["before"], &body["after"]) {
                (Value::Null, Value::Null) => String::new(),
                (before, after) => format!(" (before {}, after {})", said(before), said(after)),
            };
            format!("{}: {}{values}", text("kind"), text("reason"))
        }
        "report" => format!("{}: {}", with_underscores_as_blanks(&text("reason")), text("text")),
        "change" => format!("{} on {}: {}", text("kind"), text("scope"), text("summary")),
        "applied" => format!("configuration {} ({})", text("generation"), text("hash")),
        _ => said(body),
    };
    (kind.clone(), what)
}

/// To hundredths: the rest of it is arithmetic.
pub(super) fn confidence(value: &Value) -> String {
    format!("{:.2}", value.as_f64().unwrap_or_default())
}

fn analysis(body: &Value) -> String {
    let cause = |cause: &Value| {
        let because = list(&cause["evidence"], said);
        let because = if because.is_empty() { String::new() } else { format!(": {because}") };
        format!("{} with confidence {}{because}", said(&cause["name"]), confidence(&cause["confidence"]))
    };
    match body["causes"].as_array().map(Vec::as_slice) {
        Some([first, rest @ ..]) if !rest.is_empty() => {
            format!(
                "{}; less probable: {}",
                cause(first),
                list(&Value::from(rest), |cause| said(&cause["name"]))
            )
        }
        Some([first, ..]) => cause(first),
        Some([]) | None => "no cause is known".to_owned(),
    }
}

/// Intents, releases, halts and resumes under their own names.
fn admission(body: &Value) -> (String, String) {
    let Some((kind, body)) = body.as_object().and_then(|body| body.iter().next()) else {
        return ("admission".to_owned(), said(body));
    };
    let text = |name: &str| said(&body[name]);
    let what = match kind.as_str() {
        "intent" => {
            let verb = if body["undo"] == true { "undoes" } else { "carries out" };
            let (executor, playbook, action, number) =
                (text("executor"), text("playbook"), text("action"), text("number"));
            format!("{executor} {verb} {playbook} on {}: {action}, attempt {number}", text("scope"))
        }
        "release" => format!("{} ended: {}", text("plan"), with_underscores_as_blanks(&text("end"))),
        "halt" => format!("by {}: {}", text("by"), text("reason")),
        "resume" => format!("by {}", text("by")),
        "charter" => format!("of configuration {}", text("generation")),
        _ => said(body),
    };
    (kind.clone(), what)
}

/// A value without JSON's marks: labels as `name=value`, lists with commas.
pub(super) fn said(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(_) => list(value, said),
        Value::Object(pairs) if pairs.is_empty() => "everything".to_owned(),
        Value::Object(pairs) => {
            let pairs = pairs.iter().map(|(name, value)| format!("{name}={}", said(value)));
            pairs.collect::<Vec<_>>().join(",")
        }
    }
}

fn list(items: &Value, tell: impl Fn(&Value) -> String) -> String {
    items.as_array().into_iter().flatten().map(tell).collect::<Vec<_>>().join(", ")
}

fn with_underscores_as_blanks(word: &str) -> String {
    word.replace('_', " ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn entries_are_told_in_words() {
        for (entry, kind, what) in [
            (
                json!({"admission": {"intent": {"executor": "h-1", "playbook": "restart", "scope": {"job": "web"},
                    "action": "ac-1", "number": 1, "undo": false}}}),
                "intent",
                "h-1 carries out restart on job=web: ac-1, attempt 1",
            ),
            (
                json!({"admission": {"release": {"plan": "pl-1", "end": "not_executed"}}}),
                "release",
                "pl-1 ended: not executed",
            ),
            (
                json!({"analysis": {"causes": [{"name": "leak", "confidence": 0.8, "evidence": ["it grows", "slowly"]}]}}),
                "analysis",
                "leak with confidence 0.80: it grows, slowly",
            ),
            (json!({"analysis": {"causes": []}}), "analysis", "no cause is known"),
            (
                json!({"verdict": {"kind": "verified", "reason": "twice", "before": 9.5, "after": 1}}),
                "verdict",
                "verified: twice (before 9.5, after 1)",
            ),
            (
                json!({"incident": {"phase": "open", "scope": {}, "violations": 1}}),
                "incident",
                "open on everything, 1 violation",
            ),
        ] {
            assert_eq!(told(&entry), (kind.to_owned(), what.to_owned()));
        }
    }
}

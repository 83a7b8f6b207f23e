//! What the JSON Schemas take, the loader takes, and the other way round: a table of both.

use homeostat::wire::files::{
    FileKind, parse_analysis, parse_causes, parse_charter, parse_playbook, parse_rules, schema,
};
use regex::Regex;
use serde_json::Value;

const PLAYBOOK: &str = "playbook: p\nanswers: [{cause: c}]\nsteps: [{name: s, webhook: {url: 'http://a'}}]\n\
                        verify: {expr: up, within: 1s}\n";
const CAUSE: &str =
    "- {cause: c, prior: 0.1, symptoms: [{match: {alertname: X}, weight: 0.5, because: b}]}\n";
const RULES: &str = "groups: [{name: a, rules: [{alert: X, expr: up, for: 1m}]}]\n";

/// Whether the loader takes a file whole.
fn loads(kind: FileKind, text: &str) -> bool {
    match kind {
        FileKind::Rules => parse_rules("f", text).is_ok_and(|file| file.refused.is_empty()),
        FileKind::Playbook => parse_playbook("f", text).is_ok(),
        FileKind::Causes => parse_causes("f", text).is_ok(),
        FileKind::Charter => parse_charter("f", text).is_ok(),
        FileKind::Analysis => parse_analysis("f", text).is_ok(),
    }
}

#[test]
fn schema_and_loader_agree() {
    let playbook = |from: &str, to: &str| {
        assert!(PLAYBOOK.contains(from), "{from}");
        PLAYBOOK.replace(from, to)
    };
    let cause = |from: &str, to: &str| CAUSE.replace(from, to);
    let rules = |from: &str, to: &str| RULES.replace(from, to);
    let step = "{name: s, webhook: {url: 'http://a'}}";
    let many = vec![step; 17].join(", ");
    let table = [
        (FileKind::Playbook, PLAYBOOK.to_owned(), true),
        (FileKind::Playbook, playbook("steps:", "settle: 0\nsteps:"), true),
        (FileKind::Playbook, playbook("steps:", "settle: 0s\nsteps:"), true),
        (FileKind::Playbook, playbook("steps:", "settle: 5\nsteps:"), false),
        (FileKind::Playbook, playbook("steps:", "settle: soon\nsteps:"), false),
        (FileKind::Playbook, playbook("steps:", "order: -1\nsteps:"), false),
        (FileKind::Playbook, playbook("steps:", "speed: 1\nsteps:"), false),
        (FileKind::Playbook, playbook("within: 1s", "within: 0s"), false),
        (FileKind::Playbook, playbook("within: 1s", "within: 0"), false),
        (FileKind::Playbook, playbook("within: 1s", "within: 10s, evaluations: 0"), false),
        (FileKind::Playbook, playbook("playbook: p", "playbook: 'a b'"), false),
        (FileKind::Playbook, playbook("[{cause: c}]", "[]"), false),
        (FileKind::Playbook, playbook("{cause: c}", "{cause: c, min_confidence: 2}"), false),
        (FileKind::Playbook, playbook("{cause: c}", "{cause: c, scope: {tier: 1}}"), true),
        (FileKind::Playbook, playbook(step, "{name: s}"), false),
        (FileKind::Playbook, playbook("webhook: {", "command: {program: /bin/a}, webhook: {"), false),
        (FileKind::Playbook, playbook("webhook: {url: 'http://a'}", "command: {program: a}"), false),
        (FileKind::Playbook, playbook("webhook: {", "idempotency: perhaps, webhook: {"), false),
        (FileKind::Playbook, playbook("url: 'http://a'", "url: 'http://a', body: 7"), true),
        (FileKind::Playbook, playbook("url: 'http://a'", "url: 'http://a', method: GET"), false),
        (FileKind::Playbook, playbook(step, ""), false),
        (FileKind::Playbook, playbook(step, &many), false),
        (FileKind::Causes, CAUSE.to_owned(), true),
        (FileKind::Causes, cause("prior: 0.1", "prior: 2"), false),
        (FileKind::Causes, cause("{alertname: X}", "{}"), false),
        (FileKind::Causes, cause("{alertname: X}", "{tier: 1}"), true),
        (FileKind::Causes, cause("cause: c", "cause: 'symptom:X'"), false),
        (FileKind::Causes, cause("cause: c", "cause: ''"), false),
        (FileKind::Causes, cause(", because: b", ""), false),
        (FileKind::Charter, "mode: auto\narmed: [p]\ncooldown: 0\nprograms: [/bin/true]\n".into(), true),
        (FileKind::Charter, "mode: on\n".into(), false),
        (FileKind::Charter, "concurrent_plans_max: -1\n".into(), false),
        (FileKind::Charter, "min_confidence: 1.5\n".into(), false),
        (FileKind::Charter, "programs: [true]\n".into(), false),
        (FileKind::Charter, "cooldwn: 1m\n".into(), false),
        (FileKind::Analysis, "scope_labels: [service]\n".into(), true),
        (FileKind::Analysis, "scope_labels: []\n".into(), false),
        (FileKind::Analysis, "scope_labels: [a, a]\n".into(), false),
        (FileKind::Analysis, "scope_labels: ['']\n".into(), false),
        (FileKind::Rules, RULES.to_owned(), true),
        (FileKind::Rules, rules("for: 1m", "for: 0"), true),
        (FileKind::Rules, rules("for: 1m", "for: ten"), false),
        (FileKind::Rules, rules("for: 1m", "labels: {tier: 1, nothing: }"), true),
        (FileKind::Rules, rules("for: 1m", "labels: {__name__: x}"), false),
        (FileKind::Rules, rules("expr: up", "exprr: up"), false),
        (FileKind::Rules, rules("expr: up", "expr: ''"), false),
        (FileKind::Rules, rules("alert: X", "alert: X, record: y"), false),
        (FileKind::Rules, rules("alert: X", "record: y"), false),
        (FileKind::Rules, rules("name: a", "interval: 5x, name: a"), false),
        (FileKind::Rules, rules("name: a", "evaluation: interval, name: a"), true),
        (FileKind::Rules, rules("name: a", "evaluation: steam, name: a"), false),
        (FileKind::Rules, rules("name: a", "name: ''"), false),
        (FileKind::Rules, rules("name: a, ", ""), false),
        (FileKind::Rules, "groups:\n".into(), true),
    ];
    for (kind, text, expected) in table {
        assert_eq!(loads(kind, &text), expected, "the loader: {text}");
        let value: Value = serde_saphyr::from_str(&text).unwrap();
        let root = schema(kind);
        assert_eq!(fits(&value, &root, &root), expected, "the schema: {text}");
    }
}

/// As much of JSON Schema as our schemas use; a word that is not known here fails the test.
fn fits(value: &Value, schema: &Value, root: &Value) -> bool {
    let Some(words) = schema.as_object() else { return schema == &Value::Bool(true) };
    let text = value.as_str();
    let all =
        |schemas: &Value| schemas.as_array().unwrap().iter().filter(|one| fits(value, one, root)).count();
    words.iter().all(|(word, wanted)| match word.as_str() {
        "$schema" | "title" | "description" | "definitions" | "format" | "default" | "examples" => true,
        "$ref" => {
            let place = wanted.as_str().unwrap().trim_start_matches('#');
            fits(value, root.pointer(place).unwrap(), root)
        }
        "type" => match wanted.as_array() {
            Some(types) => types.iter().any(|one| is_of(value, one.as_str().unwrap())),
            None => is_of(value, wanted.as_str().unwrap()),
        },
        "enum" => wanted.as_array().unwrap().contains(value),
        "const" => wanted == value,
        "allOf" => all(wanted) == wanted.as_array().unwrap().len(),
        "anyOf" => all(wanted) > 0,
        "oneOf" => all(wanted) == 1,
        "not" => !fits(value, wanted, root),
        "pattern" => text.is_none_or(|text| Regex::new(wanted.as_str().unwrap()).unwrap().is_match(text)),
        "minLength" => text.is_none_or(|text| text.chars().count() as u64 >= wanted.as_u64().unwrap()),
        "maxLength" => text.is_none_or(|text| text.chars().count() as u64 <= wanted.as_u64().unwrap()),
        "minimum" => value.as_f64().is_none_or(|number| number >= wanted.as_f64().unwrap()),
        "maximum" => value.as_f64().is_none_or(|number| number <= wanted.as_f64().unwrap()),
        "minItems" => value.as_array().is_none_or(|items| items.len() as u64 >= wanted.as_u64().unwrap()),
        "maxItems" => value.as_array().is_none_or(|items| items.len() as u64 <= wanted.as_u64().unwrap()),
        "uniqueItems" => value
            .as_array()
            .is_none_or(|items| items.iter().enumerate().all(|(index, item)| !items[..index].contains(item))),
        "items" => value.as_array().is_none_or(|items| items.iter().all(|item| fits(item, wanted, root))),
        "minProperties" => {
            value.as_object().is_none_or(|pairs| pairs.len() as u64 >= wanted.as_u64().unwrap())
        }
        "required" => value.as_object().is_none_or(|pairs| {
            wanted.as_array().unwrap().iter().all(|name| pairs.contains_key(name.as_str().unwrap()))
        }),
        "properties" => value.as_object().is_none_or(|pairs| {
            pairs.iter().all(|(name, value)| wanted.get(name).is_none_or(|schema| fits(value, schema, root)))
        }),
        "propertyNames" => value
            .as_object()
            .is_none_or(|pairs| pairs.keys().all(|name| fits(&Value::from(name.as_str()), wanted, root))),
        "additionalProperties" => value.as_object().is_none_or(|pairs| {
            let known = schema["properties"].as_object();
            pairs
                .iter()
                .filter(|(name, _)| known.is_none_or(|known| !known.contains_key(*name)))
                .all(|(_, value)| fits(value, wanted, root))
        }),
        other => panic!("`{other}` is not known to this test"),
    })
}

fn is_of(value: &Value, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("`{other}` is no type"),
    }
}

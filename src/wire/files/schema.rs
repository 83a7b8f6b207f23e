//! JSON Schemas of the files of a bundle, for editors; they stand in `deploy/schemas` and a test keeps them true.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value, json};

use super::FileKind;
use super::analysis::{AnalysisShape, CauseShape};
use super::charter::CharterShape;
use super::playbook::PlaybookShape;

/// The schema of a kind of file.
pub fn schema(kind: FileKind) -> Value {
    match kind {
        FileKind::Rules => rules(),
        FileKind::Playbook => of::<PlaybookShape>(),
        FileKind::Causes => of::<Vec<CauseShape>>(),
        FileKind::Charter => of::<CharterShape>(),
        FileKind::Analysis => of::<AnalysisShape>(),
    }
}

/// Prometheus' rule files, and the one field that is ours. Their shape is read by hand, so it is written by hand, too.
fn rules() -> Value {
    let duration = json!({ "$ref": "#/definitions/Duration" });
    let texts = json!({ "$ref": "#/definitions/Texts" });
    let of_rule = json!({
        "record": { "type": "string", "minLength": 1, "maxLength": 256, "description": "The series it records." },
        "alert": { "type": "string", "minLength": 1, "maxLength": 256, "description": "The violation it raises." },
        "expr": { "type": ["string", "number"], "minLength": 1, "description": "The PromQL expression." },
        "for": duration,
        "keep_firing_for": duration,
        "labels": texts,
        "annotations": texts,
    });
    let of_group = json!({
        "name": { "type": "string", "minLength": 1, "maxLength": 256, "description": "Its name, unique in the file." },
        "evaluation": {
            "enum": ["stream", "interval"],
            "description": "When its rules are evaluated: on every sample (stream, where it is not given), or on Prometheus' grid of intervals. Not of Prometheus.",
        },
        "interval": duration,
        "query_offset": { "$ref": "#/definitions/Duration", "description": "Not heeded by this version." },
        "limit": { "type": "integer", "minimum": 0, "description": "Not heeded by this version." },
        "labels": texts,
        "rules": { "type": ["array", "null"], "items": { "$ref": "#/definitions/Rule" } },
    });
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Rules",
        "description": "A rule file of Prometheus.",
        "type": "object",
        "properties": { "groups": { "type": ["array", "null"], "items": { "$ref": "#/definitions/Group" } } },
        "additionalProperties": false,
        "definitions": {
            "Duration": {
                "description": "A duration in Prometheus' notation, for example `1m30s`.",
                "type": ["string", "integer", "null"],
                "pattern": "^(0|([0-9]+y)?([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?)$",
                "minLength": 1,
                "minimum": 0,
                "maximum": 0,
            },
            "Texts": {
                "type": ["object", "null"],
                "propertyNames": { "minLength": 1, "not": { "const": "__name__" } },
                "additionalProperties": { "type": ["string", "number", "boolean", "null"] },
            },
            "Group": {
                "type": "object",
                "properties": of_group,
                "required": ["name"],
                "additionalProperties": false,
            },
            "Rule": {
                "type": "object",
                "properties": of_rule,
                "required": ["expr"],
                "oneOf": [
                    { "required": ["alert"] },
                    {
                        "required": ["record"],
                        "not": { "anyOf": [
                            { "required": ["for"] },
                            { "required": ["keep_firing_for"] },
                            { "required": ["annotations"] },
                        ] },
                    },
                ],
                "additionalProperties": false,
            },
        },
    })
}

fn of<T: JsonSchema>() -> Value {
    SchemaGenerator::new(SchemaSettings::draft07()).into_root_schema_for::<T>().to_value()
}

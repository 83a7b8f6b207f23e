//! JSON Schemas of the files that are ours, for editors; they stand in `deploy/schemas` and a test keeps them true.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::Value;

use super::FileKind;
use super::analysis::{AnalysisShape, CauseShape};
use super::charter::CharterShape;
use super::playbook::PlaybookShape;

/// The schema of a kind of file; `None` for rule files, which are Prometheus'.
pub fn schema(kind: FileKind) -> Option<Value> {
    match kind {
        FileKind::Rules => None,
        FileKind::Playbook => Some(of::<PlaybookShape>()),
        FileKind::Causes => Some(of::<Vec<CauseShape>>()),
        FileKind::Charter => Some(of::<CharterShape>()),
        FileKind::Analysis => Some(of::<AnalysisShape>()),
    }
}

fn of<T: JsonSchema>() -> Value {
    SchemaGenerator::new(SchemaSettings::draft07()).into_root_schema_for::<T>().to_value()
}

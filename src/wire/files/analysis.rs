//! What the analyzer goes by: the cause catalogue and the labels that place an incident.

use std::collections::BTreeSet;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::error::{FileError, Place};
use super::yaml::{self, LabelTexts};
use crate::engine::Configuration;
use crate::model::{CauseEntry, Confidence, Labels, Symptom};

/// Most scope labels: the first one that a violation has is its scope, and nobody ranks more than these.
const SCOPE_LABELS_MAX: usize = 32;

/// Reads a part of the cause catalogue.
pub fn parse_causes(file: &str, text: &str) -> Result<Vec<CauseEntry>, FileError> {
    let shapes: Vec<Spanned<CauseShape>> = yaml::read(file, text)?.unwrap_or_default();
    let mut names = BTreeSet::new();
    for shape in &shapes {
        let name = shape.value.cause.as_str();
        if name.is_empty() || name.starts_with(SYMPTOM_PREFIX) {
            let cause = format_args!(
                "`{name}` cannot be a cause's name: it is empty or starts with `{SYMPTOM_PREFIX}`"
            );
            return Err(FileError::at(file, shape, cause));
        }
        if !names.insert(name) {
            return Err(FileError::at(
                file,
                shape,
                format_args!("the cause `{name}` stands in this file twice"),
            ));
        }
        if shape.value.symptoms.is_empty() {
            return Err(FileError::at(file, shape, format_args!("the cause `{name}` has no symptoms")));
        }
        for symptom in &shape.value.symptoms {
            if symptom.value.r#match.is_empty() {
                return Err(FileError::at(file, symptom, "`match` is empty: it would match every violation"));
            }
        }
    }
    Ok(shapes.into_iter().map(|shape| shape.value.read()).collect())
}

/// What an analysis calls a cause that no catalogue knows starts with this.
const SYMPTOM_PREFIX: &str = "symptom:";

/// A root cause and what it looks like from outside.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Cause")]
pub(super) struct CauseShape {
    /// Its name, which playbooks answer.
    #[schemars(length(min = 1), extend("not" = { "pattern": "^symptom:" }))]
    cause: String,
    /// How probable it is before anything was seen.
    #[schemars(with = "f64", range(min = 0.0, max = 1.0))]
    prior: Confidence,
    /// The violations that speak for it.
    #[schemars(with = "Vec<SymptomShape>", length(min = 1))]
    symptoms: Vec<Spanned<SymptomShape>>,
}

/// A violation that speaks for a cause.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SymptomShape {
    /// Labels that a violation must have with these values, `alertname` among them.
    #[schemars(with = "LabelTexts", extend("minProperties" = 1))]
    r#match: Labels,
    /// How strongly it speaks for the cause, alone.
    #[schemars(with = "f64", range(min = 0.0, max = 1.0))]
    weight: Confidence,
    /// Why, in words: it becomes evidence.
    because: String,
}

impl CauseShape {
    fn read(self) -> CauseEntry {
        let symptoms = self.symptoms.into_iter().map(|Spanned { value: symptom, .. }| Symptom {
            matches: symptom.r#match,
            weight: symptom.weight,
            because: symptom.because.into(),
        });
        CauseEntry { name: self.cause.into(), prior: self.prior, symptoms: symptoms.collect() }
    }
}

/// Reads the labels that place an incident, most telling first.
pub fn parse_analysis(file: &str, text: &str) -> Result<Vec<Arc<str>>, FileError> {
    let shape: Option<AnalysisShape> = yaml::read(file, text)?;
    let Some(labels) = shape.and_then(|shape| shape.scope_labels) else { return Ok(default_scope_labels()) };
    if labels.is_empty() || labels.len() > SCOPE_LABELS_MAX {
        let cause = format_args!("{} scope labels, 1 to {SCOPE_LABELS_MAX} are taken", labels.len());
        return Err(FileError::new(file, Place::START, cause));
    }
    let mut seen = BTreeSet::new();
    for label in &labels {
        if label.value.is_empty() || !seen.insert(label.value.as_str()) {
            let cause = format_args!("the scope label `{}` is empty or given twice", label.value);
            return Err(FileError::at(file, label, cause));
        }
    }
    Ok(labels.iter().map(|label| label.value.as_str().into()).collect())
}

/// The labels that place an incident where no file names any.
pub(super) fn default_scope_labels() -> Vec<Arc<str>> {
    Configuration::SCOPE_LABELS.into_iter().map(Arc::from).collect()
}

/// How violations become incidents.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Analysis")]
pub(super) struct AnalysisShape {
    /// The labels that place an incident, most telling first: the first one that a violation has is its scope.
    #[schemars(with = "Option<Vec<String>>", length(min = 1, max = 32), inner(length(min = 1)), extend("uniqueItems" = true))]
    scope_labels: Option<Vec<Spanned<String>>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAUSES: &str = "\
- cause: memory_leak
  prior: 0.1
  symptoms:
    - match: {alertname: WorkerMemoryHigh, tier: 1}
      weight: 0.8
      because: memory grows and does not come back
";

    #[test]
    fn a_catalogue_is_read() {
        let causes = parse_causes("c", CAUSES).unwrap();
        assert_eq!((causes.len(), causes[0].name.as_ref()), (1, "memory_leak"));
        let symptom = &causes[0].symptoms[0];
        assert_eq!(symptom.matches, Labels::new([("alertname", "WorkerMemoryHigh"), ("tier", "1")]).unwrap());
        assert_eq!(symptom.weight, Confidence::new(0.8).unwrap());
        assert_eq!(parse_causes("c", ""), Ok(Vec::new()));
    }

    #[test]
    fn mistakes_in_a_catalogue_are_told_with_line_and_column() {
        let cases = [
            ("prior: 0.1", "prior: 2", "c:2:10: `2` is not between 0 and 1"),
            ("weight", "wieght", "c:5:7: unknown field `wieght`\nhint: did you mean `weight`?"),
            (
                "{alertname: WorkerMemoryHigh, tier: 1}",
                "{}",
                "c:4:7: `match` is empty: it would match every violation",
            ),
            ("memory_leak", "symptom:x", "c:1:3: `symptom:x` cannot be a cause's name"),
            ("      because: memory grows and does not come back\n", "", "c:5:7: `because` is missing"),
        ];
        for (from, to, expected) in cases {
            let found = parse_causes("c", &CAUSES.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(found.starts_with(expected), "{found}");
        }
        let twice = format!("{CAUSES}{CAUSES}");
        let found = parse_causes("c", &twice).unwrap_err().to_string();
        assert_eq!(found, "c:7:3: the cause `memory_leak` stands in this file twice");
    }

    #[test]
    fn scope_labels_are_read_and_have_a_default() {
        let labels = parse_analysis("a", "scope_labels: [service, job]\n").unwrap();
        assert_eq!(labels, [Arc::from("service"), Arc::from("job")]);
        assert_eq!(parse_analysis("a", "").unwrap(), default_scope_labels());
        for (text, expected) in [
            ("scope_labels: []\n", "a:1:1: 0 scope labels, 1 to 32 are taken"),
            ("scope_labels: [job, job]\n", "a:1:21: the scope label `job` is empty or given twice"),
            (
                "scope_lables: [job]\n",
                "a:1:1: unknown field `scope_lables`\nhint: did you mean `scope_labels`?",
            ),
        ] {
            assert_eq!(parse_analysis("a", text).unwrap_err().to_string(), expected);
        }
    }
}

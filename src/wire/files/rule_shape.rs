//! Rule files as they stand in YAML, before anything is understood: every field a text, names that are not known kept
//! with their places. So a wrong word costs its rule, or its group, and never the file.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

use super::error::FileError;

/// A file.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleFileShape {
    pub(super) groups: Option<Vec<Spanned<GroupShape>>>,
}

/// Go reads a value that is not there as an empty text.
pub(super) type Text = Spanned<Option<String>>;
/// Labels or annotations.
pub(super) type TextMap = BTreeMap<String, Text>;

/// A group.
#[derive(Default)]
pub(super) struct GroupShape {
    pub(super) name: Option<Text>,
    pub(super) evaluation: Option<Text>,
    pub(super) interval: Option<Text>,
    pub(super) query_offset: Option<Text>,
    pub(super) limit: Option<Text>,
    pub(super) labels: Option<TextMap>,
    pub(super) rules: Option<Vec<Spanned<RuleShape>>>,
    pub(super) unknown: Unknown,
}

/// A rule.
#[derive(Default)]
pub(super) struct RuleShape {
    pub(super) record: Option<Text>,
    pub(super) alert: Option<Text>,
    pub(super) expr: Option<Spanned<String>>,
    pub(super) hold: Option<Text>,
    pub(super) keep_firing_for: Option<Text>,
    pub(super) labels: Option<TextMap>,
    pub(super) annotations: Option<TextMap>,
    pub(super) unknown: Unknown,
}

/// Names that mean nothing here.
#[derive(Default)]
pub(super) struct Unknown(Vec<Spanned<String>>);

impl Unknown {
    /// Each of them as an error; `known` are the names that would have been right.
    pub(super) fn errors(&self, file: &str, known: &[&str]) -> impl Iterator<Item = FileError> {
        self.0.iter().map(move |name| FileError::unknown_field(file, name, known))
    }
}

/// The names of a group's fields.
pub(super) const GROUP_FIELDS: [&str; 7] =
    ["name", "evaluation", "interval", "query_offset", "limit", "labels", "rules"];
/// The names of a rule's fields.
pub(super) const RULE_FIELDS: [&str; 7] =
    ["record", "alert", "expr", "for", "keep_firing_for", "labels", "annotations"];

impl<'de> Deserialize<'de> for GroupShape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct GroupVisitor;
        impl<'de> Visitor<'de> for GroupVisitor {
            type Value = GroupShape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a group: `name`, `rules` and what else it has")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<GroupShape, A::Error> {
                let mut group = GroupShape::default();
                while let Some(name) = map.next_key::<Spanned<String>>()? {
                    match name.value.as_str() {
                        "name" => group.name = Some(map.next_value()?),
                        "evaluation" => group.evaluation = Some(map.next_value()?),
                        "interval" => group.interval = Some(map.next_value()?),
                        "query_offset" => group.query_offset = Some(map.next_value()?),
                        "limit" => group.limit = Some(map.next_value()?),
                        "labels" => group.labels = map.next_value()?,
                        "rules" => group.rules = map.next_value()?,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            group.unknown.0.push(name);
                        }
                    }
                }
                Ok(group)
            }
        }
        deserializer.deserialize_map(GroupVisitor)
    }
}

impl<'de> Deserialize<'de> for RuleShape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RuleVisitor;
        impl<'de> Visitor<'de> for RuleVisitor {
            type Value = RuleShape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a rule: `alert`, `expr` and what else it has")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RuleShape, A::Error> {
                let mut rule = RuleShape::default();
                while let Some(name) = map.next_key::<Spanned<String>>()? {
                    match name.value.as_str() {
                        "record" => rule.record = Some(map.next_value()?),
                        "alert" => rule.alert = Some(map.next_value()?),
                        "expr" => rule.expr = map.next_value()?,
                        "for" => rule.hold = Some(map.next_value()?),
                        "keep_firing_for" => rule.keep_firing_for = Some(map.next_value()?),
                        "labels" => rule.labels = map.next_value()?,
                        "annotations" => rule.annotations = map.next_value()?,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            rule.unknown.0.push(name);
                        }
                    }
                }
                Ok(rule)
            }
        }
        deserializer.deserialize_map(RuleVisitor)
    }
}

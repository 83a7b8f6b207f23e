//! The files of a bundle: rules, playbooks, causes, charter. YAML, strict, every refusal with file, line and column.

mod analysis;
mod charter;
pub mod duration;
mod error;
mod load;
mod playbook;
mod references;
mod rule_shape;
mod rule_tests;
mod rules;
mod schema;
mod yaml;

pub use analysis::{parse_analysis, parse_causes};
pub use charter::parse as parse_charter;
pub use duration::parse as parse_duration;
pub use error::{FileError, Place};
pub use load::{ExprError, Loaded, load};
pub use playbook::{PlaybookFile, parse as parse_playbook};
pub use rule_tests::{
    AlertCheck, ExpectedAlert, ExpectedSample, ExprCheck, InputSeries, RuleTest, RuleTestFile,
    parse as parse_rule_tests,
};
pub use rules::{
    Evaluation, GroupText, RuleFile, RuleFound, RuleKind, RuleText, UnknownFields, parse as parse_rules,
    parse_with as parse_rules_with,
};
pub use schema::schema;
pub use yaml::{FILE_BYTES_MAX, Passage};

/// What a file of a bundle is, by its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// `rules/**.yml`: Prometheus' rule files.
    Rules,
    /// `playbooks/**.yaml`
    Playbook,
    /// `causes/**.yaml`
    Causes,
    /// `charter.yaml`
    Charter,
    /// `analysis.yaml`
    Analysis,
}

impl FileKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Rules, Self::Playbook, Self::Causes, Self::Charter, Self::Analysis];

    /// The word in messages, and the name of the schema.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rules => "rules",
            Self::Playbook => "playbook",
            Self::Causes => "causes",
            Self::Charter => "charter",
            Self::Analysis => "analysis",
        }
    }

    /// From a path below the applied folder; `None` for what does not belong into a bundle.
    pub fn of(path: &str) -> Option<Self> {
        let stem = path.strip_suffix(".yaml").or_else(|| path.strip_suffix(".yml"))?;
        match stem.split_once('/') {
            Some(("rules", _)) => Some(Self::Rules),
            Some(("playbooks", _)) => Some(Self::Playbook),
            Some(("causes", _)) => Some(Self::Causes),
            None if stem == "charter" => Some(Self::Charter),
            None if stem == "analysis" => Some(Self::Analysis),
            Some(_) | None => None,
        }
    }
}

//! Which series a selector means: label matchers as PromQL writes them, compiled once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use regex::Regex;

use crate::model::{Labels, LabelsError, METRIC_NAME};

use super::pattern;

/// One condition on one label. A label that a series does not have is the empty text to it.
#[derive(Clone, Debug)]
pub struct Matcher {
    label: Arc<str>,
    test: Test,
}

/// What is asked of the label's value. A regular expression is anchored at both ends, and its dot matches line
/// breaks, as Prometheus has it.
#[derive(Clone, Debug)]
enum Test {
    Equal(Arc<str>),
    NotEqual(Arc<str>),
    /// `a|b|c`, by far the most common regular expression in rules: compared as text.
    OneOf {
        values: Box<[Arc<str>]>,
        wanted: bool,
    },
    Pattern {
        regex: Regex,
        wanted: bool,
    },
}

impl Matcher {
    /// `label="value"`.
    pub(super) fn equal(label: &str, value: &str) -> Self {
        Self { label: label.into(), test: Test::Equal(value.into()) }
    }

    /// `label!="value"`.
    pub(super) fn not_equal(label: &str, value: &str) -> Self {
        Self { label: label.into(), test: Test::NotEqual(value.into()) }
    }

    /// `label=~"pattern"`, or `!~` where the pattern is not `wanted`.
    pub(super) fn pattern(label: &str, pattern: &str, wanted: bool) -> Result<Self, Box<regex::Error>> {
        let test = if pattern.contains(is_meta) {
            Test::Pattern { regex: pattern::compile(pattern)?, wanted }
        } else {
            Test::OneOf { values: pattern.split('|').map(Arc::from).collect(), wanted }
        };
        Ok(Self { label: label.into(), test })
    }

    /// The label it looks at.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Whether a value, empty for a label that is not there, is accepted.
    pub fn accepts(&self, value: &str) -> bool {
        match &self.test {
            Test::Equal(wanted) => wanted.as_ref() == value,
            Test::NotEqual(unwanted) => unwanted.as_ref() != value,
            Test::OneOf { values, wanted } => values.iter().any(|known| known.as_ref() == value) == *wanted,
            Test::Pattern { regex, wanted } => regex.is_match(value) == *wanted,
        }
    }

    /// The value of an equality.
    pub(super) fn equals(&self) -> Option<&Arc<str>> {
        match &self.test {
            Test::Equal(value) => Some(value),
            Test::NotEqual(_) | Test::OneOf { .. } | Test::Pattern { .. } => None,
        }
    }

    fn is_negative(&self) -> bool {
        match &self.test {
            Test::Equal(_) => false,
            Test::NotEqual(_) => true,
            Test::OneOf { wanted, .. } | Test::Pattern { wanted, .. } => !wanted,
        }
    }

    /// The values it can accept at all, where they can be listed.
    pub(super) fn values(&self) -> Option<&[Arc<str>]> {
        match &self.test {
            Test::Equal(value) => Some(std::slice::from_ref(value)),
            Test::OneOf { values, wanted: true } => Some(values),
            Test::NotEqual(_) | Test::OneOf { wanted: false, .. } | Test::Pattern { .. } => None,
        }
    }

    /// Adds itself to a selector's key.
    fn write_key(&self, key: &mut String) {
        let (mark, values) = match &self.test {
            Test::Equal(value) => ('=', value.to_string()),
            Test::NotEqual(value) => ('!', value.to_string()),
            Test::OneOf { values, wanted } => (if *wanted { '|' } else { '^' }, values.join("|")),
            Test::Pattern { regex, wanted } => (if *wanted { '~' } else { '-' }, regex.to_string()),
        };
        key.extend([&*self.label, "\0"]);
        key.push(mark);
        key.extend([&*values, "\0"]);
    }
}

/// Which series an expression reads at one place.
#[derive(Clone, Debug)]
pub struct Selector {
    matchers: Box<[Matcher]>,
    /// Two selectors with one key mean the same series.
    key: Arc<str>,
}

impl Selector {
    /// All of the matchers have to accept.
    pub(super) fn new(mut matchers: Vec<Matcher>) -> Self {
        // The metric name decides most often.
        matchers.sort_by_key(|matcher| matcher.label() != METRIC_NAME);
        let mut key = String::new();
        for matcher in &matchers {
            matcher.write_key(&mut key);
        }
        Self { matchers: matchers.into(), key: key.into() }
    }

    /// Whether a series is meant.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.matchers.iter().all(|matcher| matcher.accepts(labels.get(&matcher.label).unwrap_or("")))
    }

    /// The metric, where it is named by equality.
    pub fn metric_name(&self) -> Option<&str> {
        self.name_equality().map(AsRef::as_ref)
    }

    /// The metrics it can mean, where they can be listed.
    pub(crate) fn metric_names(&self) -> Option<&[Arc<str>]> {
        self.matchers.iter().filter(|matcher| matcher.label() == METRIC_NAME).find_map(Matcher::values)
    }

    /// What is known about a series that is not there: the labels that have to be equal to something. A label that is
    /// asked about again after that is not known, as Prometheus has it for the sake of its past.
    pub(super) fn known_labels(&self) -> Result<Labels, LabelsError> {
        let (mut known, mut seen) = (BTreeMap::new(), BTreeSet::new());
        let mut matchers: Vec<&Matcher> =
            self.matchers.iter().filter(|matcher| matcher.label() != METRIC_NAME).collect();
        // Its storage puts those last that only take away, and nobody puts them back.
        matchers.sort_by_key(|matcher| matcher.is_negative() && matcher.accepts(""));
        for matcher in matchers {
            match matcher.equals().filter(|_| !seen.contains(matcher.label())) {
                Some(value) => {
                    seen.insert(matcher.label());
                    known.insert(matcher.label(), value.as_ref())
                }
                None => known.remove(matcher.label()),
            };
        }
        Labels::new(known)
    }

    /// Its conditions, those on the metric name first.
    pub fn matchers(&self) -> &[Matcher] {
        &self.matchers
    }

    /// Whether it says nothing but the metric's name.
    pub(super) fn is_bare(&self) -> bool {
        self.matchers.len() == 1 && self.name_equality().is_some()
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    fn name_equality(&self) -> Option<&Arc<str>> {
        self.matchers.iter().filter(|matcher| matcher.label() == METRIC_NAME).find_map(Matcher::equals)
    }
}

/// Whether a character means something other than itself in a regular expression; `|` is handled by splitting.
fn is_meta(c: char) -> bool {
    matches!(c, '\\' | '.' | '+' | '*' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '^' | '$')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str, wanted: bool) -> Matcher {
        Matcher::pattern("l", text, wanted).unwrap()
    }

    #[test]
    fn a_pattern_is_anchored_and_its_dot_takes_line_breaks() {
        assert!(pattern("a.c", true).accepts("a\nc"));
        assert!(!pattern("b+", true).accepts("abb"));
        assert!(pattern("b+", false).accepts("abb"));
        assert!(pattern("", true).accepts(""));
    }

    #[test]
    fn alternatives_without_special_characters_are_compared_as_text() {
        let either = pattern("api|web", true);
        assert_eq!(either.values().map(<[_]>::len), Some(2));
        assert!(either.accepts("web") && !either.accepts("webs") && !either.accepts(""));
        assert!(pattern("|web", true).accepts(""));
        assert!(pattern("api|web", false).accepts("db"));
    }

    #[test]
    fn a_label_that_is_not_there_is_empty() {
        let up = Labels::new([(METRIC_NAME, "up")]).unwrap();
        let without = Selector::new(vec![Matcher::equal("job", ""), Matcher::equal(METRIC_NAME, "up")]);
        assert!(without.matches(&up));
        assert_eq!(without.metric_name(), Some("up"));
        assert!(!without.matches(&up.with("job", "api").unwrap()));
        assert!(Selector::new(vec![Matcher::not_equal("job", "x")]).matches(&up));
    }
}

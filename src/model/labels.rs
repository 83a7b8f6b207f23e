//! Label sets, which name series, violations and scopes, and the sample that carries one.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::Timestamp;

/// The label that holds a series' metric name.
pub const METRIC_NAME: &str = "__name__";
/// Twice what kubelet's busiest series carry; more is a producer that puts data into labels.
pub const LABELS_PER_SERIES_MAX: usize = 64;
/// Longest label name in bytes.
pub(crate) const LABEL_NAME_BYTES_MAX: usize = 256;
/// Longest label value in bytes: Grafana Mimir's default.
pub(crate) const LABEL_VALUE_BYTES_MAX: usize = 2_048;
/// All names and values of one set, in bytes. What is decided about a violation copies its labels (an analysis once for
/// each of its causes, a plan for each of its steps), and all of that has to fit into one message and one row.
pub const LABELS_BYTES_MAX: usize = 8_192;

/// Why a label set is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelsError {
    /// More than [`LABELS_PER_SERIES_MAX`].
    #[error("{0} labels on one series, at most {LABELS_PER_SERIES_MAX} are taken")]
    TooMany(usize),
    /// A label without a name.
    #[error("a label has an empty name")]
    EmptyName,
    /// A name or a value above its limit.
    #[error("label `{name}` is {bytes} bytes long, at most {max} are taken")]
    TooLong {
        /// The label, shortened.
        name: String,
        /// What it measured.
        bytes: usize,
        /// The limit it broke.
        max: usize,
    },
    /// The same name twice.
    #[error("label `{0}` is given twice")]
    Twice(String),
    /// All names and values together are above [`LABELS_BYTES_MAX`].
    #[error("labels of {0} bytes on one series, at most {LABELS_BYTES_MAX} are taken in all")]
    TooLarge(usize),
}

type Pair = (Arc<str>, Arc<str>);

/// Labels that a rule puts on its violations: severity, team and the alert's name. Room is made for so many.
const OVERLAID_USUALLY: usize = 3;

/// A set of labels, sorted by name, without duplicates and without empty values (in Prometheus' data model a label
/// with an empty value is a label that is not there). Cloning it copies a pointer.
#[derive(Clone, PartialEq, Eq)]
pub struct Labels(Arc<[Pair]>);

impl Labels {
    /// No labels at all.
    pub fn empty() -> Self {
        Self(Arc::from([]))
    }

    /// Sorts, drops empty values, checks the limits.
    pub fn new<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Result<Self, LabelsError>
    where
        N: Into<Arc<str>> + AsRef<str>,
        V: Into<Arc<str>> + AsRef<str>,
    {
        let mut kept: Vec<Pair> = Vec::new();
        for (name, value) in pairs {
            check_pair(name.as_ref(), value.as_ref())?;
            if !value.as_ref().is_empty() {
                kept.push((name.into(), value.into()));
            }
        }
        kept.sort_unstable();
        if let Some(twice) = kept.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(LabelsError::Twice(twice[0].0.to_string()));
        }
        checked(kept)
    }

    /// How many labels there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a label.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.binary_search_by(|pair| pair.0.as_ref().cmp(name)).ok().map(|index| self.0[index].1.as_ref())
    }

    /// The metric name, where this names a series.
    pub fn metric_name(&self) -> Option<&str> {
        self.get(METRIC_NAME)
    }

    /// Names and values in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }

    /// The labels whose name `keep` accepts.
    #[must_use]
    pub fn filter(&self, keep: impl Fn(&str) -> bool) -> Self {
        if self.0.iter().all(|(name, _)| keep(name)) {
            return self.clone();
        }
        Self(self.0.iter().filter(|(name, _)| keep(name)).cloned().collect())
    }

    /// The same set without the metric name, as PromQL's operators and functions return it.
    #[must_use]
    pub fn without_metric_name(&self) -> Self {
        self.filter(|name| name != METRIC_NAME)
    }

    /// The same set with one label put in or replaced; an empty value removes it.
    pub fn with(&self, name: &str, value: &str) -> Result<Self, LabelsError> {
        check_pair(name, value)?;
        let mut pairs: Vec<Pair> =
            self.0.iter().filter(|(known, _)| known.as_ref() != name).cloned().collect();
        if !value.is_empty() {
            let place = pairs.partition_point(|(known, _)| known.as_ref() < name);
            pairs.insert(place, (name.into(), value.into()));
        }
        checked(pairs)
    }

    /// The same set without the metric name, with labels put in or replaced, one after the other; an empty value removes
    /// one.
    pub fn overlaid(
        &self,
        labels: impl IntoIterator<Item = (Arc<str>, Arc<str>)>,
    ) -> Result<Self, LabelsError> {
        let mut pairs: Vec<Pair> = Vec::with_capacity(self.0.len() + OVERLAID_USUALLY);
        pairs.extend(self.0.iter().filter(|(name, _)| name.as_ref() != METRIC_NAME).cloned());
        for (name, value) in labels {
            check_pair(&name, &value)?;
            match pairs.binary_search_by(|(known, _)| known.as_ref().cmp(&name)) {
                Ok(place) if value.is_empty() => drop(pairs.remove(place)),
                Ok(place) => pairs[place].1 = value,
                Err(_) if value.is_empty() => {}
                Err(place) => pairs.insert(place, (name, value)),
            }
        }
        checked(pairs)
    }

    /// Where the set lives in memory: equal for clones of one set, and unique only while one of them lives. For
    /// caches that would otherwise hash the text of every label for every sample.
    pub fn address(&self) -> usize {
        Arc::as_ptr(&self.0).cast::<Pair>().addr()
    }

    /// Whether every label of `other` is here with the same value.
    pub fn contains_all(&self, other: &Self) -> bool {
        other.iter().all(|(name, value)| self.get(name) == Some(value))
    }
}

impl Hash for Labels {
    /// Of the values: sets that are kept together mostly have the same names.
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.iter().for_each(|(_, value)| state.write(value.as_bytes()));
        state.write_usize(self.0.len());
    }
}

impl Ord for Labels {
    fn cmp(&self, other: &Self) -> Ordering {
        let pairs = self.0.iter().zip(other.0.iter());
        let differs = pairs.map(|(one, other)| {
            compare_texts(&one.0, &other.0).then_with(|| compare_texts(&one.1, &other.1))
        });
        let first = differs.into_iter().find(|ordering| ordering.is_ne());
        first.unwrap_or_else(|| self.len().cmp(&other.len()))
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Names, and the values that a rule gives, mostly are one text in one place.
pub(super) fn compare_texts(one: &Arc<str>, other: &Arc<str>) -> Ordering {
    if Arc::ptr_eq(one, other) { Ordering::Equal } else { one.cmp(other) }
}

impl Default for Labels {
    fn default() -> Self {
        Self::empty()
    }
}

impl fmt::Display for Labels {
    /// PromQL notation: `up{job="api"}`, or `{"my.metric",job="api"}` where the name is not an identifier.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (plain, quoted) = match self.metric_name() {
            Some(name) if is_metric_name(name) => (Some(name), None),
            other => (None, other),
        };
        if let Some(name) = plain {
            f.write_str(name)?;
            if self.len() == 1 {
                return Ok(());
            }
        }
        f.write_str("{")?;
        let mut comma = "";
        if let Some(name) = quoted {
            write_quoted(f, name)?;
            comma = ",";
        }
        for (label, value) in self.iter().filter(|(label, _)| *label != METRIC_NAME) {
            f.write_str(comma)?;
            if is_label_name(label) {
                f.write_str(label)?;
            } else {
                write_quoted(f, label)?;
            }
            f.write_str("=")?;
            write_quoted(f, value)?;
            comma = ",";
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// One reading of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Metric name and labels.
    pub series: Labels,
    /// When it was read at its source.
    pub at: Timestamp,
    /// The reading; NaN and infinities are readings too.
    pub value: f64,
}

/// Whether PromQL takes the name without quotes: `[a-zA-Z_:][a-zA-Z0-9_:]*`.
pub fn is_metric_name(name: &str) -> bool {
    is_identifier(name, |byte| byte == b':')
}

/// Whether PromQL takes the label's name without quotes: `[a-zA-Z_][a-zA-Z0-9_]*`.
pub fn is_label_name(name: &str) -> bool {
    is_identifier(name, |_| false)
}

fn is_identifier(name: &str, also: impl Fn(u8) -> bool) -> bool {
    let starts_well = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    starts_well && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || also(byte))
}

/// A PromQL string. Control characters are escaped too, so that no label can drive a terminal.
fn write_quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    let is_special = |character: char| matches!(character, '"' | '\\') || character.is_control();
    let mut rest = text;
    while let Some((plain, special)) = rest.find(is_special).and_then(|at| rest.split_at_checked(at)) {
        f.write_str(plain)?;
        let mut characters = special.chars();
        match characters.next() {
            Some('\n') => f.write_str("\\n")?,
            Some(control) if control.is_control() => write!(f, "\\u{:04x}", u32::from(control))?,
            Some(quote) => write!(f, "\\{quote}")?,
            None => {}
        }
        rest = characters.as_str();
    }
    f.write_str(rest)?;
    f.write_str("\"")
}

fn check_pair(name: &str, value: &str) -> Result<(), LabelsError> {
    if name.is_empty() {
        return Err(LabelsError::EmptyName);
    }
    let limits = [(name.len(), LABEL_NAME_BYTES_MAX), (value.len(), LABEL_VALUE_BYTES_MAX)];
    match limits.into_iter().find(|(bytes, max)| bytes > max) {
        None => Ok(()),
        Some((bytes, max)) => Err(LabelsError::TooLong { name: name.chars().take(64).collect(), bytes, max }),
    }
}

/// Sorted pairs without duplicates, within the limits of a set.
fn checked(pairs: Vec<Pair>) -> Result<Labels, LabelsError> {
    if pairs.len() > LABELS_PER_SERIES_MAX {
        return Err(LabelsError::TooMany(pairs.len()));
    }
    let bytes = pairs.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > LABELS_BYTES_MAX {
        return Err(LabelsError::TooLarge(bytes));
    }
    Ok(Labels(pairs.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::new(pairs.iter().copied()).unwrap()
    }

    #[test]
    fn order_does_not_matter_and_empty_values_are_not_there() {
        let set = labels(&[("b", "2"), ("a", "1"), ("gone", "")]);
        assert_eq!(set, labels(&[("a", "1"), ("b", "2")]));
        assert_eq!(set.get("gone"), None);
    }

    #[test]
    fn what_breaks_a_limit_is_refused_by_name() {
        assert_eq!(Labels::new([("a", "1"), ("a", "2")]), Err(LabelsError::Twice("a".into())));
        assert_eq!(Labels::new([("", "1")]), Err(LabelsError::EmptyName));
        let long = "x".repeat(LABEL_VALUE_BYTES_MAX + 1);
        assert!(matches!(Labels::new([("a", long.as_str())]), Err(LabelsError::TooLong { .. })));
        let many: Vec<(String, String)> =
            (0..=LABELS_PER_SERIES_MAX).map(|n| (format!("l{n}"), "v".into())).collect();
        assert_eq!(Labels::new(many), Err(LabelsError::TooMany(LABELS_PER_SERIES_MAX + 1)));
    }

    #[test]
    fn a_set_is_bounded_as_a_whole() {
        let value = "v".repeat(LABEL_VALUE_BYTES_MAX - 1);
        let pairs = ["a", "b", "c", "d"].map(|name| (name, value.as_str()));
        let full = Labels::new(pairs).unwrap();
        assert_eq!(Labels::new(pairs.into_iter().chain([("e", "")])), Ok(full.clone()));
        let over = LabelsError::TooLarge(LABELS_BYTES_MAX + 2);
        assert_eq!(full.with("e", "v"), Err(over.clone()));
        assert_eq!(Labels::new(pairs.into_iter().chain([("e", "v")])), Err(over));
        assert!(full.with("a", "short").is_ok());
    }

    #[test]
    fn text_is_promql_notation() {
        assert_eq!(labels(&[(METRIC_NAME, "up"), ("job", "a\"b")]).to_string(), r#"up{job="a\"b"}"#);
        assert_eq!(labels(&[(METRIC_NAME, "up")]).to_string(), "up");
        assert_eq!(labels(&[("job", "a")]).to_string(), r#"{job="a"}"#);
        assert_eq!(Labels::empty().to_string(), "{}");
        let odd = labels(&[(METRIC_NAME, "my.metric"), ("k8s.pod", "a\n\u{1b}\\é")]);
        assert_eq!(odd.to_string(), r#"{"my.metric","k8s.pod"="a\n\u001b\\é"}"#);
        assert_eq!(labels(&[(METRIC_NAME, "my.metric")]).to_string(), r#"{"my.metric"}"#);
    }

    #[test]
    fn overlaying_is_putting_in_one_after_the_other() {
        let base = labels(&[(METRIC_NAME, "up"), ("a", "1"), ("c", "3")]);
        let cases: [&[(&str, &str)]; 5] =
            [&[], &[("b", "2"), ("a", "0")], &[("c", ""), ("d", "")], &[("x", "1"), ("x", "")], &[("", "1")]];
        for case in cases {
            let one_by_one = case
                .iter()
                .try_fold(base.without_metric_name(), |labels, (name, value)| labels.with(name, value));
            let pairs = case.iter().map(|(name, value)| (Arc::from(*name), Arc::from(*value)));
            assert_eq!(base.overlaid(pairs), one_by_one, "{case:?}");
        }
    }

    #[test]
    fn the_order_is_that_of_the_pairs_whoever_holds_the_texts() {
        let shared: Arc<str> = "shared".into();
        let all = [&[][..], &["a"], &["a", "b"], &["b"], &["shared"], &["shared", "t"]];
        let sets = all.map(|names| {
            let text = |name: &str| if name == "shared" { Arc::clone(&shared) } else { Arc::from(name) };
            Labels::new(names.iter().map(|name| (text(name), "1"))).unwrap()
        });
        assert!(sets.is_sorted() && sets.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn with_keeps_the_order_and_replaces() {
        let set = labels(&[("a", "1"), ("c", "3")]).with("b", "2").unwrap();
        assert_eq!(set, labels(&[("a", "1"), ("b", "2"), ("c", "3")]));
        assert_eq!(set.with("b", "").unwrap(), labels(&[("a", "1"), ("c", "3")]));
    }
}

//! Unit tests of rules, as `promtool test rules` reads them: series, and what alerts and expressions come to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use serde_saphyr::Spanned;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::error::{FileError, Place};
use super::yaml::{self, DurationText};
use crate::model::Timestamp;

/// What promtool takes where a file names no interval.
const INTERVAL_DEFAULT: Duration = Duration::from_mins(1);
/// Fields of vmalert-tool's tests, which look much the same.
const VMALERT_FIELDS: [&str; 2] = ["metricsql_expr_test", "groupname"];

/// A file of tests.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleTestFile {
    /// Rule files, as patterns of paths, from where the file is.
    pub rule_files: Vec<String>,
    /// How far it is from one evaluation of all rules to the next.
    pub evaluation_interval: Duration,
    /// The names of groups that are evaluated in this order.
    pub group_eval_order: Vec<String>,
    /// Whether a value may be the next float to the expected one.
    pub fuzzy_compare: bool,
    /// The tests.
    pub tests: Vec<RuleTest>,
}

/// Series, and checks of what rules and expressions make of them.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleTest {
    /// What it is called, where it has a name.
    pub name: Option<Arc<str>>,
    /// Where it begins.
    pub at: Place,
    /// How far it is from one value of a series to the next.
    pub interval: Duration,
    /// The series.
    pub input_series: Vec<InputSeries>,
    /// When it begins.
    pub start: Timestamp,
    /// What templates are told of the outside: labels.
    pub external_labels: BTreeMap<String, String>,
    /// What templates are told of the outside: the address.
    pub external_url: String,
    /// What fires at a time.
    pub alerts: Vec<AlertCheck>,
    /// What an expression is at a time.
    pub exprs: Vec<ExprCheck>,
}

/// A series and its values, in the notation of PromQL's tests.
#[derive(Clone, Debug, PartialEq)]
pub struct InputSeries {
    /// Metric name and labels.
    pub series: String,
    /// The values.
    pub values: String,
}

/// Which alerts of a name fire at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertCheck {
    /// Where it begins.
    pub at: Place,
    /// From the start of the test.
    pub eval_time: Duration,
    /// Of this name; empty where the file gives none.
    pub alertname: Arc<str>,
    /// All of them.
    pub expected: Vec<ExpectedAlert>,
}

/// An alert that is to fire.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExpectedAlert {
    /// Its labels, `alertname` not needed.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// Its annotations.
    pub annotations: BTreeMap<Arc<str>, Arc<str>>,
}

/// What an expression is at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct ExprCheck {
    /// Where it begins.
    pub at: Place,
    /// From the start of the test.
    pub eval_time: Duration,
    /// The expression.
    pub expr: String,
    /// All of its elements.
    pub expected: Vec<ExpectedSample>,
}

/// An element of an expression's value.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpectedSample {
    /// Its labels, in PromQL's notation.
    pub labels: String,
    /// Its value.
    pub value: f64,
    /// Its native histogram, which takes the place of a value; empty where it is none.
    pub histogram: String,
}

/// Reads a file of tests. As with promtool, a field that is not known refuses it.
pub fn parse(file: &str, text: &str) -> Result<RuleTestFile, FileError> {
    let (first, _) = yaml::first_document(text);
    let shape: FileShape = yaml::read(file, first).map_err(explained)?.unwrap_or_default();
    let interval = duration(shape.evaluation_interval);
    let interval = if interval.is_zero() { INTERVAL_DEFAULT } else { interval };
    let source = Source { file, text: first };
    let tests = shape.tests.unwrap_or_default().into_iter().map(|test| test_of(&source, test, interval));
    let tests = tests.collect::<Result<_, _>>()?;
    Ok(RuleTestFile {
        rule_files: shape.rule_files.unwrap_or_default(),
        evaluation_interval: interval,
        group_eval_order: shape.group_eval_order.unwrap_or_default(),
        fuzzy_compare: shape.fuzzy_compare.unwrap_or_default(),
        tests,
    })
}

/// What places are places in.
struct Source<'a> {
    file: &'a str,
    text: &'a str,
}

impl Source<'_> {
    /// What YAML takes for a number: a text in quotes is none.
    fn number(&self, given: Option<Spanned<Option<String>>>) -> Result<f64, FileError> {
        let Some((given, text)) = given.map(|mut given| (given.value.take(), given)) else { return Ok(0.0) };
        let Some(given) = given else { return Ok(0.0) };
        let start = text.defined.span().byte_offset().and_then(|offset| usize::try_from(offset).ok());
        let is_quoted =
            start.and_then(|start| self.text.get(start..)).is_some_and(|rest| rest.starts_with(['"', '\'']));
        let number = if is_quoted { None } else { number(&given) };
        number.ok_or_else(|| FileError::at(self.file, &text, format_args!("`{given}` is not a number")))
    }
}

/// Numbers as YAML 1.1 has them.
fn number(text: &str) -> Option<f64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1.0, digits),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if let ".inf" | ".Inf" | ".INF" = digits {
        return Some(sign * f64::INFINITY);
    }
    if let ".nan" | ".NaN" | ".NAN" = text {
        return Some(f64::NAN);
    }
    let plain = digits.replace('_', "");
    let radix = |prefix: &str, radix| {
        let digits = plain.strip_prefix(prefix)?;
        u64::from_str_radix(digits, radix).ok().map(|value| value as f64)
    };
    let based = radix("0x", 16).or_else(|| radix("0b", 2)).or_else(|| radix("0o", 8));
    let is_decimal = plain.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    based.or_else(|| plain.parse().ok().filter(|_| is_decimal)).map(|value| sign * value)
}

fn explained(error: FileError) -> FileError {
    if VMALERT_FIELDS.iter().any(|field| error.cause == format!("unknown field `{field}`")) {
        let hint = "this is a test of vmalert-tool, which promtool does not read; \
                    `promql_expr_test` and `alert_rule_test` without `groupname` are read";
        return error.with_hint(hint);
    }
    error
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileShape {
    rule_files: Option<Vec<String>>,
    evaluation_interval: Option<DurationText>,
    group_eval_order: Option<Vec<String>>,
    tests: Option<Vec<Spanned<TestShape>>>,
    fuzzy_compare: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TestShape {
    interval: Option<DurationText>,
    input_series: Option<Vec<SeriesShape>>,
    alert_rule_test: Option<Vec<Spanned<AlertShape>>>,
    promql_expr_test: Option<Vec<Spanned<ExprShape>>>,
    external_labels: Option<TextsShape>,
    external_url: Option<String>,
    name: Option<String>,
    start_timestamp: Option<StartShape>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SeriesShape {
    series: Option<String>,
    values: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AlertShape {
    eval_time: Option<DurationText>,
    alertname: Option<String>,
    exp_alerts: Option<Vec<ExpectedAlertShape>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedAlertShape {
    exp_labels: Option<TextsShape>,
    exp_annotations: Option<TextsShape>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExprShape {
    expr: Option<String>,
    eval_time: Option<DurationText>,
    exp_samples: Option<Vec<SampleShape>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SampleShape {
    labels: Option<String>,
    value: Option<Spanned<Option<String>>>,
    histogram: Option<String>,
}

/// Go reads a value that is not there as an empty text.
type TextsShape = BTreeMap<String, Option<String>>;

/// RFC 3339, or seconds since 1970.
struct StartShape(Timestamp);

impl<'de> Deserialize<'de> for StartShape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        start(&text).map(Self).ok_or_else(|| {
            de::Error::custom(format_args!("`{text}` is neither RFC 3339 nor seconds since 1970"))
        })
    }
}

fn start(text: &str) -> Option<Timestamp> {
    if let Ok(seconds) = text.parse::<f64>() {
        let millis = (seconds * 1_000.0).trunc();
        #[expect(clippy::cast_possible_truncation, reason = "checked: far from the ends of i64")]
        return (millis.abs() < 9e15).then_some(Timestamp::from_millis(millis as i64));
    }
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(moment.unix_timestamp_nanos() / 1_000_000).ok().map(Timestamp::from_millis)
}

fn duration(text: Option<DurationText>) -> Duration {
    text.map(|DurationText(duration)| duration).unwrap_or_default()
}

fn texts(shape: Option<TextsShape>) -> BTreeMap<Arc<str>, Arc<str>> {
    let pairs = shape.unwrap_or_default().into_iter();
    pairs.map(|(name, value)| (name.into(), value.unwrap_or_default().into())).collect()
}

fn test_of(
    source: &Source<'_>,
    shape: Spanned<TestShape>,
    evaluation_interval: Duration,
) -> Result<RuleTest, FileError> {
    let at = Place::of(shape.referenced);
    let shape = shape.value;
    let interval = duration(shape.interval);
    let series = shape.input_series.unwrap_or_default().into_iter().map(|series| InputSeries {
        series: series.series.unwrap_or_default(),
        values: series.values.unwrap_or_default(),
    });
    let external = shape.external_labels.unwrap_or_default().into_iter();
    let exprs = shape.promql_expr_test.unwrap_or_default().into_iter().map(|check| expr_check(source, check));
    Ok(RuleTest {
        name: shape.name.filter(|name| !name.is_empty()).map(Arc::from),
        at,
        interval: if interval.is_zero() { evaluation_interval } else { interval },
        input_series: series.collect(),
        start: shape.start_timestamp.map(|StartShape(start)| start).unwrap_or_default(),
        external_labels: external.map(|(name, value)| (name, value.unwrap_or_default())).collect(),
        external_url: shape.external_url.unwrap_or_default(),
        alerts: shape.alert_rule_test.unwrap_or_default().into_iter().map(alert_check).collect(),
        exprs: exprs.collect::<Result<_, _>>()?,
    })
}

fn alert_check(shape: Spanned<AlertShape>) -> AlertCheck {
    let at = Place::of(shape.referenced);
    let AlertShape { eval_time, alertname, exp_alerts } = shape.value;
    let expected = exp_alerts.unwrap_or_default().into_iter();
    AlertCheck {
        at,
        eval_time: duration(eval_time),
        alertname: alertname.unwrap_or_default().into(),
        expected: expected
            .map(|alert| ExpectedAlert {
                labels: texts(alert.exp_labels),
                annotations: texts(alert.exp_annotations),
            })
            .collect(),
    }
}

fn expr_check(source: &Source<'_>, shape: Spanned<ExprShape>) -> Result<ExprCheck, FileError> {
    let at = Place::of(shape.referenced);
    let ExprShape { expr, eval_time, exp_samples } = shape.value;
    let mut expected = Vec::new();
    for sample in exp_samples.unwrap_or_default() {
        expected.push(ExpectedSample {
            labels: sample.labels.unwrap_or_default(),
            value: source.number(sample.value)?,
            histogram: sample.histogram.unwrap_or_default(),
        });
    }
    Ok(ExprCheck { at, eval_time: duration(eval_time), expr: expr.unwrap_or_default(), expected })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"rule_files: [a.yml, "b*.yml"]
evaluation_interval: 30s
group_eval_order: [one]
fuzzy_compare: true
tests:
  - interval: 1m
    name: first
    input_series:
      - series: up{job="x"}
        values: 1
      - {series: y, values: 3.0000000000000004 _x2}
    start_timestamp: 2024-01-01T00:00:00Z
    external_labels: {cluster: 7}
    external_url: http://here
    alert_rule_test:
      - eval_time: 0
        alertname: Down
        exp_alerts:
          - {}
          - exp_labels: {severity: page, tier: 1}
            exp_annotations: {summary: }
    promql_expr_test:
      - expr: 1
        eval_time: 1d
        exp_samples:
          - value: -.inf
          - {labels: 'y{}', value: 1e3}
          - {labels: z, histogram: "{{count:1}}"}
  - {}
"#;

    #[test]
    fn a_file_is_read_as_promtool_reads_it() {
        let file = parse("t.yml", FILE).unwrap();
        assert_eq!((file.rule_files.len(), file.evaluation_interval.as_secs()), (2, 30));
        assert!(file.fuzzy_compare && file.group_eval_order == ["one"]);
        let test = &file.tests[0];
        assert_eq!((test.name.as_deref(), test.at.line), (Some("first"), 6));
        assert_eq!(test.start.as_millis(), 1_704_067_200_000);
        assert_eq!(test.external_labels["cluster"], "7");
        let values: Vec<&str> = test.input_series.iter().map(|series| series.values.as_str()).collect();
        assert_eq!(values, ["1", "3.0000000000000004 _x2"]);
        let alert = &test.alerts[0];
        assert_eq!((alert.eval_time, alert.alertname.as_ref(), alert.at.line), (Duration::ZERO, "Down", 16));
        assert_eq!(alert.expected[0], ExpectedAlert::default());
        assert_eq!(alert.expected[1].labels["tier"].as_ref(), "1");
        assert_eq!(alert.expected[1].annotations["summary"].as_ref(), "");
        let expr = &test.exprs[0];
        assert_eq!((expr.expr.as_str(), expr.eval_time), ("1", Duration::from_hours(24)));
        let expected: Vec<_> = expr.expected.iter().map(|one| (one.labels.as_str(), one.value)).collect();
        assert_eq!(expected, [("", f64::NEG_INFINITY), ("y{}", 1_000.0), ("z", 0.0)]);
        assert_eq!(expr.expected[2].histogram, "{{count:1}}");
        assert_eq!(file.tests[1].interval.as_secs(), 30);
    }

    #[test]
    fn numbers_are_those_of_yaml() {
        for (text, expected) in [
            ("1", Some(1.0)),
            ("-1.5e3", Some(-1_500.0)),
            ("+.Inf", Some(f64::INFINITY)),
            ("-.inf", Some(f64::NEG_INFINITY)),
            ("0xff", Some(255.0)),
            ("1_000", Some(1_000.0)),
            (".5", Some(0.5)),
            ("Inf", None),
            ("NaN", None),
            ("", None),
            ("one", None),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
        assert!(number(".nan").is_some_and(f64::is_nan));
    }

    #[test]
    fn start_is_a_moment_or_seconds() {
        for (text, millis) in
            [("1609459200", 1_609_459_200_000), ("1.5", 1_500), ("1970-01-01T00:00:02.5Z", 2_500)]
        {
            assert_eq!(start(text).map(Timestamp::as_millis), Some(millis), "{text}");
        }
        assert_eq!((start("yesterday"), start("NaN")), (None, None));
    }

    #[test]
    fn what_promtool_does_not_know_is_refused_with_its_place() {
        let refused = |text: &str| parse("t.yml", text).unwrap_err().to_string();
        assert!(refused("tests:\n  - intervall: 1m\n").starts_with("t.yml:2:5: unknown field `intervall`"));
        assert!(
            refused("tests:\n  - {metricsql_expr_test: []}\n")
                .contains("hint: this is a test of vmalert-tool")
        );
        assert!(refused("tests:\n  - {alert_rule_test: [{groupname: a}]}\n").contains("vmalert-tool"));
        assert!(refused("evaluation_interval: soon\n").contains("is not a duration"));
        let value = "tests: [{promql_expr_test: [{exp_samples: [{value: '1'}]}]}]\n";
        assert!(refused(value).ends_with("`1` is not a number"), "{}", refused(value));
        assert!(refused("tests: [{start_timestamp: soon}]\n").contains("neither RFC 3339 nor seconds"));
    }

    #[test]
    fn an_empty_file_has_no_tests() {
        assert_eq!(parse("t.yml", "").unwrap().tests, []);
    }
}

//! What is expected against what there is.

use std::sync::Arc;

use super::told::{self, Texts};
use crate::engine::promql::Element;
use crate::engine::ruler::Alert;
use crate::ingest::parse_beginning;
use crate::model::Labels;
use crate::wire::files::{ExpectedAlert, ExpectedSample};

/// How they differ.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Difference {
    pub(super) expected: Vec<String>,
    pub(super) got: Vec<String>,
    pub(super) lines: Vec<String>,
}

/// The alerts of a name that are to fire against those that do; `None` where they are the same.
pub(super) fn alerts<'a>(
    name: &Arc<str>,
    expected: &[ExpectedAlert],
    firing: impl Iterator<Item = &'a Alert>,
) -> Option<Difference> {
    let mut expected: Vec<ExpectedAlert> = expected.to_vec();
    for alert in &mut expected {
        alert.labels.insert("alertname".into(), Arc::clone(name));
    }
    let mut got: Vec<ExpectedAlert> = firing
        .map(|alert| ExpectedAlert {
            labels: alert.labels.iter().map(|(name, value)| (name.into(), value.into())).collect(),
            annotations: alert.annotations.clone(),
        })
        .collect();
    expected.sort();
    got.sort();
    if expected == got {
        return None;
    }
    let shown = |alerts: &[ExpectedAlert]| alerts.iter().map(shown).collect();
    let (all_expected, all_got) = (shown(&expected), shown(&got));
    expected.retain(|alert| match got.iter().position(|one| one == alert) {
        Some(place) => {
            got.remove(place);
            false
        }
        None => true,
    });
    let mut lines = Vec::new();
    for alert in &expected {
        match nearest(alert, &got) {
            Some(place) => differing(alert, &got.remove(place), &mut lines),
            None => lines.push(format!("does not fire: {}", told::texts(&alert.labels))),
        }
    }
    lines.extend(got.iter().map(|alert| format!("fires unexpectedly: {}", told::texts(&alert.labels))));
    Some(Difference { expected: all_expected, got: all_got, lines })
}

fn shown(alert: &ExpectedAlert) -> String {
    let labels = told::texts(&alert.labels);
    if alert.annotations.is_empty() {
        return labels;
    }
    format!("{labels} with {}", told::texts(&alert.annotations))
}

/// The alert that is most probably meant: the one with the most labels in common, more than its name.
fn nearest(alert: &ExpectedAlert, among: &[ExpectedAlert]) -> Option<usize> {
    let in_common = |other: &ExpectedAlert| {
        alert.labels.iter().filter(|(name, value)| other.labels.get(*name) == Some(*value)).count()
    };
    let candidates = among.iter().enumerate().map(|(place, other)| (in_common(other), place));
    let (count, place) = candidates.max_by_key(|(count, place)| (*count, usize::MAX - place))?;
    (count > 1 || among[place].labels == alert.labels).then_some(place)
}

fn differing(expected: &ExpectedAlert, got: &ExpectedAlert, lines: &mut Vec<String>) {
    lines.push(format!("fires otherwise: {}", told::texts(&got.labels)));
    let mut compare = |what: &str, expected: &Texts, got: &Texts| {
        let names: std::collections::BTreeSet<_> = expected.keys().chain(got.keys()).collect();
        for name in names {
            let (expected, got) = (expected.get(name), got.get(name));
            if expected != got {
                let told =
                    |text: Option<&Arc<str>>| text.map_or("none".to_owned(), |text| format!("{text:?}"));
                lines.push(format!("  {what} {name}: expected {}, got {}", told(expected), told(got)));
            }
        }
    };
    compare("label", &expected.labels, &got.labels);
    compare("annotation", &expected.annotations, &got.annotations);
}

/// The expected elements against the elements of a value; `None` where they are the same. Values are the same to the bit
/// but for zero's sign, or where `is_fuzzy` says so may be next to each other.
pub(super) fn samples(
    expected: &[ExpectedSample],
    got: Vec<Element>,
    is_fuzzy: bool,
) -> Result<Option<Difference>, String> {
    let mut wanted: Vec<(Labels, f64)> = Vec::with_capacity(expected.len());
    for sample in expected {
        let refuse = |cause: String| format!("labels `{}`: {cause}", sample.labels);
        let (labels, rest) = parse_beginning(&sample.labels).map_err(|error| refuse(error.to_string()))?;
        if !rest.is_empty() {
            return Err(refuse(format!("unexpected `{rest}`")));
        }
        wanted.push((labels, sample.value));
    }
    let mut got: Vec<(Labels, f64)> =
        got.into_iter().map(|element| (element.labels, element.value)).collect();
    wanted.sort_by(|one, other| one.0.cmp(&other.0));
    got.sort_by(|one, other| one.0.cmp(&other.0));
    let is_same =
        |one: &(Labels, f64), other: &(Labels, f64)| one.0 == other.0 && is_equal(one.1, other.1, is_fuzzy);
    if wanted.len() == got.len() && wanted.iter().zip(&got).all(|(one, other)| is_same(one, other)) {
        return Ok(None);
    }
    let shown = |samples: &[(Labels, f64)]| {
        samples.iter().map(|(labels, value)| format!("{labels} {}", told::number(*value))).collect()
    };
    let (all_wanted, all_got) = (shown(&wanted), shown(&got));
    let mut lines = Vec::new();
    for (labels, value) in wanted {
        let Some(place) = got.iter().position(|(known, _)| *known == labels) else {
            lines.push(format!("missing: {labels} {}", told::number(value)));
            continue;
        };
        let (_, found) = got.remove(place);
        if !is_equal(value, found, is_fuzzy) {
            let note = if value.is_nan() { " (as with promtool, NaN is equal to nothing)" } else { "" };
            let (value, found) = (told::number(value), told::number(found));
            lines.push(format!("{labels}: expected {value}, got {found}{note}"));
        }
    }
    lines.extend(got.iter().map(|(labels, value)| format!("unexpected: {labels} {}", told::number(*value))));
    Ok(Some(Difference { expected: all_wanted, got: all_got, lines }))
}

#[expect(
    clippy::float_cmp,
    reason = "promtool compares so; a tolerance is what the test asks for or does not"
)]
fn is_equal(one: f64, other: f64, is_fuzzy: bool) -> bool {
    one == other || (is_fuzzy && (one.next_up() == other || one.next_down() == other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(labels: &str, value: f64) -> ExpectedSample {
        ExpectedSample { labels: labels.into(), value, histogram: String::new() }
    }

    fn element(labels: &str, value: f64) -> Element {
        Element { labels: parse_beginning(labels).unwrap().0, value }
    }

    fn lines(expected: &[ExpectedSample], got: Vec<Element>) -> Vec<String> {
        samples(expected, got, false).unwrap().map(|difference| difference.lines).unwrap_or_default()
    }

    #[test]
    fn the_order_of_elements_does_not_matter() {
        let expected = [sample("b", 2.0), sample("{}", 1.0), sample("a{x=\"1\"}", -0.0)];
        let got = vec![element("a{x=\"1\"}", 0.0), element("", 1.0), element("b", 2.0)];
        assert_eq!(samples(&expected, got, false), Ok(None));
    }

    #[test]
    fn only_a_fuzzy_comparison_takes_the_next_float() {
        for (value, exactly, fuzzily) in [
            (3.0, true, true),
            (2.999_999_999_999_999_6, false, true),
            (3.000_000_000_000_000_4, false, true),
            (2.999_999_999_999_998_7, false, false),
            (f64::NAN, false, false),
        ] {
            assert_eq!(
                (is_equal(3.0, value, false), is_equal(3.0, value, true)),
                (exactly, fuzzily),
                "{value}"
            );
        }
    }

    #[test]
    fn a_difference_names_what_differs() {
        let expected = [sample("a", 1.0), sample("b", f64::NAN), sample("c", 3.0)];
        let got = vec![element("a", 2.0), element("b", f64::NAN), element("d", 4.0)];
        assert_eq!(
            lines(&expected, got),
            [
                "a: expected 1, got 2",
                "b: expected NaN, got NaN (as with promtool, NaN is equal to nothing)",
                "missing: c 3",
                "unexpected: d 4",
            ]
        );
        assert_eq!(lines(&[sample("a", 1.0), sample("a", 1.0)], vec![element("a", 1.0)]), ["missing: a 1"]);
        assert!(samples(&[sample("a 1", 1.0)], vec![], false).is_err());
    }

    #[test]
    fn alerts_differ_by_label_and_annotation() {
        let texts = |pairs: &[(&str, &str)]| -> Texts {
            pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
        };
        let expected = |labels: &[(&str, &str)], summary: &str| ExpectedAlert {
            labels: texts(labels),
            annotations: texts(&[("summary", summary)]),
        };
        let alert = |labels: &[(&str, &str)], summary: &str| Alert {
            labels: Labels::new(labels.iter().copied()).unwrap(),
            annotations: texts(&[("summary", summary)]),
            value: 1.0,
            active_at: crate::model::Timestamp::default(),
            phase: crate::engine::ruler::Phase::Firing { kept_since: None },
        };
        let name: Arc<str> = "Down".into();
        let got =
            [alert(&[("alertname", "Down"), ("job", "x")], "down"), alert(&[("alertname", "Down")], "")];
        let same = [expected(&[("job", "x")], "down"), expected(&[("alertname", "ignored")], "")];
        assert_eq!(alerts(&name, &same, got.iter()), None);
        let other = [expected(&[("job", "x")], "up"), expected(&[("job", "y")], "")];
        assert_eq!(
            alerts(&name, &other, got.iter()).unwrap().lines,
            [
                "fires otherwise: {alertname=\"Down\", job=\"x\"}",
                "  annotation summary: expected \"up\", got \"down\"",
                "does not fire: {alertname=\"Down\", job=\"y\"}",
                "fires unexpectedly: {alertname=\"Down\"}",
            ]
        );
    }
}

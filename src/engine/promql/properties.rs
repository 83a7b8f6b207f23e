//! What always holds, on random stores and random expressions.

use proptest::prelude::*;

use crate::model::{Labels, METRIC_NAME, Timestamp};

use super::{Appended, Element, Expr, Limits, NameRemoval, STALE, Scope, SeriesId, SeriesStore, Value};

/// Series as name, job and instance, each with samples as seconds and value.
pub(super) type Data = Vec<((usize, usize, usize), Vec<(i64, f64)>)>;

fn labels((name, job, instance): (usize, usize, usize)) -> Labels {
    let (name, job) = (["a", "b", "c"][name % 3], ["", "x", "y"][job % 3]);
    Labels::new([(METRIC_NAME, name), ("job", job), ("instance", &instance.to_string())]).unwrap()
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => (-20_i32..20).prop_map(|value| f64::from(value) / 4.0),
        1 => Just(f64::NAN),
        1 => Just(STALE),
        1 => Just(f64::INFINITY),
        1 => Just(1e308),
        1 => any::<f64>(),
    ]
}

pub(super) fn data() -> impl Strategy<Value = Data> {
    let sample = (0_i64..600, value());
    let series = ((0_usize..3, 0_usize..3, 0_usize..3), prop::collection::vec(sample, 0..20));
    prop::collection::vec(series, 0..12)
}

pub(super) fn filled(data: &Data) -> (SeriesStore, Vec<SeriesId>) {
    let mut store =
        SeriesStore::new(Limits { lateness: std::time::Duration::from_mins(10), ..Limits::default() });
    let mut ids = Vec::new();
    for (series, samples) in data {
        let id = store.series(&labels(*series)).unwrap();
        ids.push(id);
        for &(seconds, value) in samples {
            store.append(id, Timestamp::from_millis(seconds * 1_000), value);
        }
    }
    (store, ids)
}

fn matchers() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "",
        "{job=\"x\"}",
        "{job!=\"x\"}",
        "{job=~\"x|y\"}",
        "{instance!~\"[12]\"}",
        "{job=\"\"}",
        "{job=\"none\"}",
    ])
    .prop_map(String::from)
}

fn selector() -> impl Strategy<Value = String> {
    let named = (prop::sample::select(vec!["a", "b", "c", "d"]), matchers())
        .prop_map(|(name, matchers)| format!("{name}{matchers}"));
    prop_oneof![5 => named, 1 => Just("{__name__=~\"a|b\"}".into()), 1 => Just("{job=\"x\"}".to_owned())]
}

fn when() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", "", "", " offset 1m", " offset -30s", " @ 300", " @ end()"])
        .prop_map(String::from)
}

/// Element-wise expressions of one selector, which are separable unless the name is left open.
pub(super) fn separable() -> impl Strategy<Value = String> {
    let window = prop::sample::select(vec![
        "rate",
        "increase",
        "delta",
        "irate",
        "idelta",
        "avg_over_time",
        "min_over_time",
        "max_over_time",
        "sum_over_time",
        "count_over_time",
        "last_over_time",
        "changes",
        "resets",
        "deriv",
        "first_over_time",
        "present_over_time",
        "stddev_over_time",
        "mad_over_time",
        "ts_of_max_over_time",
        "quantile_over_time(0.3, ",
    ]);
    let range = prop::sample::select(vec!["1s", "30s", "2m", "5m", "20m"]);
    let leaf = prop_oneof![
        (selector(), when()).prop_map(|(selector, when)| format!("{selector}{when}")),
        (window, selector(), range, when()).prop_map(|(function, selector, range, when)| {
            let function = if function.ends_with(' ') { function.to_owned() } else { format!("{function}(") };
            format!("{function}{selector}[{range}]{when})")
        }),
        (selector(), when()).prop_map(|(selector, when)| format!("timestamp({selector}{when})")),
        selector().prop_map(|selector| format!("predict_linear({selector}[5m], time())")),
    ];
    leaf.prop_recursive(3, 8, 1, |inner| {
        let operator = prop::sample::select(vec![
            "+", "-", "*", "/", "%", "^", ">", "<", "==", "!=", ">= bool", "<= bool",
        ]);
        prop_oneof![
            inner.clone().prop_map(|inner| format!("-({inner})")),
            (prop::sample::select(vec!["rate", "max_over_time", "last_over_time"]), inner.clone())
                .prop_map(|(function, inner)| format!("{function}(({inner})[3m:20s] offset 10s)")),
            inner.clone().prop_map(|inner| format!("round({inner}, 0.3)")),
            (
                prop::sample::select(vec!["abs", "ceil", "floor", "sgn", "exp", "hour", "timestamp"]),
                inner.clone()
            )
                .prop_map(|(function, inner)| format!("{function}({inner})")),
            inner.clone().prop_map(|inner| format!("clamp({inner}, -1, 2)")),
            (inner.clone(), operator.clone(), -3_i32..4)
                .prop_map(|(inner, operator, number)| format!("({inner}) {operator} {number}")),
            (-3_i32..4, operator, inner)
                .prop_map(|(number, operator, inner)| format!("{number} {operator} ({inner})")),
        ]
    })
}

pub(super) fn any_expr() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![4 => separable(), 1 => Just("vector(time())".to_owned()), 1 => Just("absent(d{job=\"x\"})".to_owned())];
    leaf.prop_recursive(4, 16, 2, |inner| {
        let aggregation =
            prop::sample::select(vec!["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar"]);
        let grouping = prop::sample::select(vec![
            "",
            "by (job)",
            "without (instance)",
            "by (__name__)",
            "by (job, none)",
        ]);
        let matching = prop::sample::select(vec![
            "",
            "on (job, instance)",
            "ignoring (job)",
            "on ()",
            "on (__name__)",
            "on (instance) group_left ()",
            "on (instance) group_left (job)",
            "ignoring (job) group_right ()",
        ]);
        let operator = prop::sample::select(vec!["+", "/", ">", "== bool"]);
        let set = prop::sample::select(vec![
            "and",
            "or",
            "unless",
            "and on (job)",
            "or ignoring (instance)",
            "unless on ()",
        ]);
        prop_oneof![
            (aggregation, grouping, inner.clone())
                .prop_map(|(aggregation, grouping, inner)| format!("{aggregation} {grouping} ({inner})")),
            (inner.clone(), operator, matching, inner.clone()).prop_map(
                |(left, operator, matching, right)| format!("({left}) {operator} {matching} ({right})")
            ),
            (inner.clone(), set, inner.clone())
                .prop_map(|(left, set, right)| format!("({left}) {set} ({right})")),
            inner.clone().prop_map(|inner| format!("vector(scalar({inner}))")),
            (
                prop::sample::select(vec![
                    "topk by (job) (2, ",
                    "bottomk(1, ",
                    "limitk(2, ",
                    "limit_ratio(-0.5, ",
                    "quantile without (instance) (0.7, ",
                    "count_values(\"job\", ",
                    "sort(",
                    "sort_by_label_desc("
                ]),
                inner.clone()
            )
                .prop_map(|(ranking, inner)| {
                    let labels = if ranking.starts_with("sort_by") { ", \"instance\"" } else { "" };
                    format!("{ranking}{inner}{labels})")
                }),
            inner.clone().prop_map(|inner| format!(
                "histogram_quantile(0.5, label_replace({inner}, \"le\", \"$1\", \"instance\", \"(.*)\"))"
            )),
            inner
                .clone()
                .prop_map(|inner| format!("label_join({inner}, \"job\", \"-\", \"job\", \"__name__\")")),
            inner.clone().prop_map(|inner| format!("absent_over_time(({inner})[2m:1m])")),
            (inner.clone(), inner.clone())
                .prop_map(|(left, right)| format!("({left}) - on (job, instance) fill_left(1) ({right})")),
            inner.clone().prop_map(|inner| format!("absent({inner})")),
            inner.prop_map(|inner| format!("clamp_max(a, scalar({inner}))")),
        ]
    })
}

pub(super) fn elements(value: Value) -> Vec<Element> {
    match value {
        Value::Vector(elements) => elements,
        Value::Scalar(value) => vec![Element { labels: Labels::empty(), value }],
        Value::Text(_) => Vec::new(),
    }
}

/// Equal to the bit, which `==` on NaN is not.
pub(super) fn bits(elements: &[Element]) -> Vec<(Labels, u64)> {
    elements.iter().map(|element| (element.labels.clone(), element.value.to_bits())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,80}") {
        let _ = Expr::parse(&text);
    }

    #[test]
    fn no_row_of_tokens_makes_the_parser_panic(tokens in prop::collection::vec(prop::sample::select(vec![
        "x", "sum", "rate", "(", ")", "[", "]", "{", "}", "5m", "0", "1e999", "0x", "inf", "nan", "offset", "@", "by", "on",
        "bool", "group_left", "fill", "start", "end", ",", ":", "=", "=~", "!~", "\"a\"", "\"(\"", "`\\`", "'\\x'", "+", "-",
        "^", "and", "or", "==", ">", "absent", "99999999999y", "\u{e9}", "#", "\n", "le", "{{", "}}", "clamp", "time", "\\",
        "or=", "o", "__name__", "step()", "1_0", ".5", "5.", "1e5", "-0",
    ]), 0..14), blank in any::<bool>()) {
        let _ = Expr::parse(&tokens.join(if blank { " " } else { "" }));
    }

    #[test]
    fn every_expression_has_a_value_or_an_error(data in data(), text in any_expr(), seconds in -400_i64..2_000) {
        let (store, _) = filled(&data);
        let expr = Expr::parse(&text).unwrap();
        for at in [Timestamp::from_millis(seconds * 1_000), Timestamp::MIN, Timestamp::MAX] {
            for removal in [NameRemoval::Immediate, NameRemoval::Delayed] {
                if let Ok(Value::Vector(elements)) = expr.eval_removing(&store, at, Scope::All, removal) {
                    prop_assert!(elements.windows(2).all(|pair| pair[0].labels < pair[1].labels), "{} {:?}", text, elements);
                }
            }
        }
    }

    #[test]
    fn the_order_in_which_series_come_in_does_not_change_a_bit(data in data(), text in any_expr(), seconds in 0_i64..900) {
        let expr = Expr::parse(&text).unwrap();
        let at = Timestamp::from_millis(seconds * 1_000);
        let (store, _) = filled(&data);
        // The first value of a time wins, so a series' own samples keep their order.
        let mut parts: std::collections::BTreeMap<_, Vec<_>> = std::collections::BTreeMap::new();
        for (series, samples) in &data {
            parts.entry(labels(*series)).or_default().extend(samples.iter().copied());
        }
        let mut other = SeriesStore::new(Limits { lateness: std::time::Duration::from_mins(10), ..Limits::default() });
        other.watch(&expr);
        for (labels, samples) in parts.iter().rev() {
            let id = other.series(labels).unwrap();
            for &(seconds, value) in samples {
                other.append(id, Timestamp::from_millis(seconds * 1_000), value);
            }
        }
        let mut copy = SeriesStore::new(Limits::default());
        copy.retain(std::time::Duration::from_hours(1));
        for (labels, samples) in store.export() {
            copy.import(labels, samples).unwrap();
        }
        let expected = expr.eval(&store, at, Scope::All).map(|value| bits(&elements(value)));
        for store in [&other, &copy] {
            prop_assert_eq!(&expr.eval(store, at, Scope::All).map(|value| bits(&elements(value))), &expected, "{}", text);
        }
    }

    #[test]
    fn touched_series_have_the_elements_they_have_among_all(
        data in data(), text in separable(), touched in any::<u32>(), seconds in 0_i64..900,
    ) {
        let expr = Expr::parse(&text).unwrap();
        let (store, mut ids) = filled(&data);
        ids.sort();
        ids.dedup();
        let at = Timestamp::from_millis(seconds * 1_000);
        let touched: Vec<SeriesId> =
            ids.iter().enumerate().filter(|(index, _)| touched >> index & 1 == 1).map(|(_, id)| *id).collect();
        if expr.is_separable() {
            // Each series by itself says which element is its own.
            let mut expected = Vec::new();
            let mut all = Vec::new();
            for id in &ids {
                let own = elements(expr.eval(&store, at, Scope::Only(&[*id])).unwrap());
                prop_assert!(own.len() <= 1);
                if expr.matches(store.labels(*id).unwrap()) {
                    let value = expr.value_of(&store, at, *id).map(f64::to_bits);
                    prop_assert_eq!(value, own.first().map(|element| element.value.to_bits()), "{}", &text);
                }
                if touched.contains(id) {
                    expected.extend(own.clone());
                }
                all.extend(own);
            }
            expected.sort_by(|one, other| one.labels.cmp(&other.labels));
            all.sort_by(|one, other| one.labels.cmp(&other.labels));
            let of_touched = elements(expr.eval(&store, at, Scope::Only(&touched)).unwrap());
            let of_all = elements(expr.eval(&store, at, Scope::All).unwrap());
            prop_assert_eq!(bits(&of_touched), bits(&expected), "{}", &text);
            prop_assert_eq!(bits(&of_all), bits(&all), "{}", &text);
        } else {
            prop_assert_eq!(expr.eval(&store, at, Scope::Only(&touched)), Err(super::EvalError::NotSeparable));
        }
    }

    #[test]
    fn a_threshold_decides_as_the_evaluator_does(
        reading in value(), bound in -3_i32..4, comparison in prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">="]),
    ) {
        let (store, _) = filled(&vec![((0, 0, 0), vec![(1, reading)])]);
        for text in [format!("a {comparison} {bound}"), format!("{bound} {comparison} a")] {
            let expr = Expr::parse(&text).unwrap();
            let holds = expr.as_threshold().unwrap().holds(reading);
            let found = elements(expr.eval(&store, Timestamp::from_millis(1_000), Scope::All).unwrap());
            prop_assert_eq!(holds, found.len() == 1, "{} {}", text, reading);
        }
    }

    #[test]
    fn a_store_keeps_the_first_value_of_each_time_in_order(
        samples in prop::collection::vec((0_i64..40, -3_i32..3), 0..200), lateness in 0_u64..40,
    ) {
        let limits = Limits { lateness: std::time::Duration::from_millis(lateness), samples: 64, ..Limits::default() };
        let mut store = SeriesStore::new(limits);
        let id = store.series(&labels((0, 0, 0))).unwrap();
        let mut known: std::collections::BTreeMap<i64, f64> = std::collections::BTreeMap::new();
        for (at, value) in samples {
            let newest = known.keys().last().copied().unwrap_or(i64::MIN);
            let value = f64::from(value);
            let expected = match known.get(&at) {
                Some(&first) if first.to_bits() == value.to_bits() => Appended::Duplicate,
                Some(_) => Appended::Conflict,
                None if at > newest => Appended::Stored,
                None if newest - at > i64::try_from(lateness).unwrap() => Appended::TooOld,
                None => Appended::StoredLate,
            };
            if matches!(expected, Appended::Stored | Appended::StoredLate) {
                known.insert(at, value);
            }
            prop_assert_eq!(store.append(id, Timestamp::from_millis(at), value), expected);
        }
        let kept = store.samples(id, Timestamp::MIN, Timestamp::MAX);
        let kept: Vec<(i64, f64)> = kept.iter().map(|&(at, value)| (at.as_millis(), value)).collect();
        prop_assert_eq!(kept, known.into_iter().collect::<Vec<_>>());
        prop_assert!(store.room() <= 64);
    }
}

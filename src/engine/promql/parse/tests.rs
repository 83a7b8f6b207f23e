use super::NESTING_MAX;
use crate::engine::promql::{Expr, ParseErrorKind, Query, Scope, SeriesStore};
use crate::model::Timestamp;

#[test]
fn what_is_not_supported_is_refused_by_name_and_place() {
    let cases = [
        ("1 + histogram_count(rate(x[5m]))", "1:5", "histogram_count"),
        ("x +\n  info(x)", "2:3", "info"),
        ("info(x, {data=~\".*\"})", "1:1", "info"),
        ("rate(x[step()])", "1:8", "a duration calculated from the query's step or range"),
        ("rate(x[5m] smoothed)", "1:12", "smoothed"),
        ("rate(x[5m] ANCHORED)", "1:12", "anchored"),
        ("h </ 5", "1:3", "</"),
    ];
    for (text, place, name) in cases {
        let error = Expr::parse(text).expect_err(text);
        assert_eq!(error.kind, ParseErrorKind::Unsupported, "{text}: {error}");
        assert_eq!((error.place.to_string().as_str(), error.name.as_deref()), (place, Some(name)), "{text}");
    }
}

/// The refusals, each as `place: message`.
fn check(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let error = Query::parse(text).expect_err(text);
        assert_eq!(error.to_string(), *expected, "{text}");
        assert_eq!(error.kind, ParseErrorKind::Invalid, "{text}");
    }
}

#[test]
fn what_is_wrong_is_refused_where_it_is_wrong() {
    check(&[
        ("", "1:1: the expression ends where an operand is expected"),
        ("x +", "1:4: the expression ends where an operand is expected"),
        ("sum(x", "1:6: the expression ends where an operator or `)` is expected"),
        ("sum(x))", "1:7: unexpected `)`, expected an operator"),
        ("abs(x,)", "1:7: unexpected `)`, expected an operand"),
        ("x y", "1:3: unexpected `y`, expected an operator"),
        ("x + on y", "1:5: unexpected `on`, expected an operand"),
        ("x{a=b}", "1:5: unexpected `b`, expected a text in quotes"),
        ("x{a}", "1:4: unexpected `}`, expected `=`, `!=`, `=~` or `!~`"),
        ("x{a=\"1\" b=\"2\"}", "1:9: unexpected `b`, expected `,` or `}`"),
        ("x[5m", "1:5: the expression ends where `]` is expected"),
        ("x[]", "1:3: unexpected `]`, expected an operand"),
        ("x offset y", "1:10: unexpected `y`, expected a duration"),
        ("x @ foo", "1:5: unexpected `foo`, expected a time"),
        ("sum by (a b) (x)", "1:11: unexpected `b`, expected `,` or `)`"),
        ("1 + rtae(x[5m])", "1:5: unknown function with name \"rtae\""),
        ("x{a=~\"b\", c=\"\\d\"}", "1:13: `\\d` is not an escape of a text"),
        ("{a=~\".*\"}", "1:1: vector selector must contain at least one non-empty matcher"),
        ("x{__name__=\"y\"}", "1:3: metric name must not be set twice: \"x\" or \"y\""),
        ("{\"x\", \"y\"}", "1:7: metric name must not be set twice: \"x\" or \"y\""),
    ]);
    let error = Expr::parse("x{a=~\"(\"}").unwrap_err();
    assert!(error.to_string().starts_with("1:6: `(` is no regular expression"), "{error}");
}

#[test]
fn types_and_numbers_of_arguments_are_checked_in_prometheus_words() {
    check(&[
        ("rate(x)", "1:6: expected type range vector in call to function \"rate\", got instant vector"),
        ("abs(x[5m])", "1:5: expected type instant vector in call to function \"abs\", got range vector"),
        ("vector(x)", "1:8: expected type scalar in call to function \"vector\", got instant vector"),
        (
            "label_join(x, 1, \"\")",
            "1:15: expected type string in call to function \"label_join\", got scalar",
        ),
        ("sum(\"x\")", "1:5: expected type instant vector in aggregation expression, got string"),
        ("topk(x, y)", "1:6: expected type scalar in aggregation parameter, got instant vector"),
        ("count_values(1, y)", "1:14: expected type string in aggregation parameter, got scalar"),
        ("topk(x)", "1:1: wrong number of arguments for aggregate expression provided, expected 2, got 1"),
        ("sum()", "1:1: no arguments for aggregate expression provided"),
        ("abs()", "1:1: expected 1 argument(s) in call to \"abs\", got 0"),
        ("hour(x, y)", "1:1: expected at most 1 argument(s) in call to \"hour\", got 2"),
        ("label_join(x)", "1:1: expected at least 3 argument(s) in call to \"label_join\", got 1"),
        (
            "-\"x\"",
            "1:1: unary expression only allowed on expressions of type scalar or instant vector, got \"string\"",
        ),
        ("count_values(\"a\\xc5z\", x)", "1:14: invalid label name \"a\\xc5z\""),
        (
            "label_replace(x, \"\\xff\", \"\", \"\", \"\")",
            "1:18: invalid destination label name in label_replace(): \"\\xff\"",
        ),
    ]);
}

#[test]
fn operators_are_checked_in_prometheus_words() {
    check(&[
        ("1 > 2", "1:3: comparisons between scalars must use BOOL modifier"),
        ("x + bool y", "1:3: bool modifier can only be used on comparison operators"),
        ("x and 1", "1:3: set operator \"and\" not allowed in binary scalar expression"),
        ("x + \"y\"", "1:5: binary expression must contain only scalar and instant vector types"),
        ("x + on (a) 1", "1:3: vector matching only allowed between instant vectors"),
        ("x and on (a) group_left y", "1:3: no grouping allowed for \"and\" operation"),
        ("x or fill(0) y", "1:3: filling in missing series not allowed for set operators"),
        ("x + fill(0) 1", "1:3: filling in missing series only allowed between instant vectors"),
        ("x + on (a) group_left (a) y", "1:3: label \"a\" must not occur in ON and GROUP clause at once"),
    ]);
}

#[test]
fn ranges_and_moves_belong_to_selections() {
    check(&[
        ("(x)[5m]", "1:4: ranges only allowed for vector selectors"),
        ("x[5m][5m]", "1:6: ranges only allowed for vector selectors"),
        ("x offset 1m [5m]", "1:13: no offset modifiers allowed before range"),
        ("x @ 1 [5m]", "1:7: no @ modifiers allowed before range"),
        ("x[0s]", "1:3: duration must be greater than 0"),
        ("x[1e300]", "1:3: duration out of range"),
        ("x[99999999999y]", "1:3: duration out of range"),
        ("x offset inf", "1:10: duration out of range"),
        ("x[y]", "1:3: expected a duration, got instant vector"),
        ("1[5m:]", "1:1: subquery is only allowed on instant vector, got scalar instead"),
        ("x offset 1m offset 1m", "1:13: offset may not be set multiple times"),
        ("x @ 1 @ 2", "1:7: @ <timestamp> may not be set multiple times"),
        (
            "sum(x) offset 1m",
            "1:8: offset modifier must be preceded by an instant vector selector or range vector \
            selector or a subquery",
        ),
        ("x @ inf", "1:5: timestamp out of bounds for @ modifier: inf"),
    ]);
    for text in
        ["x[5m:]", "x offset 1m [5m:1m] @ end() offset -2m", "(x + y)[5m:30s]", "x[5m] offset 1m @ start()"]
    {
        Query::parse(text).expect(text);
        assert_eq!(Expr::parse(text).expect_err(text).kind, ParseErrorKind::Invalid, "{text}");
    }
    let error = Query::parse("x[1y:1ms]").unwrap_err();
    assert_eq!((error.kind, error.place.byte), (ParseErrorKind::TooLarge, 1));
}

/// The same tree, which two expressions are if they have the same value everywhere.
fn is_same(one: &str, other: &str) -> bool {
    // A selection has places in it, which calculations have not.
    let value = |text: &str| {
        let store = SeriesStore::new(crate::engine::promql::Limits::default());
        Expr::parse(text).expect(text).eval(&store, Timestamp::from_millis(3_000), Scope::All)
    };
    value(one) == value(other)
}

#[test]
fn operators_bind_as_in_prometheus() {
    let cases = [
        ("-2 ^ 2", "-4"),
        ("2 ^ 3 ^ 2", "512"),
        ("2 ^ -1 * 4", "2"),
        ("10 - 2 - 3", "5"),
        ("8 / 4 * 2", "4"),
        ("1 + 2 * 3 % 4", "3"),
        ("1 + 1 == bool 2", "1"),
        ("- - 5", "5"),
        ("2 * -3", "-6"),
        ("1h30m / 1m", "90"),
        ("0 atan2 1 + 1", "1"),
        ("time() - -3", "6"),
    ];
    for (text, value) in cases {
        assert!(is_same(text, value), "{text} is not {value}");
    }
}

#[test]
fn a_small_stack_is_enough_for_the_deepest_expressions() {
    let work = || {
        let store = SeriesStore::new(crate::engine::promql::Limits::default());
        let nested =
            |start: &str, end: &str, times: usize| format!("{}x{}", start.repeat(times), end.repeat(times));
        for text in [
            nested("abs(", ")", NESTING_MAX - 1),
            nested("sum(", ")", NESTING_MAX - 1),
            nested("-(", ")", NESTING_MAX / 2 - 1),
            nested("", " + x", NESTING_MAX - 1),
            nested("x > (", ")", NESTING_MAX / 2 - 1),
            nested("max_over_time(", "[1m:30s])", 10),
        ] {
            let expr = Expr::parse(&text).expect(&text);
            assert!(expr.eval(&store, Timestamp::default(), Scope::All).is_ok(), "{text}");
        }
        for (start, end) in [("(", ")"), ("-", ""), ("abs(", ")"), ("", " or x"), ("x ^ ", "")] {
            let error = Expr::parse(&nested(start, end, 1_000)).unwrap_err();
            assert_eq!(error.kind, ParseErrorKind::TooLarge, "{start}x{end}");
        }
    };
    // Half of what a thread has, for a debug build.
    std::thread::Builder::new().stack_size(1 << 20).spawn(work).unwrap().join().unwrap();
}

#[test]
fn keywords_and_odd_names_are_names_where_prometheus_takes_them_for_names() {
    for text in [
        "sum",
        "offset - 5",
        "by + without",
        "fill + fill(0) fill",
        "start",
        "and and and",
        "{\"my.metric\", \"label.name\"=\"x\"}",
        ":rule:record",
        "x{sum=\"1\", or=\"2\"}",
        "sum by (\"a.b\", job,) (x)",
        "SUM(x) BY (job)",
        "x{a=~`\\d+`}",
        "x{a=~\"{{.*}}\"}",
    ] {
        Expr::parse(text).expect(text);
    }
}

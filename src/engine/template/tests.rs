use super::*;

fn sample(job: &str, value: f64) -> Sample {
    Sample { labels: Labels::new([("__name__", "up"), ("job", job)]).unwrap(), value, text: None }
}

fn expand(source: &str, value: f64) -> String {
    let labels =
        Labels::new([("__name__", "m"), ("instance", "db-1.example.org:9100"), ("job", "api")]).unwrap();
    let external = Labels::new([("cluster", "eu")]).unwrap();
    let query = |expr: &str| match expr {
        "up" => Ok(vec![sample("b", 1.0), sample("a", 0.5)]),
        "none" => Ok(Vec::new()),
        _ => Err(format!("no such expression: {expr}")),
    };
    let data = Data {
        external_labels: &external,
        external_url: "https://prometheus.example.org/graphs",
        query: &query,
        ..Data::new(&labels, value, Timestamp::from_millis(1_700_000_000_500))
    };
    Template::parse(source).unwrap().expand_or_error("Test", &data).to_string()
}

#[test]
fn places_are_filled_in_as_prometheus_fills_them() {
    for (source, value, expected) in [
        ("no places", 0.0, "no places"),
        ("", 0.0, ""),
        ("{{ $labels.job }} is at {{$value}}", 0.5, "api is at 0.5"),
        ("{{ .Labels.job }}{{ $labels.gone }}!", 0.0, "api!"),
        ("{{ $labels.gone | toUpper }}!", 0.0, "!"),
        ("{{ $labels }}", 0.0, "map[__name__:m instance:db-1.example.org:9100 job:api]"),
        ("{{ $value }}", 1_234_567.0, "1.234567e+06"),
        ("{{ $value }}", f64::INFINITY, "+Inf"),
        ("{{ $value | humanize }}", 1_234_567.0, "1.235M"),
        ("{{ humanize $value }}", 10.0, "10"),
        ("{{ $value | printf \"%.2f\" }}%", 3.256_78, "3.26%"),
        ("{{ printf \"%s has %.0f%% of %q\" $labels.job $value `x` }}", 99.6, "api has 100% of \"x\""),
        (
            "{{ printf \"%d %5.1f|%-6s|%06.2f|%x|%v\" $value $value `a` $value 255 true }}",
            2.5,
            "%!d(float64=2.5)   2.5|a     |002.50|ff|true",
        ),
        ("{{ printf \"%d\" }} {{ printf \"a\" 1 `b` }}", 0.0, "%!d(MISSING) a%!(EXTRA int=1, string=b)"),
        ("{{ print 1 2 \"a\" 3 }}{{ print $value 2 }}", 12.5, "1 2a312.5 2"),
        (
            "{{ $labels.instance | stripPort }} {{ $labels.instance | stripDomain }}",
            0.0,
            "db-1.example.org db-1:9100",
        ),
        (
            "{{ $externalLabels.cluster }} {{ $externalURL }} {{ pathPrefix }}",
            0.0,
            "eu https://prometheus.example.org/graphs /graphs",
        ),
        ("{{ 1700000000.5 | humanizeTimestamp }}", 0.0, "2023-11-14 22:13:20.5 +0000 UTC"),
        (
            "{{ toTime 0 }} {{ toDuration 90.5 }} {{ toDuration 0.02 }}",
            0.0,
            "1970-01-01 00:00:00 +0000 UTC 1m30.5s 20ms",
        ),
        ("{{ now }}", 0.0, "1.7000000005e+09"),
        (
            "{{ parseDuration \"1h30m\" }} {{ \"1d\" | parseDuration | humanizeDuration }}",
            0.0,
            "5400 1d 0h 0m 0s",
        ),
        (
            "{{ reReplaceAll \"(.*):.*\" \"$1\" $labels.instance }} {{ match \"^a\" $labels.job }}",
            0.0,
            "db-1.example.org true",
        ),
        ("{{ title \"foo bAR\" }} {{ toUpper \"x\" }} {{ toLower \"Y\" }}", 0.0, "Foo BAR X y"),
        ("{{ graphLink \"up{a=\\\"b\\\"}\" }}", 0.0, "/graph?g0.expr=up%7Ba%3D%22b%22%7D&g0.tab=0"),
        ("{{ len $labels }} {{ index $labels \"job\" }} {{ slice $labels.job 1 }}", 0.0, "3 api pi"),
        ("{{ with $x := $labels.job }}{{ $x }}{{ . }}{{ else }}none{{ end }}", 0.0, "apiapi"),
        ("{{ .Value }} {{ (index (query \"up\") 1).Labels.job }}", 7.0, "7 a"),
    ] {
        assert_eq!(expand(source, value), expected, "{source}");
    }
}

#[test]
fn blocks_choose_and_repeat() {
    for (source, value, expected) in [
        ("{{ if gt $value 5.0 }}high{{ else if gt $value 1.0 }}middle{{ else }}low{{ end }}", 3.0, "middle"),
        ("{{ if and (eq $labels.job `api`) (lt $value 5.0) }}yes{{ end }}", 3.0, "yes"),
        ("{{ if or $labels.gone `x` }}a{{ end }}{{ if not $labels.gone }}b{{ end }}", 0.0, "ab"),
        ("{{ range query \"up\" }}{{ .Labels.job }}={{ .Value }};{{ end }}", 0.0, "b=1;a=0.5;"),
        (
            "{{ range $i, $s := query \"up\" | sortByLabel \"job\" }}{{ $i }}{{ $s.Labels.job }}{{ end }}",
            0.0,
            "0a1b",
        ),
        ("{{ range query \"none\" }}x{{ else }}nothing{{ end }}", 0.0, "nothing"),
        ("{{ range query \"up\" }}{{ .Value }}{{ break }}{{ end }}", 0.0, "1"),
        (
            "{{ range $k, $v := $labels }}{{ if eq $k \"job\" }}{{ continue }}{{ end }}{{ $k }} {{ end }}",
            0.0,
            "__name__ instance ",
        ),
        ("{{ with query \"up\" }}{{ . | first | label \"job\" }}{{ . | first | value }}{{ end }}", 0.0, "b1"),
        ("{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ $y := 3 }}{{ $y }}{{ end }}{{ $x }}", 0.0, "32"),
        (
            "{{ define \"t\" }}<{{ . }}>{{ end }}{{ template \"t\" $labels.job }}{{ template \"t\" 5 }}",
            0.0,
            "<api><5>",
        ),
        ("{{ block \"b\" $value }}{{ . }}!{{ end }}", 2.0, "2!"),
        ("a {{- /* nothing */ -}} b {{- 1 -}} \n c", 0.0, "ab1c"),
        ("{{ with args 1 `two` }}{{ .arg0 }}{{ .arg1 }}{{ end }}", 0.0, "1two"),
    ] {
        assert_eq!(expand(source, value), expected, "{source}");
    }
}

#[test]
fn what_cannot_be_expanded_is_told_in_the_words_of_go() {
    let told = |source: &str| {
        let text = expand(source, 1.0);
        text.trim_start_matches(
            "<error expanding template: error executing template __alert_Test: template: ",
        )
        .to_owned()
    };
    for (source, expected) in [
        (
            "{{ query \"none\" | first | value }}",
            "__alert_Test:1:130: executing \"__alert_Test\" at <first>: error calling first: first() called on vector with no elements>",
        ),
        (
            "\n {{ eq 1 1.0 }}",
            "__alert_Test:2:4: executing \"__alert_Test\" at <eq>: error calling eq: incompatible types for comparison>",
        ),
        (
            "{{ humanize `x` }}",
            "__alert_Test:1:115: executing \"__alert_Test\" at <humanize>: error calling humanize: strconv.ParseFloat: parsing \"x\": invalid syntax>",
        ),
        (
            "{{ $value.x }}",
            "__alert_Test:1:115: executing \"__alert_Test\" at <$value.x>: can't evaluate field x in type float64>",
        ),
    ] {
        assert_eq!(told(source), expected, "{source}");
    }
}

#[test]
fn what_is_no_template_is_refused_with_its_line() {
    for (source, expected) in [
        ("a {{ $value", "line 1: `{{` is never closed"),
        ("\n{{ $x }}", "line 2: variable `$x` is not defined"),
        ("{{ $value | shout }}", "line 1: function `shout` is not defined"),
        ("{{ }}", "line 1: a value is missing in `command`"),
        ("{{ if $value }}x", "line 1: `if` has no `{{ end }}`"),
        ("x{{ end }}", "line 1: unexpected `end`"),
        ("{{ break }}", "line 1: `break` outside of `range`"),
        ("{{ \"open }}", "line 1: a string is never closed"),
        ("{{ $value | 5 }}", "line 1: `5` is no function, and nothing can be piped into it"),
        ("{{ $labels.a$value }}", "line 1: unexpected `$value`"),
        ("{{ 0x }}", "line 1: `0x` is not a number"),
    ] {
        assert_eq!(
            Template::parse(source).map_err(|error| error.to_string()).unwrap_err(),
            expected,
            "{source}"
        );
    }
    let deep = "{{ if true }}".repeat(1_000);
    assert!(matches!(Template::parse(&deep), Err(ParseError { cause: ParseCause::TooDeep, .. })));
    let parens = format!("{{{{ {}1 }}}}", "(".repeat(60_000));
    assert!(Template::parse(&parens).is_err());
}

#[test]
fn an_expansion_comes_to_an_end() {
    let long = expand("{{ define \"t\" }}{{ template \"t\" }}{{ end }}{{ template \"t\" }}", 0.0);
    assert!(long.contains("exceeded maximum template depth"), "{long}");
    let many = expand("{{ range 100000 }}{{ range 100000 }}x{{ end }}{{ end }}", 0.0);
    assert!(many.contains("more than 100000 steps"), "{many}");
}

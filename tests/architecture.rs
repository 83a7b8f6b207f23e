//! The map of the modules, kept true: each row uses only rows below it, and some things have one owner.
//!
//! The sources are read as text (comments and string literals skipped, `use` groups spelt out), tests included.
//! A new top-level module has to be put on the map before the build is green.

use std::path::{Path, PathBuf};
use std::{fs, sync::LazyLock};

use regex::Regex;

/// The house from the ground up. Modules of one row do not use each other.
const ROWS: [&[&str]; 9] = [
    &["model"],
    &["engine"],
    &["wire"],
    &["clock", "config", "telemetry"],
    &["bus", "store", "actuator", "ingest", "demo"],
    &["role", "producer"],
    &["bench", "promtest"],
    &["http", "cli"],
    // The roots of the library and of the binary.
    &["lib", "main"],
];

/// Edges within a row which we want all the same: from, to, why.
const NEIGHBOURS: [(&str, &str, &str); 2] = [
    ("cli", "http", "`run` serves the pages of what it starts"),
    ("role", "producer", "a replay frames the samples of a file as their producer would have"),
];

/// What only its owner may name. A pattern is found anywhere in a path.
const OWNED: [(&str, &str); 12] = [
    ("async_nats", "bus"),
    ("sled", "store"),
    ("Serialize", "wire"),
    ("Instant::now", "clock"),
    ("SystemTime::now", "clock"),
    ("OffsetDateTime::now_utc", "clock"),
    ("OffsetDateTime::now_local", "clock"),
    ("UtcDateTime::now", "clock"),
    ("env::var", "config"),
    ("env::var_os", "config"),
    ("env::vars", "config"),
    ("env::vars_os", "config"),
];

/// Decisions are made here, from arguments alone.
const PURE: [&str; 2] = ["model", "engine"];

/// What the pure modules may not name. With `::` at its end a pattern is a crate, which shares its name with things
/// of ours; the others are found anywhere in a path.
///
/// A test may start a thread with a small stack.
const IMPURE: &str = "time::Instant async await axum futures metrics:: rand:: reqwest rmp_serde serde \
    serde_json serde_saphyr std::env std::fs std::io std::net std::process thread::sleep thread::spawn sysinfo tokio tokio_util tracing";

/// What is skipped (comments, strings, characters), or else one token.
static TOKEN: LazyLock<Regex> = LazyLock::new(|| {
    let skipped = r##"//[^\n]*|/\*.*?\*/|[bc]?r"[^"]*"|[bc]?r#".*?"#|[bc]?"(?:\\.|[^"\\])*"|b?'(?:\\[^'\n]+|\\'|[^'\\])'"##;
    Regex::new(&format!(r"(?s){skipped}|(?P<token>\w+|::|[{{}}\[\]<,;*#!])")).expect("a valid expression")
});

struct Token<'a> {
    line: usize,
    text: &'a str,
}

fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut line = 1;
    let mut counted = 0;
    let mut tokens = Vec::new();
    for found in TOKEN.captures_iter(source).filter_map(|captures| captures.name("token")) {
        line += source[counted..found.start()].matches('\n').count();
        counted = found.start();
        tokens.push(Token { line, text: found.as_str() });
    }
    tokens
}

/// Every path in the source, an identifier alone being a path too.
fn paths<'a>(tokens: &[Token<'a>]) -> Vec<(usize, Vec<&'a str>)> {
    let mut paths = Vec::new();
    let mut next = 0;
    while next < tokens.len() {
        let text = tokens[next].text;
        // `use<'a>` of an opaque type is no import.
        if text == "use" && tokens.get(next + 1).is_some_and(|token| token.text != "<") {
            next = spell_out(tokens, next + 1, &[], &mut paths);
        } else if is_word(text) {
            let line = tokens[next].line;
            let mut path = vec![text];
            while let [colons, word, ..] = &tokens[next + 1..]
                && colons.text == "::"
                && is_word(word.text)
            {
                path.push(word.text);
                next += 2;
            }
            paths.push((line, path));
            next += 1;
        } else {
            next += 1;
        }
    }
    paths
}

/// Adds the paths of the `use` tree that starts at `next`, and returns where it ends.
fn spell_out<'a>(
    tokens: &[Token<'a>],
    mut next: usize,
    prefix: &[&'a str],
    paths: &mut Vec<(usize, Vec<&'a str>)>,
) -> usize {
    let mut path = prefix.to_vec();
    while let Some(token) = tokens.get(next) {
        match token.text {
            "{" => {
                next += 1;
                while tokens.get(next).is_some_and(|token| token.text != "}") {
                    // Past the comma; or past whatever else ended the branch, so that no text is read for ever.
                    let end = spell_out(tokens, next, &path, paths);
                    next = if tokens.get(end).is_some_and(|token| token.text == "}") { end } else { end + 1 };
                }
                return next + 1;
            }
            "::" => next += 1,
            "as" => next += 2,
            word if word == "*" || is_word(word) => {
                path.push(word);
                next += 1;
            }
            _ => {
                paths.push((tokens[next - 1].line, path));
                return next;
            }
        }
    }
    next
}

fn is_word(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphanumeric() || first == '_')
}

fn row(module: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&module))
}

fn names(path: &[&str], pattern: &str) -> bool {
    if let Some(name) = pattern.strip_suffix("::") {
        return path.len() > 1 && path[0] == name;
    }
    let pattern: Vec<_> = pattern.split("::").collect();
    path.windows(pattern.len()).any(|window| window == pattern)
}

/// The top-level module that a path leads to from a file `depth` modules below the root, where it leads to one.
fn target<'a>(path: &[&'a str], depth: usize) -> Option<&'a str> {
    if ["crate", "homeostat"].contains(&path[0]) {
        return path.get(1).copied();
    }
    let supers = path.iter().take_while(|segment| **segment == "super").count();
    let reached = path.get(supers).copied().filter(|name| row(name).is_some());
    if supers > 0 && supers >= depth { reached } else { None }
}

/// What is wrong with the source of a file of `module`, each with its line.
fn faults(module: &str, depth: usize, source: &str) -> Vec<(usize, String)> {
    let Some(own_row) = row(module) else {
        return vec![(1, format!("module `{module}` is not on the map: add it to a row"))];
    };
    let tokens = tokens(source);
    let mut faults = Vec::new();
    for (line, path) in paths(&tokens) {
        match target(&path, depth).map(|to| (to, row(to))) {
            None => {}
            Some((to, _)) if to == module => {}
            Some((to, None)) => faults.push((line, format!("`crate::{to}` is not a module on the map"))),
            Some((to, Some(row))) => {
                let wanted =
                    NEIGHBOURS.iter().any(|(from, neighbour, _)| (*from, *neighbour) == (module, to));
                if row >= own_row && !wanted {
                    faults.push((line, format!("`{module}` may not use `{to}`: it is not in a row below")));
                }
            }
        }
        for (pattern, owner) in
            OWNED.iter().filter(|(pattern, owner)| *owner != module && names(&path, pattern))
        {
            faults.push((line, format!("only `{owner}` may name `{pattern}`, this is `{module}`")));
        }
        if PURE.contains(&module) {
            for pattern in IMPURE.split_whitespace().filter(|pattern| names(&path, pattern)) {
                faults.push((line, format!("`{module}` is pure and may not name `{pattern}`")));
            }
        }
    }
    for window in tokens.windows(2).filter(|window| window[0].text == "[" && window[1].text == "allow") {
        let line = window[1].line;
        faults.push((line, "`#[expect(lint, reason = …)]` instead of `#[allow(…)]`".to_owned()));
    }
    faults.sort();
    faults.dedup();
    faults
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn each_module_uses_only_what_the_map_gives_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    rust_files(&root.join("src"), &mut files);
    files.sort();
    let mut report = Vec::new();
    for file in files {
        let inside = file.strip_prefix(root.join("src")).expect("a file below src").with_extension("");
        let mut modules: Vec<_> = inside.iter().filter_map(|part| part.to_str()).collect();
        modules.pop_if(|last| *last == "mod");
        let source = fs::read_to_string(&file).expect("a readable source");
        for (line, fault) in faults(modules[0], modules.len(), &source) {
            report.push(format!("src/{}.rs:{line}: {fault}", inside.display()));
        }
    }
    assert!(report.is_empty(), "the map in tests/architecture.rs forbids:\n{}", report.join("\n"));
}

#[test]
fn a_forbidden_edge_is_found_with_its_line() {
    let cases = [
        ("model", 1, "use crate::engine::Step;", 1, "may not use `engine`"),
        ("bus", 2, "\nuse crate::{model, store::{Db, Key}};", 2, "may not use `store`"),
        ("bus", 2, "fn f() { crate::ingest::parse() }", 1, "may not use `ingest`"),
        ("engine", 3, "use super::super::super::wire::Frame;", 1, "may not use `wire`"),
        ("http", 1, "use crate::cli;", 1, "may not use `cli`"),
        ("role", 1, "use crate::Producer;", 1, "`crate::Producer` is not a module"),
        ("attic", 1, "", 1, "`attic` is not on the map"),
        ("store", 1, "// a\nuse async_nats::{\n  Client,\n};", 3, "only `bus` may name `async_nats`"),
        ("role", 1, "use sled as database;", 1, "only `store` may name `sled`"),
        ("config", 1, "#[derive(Debug, Serialize)]", 1, "only `wire` may name `Serialize`"),
        ("role", 1, "let now = tokio::time::Instant::now();", 1, "only `clock` may name `Instant::now`"),
        ("cli", 1, "use std::{env::{self, var_os}, fs};", 1, "only `config` may name `env::var_os`"),
        ("engine", 2, "/* a\n */ fn f() { metrics::counter!(\"x\"); }", 2, "may not name `metrics::`"),
        ("model", 1, "let c = '\"'; use std::{fmt, fs::File};", 1, "may not name `std::fs`"),
        ("engine", 1, "pub async fn f() {}", 1, "may not name `async`"),
        ("role", 1, "#![allow(dead_code)]", 1, "instead of `#[allow(…)]`"),
    ];
    for (module, depth, source, line, fault) in cases {
        let found = faults(module, depth, source);
        assert_eq!(found.len(), 1, "{module}: {source}: {found:?}");
        assert_eq!(found[0].0, line, "{module}: {source}");
        assert!(found[0].1.contains(fault), "{module}: {source}: {found:?}");
    }
}

#[test]
fn what_the_map_gives_is_left_alone() {
    let cases = [
        ("engine", 2, "use crate::{engine::fold::{self, Fold}, model::Plan}; pub(in crate::engine) mod x;"),
        (
            "engine",
            1,
            "//! as [`crate::bus`] has `tokio`\nlet metrics = r#\"use crate::cli; \"#; let x = 'a';",
        ),
        (
            "cli",
            1,
            "use crate::http::serve; use std::env::args; let s = \"Instant::now() \\\" crate::main\";",
        ),
        ("bus", 2, "use super::{Error, memory}; use super::super::model::Id; impl<'a> async_nats::X<'a> {}"),
        ("wire", 1, "#[derive(serde::Serialize)] #[expect(dead_code, reason = \"x\")] struct A;"),
        (
            "bus",
            1,
            "fn f<'a>() -> impl Iterator + use<'a> { a(); b() }\nmacro_rules! m { ($p:path) => { use $p; }; }",
        ),
        ("main", 1, "use homeostat::cli;"),
    ];
    for (module, depth, source) in cases {
        assert_eq!(faults(module, depth, source), [], "{module}: {source}");
    }
}

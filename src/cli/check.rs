//! `check`: whether a configuration can be used, and what of it cannot, by file, line and column.

use std::path::Path;

use serde_json::{Value, json};

use super::exit::{Failure, Outcome, outside};
use super::output::Format;
use super::{Context, args, output, printed};
use crate::config;
use crate::model::{Bundle, BundleFile, Generation};
use crate::promtest::lint::{self, Refused};
use crate::wire::files::{FileError, FileKind, Loaded};

/// Checks folders and single files.
pub(super) fn check(args: &args::Check, context: &Context) -> Outcome {
    let (mut refused, mut warnings): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
    let (mut files, mut rules, mut playbooks) = (0, 0, 0);
    for path in &args.paths {
        let bundle = read(path)?;
        let loaded = config::load(&bundle, Generation::default());
        files += bundle.files.len();
        rules += loaded.configuration.groups.iter().map(|group| group.rules.len()).sum::<usize>();
        playbooks += loaded.configuration.playbooks.len();
        refused.extend(loaded.refused.iter().map(|error| refusal(path, error)));
        warnings.extend(loaded.warnings.iter().map(|error| refusal(path, error)));
        // A single file refers to what is in others.
        if path.is_dir() {
            warnings.extend(loaded.dangling.iter().map(|error| refusal(path, error)));
        }
    }
    let summary = json!({
        "files": files,
        "rules": rules,
        "playbooks": playbooks,
        "refused": refused,
        "warnings": warnings,
    });
    let told = match context.format {
        Format::Table => {
            for refusal in &refused {
                output::note(text(refusal));
            }
            for warning in &warnings {
                output::note(format_args!("warning: {}", text(warning)));
            }
            output::line(format_args!(
                "{}: {} and {} can be used, {} refused, {}",
                output::count(files as u64, "file"),
                output::count(rules as u64, "rule"),
                output::count(playbooks as u64, "playbook"),
                refused.len(),
                output::count(warnings.len() as u64, "warning"),
            ))
        }
        Format::Json | Format::Jsonl | Format::Yaml => output::one(context.format, &summary),
    };
    // Read or not, a finding is one.
    if refused.is_empty() { told.or_else(printed) } else { Err(Failure::Finding) }
}

/// Checks rule files, rule by rule.
pub(super) fn rules(args: &args::CheckRules, context: &Context) -> Outcome {
    let unknown = super::test::unknown_fields(args.ignore_unknown_fields);
    let checked = lint::check(&args.paths, unknown).map_err(outside)?;
    let told = match context.format {
        Format::Table => {
            for Refused { rule, error } in &checked.refused {
                let rule = rule.as_ref().map(|rule| format!("`{rule}`: ")).unwrap_or_default();
                let hint = error.hint.as_ref().map(|hint| format!("\n  hint: {hint}")).unwrap_or_default();
                output::note(format_args!("{}:{}: {rule}{}{hint}", error.file, error.place, error.cause));
            }
            for warning in &checked.warnings {
                output::note(format_args!("warning: {warning}"));
            }
            let (files, rules) = (checked.files as u64, checked.rules as u64);
            output::line(format_args!(
                "{}: {} of {} can be used, {}",
                output::count(files, "file"),
                checked.loaded,
                output::count(rules, "rule"),
                output::count(checked.warnings.len() as u64, "warning"),
            ))
        }
        Format::Json | Format::Jsonl | Format::Yaml => {
            let refused = checked.refused.iter().map(|Refused { rule, error }| {
                let (file, line, reason) = (&*error.file, error.place.line, &error.cause);
                json!({ "file": file, "line": line, "rule": rule, "reason": reason })
            });
            let summary = json!({
                "files": checked.files,
                "rules": checked.rules,
                "loaded": checked.loaded,
                "refused": refused.collect::<Vec<Value>>(),
            });
            output::one(context.format, &summary)
        }
    };
    if checked.files == 0 {
        output::note("there is no rule file");
        return Err(Failure::Finding);
    }
    if checked.refused.is_empty() { told.or_else(printed) } else { Err(Failure::Finding) }
}

/// A folder as a bundle, or a single file as one.
pub(super) fn read(path: &Path) -> Result<Bundle, Failure> {
    if path.is_dir() {
        return config::read_bundle(path).map_err(outside);
    }
    let text = std::fs::read_to_string(path).map_err(|error| {
        outside(anyhow::Error::new(error).context(format!("`{}` cannot be read", path.display())))
    })?;
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    // What a single file is, its name or its folder says, else what it begins with.
    let folder = path.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let known = matches!(name.as_str(), "charter.yaml" | "charter.yml" | "analysis.yaml" | "analysis.yml");
    let path = match folder.as_deref() {
        _ if known => name,
        Some(folder @ ("playbooks" | "causes" | "rules")) => format!("{folder}/{name}"),
        Some(_) | None => match kind_of(&text) {
            FileKind::Rules => format!("rules/{name}"),
            FileKind::Playbook => format!("playbooks/{name}"),
            FileKind::Causes => format!("causes/{name}"),
            FileKind::Charter => "charter.yaml".to_owned(),
            FileKind::Analysis => "analysis.yaml".to_owned(),
        },
    };
    Ok(Bundle::new(vec![BundleFile { path: path.into(), text: text.into() }]))
}

/// What a file is by the names at its margin; rules where they say nothing.
fn kind_of(text: &str) -> FileKind {
    let kind = |line: &str| {
        let name = line.strip_prefix("- ").unwrap_or(line).split_once(':')?.0;
        match name {
            "groups" => Some(FileKind::Rules),
            "playbook" | "answers" | "steps" | "verify" => Some(FileKind::Playbook),
            "cause" => Some(FileKind::Causes),
            "mode" | "armed" | "programs" | "cooldown" | "storm_violations" => Some(FileKind::Charter),
            "scope_labels" => Some(FileKind::Analysis),
            _ => None,
        }
    };
    text.lines().find_map(kind).unwrap_or(FileKind::Rules)
}

/// Tells on standard error what of a folder cannot be used, and what is hardly meant so.
pub(super) fn tell(root: &Path, loaded: &Loaded) {
    for error in &loaded.refused {
        output::note(text(&refusal(root, error)));
    }
    for error in loaded.warnings.iter().chain(&loaded.dangling) {
        output::note(format_args!("warning: {}", text(&refusal(root, error))));
    }
}

/// A refusal for people.
pub(super) fn text(refusal: &Value) -> String {
    let field = |name: &str| refusal[name].as_str().unwrap_or_default().to_owned();
    let hint = refusal["hint"].as_str().map(|hint| format!("\n  hint: {hint}")).unwrap_or_default();
    format!("{}:{}:{}: {}{hint}", field("file"), refusal["line"], refusal["column"], field("reason"))
}

/// A refusal for programs.
pub(super) fn refusal(root: &Path, error: &FileError) -> Value {
    let file = if root.is_dir() { root.join(&*error.file) } else { root.to_owned() };
    json!({
        "file": file.to_string_lossy(),
        "line": error.place.line,
        "column": error.place.column,
        "reason": error.cause,
        "hint": error.hint,
    })
}

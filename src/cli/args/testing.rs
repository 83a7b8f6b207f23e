//! What is tested and linted.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(in crate::cli) struct Check {
    #[command(subcommand)]
    pub(in crate::cli) what: Option<CheckWhat>,
    /// Folders of a configuration, or single files of one
    #[arg(required = true)]
    pub(in crate::cli) paths: Vec<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum CheckWhat {
    /// Check Prometheus rule files: which alerting and recording rules can be used, and why the others cannot
    Rules(CheckRules),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct CheckRules {
    /// Rule files, or folders that have some (*.yml, *.yaml, *.rules)
    #[arg(required = true)]
    pub(in crate::cli) paths: Vec<PathBuf>,
    /// Pass over fields that are not known
    #[arg(long)]
    pub(in crate::cli) ignore_unknown_fields: bool,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Test {
    /// Run unit tests of rules: the files of `promtool test rules`, unchanged, with its verdicts
    Rules(TestRules),
    /// Run PromQL test scripts: the .test files of Prometheus' own evaluator
    Promql(TestPromql),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct TestRules {
    /// Files of tests; the rule files are named in them
    #[arg(required = true)]
    pub(in crate::cli) files: Vec<PathBuf>,
    /// Pass over fields of rule files that are not known
    #[arg(long)]
    pub(in crate::cli) ignore_unknown_fields: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct TestPromql {
    /// Scripts
    #[arg(required = true)]
    pub(in crate::cli) files: Vec<PathBuf>,
}

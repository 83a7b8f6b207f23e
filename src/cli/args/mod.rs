//! The command line.

mod connection;
mod process;
mod questions;
mod samples;
mod testing;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::bench;
use super::output::Format;
pub(super) use connection::Bus;
pub(super) use process::{Demo, Dev, Run, Traced};
pub(super) use questions::{Explain, Halt, Kb, Listing, Operator, Tail};
pub(super) use samples::{Collect, Input, Publish, Replay, Speed};
pub(super) use testing::{Check, CheckRules, CheckWhat, Test, TestPromql, TestRules};

/// A streaming MAPE-K control loop on NATS: metric samples in, verified fixes out.
#[derive(Debug, Parser)]
#[command(version, about, propagate_version = true, max_term_width = 110)]
#[command(after_help = "Exit codes: 0 done, 1 a finding, 2 wrong usage, 3 a failure outside.")]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// What every command knows.
#[derive(Clone, Debug, Args)]
pub(super) struct Global {
    /// How results are printed
    #[arg(short = 'o', long, global = true, value_enum, default_value = "table", help_heading = "Output")]
    pub(super) format: Format,
    /// What is logged to standard error, in tracing's notation: info, debug, `homeostat::role=trace`
    #[arg(
        long,
        global = true,
        value_name = "FILTER",
        default_value = "warn",
        env = "HOMEOSTAT_LOG",
        hide_env_values = true,
        help_heading = "Output"
    )]
    pub(super) log: String,
    /// How it is logged
    #[arg(long, global = true, value_enum, default_value = "text", help_heading = "Output")]
    pub(super) log_format: LogFormat,
}

/// How logs are written: for people, or as one JSON object a line. Without a text for each, help stays short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Start a private server and all roles, for trying things out
    Dev(Dev),
    /// Watch a real process fail, be diagnosed, healed and verified
    Demo(Demo),
    /// Run roles of the loop
    Run(Run),
    /// Check a configuration and make it the cell's
    Apply(Apply),
    /// Check a configuration: rules, playbooks, causes, charter; or Prometheus rule files alone
    Check(Check),
    /// Run Prometheus' test files: unit tests of rules, PromQL test scripts
    #[command(subcommand)]
    Test(Test),
    /// Run the whole loop over recorded samples, on virtual time and without a server
    Replay(Replay),
    /// Publish samples from files or standard input
    Publish(Publish),
    /// Show what goes over the bus, decoded, one JSON object a line
    Tail(Tail),
    /// List incidents, newest first
    Incidents(Listing),
    /// List plans, newest first
    Plans(Listing),
    /// Tell the chain from violation to verdict
    Explain(Explain),
    /// What the loop remembers
    #[command(subcommand)]
    Kb(Kb),
    /// Stop admission at once: nothing new is started
    Halt(Halt),
    /// Let admission go on
    Resume(Operator),
    /// Measure how fast the loop is on this machine
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Print a shell's completions
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the JSON Schema of a configuration file
    Schema {
        /// Which file
        kind: SchemaKind,
    },
    /// The process that the demo heals
    #[command(hide = true, disable_help_flag = true)]
    DemoWorker {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum SchemaKind {
    Rules,
    Playbook,
    Charter,
    Causes,
    Analysis,
}

#[derive(Debug, Args)]
pub(super) struct Apply {
    #[command(flatten)]
    pub(super) bus: Bus,
    /// The folder: rules/*.yaml, playbooks/*.yaml, causes/*.yaml, charter.yaml, analysis.yaml
    pub(super) folder: PathBuf,
    /// Apply even though some of it is refused: the rest is used
    #[arg(long)]
    pub(super) partial: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}

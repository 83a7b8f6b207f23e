//! What is asked of a loop that runs: what happened, what is remembered, and that it halts.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Bus;

#[derive(Debug, Args)]
pub(in crate::cli) struct Tail {
    #[command(flatten)]
    pub(in crate::cli) bus: Bus,
    /// Subjects below the prefix and v1: violations.>, samples.*, dlq.>; without one, everything but samples
    pub(in crate::cli) subjects: Vec<String>,
    /// Begin with what is in the ledger, from this sequence on
    #[arg(long, value_name = "SEQUENCE")]
    pub(in crate::cli) from: Option<u64>,
    /// Stop after this many
    #[arg(short = 'n', long, value_name = "N")]
    pub(in crate::cli) count: Option<u64>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Listing {
    #[command(flatten)]
    pub(in crate::cli) bus: Bus,
    /// How many, at most 500
    #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=500))]
    pub(in crate::cli) limit: u16,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Explain {
    #[command(flatten)]
    pub(in crate::cli) bus: Bus,
    /// The id of an action, attempt, plan, analysis, episode or incident
    pub(in crate::cli) id: String,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Kb {
    /// How much is remembered
    Stats(Bus),
    /// How often each playbook helped against each cause
    Learned(Bus),
    /// Write everything that is remembered to a file
    Export {
        #[command(flatten)]
        bus: Bus,
        /// Where to
        file: PathBuf,
    },
    /// Replace what a store holds by an export of the same ledger that is not older; no knowledge role may run on it
    Import {
        /// What kb export wrote
        file: PathBuf,
        /// The store's folder, as in run --data [default: as there]
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        #[command(flatten)]
        bus: Bus,
    },
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Operator {
    #[command(flatten)]
    pub(in crate::cli) bus: Bus,
    /// Who asks: the last token of the subject, which the server's permissions guard [default: USER]
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) user: Option<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Halt {
    #[command(flatten)]
    pub(in crate::cli) operator: Operator,
    /// Why, for those who read it later
    #[arg(long, value_name = "TEXT", default_value = "no reason given")]
    pub(in crate::cli) reason: String,
}

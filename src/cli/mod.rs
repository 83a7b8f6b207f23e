//! The command line: reads arguments, runs a command, says how it ended.

mod apply;
mod args;
mod ask;
mod bench;
mod bus;
mod check;
mod collect;
mod demo;
mod exit;
mod input;
mod kb;
mod operate;
mod output;
mod publish;
mod replay;
mod run;
mod signals;
mod tail;
mod test;
mod words;

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::clock::Clock;
use crate::config::Environment;
use crate::telemetry::{self, LogStyle};
use crate::wire::files::{FileKind, schema};
use args::{CheckWhat, Cli, Command, Global, LogFormat, SchemaKind, Test};
use exit::{Failure, Outcome, outside, usage};

/// What every command is given.
struct Context {
    /// The environment.
    environment: Environment,
    /// How results are printed.
    format: output::Format,
    /// What time it is.
    clock: Clock,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let environment = Environment::read();
    let done = prepare(&cli.global, &environment).and_then(|()| {
        let context = Context { environment, format: cli.global.format, clock: Clock::system() };
        run(cli.command, &context)
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(text) = failure.text() {
                output::note(text);
            }
            failure.code()
        }
    }
}

fn prepare(global: &Global, environment: &Environment) -> Outcome {
    let style = match global.log_format {
        LogFormat::Text => LogStyle::Text { colour: !environment.no_color && io::stderr().is_terminal() },
        LogFormat::Json => LogStyle::Json,
    };
    // The only error is that there is a provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    telemetry::init_logs(&global.log, style).map_err(usage)
}

fn run(command: Command, context: &Context) -> Outcome {
    match command {
        Command::Check(args) => match &args.what {
            None => check::check(&args, context),
            Some(CheckWhat::Rules(rules)) => check::rules(rules, context),
        },
        Command::Test(Test::Rules(args)) => test::rules(&args, context),
        Command::Test(Test::Promql(args)) => test::promql(&args, context),
        Command::Replay(args) => replay::replay(&args, context),
        Command::Completions { shell } => {
            // Into memory: the generator panics where it cannot write.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "homeostat", &mut script);
            io::stdout().lock().write_all(&script).or_else(printed)
        }
        Command::Schema { kind } => print_schema(kind, context),
        Command::DemoWorker { arguments } => demo::worker(arguments),
        Command::Bench(bench::Bench::Cycle { rounds }) => bench::cycle(rounds, context),
        Command::Bench(bench::Bench::Loop(args)) => block_on(bench::closed_loop(args, context)),
        Command::Bench(bench::Bench::Ingest(args)) => block_on(bench::ingest(args, context)),
        Command::Dev(args) => block_on(run::dev(args, context)),
        Command::Demo(args) => block_on(demo::demo(args, context)),
        Command::Run(args) => block_on(run::run(args, context)),
        Command::Apply(args) => block_on(apply::apply(args, context)),
        Command::Publish(args) => block_on(publish::publish(args, context)),
        Command::Tail(args) => block_on(tail::tail(args, context)),
        Command::Incidents(args) => block_on(ask::incidents(args, context)),
        Command::Plans(args) => block_on(ask::plans(args, context)),
        Command::Explain(args) => block_on(ask::explain(args, context)),
        Command::Kb(args) => block_on(kb::kb(args, context)),
        Command::Halt(args) => block_on(operate::halt(args, context)),
        Command::Resume(args) => block_on(operate::resume(args, context)),
    }
}

fn block_on(command: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(outside)?;
    let done = runtime.block_on(command);
    // A thread that still reads standard input is not waited for.
    runtime.shutdown_background();
    done
}

fn print_schema(kind: SchemaKind, context: &Context) -> Outcome {
    let kind = match kind {
        SchemaKind::Playbook => FileKind::Playbook,
        SchemaKind::Charter => FileKind::Charter,
        SchemaKind::Causes => FileKind::Causes,
        SchemaKind::Analysis => FileKind::Analysis,
        SchemaKind::Rules => FileKind::Rules,
    };
    let format = if context.format == output::Format::Table { output::Format::Json } else { context.format };
    output::one(format, &schema(kind)).or_else(printed)
}

/// What an error on standard output comes to: a reader that has had enough ends the command, and is no failure.
fn printed(error: io::Error) -> Outcome {
    Err(if error.kind() == io::ErrorKind::BrokenPipe { Failure::Unread } else { outside(error) })
}

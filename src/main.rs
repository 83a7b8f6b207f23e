//! The `homeostat` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    homeostat::cli::main()
}

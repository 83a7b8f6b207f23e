//! The `homeostat` program.

use std::process::ExitCode;

use mimalloc::MiMalloc;

// See the reason in `Cargo.toml`. It is chosen here and not in the library, whose users choose their own.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    homeostat::cli::main()
}

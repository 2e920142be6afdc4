//! The `rayscaler` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    rayscaler::cli::start()
}

//! The program `firstboot`: parse, run, exit code.

mod cli;
mod live;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    ExitCode::from(cli::run(&arguments))
}

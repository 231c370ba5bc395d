//! Arguments, settings, logging, runtime, daemon, exit code.

use std::process::ExitCode;

use clap::Parser;
use sidecarbon::cli::{Cli, Command};
use sidecarbon::config::{self, Overrides};
use sidecarbon::daemon::{self, Exit};
use sidecarbon::os;

fn main() -> ExitCode {
    os::separate_large_allocations();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(answer) => {
            // Help and version are answers too, on standard output.
            let exit = if answer.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            };
            let _ = answer.print();
            return exit.into();
        }
    };
    let overrides = Overrides::from(cli.overrides);
    let settings = match config::load(&overrides) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("{error}");
            return Exit::Configuration.into();
        }
    };
    match cli.command {
        Some(Command::Check) => daemon::check(&settings).into(),
        None => daemon::run(settings, &overrides).into(),
    }
}

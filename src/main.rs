//! Arguments, then what they ask for, then the exit code.

use std::panic;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use sidecarbon::cli::Cli;
use sidecarbon::commands::{self, Invocation};
use sidecarbon::config::{self, Overrides};
use sidecarbon::exit::Exit;
use sidecarbon::{daemon, os};

fn main() -> ExitCode {
    os::protect_secrets();
    os::set_up_allocator();
    // The hook has said why.
    let exit = panic::catch_unwind(parse_and_run).unwrap_or(Exit::Defect);
    exit.into()
}

fn parse_and_run() -> Exit {
    match Cli::try_parse() {
        Ok(cli) => run(cli),
        Err(answer) => {
            // Help and version are answers too, on standard output.
            let exit = if answer.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            };
            // A key that was given as an argument by mistake.
            let text = config::mask_uuids(&answer.render().ansi().to_string());
            if answer.use_stderr() {
                anstream::eprint!("{text}");
            } else {
                anstream::print!("{text}");
            }
            exit
        }
    }
}

fn run(cli: Cli) -> Exit {
    let overrides = Overrides::from(cli.overrides);
    match cli.command {
        Some(command) => command.run(&Invocation {
            overrides,
            command_line: Cli::command(),
        }),
        None => match config::load(&overrides) {
            Ok(settings) => daemon::run(settings, &overrides),
            Err(error) => commands::refuse(&error),
        },
    }
}

//! Arguments, then what they ask for, then the exit code.

use std::panic;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use sidecarbon::cli::{Cli, Command};
use sidecarbon::config::{self, Overrides, Settings};
use sidecarbon::exit::Exit;
use sidecarbon::{commands, daemon, os};

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
    let with = |tool: &dyn Fn(&Settings) -> Exit| match config::load(&overrides) {
        Ok(settings) => tool(&settings),
        Err(error) => commands::refuse(&error),
    };
    // They talk to the daemon beside them, which has the key.
    let without_key = |tool: &dyn Fn(&Settings) -> Exit| match config::load_without_key(&overrides)
    {
        Ok(settings) => tool(&settings),
        Err(error) => commands::refuse(&error),
    };
    match cli.command {
        None => with(&|settings| daemon::run(settings.clone(), &overrides)),
        Some(Command::Check { quiet }) => with(&|settings| commands::check::run(settings, quiet)),
        Some(Command::Explain { datagram }) => {
            without_key(&|settings| commands::explain::run(settings, datagram))
        }
        Some(Command::Send {
            name,
            value,
            timestamp,
        }) => without_key(&|settings| {
            commands::send::run(settings, &name, &value, timestamp.as_deref())
        }),
        Some(Command::Status { json, watch }) => {
            without_key(&|settings| commands::status::run(settings, json, watch))
        }
        Some(Command::Health) => match without_key(&commands::health::run) {
            Exit::Done => Exit::Done,
            // Health checks know two answers.
            _ => Exit::No,
        },
        Some(Command::Probe { send }) => commands::probe::run(&overrides, send),
        Some(Command::Completions { shell }) => commands::pages::completions(shell, Cli::command()),
        Some(Command::Man { directory }) => {
            commands::pages::manual(Cli::command(), directory.as_deref())
        }
    }
}

//! `sidecarbon completions` and `sidecarbon man`: made from the command line
//! itself, so that they cannot be out of date.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::exit::Exit;

use super::{complain, printed};

/// Prints a completion script.
pub fn completions(shell: Shell, mut command: Command) -> Exit {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    printed(io::stdout().write_all(&script).map(|()| Exit::Done))
}

/// Prints the manual pages one after the other, or writes them into a directory.
pub fn manual(command: Command, directory: Option<&Path>) -> Exit {
    // `help` is no page of its own.
    let command = command.disable_help_subcommand(true);
    let Some(directory) = directory else {
        return printed(print(command).map(|()| Exit::Done));
    };
    let written =
        fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(command, directory));
    match written {
        Ok(()) => Exit::Done,
        Err(error) => {
            complain(format_args!(
                "cannot write to {}: {error}",
                directory.display()
            ));
            Exit::No
        }
    }
}

fn print(mut command: Command) -> io::Result<()> {
    // Gives the pages of subcommands their whole names.
    command.build();
    let mut text = Vec::new();
    Man::new(command.clone()).render(&mut text)?;
    for subcommand in command.get_subcommands() {
        Man::new(subcommand.clone()).render(&mut text)?;
    }
    io::stdout().write_all(&text)
}

//! `sidecarbon man`: made from the command line itself, so that it cannot be out of date.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Command};
use clap_mangen::Man as Page;

use crate::exit::Exit;

use super::{Invocation, Run, complain, printed};

/// Print the manual pages, or write them into a directory
#[derive(Debug, Args)]
pub struct Man {
    /// Write one file per page there
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

impl Run for Man {
    fn run(self, invocation: &Invocation) -> Exit {
        // `help` has no page of its own.
        let command = invocation.command_line.clone();
        let command = command.disable_help_subcommand(true);
        let Some(directory) = &self.directory else {
            return printed(print(command).map(|()| Exit::Done));
        };
        let written = fs::create_dir_all(directory)
            .and_then(|()| clap_mangen::generate_to(command, directory));
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
}

fn print(mut command: Command) -> io::Result<()> {
    // Gives the pages of subcommands their whole names.
    command.build();
    let mut text = Vec::new();
    Page::new(command.clone()).render(&mut text)?;
    for subcommand in command.get_subcommands() {
        Page::new(subcommand.clone()).render(&mut text)?;
    }
    io::stdout().write_all(&text)
}

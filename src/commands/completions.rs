//! `sidecarbon completions`: made from the command line itself, so that it cannot be out
//! of date.

use std::io::{self, Write};

use clap::Args;
use clap_complete::Shell;

use crate::exit::Exit;

use super::{Invocation, Run, printed};

/// Print a completion script for a shell
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

impl Run for Completions {
    fn run(self, invocation: &Invocation) -> Exit {
        let mut command = invocation.command_line.clone();
        let name = command.get_name().to_owned();
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, name, &mut script);
        printed(io::stdout().write_all(&script).map(|()| Exit::Done))
    }
}

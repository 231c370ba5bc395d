//! `sidecarbon schema`: the configuration file, described for editors.

use std::io::{self, Write};

use clap::Args;

use crate::config;
use crate::exit::Exit;

use super::{Invocation, Run, printed};

/// Print the JSON schema of the configuration file
#[derive(Debug, Args)]
pub struct Schema {
    /// Print the reference page of all keys, as Markdown, instead
    #[arg(long)]
    page: bool,
}

impl Run for Schema {
    fn run(self, _: &Invocation) -> Exit {
        let text = if self.page {
            config::reference()
        } else {
            format!("{:#}\n", config::schema())
        };
        printed(io::stdout().write_all(text.as_bytes()).map(|()| Exit::Done))
    }
}

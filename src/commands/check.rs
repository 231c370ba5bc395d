//! `sidecarbon check`: the settings in force, each with its origin.

use std::io::Write;
use std::sync::Arc;

use clap::Args;

use crate::config::Settings;
use crate::exit::Exit;
use crate::pipeline::memory::Memory;
use crate::pipeline::sink::Sink;

use super::{Invocation, Run, complain, printed};

/// Validate the configuration and print the settings in force, the key masked
#[derive(Debug, Args)]
pub struct Check {
    /// Print what is wrong, and nothing else
    #[arg(long, short)]
    quiet: bool,
    /// Accept that the API key is missing or cannot be read
    #[arg(long)]
    without_key: bool,
}

impl Run for Check {
    fn run(self, invocation: &Invocation) -> Exit {
        let run = |settings: &Settings| check(settings, self.quiet);
        if self.without_key {
            invocation.without_key(run)
        } else {
            invocation.with_settings(run)
        }
    }
}

/// Validates what the settings name and prints them, or nothing but warnings.
fn check(settings: &Settings, quiet: bool) -> Exit {
    if let Err(error) = Sink::new(&settings.sink, Arc::default()) {
        complain(settings.problem_with(error.key, &error.message));
        return Exit::Configuration;
    }
    let memory = Memory::of(settings);
    let text = if quiet {
        String::new()
    } else {
        settings.render() + &memory.render()
    };
    let written = std::io::stdout().write_all(text.as_bytes());
    for warning in settings.warnings.iter().chain(&memory.warning()) {
        complain(format_args!("warning: {warning}"));
    }
    for note in &settings.notes {
        complain(format_args!("note: {note}"));
    }
    printed(written.map(|()| Exit::Done))
}

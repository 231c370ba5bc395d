//! The commands beside the daemon: they end by themselves, print for people and
//! answer with an exit code.
//!
//! None has a mind of its own about lines, configuration or connections: they
//! call what the daemon calls, and show what comes of it.

mod check;
mod completions;
mod explain;
mod get;
mod health;
mod man;
mod probe;
mod schema;
mod screen;
mod send;
mod status;

use std::fmt::Display;
use std::future::Future;
use std::io;

use clap::Subcommand;

use crate::config::{self, ConfigError, Overrides, Settings};
use crate::exit::Exit;
use crate::format::escape;

/// Declares the commands: one row each, in the order of `--help`.
macro_rules! commands {
    ($($name:ident: $module:ident,)*) => {
        /// What to do beside running.
        #[derive(Debug, Subcommand)]
        pub enum Command {
            $(#[allow(missing_docs, reason = "its help text is that of the struct")]
            $name($module::$name),)*
        }

        impl Command {
            /// Runs the command.
            pub fn run(self, invocation: &Invocation) -> Exit {
                match self {
                    $(Self::$name(command) => command.run(invocation),)*
                }
            }
        }
    };
}

commands! {
    Check: check,
    Explain: explain,
    Send: send,
    Status: status,
    Health: health,
    Probe: probe,
    Schema: schema,
    Completions: completions,
    Man: man,
}

/// A command with its arguments.
trait Run {
    fn run(self, invocation: &Invocation) -> Exit;
}

/// What a command knows besides its own arguments.
#[derive(Debug)]
pub struct Invocation {
    /// The flags that all commands share.
    pub overrides: Overrides,
    /// The whole command line, for the commands that describe it.
    pub command_line: clap::Command,
}

impl Invocation {
    /// Runs a command that needs valid settings.
    fn with_settings(&self, run: impl FnOnce(&Settings) -> Exit) -> Exit {
        match config::load(&self.overrides) {
            Ok(settings) => run(&settings),
            Err(error) => refuse(&error),
        }
    }

    /// The same for a command that talks to the daemon beside it, which has the key.
    fn without_key(&self, run: impl FnOnce(&Settings) -> Exit) -> Exit {
        match config::load_without_key(&self.overrides) {
            Ok(settings) => run(&settings),
            Err(error) => refuse(&error),
        }
    }
}

/// Says why the configuration cannot be used.
pub fn refuse(error: &ConfigError) -> Exit {
    for problem in &error.0 {
        complain(problem);
    }
    Exit::Configuration
}

/// Says what is wrong, on standard error, in one line.
#[expect(clippy::print_stderr, reason = "masked and escaped")]
fn complain(what: impl Display) {
    eprintln!("{}", escape(config::mask(&what.to_string())));
}

/// What came of a command that prints. Whoever stopped reading has seen enough.
fn printed(outcome: io::Result<Exit>) -> Exit {
    match outcome {
        Ok(exit) => exit,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
        Err(error) => {
            complain(format_args!("cannot print: {error}"));
            Exit::No
        }
    }
}

/// Runs a command that waits for sockets. A resolver that hangs is not waited
/// for at its end.
fn block_on<T>(work: impl Future<Output = T>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_background();
    Ok(outcome)
}

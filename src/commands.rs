//! The commands beside the daemon: they end by themselves, print for people and
//! answer with an exit code.
//!
//! None has a mind of its own about lines, configuration or connections: they
//! call what the daemon calls, and show what comes of it.

pub mod check;
pub mod explain;
mod get;
pub mod health;
pub mod pages;
pub mod probe;
mod screen;
pub mod send;
pub mod status;

use std::fmt::Display;
use std::future::Future;
use std::io;

use crate::config::{self, ConfigError};
use crate::exit::Exit;
use crate::format::escape;

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

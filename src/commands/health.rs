//! `sidecarbon health`: for health checks, which want an exit code and no page.

use clap::Args;
use hyper::StatusCode;
use hyper::body::Bytes;

use crate::config::Settings;
use crate::exit::Exit;

use super::get::{admin, get};
use super::{Invocation, Run, block_on, complain};
use crate::format::escape;

/// Exit with 0 if the local daemon is well, else with 1; for health checks
#[derive(Debug, Args)]
pub struct Health {}

impl Run for Health {
    fn run(self, invocation: &Invocation) -> Exit {
        match invocation.without_key(health) {
            Exit::Done => Exit::Done,
            // Health checks know two answers.
            _ => Exit::No,
        }
    }
}

/// Asks the local daemon; says why where it is not well.
fn health(settings: &Settings) -> Exit {
    match ask(settings) {
        Ok(()) => Exit::Done,
        Err(why) => {
            complain(why);
            Exit::No
        }
    }
}

fn ask(settings: &Settings) -> Result<(), String> {
    let at = admin(settings)?;
    let pages = async {
        judge(get(at, "/healthz").await?)?;
        judge(get(at, "/readyz").await?)
    };
    block_on(pages).map_err(|error| error.to_string())?
}

fn judge((status, body): (StatusCode, Bytes)) -> Result<(), String> {
    // A daemon that drains is no longer ready, and well.
    if status == StatusCode::OK || body.starts_with(b"draining") {
        return Ok(());
    }
    let words = body.split(|byte| *byte == b'\n').next();
    let words = words.unwrap_or_default().trim_ascii_end();
    Err(format!("not well: {} ({status})", escape(words)))
}

//! `sidecarbon health`: for health checks, which want an exit code and no page.

use hyper::StatusCode;
use hyper::body::Bytes;

use crate::config::Settings;
use crate::exit::Exit;

use super::get::{admin, get};
use super::{block_on, complain};
use crate::format::escape;

/// Asks the local daemon; says why where it is not well.
pub fn run(settings: &Settings) -> Exit {
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

//! `sidecarbon health`: for health checks, which want an exit code and no page.

use hyper::StatusCode;
use hyper::body::Bytes;

use crate::config::Settings;
use crate::exit::Exit;

use super::block_on;
use super::get::{admin, get};

/// Asks the local daemon; says why where it is not well.
pub fn run(settings: &Settings) -> Exit {
    match ask(settings) {
        Ok(()) => Exit::Done,
        Err(why) => {
            eprintln!("{why}");
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
    let words = String::from_utf8_lossy(&body);
    let words = words.lines().next().unwrap_or_default();
    Err(format!("not well: {} ({status})", words.escape_debug()))
}

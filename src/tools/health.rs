//! `sidecarbon health`: for health checks, which want an exit code and no page.

use hyper::StatusCode;

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
    let answer = block_on(get(at, "/healthz")).map_err(|error| error.to_string())?;
    match answer? {
        (StatusCode::OK, _) => Ok(()),
        (status, body) => {
            let words = String::from_utf8_lossy(&body);
            let words = words.lines().next().unwrap_or_default();
            Err(format!("not well: {} ({status})", words.escape_debug()))
        }
    }
}

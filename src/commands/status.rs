//! `sidecarbon status`: how the daemon on this host is, once or every second.

mod table;

use std::io;
use std::time::Duration;

use clap::Args;
use hyper::StatusCode;
use serde::de::IgnoredAny;
use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval};

use crate::admin::status::Status as Answer;
use crate::config::{ListenAddress, Settings};
use crate::exit::Exit;

use super::get::{admin, get};
use super::screen::{BAD, Screen, paint};
use super::{Invocation, Run, block_on, complain, printed};
use crate::format::{escape, escape_json};

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Show the status of the local daemon: lines, listeners, queue and upstream
///
/// Exits with 0, or with 1 when no daemon answers at admin.listen.
#[derive(Debug, Args)]
pub struct Status {
    /// Print what /api/status answers
    #[arg(long)]
    json: bool,
    /// Refresh every second, until interrupted
    #[arg(long, short)]
    watch: bool,
}

impl Run for Status {
    fn run(self, invocation: &Invocation) -> Exit {
        invocation.without_key(|settings| status(settings, self.json, self.watch))
    }
}

/// Asks the daemon and prints what it says.
fn status(settings: &Settings, json: bool, watch: bool) -> Exit {
    let at = match admin(settings) {
        Ok(at) => at,
        Err(why) => {
            complain(why);
            return Exit::Configuration;
        }
    };
    let work = async {
        match (watch, json) {
            (false, _) => once(at, json).await,
            (true, false) => keep_painting(at).await,
            (true, true) => keep_printing(at).await,
        }
    };
    printed(block_on(work).and_then(|outcome| outcome))
}

async fn once(at: &ListenAddress, json: bool) -> io::Result<Exit> {
    let screen = Screen::new();
    let answer = ask(at).await;
    let text = answer.and_then(|page| {
        if json {
            let _: IgnoredAny = serde_json::from_str(&page).map_err(not_ours)?;
            Ok(escape_json(&page))
        } else {
            let status = read(&page)?;
            Ok(table::render(&status, screen))
        }
    });
    match text {
        Ok(text) => {
            screen.print(text.trim_end())?;
            screen.print("\n")?;
            Ok(Exit::Done)
        }
        Err(why) => {
            complain(why);
            Ok(Exit::No)
        }
    }
}

/// A table that is painted over on a terminal, and elsewhere follows the last.
async fn keep_painting(at: &ListenAddress) -> io::Result<Exit> {
    let mut rows = 0;
    let mut ticks = ticks();
    loop {
        ticks.tick().await;
        let screen = Screen::new();
        let status = ask(at).await.and_then(|page| read(&page));
        let text = match status {
            Ok(status) => table::render(&status, screen),
            Err(why) => screen.wrap(&paint(BAD, &escape(why)), 0) + "\n",
        };
        if screen.is_terminal {
            rows = paint_over(screen, rows, &text)?;
        } else {
            screen.print(&format!("{text}\n"))?;
        }
    }
}

/// One object a line.
async fn keep_printing(at: &ListenAddress) -> io::Result<Exit> {
    let screen = Screen::new();
    let mut ticks = ticks();
    loop {
        ticks.tick().await;
        let page = ask(at).await.and_then(|page| {
            let value: Value = serde_json::from_str(&page).map_err(not_ours)?;
            Ok(escape_json(&value.to_string()))
        });
        match page {
            Ok(page) => screen.print(&format!("{page}\n"))?,
            Err(why) => complain(why),
        }
    }
}

fn ticks() -> tokio::time::Interval {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Prints over this number of rows; answers how many there are now. What would not fit
/// on the screen is left out, as it could not be painted over.
fn paint_over(screen: Screen, rows: usize, text: &str) -> io::Result<usize> {
    let most = screen
        .height()
        .map_or(usize::MAX, |rows| rows.saturating_sub(1).max(1));
    let lines: Vec<&str> = text.lines().take(most).collect();
    if rows > 0 {
        screen.control(&format!("\x1b[{rows}A"))?;
    }
    // Line by line, so that nothing flickers.
    for line in &lines {
        screen.print(line)?;
        screen.control("\x1b[K\n")?;
    }
    screen.control("\x1b[J")?;
    Ok(lines.len())
}

async fn ask(at: &ListenAddress) -> Result<String, String> {
    match get(at, "/api/status").await? {
        (StatusCode::OK, body) => Ok(String::from_utf8_lossy(&body).into_owned()),
        (status, _) => Err(format!("{} answers {status}; is it sidecarbon?", at.text)),
    }
}

/// Whoever listens on the port may have written the answer: all of its texts are
/// escaped before anything looks at them.
fn read(page: &str) -> Result<Answer, String> {
    let answer = serde_json::from_str(page).map_err(not_ours)?;
    serde_json::from_value(escaped(answer)).map_err(not_ours)
}

fn escaped(value: Value) -> Value {
    match value {
        Value::String(text) => escape(text).into(),
        Value::Array(items) => items.into_iter().map(escaped).collect(),
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| (escape(name), escaped(value)))
            .collect(),
        other => other,
    }
}

fn not_ours(error: impl std::fmt::Display) -> String {
    format!("the answer is no status of this version of sidecarbon: {error}")
}

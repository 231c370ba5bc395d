//! Goes on telling the service manager how things are: that the pipeline moves,
//! and in words how the queue and the upstream are.
//!
//! It runs in the pipeline's own runtime, on the thread that moves the lines:
//! when that stands still, nobody feeds the watchdog. The upstream is no part of
//! it. An idle daemon wakes for the watchdog and for nothing else.

use std::sync::Arc;
use std::time::Duration;

use tokio::select;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::debug;

use crate::panics;
use crate::pipeline::queue::Queue;
use crate::stats::Counters;

use super::notify::Notifier;
use super::status_text;

/// However often the upstream comes and goes.
const BETWEEN_WORDS: Duration = Duration::from_secs(1);

/// While lines wait, their number changes.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Never ends.
pub async fn run(
    notifier: Arc<Notifier>,
    watchdog: Option<Duration>,
    queue: Queue,
    counters: Arc<Counters>,
) {
    // Twice in the time, as sd_watchdog_enabled(3) asks for.
    let mut feeding = watchdog.map(|patience| {
        let mut feeding = interval(patience / 2);
        feeding.set_missed_tick_behavior(MissedTickBehavior::Delay);
        feeding
    });
    let mut changes = counters.upstream.subscribe();
    let mut said = String::new();
    let mut said_at: Option<Instant> = None;
    let mut look_at = Some(Instant::now());
    loop {
        select! {
            () = tick(&mut feeding) => {
                // Awake anyway.
                look_at = Some(Instant::now());
                mention(&notifier, "WATCHDOG=1");
            }
            () = sleep_until(look_at.unwrap_or_else(Instant::now)), if look_at.is_some() => {
                panics::inject("watchdog");
                let snapshot = queue.snapshot();
                let status = counters.upstream.status();
                let words = status_text::describe(&snapshot, &status);
                if words != said {
                    mention(&notifier, &format!("STATUS={words}"));
                    said = words;
                    said_at = Some(Instant::now());
                }
                let is_idle = !status.state.is_down() && snapshot.ledger.queued() == 0;
                look_at = (!is_idle).then(|| Instant::now() + LOOK_AGAIN);
            }
            _ = changes.changed() => {
                let soonest = said_at.map_or_else(Instant::now, |at| at + BETWEEN_WORDS);
                look_at = Some(look_at.map_or(soonest, |at| at.min(soonest)));
            }
        }
    }
}

async fn tick(interval: &mut Option<tokio::time::Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}

fn mention(notifier: &Notifier, what: &str) {
    if let Err(error) = notifier.mention(what) {
        // It is busy, or being started anew; there is a next time.
        debug!(%error, "the service manager was not told");
    }
}

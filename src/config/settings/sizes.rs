//! How large batches and the queue are, and how long lines gather.

use std::time::Duration;

use crate::config::source::{Origin, Source, quoted};
use crate::config::values::{self, SinkUrl, show_bytes};

use super::ranges::{bytes_within, within};

/// Under load, lines that come one by one are sent together: a write and all
/// that it causes costs a hundred times what a line does. Timers have
/// milliseconds, so it is one to one and a half of them.
const GATHER: Duration = Duration::from_micros(500);

/// HTTP requests are dear, so lines gather for so long before one is made.
const HTTP_LINGER: Duration = Duration::from_millis(500);

/// All of them, within each other.
pub struct Sizes {
    /// `batch.bytes`
    pub batch_bytes: usize,
    /// How long lines gather; `batch.linger`.
    pub linger: Duration,
    /// The least time between two batches that are not full.
    pub gather: Duration,
    /// `queue.bytes`
    pub queue_bytes: usize,
}

/// What the source says of them.
pub fn find(source: &mut Source, url: &SinkUrl) -> Sizes {
    const LEAST_BLOCKS: usize = 4;
    let queue_bytes = bytes_within(source, "queue.bytes", 64 << 10, 1 << 40);
    let batch_is_set = source.is_set("batch.bytes");
    let written = bytes_within(source, "batch.bytes", 1 << 10, 16 << 20);
    let batch_bytes = if batch_is_set && written * LEAST_BLOCKS > queue_bytes {
        source.refuse(
            "batch.bytes",
            format!(
                "\"{}\" is more than a quarter of queue.bytes (\"{}\"); write at most \"{}\"",
                show_bytes(written),
                show_bytes(queue_bytes),
                show_bytes(queue_bytes / LEAST_BLOCKS)
            ),
        );
        written
    } else if batch_is_set {
        written
    } else {
        // The oldest block goes when the queue is full: with few blocks that
        // would be a large part of it.
        written.min(queue_bytes / (2 * LEAST_BLOCKS))
    };
    if !batch_is_set {
        source.show(
            "batch.bytes",
            quoted(&show_bytes(batch_bytes)),
            Origin::Default,
        );
    }
    let auto = match url {
        SinkUrl::Http { .. } => HTTP_LINGER,
        _ => Duration::ZERO,
    };
    let linger = source.text("batch.linger", |text| match text {
        "auto" => Ok(auto),
        text => values::duration(text)
            .map_err(|message| format!("{message}, or \"auto\""))
            .and_then(|linger| within(linger, Duration::ZERO, Duration::from_secs(60), text)),
    });
    let gather = if source.is_set("batch.linger") {
        Duration::ZERO
    } else {
        GATHER
    };
    Sizes {
        batch_bytes,
        linger: linger.unwrap_or(auto),
        gather,
        queue_bytes,
    }
}

//! How large batches and the queue are, and how long lines gather.

use std::time::Duration;

use crate::config::file::File;
use crate::config::problem::Origin;
use crate::config::setting::quoted;
use crate::config::values::{SinkUrl, show_bytes};

use super::Report;

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

/// The sizes of the file.
pub fn resolve(file: &mut File, report: &mut Report) -> Sizes {
    const LEAST_BLOCKS: usize = 4;
    let queue_bytes = *file.queue.bytes;
    let batch = &mut file.batch;
    let mut batch_bytes = *batch.bytes;
    if !batch.bytes.is_set() {
        // The oldest block goes when the queue is full: with few blocks that
        // would be a large part of it.
        batch_bytes = batch_bytes.min(queue_bytes / (2 * LEAST_BLOCKS));
        batch
            .bytes
            .show(quoted(&show_bytes(batch_bytes)), Origin::Default);
    } else if batch_bytes * LEAST_BLOCKS > queue_bytes {
        report.problem(batch.bytes.refuse(format!(
            "\"{}\" is more than a quarter of queue.bytes (\"{}\"); write at most \"{}\"",
            show_bytes(batch_bytes),
            show_bytes(queue_bytes),
            show_bytes(queue_bytes / LEAST_BLOCKS)
        )));
    }
    let auto = match *file.sink.url {
        SinkUrl::Http { .. } => HTTP_LINGER,
        _ => Duration::ZERO,
    };
    Sizes {
        batch_bytes,
        linger: batch.linger.unwrap_or(auto),
        gather: if batch.linger.is_set() {
            Duration::ZERO
        } else {
            GATHER
        },
        queue_bytes,
    }
}

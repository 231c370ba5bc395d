//! The thread that compresses what waits, away from those that receive.
//!
//! It sleeps while the upstream keeps up.

use std::panic::{self, AssertUnwindSafe};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::{debug, warn};

use crate::os;
use crate::panics;

use super::block::Block;
use super::frame::{Compressor, Frame};
use super::state::Job;
use super::{Queue, now};

/// A thread that runs as long as the process.
#[derive(Debug)]
pub struct Compressing(oneshot::Receiver<()>);

impl Compressing {
    /// Starts it.
    pub fn start(queue: &Queue) -> std::io::Result<Self> {
        let (alive, ended) = oneshot::channel();
        let queue = queue.clone();
        thread::Builder::new()
            .name("compress".into())
            .spawn(move || {
                // Dropped when the thread dies.
                let _alive: oneshot::Sender<()> = alive;
                os::yield_to_other_threads();
                work(&queue);
            })?;
        Ok(Self(ended))
    }

    /// Ends when the thread has died, which it never should.
    pub async fn died(&mut self) {
        // Nothing is ever sent.
        let _ = (&mut self.0).await;
    }
}

#[cfg(test)]
impl Queue {
    /// Does what the thread would do next, for simulations, which have none.
    pub fn compress_waiting(&self) {
        let next_job = self.lock().next_job(now());
        if let Job::Compressor(blocks) = next_job {
            let frame = compress(&blocks, &mut None);
            self.lock().finish_job(blocks, frame);
            self.shared.changed.notify_one();
        }
    }
}

fn work(queue: &Queue) {
    // ActivatedSockets back while there is nothing to do.
    let mut compressor = None;
    loop {
        let blocks = next(queue, &mut compressor);
        let compressed = panic::catch_unwind(AssertUnwindSafe(|| {
            panics::inject("compress");
            compress(&blocks, &mut compressor)
        }));
        let (frame, panic) = match compressed {
            Ok(frame) => (frame, None),
            // The lines go back first, so that they can be kept for the next start.
            Err(panic) => (None, Some(panic)),
        };
        queue.lock().finish_job(blocks, frame);
        queue.shared.changed.notify_one();
        queue.shared.eased.notify_waiters();
        if let Some(panic) = panic {
            panic::resume_unwind(panic);
        }
    }
}

/// Waits until there is something to compress.
fn next(queue: &Queue, compressor: &mut Option<Compressor>) -> Vec<Block> {
    let mut state = queue.lock_state();
    loop {
        let work = &queue.shared.work;
        state = match state.next_job(now()) {
            Job::Compressor(blocks) => return blocks,
            Job::At(due) => {
                let least_age = due.saturating_duration_since(now()).max(LEAST_PATIENCE);
                work.wait_timeout(state, least_age)
                    .map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state)
            }
            Job::Nothing => {
                *compressor = None;
                work.wait(state)
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
            }
        };
    }
}

/// A clock that does not move, as in simulations, must not make this spin.
const LEAST_PATIENCE: Duration = Duration::from_millis(1);

/// `None` where they have to stay as they are.
fn compress(blocks: &[Block], compressor: &mut Option<Compressor>) -> Option<Frame> {
    let begun = Instant::now();
    if compressor.is_none() {
        match Compressor::new() {
            Ok(new) => *compressor = Some(new),
            Err(error) => warn!(%error, "cannot compress; lines are queued uncompressed"),
        }
    }
    match compressor.as_mut()?.compress(blocks) {
        Ok(frame) => {
            debug!(
                lines = frame.lines(),
                bytes = frame.bytes(),
                compressed = frame.compressed_bytes(),
                took = ?begun.elapsed(),
                "compressed"
            );
            Some(frame)
        }
        Err(error) => {
            warn!(%error, "cannot compress; lines are queued uncompressed");
            None
        }
    }
}

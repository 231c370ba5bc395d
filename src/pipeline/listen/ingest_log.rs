//! What the log says of lines that were rejected or lost: each kind at a limited
//! rate, with how many others there were.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Instant, SystemTime};

use tracing::{error, warn};

use crate::os;
use crate::pipeline::batch::Sample;
use crate::pipeline::queue::Pushed;
use crate::stats::{
    Counters, LOG_INTERVAL, ListenerCounters, RejectReason, RejectedLine, Throttle,
};

/// Tells what goes wrong with what comes in.
#[derive(Debug)]
pub struct IngestLog {
    counters: Arc<Counters>,
    rejections: [Throttle; RejectReason::ALL.len()],
    losses: Throttle,
    /// Lines dropped since that was last logged.
    lost: AtomicU64,
    crowds: Throttle,
    /// Samples dropped since that was last logged.
    no_room: AtomicU64,
    kernel_drops: Throttle,
    troubles: Throttle,
}

impl IngestLog {
    /// Nothing was told yet. What is left out is counted here.
    pub fn new(counters: Arc<Counters>) -> Self {
        let throttle = || Throttle::new(LOG_INTERVAL);
        Self {
            counters,
            rejections: std::array::from_fn(|_| throttle()),
            losses: throttle(),
            lost: AtomicU64::new(0),
            crowds: throttle(),
            no_room: AtomicU64::new(0),
            kernel_drops: throttle(),
            troubles: throttle(),
        }
    }

    /// The oldest lines had to go for others.
    pub fn losses(&self, pushed: Pushed) {
        if pushed.dropped > 0 {
            self.lost.fetch_add(pushed.dropped, Relaxed);
            if self.may_say(&self.losses) {
                let lines = self.lost.swap(0, Relaxed);
                error!(lines, "the queue is full, the oldest lines are dropped");
            }
        }
    }

    /// Samples of new names found no room.
    pub fn no_room(&self, samples: u64) {
        if samples > 0 {
            self.no_room.fetch_add(samples, Relaxed);
            if self.may_say(&self.crowds) {
                let samples = self.no_room.swap(0, Relaxed);
                error!(
                    samples,
                    "statsd.bytes is used up, samples of new names are dropped; send fewer names, or raise it"
                );
            }
        }
    }

    /// One of the lines that were rejected.
    pub fn rejected(&self, listener: &ListenerCounters, peer: &impl Display, sample: &Sample) {
        let reason = sample.reject.reason;
        let now = Instant::now();
        let latest = &self.counters.rejected_lines;
        latest.note(reason, now, || RejectedLine {
            at: SystemTime::now(),
            reason,
            hint: sample.reject.hint,
            excerpt: sample.excerpt(),
            listener: listener.label.clone(),
            sender: peer.to_string(),
        });
        match self.rejections[reason as usize].allow(now) {
            Some(suppressed) => warn!(
                reason = reason.label(),
                listener = %listener.label,
                %peer,
                line = ?String::from_utf8_lossy(&sample.line),
                hint = sample.reject.hint,
                suppressed = (suppressed > 0).then_some(suppressed),
                "line rejected"
            ),
            None => self.suppressed(),
        }
    }

    /// Counts datagrams that the kernel dropped, and says so at a limited rate.
    pub fn kernel_dropped(&self, listener: &ListenerCounters, datagrams: u32, buffer: usize) {
        listener.kernel_drops.fetch_add(datagrams.into(), Relaxed);
        if self.may_say(&self.kernel_drops) {
            warn!(
                datagrams,
                total = listener.kernel_drops.load(Relaxed),
                listener = %listener.label,
                buffer,
                hint = os::RECEIVE_BUFFER_HINT,
                "the kernel dropped datagrams, the receive buffer was full"
            );
        }
    }

    /// Whether a listener may say now that the system gives it trouble.
    pub fn may_complain(&self) -> bool {
        self.may_say(&self.troubles)
    }

    fn may_say(&self, throttle: &Throttle) -> bool {
        let allowed = throttle.allow(Instant::now()).is_some();
        if !allowed {
            self.suppressed();
        }
        allowed
    }

    fn suppressed(&self) {
        self.counters.suppress_log_line();
    }
}

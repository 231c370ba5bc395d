//! Says how much the rate limits have kept out of the log, so that a burst of
//! bad lines leaves its size there and not just its first samples.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::warn;

use crate::panics;
use crate::pipeline::queue::Queue;
use crate::stats::Counters;

/// So long after the first of them, and no more often.
const INTERVAL: Duration = Duration::from_secs(10);

/// What was told so far.
#[derive(Debug, Default)]
struct Reported {
    left_out: u64,
    rejected: u64,
}

impl Reported {
    /// How much there is to tell since then, of log lines and of rejected lines: nothing
    /// if no log line was left out.
    fn update(&mut self, left_out: u64, rejected: u64) -> Option<Self> {
        if left_out == self.left_out {
            return None;
        }
        let since = Self {
            left_out: left_out - self.left_out,
            rejected: rejected - self.rejected,
        };
        *self = Self { left_out, rejected };
        Some(since)
    }
}

/// Tells, as long as it is polled.
pub async fn report(queue: Queue, counters: Arc<Counters>) {
    let rejected_total = || queue.snapshot().ledger.rejected_total();
    let mut told = Reported {
        left_out: 0,
        rejected: rejected_total(),
    };
    let mut suppressed = counters.log_lines_suppressed.subscribe();
    while suppressed.changed().await.is_ok() {
        panics::inject("suppressed_logs");
        sleep(INTERVAL).await;
        let left_out = *suppressed.borrow_and_update();
        if let Some(Reported { left_out, rejected }) = told.update(left_out, rejected_total()) {
            warn!(left_out, rejected, "similar log lines were suppressed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_left_out_is_not_told() {
        let mut told = Reported::default();
        let mut update = |left_out, rejected| {
            let since = told.update(left_out, rejected);
            since.map(|since| (since.left_out, since.rejected))
        };
        assert_eq!(update(3, 7), Some((3, 7)));
        // Notified by the third line, which is told already.
        assert_eq!(update(3, 9), None);
        assert_eq!(update(4, 10), Some((1, 3)));
    }
}

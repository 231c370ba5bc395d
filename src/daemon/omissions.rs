//! Says how much the rate limits have kept out of the log, so that a burst of
//! bad lines leaves its size there and not just its first samples.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::sleep;
use tracing::warn;

use crate::panics;
use crate::pipeline::queue::Queue;
use crate::stats::Counters;

/// So long after the first of them, and no more often.
const INTERVAL: Duration = Duration::from_secs(10);

/// Tells, as long as it is polled.
pub async fn tell(queue: Queue, counters: Arc<Counters>) {
    let mut told = 0;
    let mut rejected_before = queue.snapshot().ledger.rejected_total();
    loop {
        counters.log_line_left_out.notified().await;
        panics::inject("omissions");
        sleep(INTERVAL).await;
        let left_out = counters.log_lines_suppressed.load(Relaxed);
        let rejected = queue.snapshot().ledger.rejected_total();
        warn!(
            left_out = left_out - told,
            rejected = rejected - rejected_before,
            "log lines like those before were left out"
        );
        (told, rejected_before) = (left_out, rejected);
    }
}

//! The daemon's own numbers as Graphite lines, for those who watch it where
//! they watch everything else.
//!
//! Off by default, since names are billed; ten of them at most. Counts are
//! those of the interval, so that a restart shows no jump.

use std::fmt::Display;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, sleep_until};

use crate::config::SelfMetrics;
use crate::pipeline::queue::{Queue, Snapshot};
use crate::stats::Counters;

/// Reports now and then.
#[derive(Debug)]
pub struct Reporter {
    wish: Option<SelfMetrics>,
    due: Instant,
    last: Totals,
}

/// What is told as its growth.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    received: u64,
    rejected: u64,
    delivered: u64,
    dropped: u64,
    kernel_drops: u64,
    failures: u64,
    delay: f64,
}

impl Reporter {
    /// Reports as the settings wish, for the first time after an interval. What
    /// a former process has counted is not of it.
    pub fn new(wish: Option<&SelfMetrics>, queue: &Queue, counters: &Counters) -> Self {
        let mut reporter = Self {
            wish: wish.cloned(),
            due: Instant::now(),
            last: Totals::of(&queue.snapshot(), counters),
        };
        reporter.plan();
        reporter
    }

    /// What a reload has changed.
    pub fn follow(&mut self, wish: Option<&SelfMetrics>, queue: &Queue, counters: &Counters) {
        if self.wish.as_ref() != wish {
            if self.wish.is_none() {
                self.last = Totals::of(&queue.snapshot(), counters);
            }
            self.wish = wish.cloned();
            self.due = Instant::now();
            self.plan();
        }
    }

    /// Waits until a report is due; for ever if none is wished for.
    pub async fn due(&self) {
        match self.wish {
            Some(_) => sleep_until(self.due).await,
            None => std::future::pending().await,
        }
    }

    /// Puts a report into the queue.
    pub fn report(&mut self, queue: &Queue, counters: &Counters) {
        let Some(wish) = &self.wish else { return };
        let snapshot = queue.snapshot();
        let totals = Totals::of(&snapshot, counters);
        let lines = render(&wish.prefix, &snapshot, counters, totals, self.last);
        queue.generate(lines.as_bytes());
        self.last = totals;
        self.plan();
    }

    /// The next report is due an interval later. One that was missed, by a
    /// process that was stopped, is not made up for.
    fn plan(&mut self) {
        if let Some(wish) = &self.wish {
            self.due = (self.due + wish.interval).max(Instant::now());
        }
    }
}

impl Totals {
    fn of(snapshot: &Snapshot, counters: &Counters) -> Self {
        let ledger = &snapshot.ledger;
        Self {
            received: ledger.received_total(),
            rejected: ledger.rejected_total(),
            delivered: ledger.delivered(),
            dropped: ledger.dropped_total(),
            kernel_drops: counters.kernel_drops(),
            failures: counters.sink_failures_total(),
            delay: snapshot.delays.seconds(),
        }
    }
}

fn render(
    prefix: &str,
    snapshot: &Snapshot,
    counters: &Counters,
    now: Totals,
    before: Totals,
) -> String {
    let time = SystemTime::now();
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let mut lines = String::new();
    let mut line = |name: &str, value: &dyn Display| {
        lines += &format!("{prefix}.{name} {value} {seconds}\n");
    };
    line("lines.received", &(now.received - before.received));
    line("lines.rejected", &(now.rejected - before.rejected));
    line("lines.delivered", &(now.delivered - before.delivered));
    line("lines.dropped", &(now.dropped - before.dropped));
    line(
        "datagrams.dropped",
        &(now.kernel_drops - before.kernel_drops),
    );
    line(
        "queue.lines",
        &(snapshot.ledger.queued() + snapshot.ledger.in_flight()),
    );
    line("queue.bytes", &snapshot.allocated);
    if let Some(is_up) = counters.upstream.state().is_up() {
        line("sink.up", &u8::from(is_up));
    }
    line("sink.errors", &(now.failures - before.failures));
    let delivered = now.delivered - before.delivered;
    if delivered > 0 {
        #[expect(clippy::cast_precision_loss, reason = "an average")]
        let mean = (now.delay - before.delay) / delivered as f64;
        line("delay_seconds", &format_args!("{mean:.6}"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pipeline::queue::Limits;

    #[test]
    fn what_came_before_is_in_no_report() {
        let queue = Queue::new(Limits {
            block_bytes: 1 << 10,
            queue_bytes: 1 << 20,
            linger: Duration::ZERO,
            gather: Duration::ZERO,
            max_lines_per_second: None,
        });
        queue.generate(b"before 1 1\n");
        queue.lease().unwrap().settle_all();
        let counters = Counters::default();
        let wish = SelfMetrics {
            prefix: "p".into(),
            interval: Duration::from_secs(1),
        };
        let mut reporter = Reporter::new(Some(&wish), &queue, &counters);
        reporter.report(&queue, &counters);
        let lease = queue.lease().unwrap();
        let report = std::str::from_utf8(lease.bytes()).unwrap();
        assert!(report.contains("p.lines.delivered 0 "), "{report}");
    }
}

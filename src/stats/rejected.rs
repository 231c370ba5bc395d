//! The latest rejected lines, for people who look: at a limited rate, so that a
//! flood of them costs no more than a few, and few of them, cut short.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::{RejectReason, Throttle};

/// So many are kept.
const KEPT: usize = 20;

/// Of each reason, this number of are taken in an interval: a flood of one leaves those
/// of the others in their places for a while.
const BURST: u32 = 4;
const INTERVAL: Duration = Duration::from_secs(10);

/// A line that was rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedLine {
    /// When.
    pub at: SystemTime,
    /// Why.
    pub reason: RejectReason,
    /// What to write instead.
    pub hint: &'static str,
    /// The beginning of it, printable, keys masked.
    pub excerpt: String,
    /// Where it came in.
    pub listener: String,
    /// Where from, as far as that is known.
    pub sender: String,
}

/// The latest of them.
#[derive(Debug)]
pub struct RejectedLines {
    latest: Mutex<VecDeque<RejectedLine>>,
    throttles: [Throttle; RejectReason::ALL.len()],
}

impl Default for RejectedLines {
    fn default() -> Self {
        Self {
            latest: Mutex::default(),
            throttles: std::array::from_fn(|_| Throttle::with_burst(INTERVAL, BURST)),
        }
    }
}

impl RejectedLines {
    /// Takes a line, unless there were enough with the same reason lately.
    pub fn note(&self, reason: RejectReason, now: Instant, line: impl FnOnce() -> RejectedLine) {
        if self.throttles[reason as usize].allow(now).is_none() {
            return;
        }
        let line = line();
        let mut latest = self.lock();
        latest.truncate(KEPT - 1);
        latest.push_front(line);
    }

    /// The latest first.
    pub fn look(&self) -> Vec<RejectedLine> {
        self.lock().iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<RejectedLine>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_reason_leaves_the_others_and_costs_little() {
        let lines = RejectedLines::default();
        let start = Instant::now();
        let made = std::cell::Cell::new(0);
        let note = |reason, second| {
            lines.note(reason, start + Duration::from_secs(second), || {
                made.set(made.get() + 1);
                RejectedLine {
                    at: SystemTime::UNIX_EPOCH,
                    reason,
                    hint: "",
                    excerpt: second.to_string(),
                    listener: String::new(),
                    sender: String::new(),
                }
            });
        };
        note(RejectReason::Name, 0);
        for flood in 0..1000 {
            note(RejectReason::Value, flood / 100);
        }
        let reasons: Vec<RejectReason> = lines.look().iter().map(|line| line.reason).collect();
        let mut expected = vec![RejectReason::Value; 4];
        expected.push(RejectReason::Name);
        assert_eq!(reasons, expected);
        assert_eq!(made.get(), 5);

        for second in 0..1000 {
            note(RejectReason::Value, 100 + second);
        }
        assert_eq!(lines.look().len(), KEPT);
        assert_eq!(lines.look()[0].excerpt, "1093");
    }
}

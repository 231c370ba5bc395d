//! A limit on log lines that another program, or a long outage, could repeat.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often each kind of event that clients can cause may be logged.
pub const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Lets this number of events through in an interval and counts the others.
#[derive(Debug)]
pub struct Throttle {
    interval: Duration,
    burst: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    began: Option<Instant>,
    passed: u32,
    suppressed: u64,
}

impl Throttle {
    /// Lets one event through in each interval.
    pub fn new(interval: Duration) -> Self {
        Self::with_burst(interval, 1)
    }

    /// Lets `burst` events through in each interval.
    pub fn with_burst(interval: Duration, burst: u32) -> Self {
        Self {
            interval,
            burst,
            state: Mutex::default(),
        }
    }

    /// Whether to log this event; then, how many were left out before it.
    pub fn allow(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.began.is_none_or(|began| now >= began + self.interval) {
            state.began = Some(now);
            state.passed = 0;
        }
        if state.passed >= self.burst {
            state.suppressed += 1;
            return None;
        }
        state.passed += 1;
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_passes_in_an_interval_and_the_rest_is_counted() {
        let throttle = Throttle::new(Duration::from_secs(10));
        let start = Instant::now();
        let at = |seconds| throttle.allow(start + Duration::from_secs(seconds));
        assert_eq!(at(0), Some(0));
        assert_eq!(at(3), None);
        assert_eq!(at(9), None);
        assert_eq!(at(10), Some(2));
        assert_eq!(at(25), Some(0));
    }

    #[test]
    fn a_burst_passes_at_once() {
        let throttle = Throttle::with_burst(Duration::from_secs(60), 3);
        let start = Instant::now();
        let passed = (0..10).filter(|_| throttle.allow(start).is_some()).count();
        assert_eq!(passed, 3);
        assert_eq!(throttle.allow(start + Duration::from_secs(60)), Some(7));
    }
}

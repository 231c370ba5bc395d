//! When a flush is due: at whole multiples of the interval, by the wall clock, so
//! that the points of all hosts are of the same seconds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The first multiple of the interval after now.
pub fn next(now: SystemTime, interval: Duration) -> SystemTime {
    let since = since_epoch(now).as_nanos();
    let rest = since % interval.as_nanos().max(1);
    let wait = interval.as_nanos().max(1) - rest;
    now + Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX))
}

/// The last multiple of the interval that is not after now.
pub fn last(now: SystemTime, interval: Duration) -> SystemTime {
    next(now, interval) - interval
}

/// How long to wait for a flush that is due then; none if it is. A clock that was
/// set back makes the flush no later than an interval.
pub fn wait(due: SystemTime, now: SystemTime, interval: Duration) -> Option<Duration> {
    let left = due.duration_since(now).ok()?;
    (!left.is_zero() && left <= interval).then_some(left)
}

/// The second of a time.
pub fn second(now: SystemTime) -> u64 {
    since_epoch(now).as_secs()
}

fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    fn at(milliseconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(milliseconds)
    }

    #[test]
    fn flushes_are_due_at_multiples() {
        for (now, due) in [(0, 10_000), (1, 10_000), (9_999, 10_000), (10_000, 20_000)] {
            assert_eq!(next(at(now), INTERVAL), at(due), "{now}");
        }
        for (now, ended) in [(10_000, 10_000), (19_999, 10_000), (20_000, 20_000)] {
            assert_eq!(last(at(now), INTERVAL), at(ended), "{now}");
        }
        assert_eq!(second(at(19_999)), 19);
    }

    #[test]
    fn a_clock_that_steps_costs_an_interval_at_most() {
        let left = |now| wait(at(20_000), at(now), INTERVAL);
        assert_eq!(left(12_000), Some(Duration::from_secs(8)));
        // Woken a little early, as a clock that is slewed may have it.
        assert_eq!(left(19_999), Some(Duration::from_millis(1)));
        assert_eq!((left(20_000), left(90_000)), (None, None));
        assert_eq!(left(1_000), None);
    }
}

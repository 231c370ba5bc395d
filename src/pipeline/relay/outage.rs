//! What is said about the upstream: one line when its state changes, and a
//! reminder a minute while it is down, however many attempts are made.

use std::time::{Duration, Instant};

use crate::pipeline::sink::Failure;

/// How often an outage that goes on is mentioned again.
const REMINDER: Duration = Duration::from_secs(60);

/// An outage that begins so soon after the last one is the same one: an
/// upstream that comes and goes is mentioned once a minute, too.
const FLAPPING: Duration = Duration::from_secs(10);

/// The upstream as the log knows it.
#[derive(Debug, Default)]
pub struct Outage {
    now: Option<Current>,
    /// The last one, and when it was over.
    last: Option<(Current, Instant)>,
    was_up: bool,
}

#[derive(Debug)]
struct Current {
    since: Instant,
    attempts: u64,
    last_said: Instant,
    /// Whether it goes on after a pause too short to be told.
    is_resumed: bool,
    /// What was said last: another kind of failure is news.
    said: Failure,
}

/// Something worth a line in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateChange {
    /// Lines went out for the first time.
    FirstDelivery,
    /// The upstream is down, for this long already.
    Down {
        /// Since the first failure.
        lasted: Duration,
        /// How many attempts have failed.
        attempts: u64,
    },
    /// Lines go out again.
    Up {
        /// Since the first failure.
        lasted: Duration,
        /// How many attempts had failed.
        attempts: u64,
    },
}

impl Outage {
    /// An attempt failed.
    pub fn failed(&mut self, failure: &Failure, now: Instant) -> Option<StateChange> {
        if self.now.is_none()
            && let Some((mut last, _)) = self.last.take_if(|(_, over)| now < *over + FLAPPING)
        {
            last.is_resumed = true;
            self.now = Some(last);
        }
        let Some(current) = &mut self.now else {
            self.now = Some(Current {
                since: now,
                attempts: 1,
                last_said: now,
                is_resumed: false,
                said: failure.clone(),
            });
            return Some(StateChange::Down {
                lasted: Duration::ZERO,
                attempts: 1,
            });
        };
        current.attempts += 1;
        // A failure that needs a person is news after one that could pass by itself.
        let is_worse = !matches!(failure, Failure::Unavailable(_))
            && matches!(current.said, Failure::Unavailable(_));
        let same = !is_worse && current.said.cause().kind == failure.cause().kind;
        if (same || current.is_resumed) && now < current.last_said + REMINDER {
            return None;
        }
        current.last_said = now;
        current.said = failure.clone();
        Some(StateChange::Down {
            lasted: now - current.since,
            attempts: current.attempts,
        })
    }

    /// Lines were delivered.
    pub fn delivered(&mut self, now: Instant) -> Option<StateChange> {
        let first = !std::mem::replace(&mut self.was_up, true);
        let Some(over) = self.now.take() else {
            return first.then_some(StateChange::FirstDelivery);
        };
        let back = StateChange::Up {
            lasted: now - over.since,
            attempts: over.attempts,
        };
        let wakes_relay = !over.is_resumed;
        self.last = Some((over, now));
        wakes_relay.then_some(back)
    }

    /// The configuration has changed: whatever fails now is news.
    pub fn reconfigured(&mut self) {
        if let Some(current) = &mut self.now {
            current.last_said = current
                .last_said
                .checked_sub(REMINDER)
                .unwrap_or(current.since);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::FailureKind;

    #[test]
    fn one_line_a_change_and_one_a_minute() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let refused = Failure::unavailable(FailureKind::Connect, "refused");
        let unresolved = Failure::unavailable(FailureKind::Dns, "no such name");
        let down = |lasted, attempts| {
            Some(StateChange::Down {
                lasted: Duration::from_secs(lasted),
                attempts,
            })
        };
        let mut outage = Outage::default();
        assert_eq!(outage.delivered(at(0)), Some(StateChange::FirstDelivery));
        assert_eq!(outage.delivered(at(1)), None);
        assert_eq!(outage.failed(&refused, at(2)), down(0, 1));
        assert_eq!(outage.failed(&refused, at(30)), None);
        assert_eq!(outage.failed(&unresolved, at(31)), down(29, 3));
        assert_eq!(outage.failed(&unresolved, at(90)), None);
        assert_eq!(outage.failed(&unresolved, at(91)), down(89, 5));
        let back = StateChange::Up {
            lasted: Duration::from_secs(98),
            attempts: 5,
        };
        assert_eq!(outage.delivered(at(100)), Some(back));
        assert_eq!(outage.failed(&refused, at(111)), down(0, 1));
    }

    #[test]
    fn what_needs_a_person_is_told_once() {
        let start = Instant::now();
        let later = Failure::unavailable(FailureKind::Status, "503");
        let never = Failure::misconfigured(FailureKind::Status, "404");
        let mut outage = Outage::default();
        let said: Vec<bool> = [&later, &later, &never, &never, &later, &never]
            .map(|failure| outage.failed(failure, start).is_some())
            .into();
        assert_eq!(said, [true, false, true, false, false, false]);
    }

    #[test]
    fn an_upstream_that_comes_and_goes_is_one_outage() {
        let start = Instant::now();
        let closed = Failure::unavailable(FailureKind::Ended, "closed");
        let mut outage = Outage::default();
        let mut said = 0;
        for tenth in 0..1200 {
            let now = start + Duration::from_millis(100 * tenth);
            said += u32::from(outage.failed(&closed, now).is_some());
            said += u32::from(outage.delivered(now).is_some());
        }
        // The beginning, the first recovery, and one reminder a minute.
        assert_eq!(said, 3);
    }
}

//! How fast the backlog may go: as the configuration says, and slower for a
//! while after the upstream has asked for it.
//!
//! No clock: the caller brings the time.

use std::time::{Duration, Instant};

/// The least that remains of a pace that is halved again and again.
const LEAST: f64 = 10.0;

/// What is taken for the pace where hardly anything was delivered yet.
const UNKNOWN: f64 = 1000.0;

/// So long it takes until a halved pace is what it was.
const RECOVERY: Duration = Duration::from_secs(30);

/// So much may go at once; it is saved up while nothing goes.
const BURST: Duration = Duration::from_millis(50);

/// The pace of the backlog, in lines a second.
#[derive(Debug, Default)]
pub struct Pace {
    limit: Option<u32>,
    brake: Option<Brake>,
    /// Lines that may go now; below zero once more went.
    credit: f64,
    counted: Option<Instant>,
}

/// The upstream has asked for less.
#[derive(Debug, Clone, Copy)]
struct Brake {
    rate: f64,
    /// From here on it is released.
    ceiling: f64,
    since: Instant,
}

impl Pace {
    /// With a limit, or without one.
    pub fn new(limit: Option<u32>) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    /// Another limit, at a reload.
    pub fn set_limit(&mut self, limit: Option<u32>) {
        self.limit = limit;
    }

    /// Halves the pace. Where there is none, half of what is delivered now is
    /// the first.
    pub fn halve(&mut self, delivered: f64, now: Instant) {
        // Not a number where that is not known yet.
        let delivered = delivered.max(UNKNOWN);
        let current = self.rate(now).unwrap_or(delivered);
        let ceiling = self.brake.map_or(current, |brake| brake.ceiling);
        self.brake = Some(Brake {
            rate: (current / 2.0).max(LEAST),
            ceiling: ceiling.max(LEAST),
            since: now,
        });
    }

    /// Lines a second, if there is a limit.
    pub fn rate(&self, now: Instant) -> Option<f64> {
        let limit = self.limit.map(f64::from);
        let brake = self.brake.and_then(|brake| {
            let recovered = (now - brake.since).as_secs_f64() / RECOVERY.as_secs_f64();
            let rate = brake.rate * recovered.exp2();
            (rate < brake.ceiling).then_some(rate)
        });
        match (limit, brake) {
            (Some(limit), Some(brake)) => Some(limit.min(brake)),
            (limit, brake) => limit.or(brake),
        }
    }

    /// How many lines may go at once, or when the next may.
    pub fn allowance(&self, now: Instant) -> Result<u64, Instant> {
        let Some(rate) = self.rate(now) else {
            return Ok(u64::MAX);
        };
        let credit = self.credit(rate, now);
        if credit >= 1.0 {
            // Truncated: whole lines.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            return Ok(burst(rate) as u64);
        }
        Err(now + Duration::from_secs_f64((1.0 - credit) / rate))
    }

    /// So many lines went.
    #[allow(clippy::cast_precision_loss)] // Lines of one block.
    pub fn spend(&mut self, lines: u64, now: Instant) {
        if let Some(rate) = self.rate(now) {
            self.credit = self.credit(rate, now) - lines as f64;
            self.counted = Some(now);
        }
    }

    /// So many lines came back without having been sent.
    #[allow(clippy::cast_precision_loss)] // Lines of one block.
    pub fn refund(&mut self, lines: u64) {
        self.credit += lines as f64;
    }

    fn credit(&self, rate: f64, now: Instant) -> f64 {
        let Some(counted) = self.counted else {
            return burst(rate);
        };
        let earned = rate * now.saturating_duration_since(counted).as_secs_f64();
        // What went at another rate, or without one, is not to be paid off at this.
        let credit = self.credit.max(-burst(rate));
        (credit + earned).min(burst(rate))
    }
}

fn burst(rate: f64) -> f64 {
    (rate * BURST.as_secs_f64()).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines that go in ten seconds, a thousand a block.
    fn lines_in_ten_seconds(pace: &mut Pace, start: Instant) -> u64 {
        let mut now = start;
        let mut gone = 0;
        while now < start + Duration::from_secs(10) {
            match pace.allowance(now) {
                Ok(most) => {
                    let lines = most.min(1000);
                    pace.spend(lines, now);
                    gone += lines;
                    now += Duration::from_micros(100);
                }
                Err(due) => {
                    assert!(due > now);
                    now = due;
                }
            }
        }
        gone
    }

    #[test]
    fn the_pace_is_kept_whatever_it_is() {
        for limit in [1, 7, 100, 5000, 50_000, 1_000_000] {
            let mut pace = Pace::new(Some(limit));
            let gone = lines_in_ten_seconds(&mut pace, Instant::now());
            let expected = 10 * u64::from(limit);
            assert!(
                gone <= expected + u64::from(limit) / 5 + 2 && gone >= expected * 9 / 10,
                "{limit}: {gone}"
            );
        }
        assert_eq!(Pace::default().allowance(Instant::now()), Ok(u64::MAX));
    }

    #[test]
    fn a_lower_pace_begins_at_once() {
        let start = Instant::now();
        let mut pace = Pace::new(Some(100_000));
        // A block may be more than goes at once.
        pace.spend(8000, start);
        pace.set_limit(Some(10));
        let due = pace.allowance(start).unwrap_err();
        assert!(
            due <= start + Duration::from_millis(250),
            "{:?}",
            due - start
        );
    }

    #[test]
    fn what_comes_back_unsent_costs_nothing() {
        let now = Instant::now();
        let mut pace = Pace::new(Some(100));
        pace.spend(5, now);
        assert!(pace.allowance(now).is_err());
        pace.refund(5);
        assert_eq!(pace.allowance(now), Ok(5));
        // Nor does it save more up than may go at once.
        pace.refund(1000);
        pace.spend(5, now);
        assert!(pace.allowance(now).is_err());
    }

    #[test]
    fn the_upstream_can_ask_for_less_for_a_while() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pace = Pace::default();
        pace.halve(8000.0, start);
        assert_eq!(pace.rate(start), Some(4000.0));
        pace.halve(0.0, start);
        assert_eq!(pace.rate(start), Some(2000.0));
        assert_eq!(pace.rate(at(30)), Some(4000.0));
        assert_eq!(pace.rate(at(61)), None);

        let mut pace = Pace::new(Some(100));
        for _ in 0..20 {
            pace.halve(5.0, start);
        }
        assert_eq!(pace.rate(start), Some(LEAST));
        assert_eq!(pace.rate(at(1000)), Some(100.0));
    }
}

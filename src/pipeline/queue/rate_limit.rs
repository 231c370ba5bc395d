//! How fast the backlog may go: as the configuration says, and slower for a
//! while after the upstream has asked for it.
//!
//! No clock: the caller brings the time.

use std::time::{Duration, Instant};

/// The least that remains of a pace that is halved again and again.
const LEAST: f64 = 10.0;

/// What is taken for the pace where hardly anything was delivered yet.
const UNKNOWN: f64 = 1000.0;

/// How long requests succeed until a pace that was halved, however often, is what it
/// was before.
const RECOVERY: Duration = Duration::from_secs(30);

/// So much may go at once; it is saved up while nothing goes.
const BURST: Duration = Duration::from_millis(50);

/// The pace of the backlog, in lines a second.
#[derive(Debug, Default)]
pub struct RateLimiter {
    limit: Option<u32>,
    throttled: Option<Throttled>,
    /// Lines that may go now; below zero once more went.
    tokens: f64,
    counted: Option<Instant>,
}

/// The upstream has asked for less.
#[derive(Debug, Clone, Copy)]
struct Throttled {
    /// The rate right after it was halved.
    floor: f64,
    /// The rate before it was halved first.
    ceiling: f64,
    /// Time in which requests succeeded since it was halved last.
    recovered: Duration,
    /// The last request that succeeded, where none has failed since.
    succeeded: Option<Instant>,
    /// Whether no request has succeeded since it was halved last.
    is_fresh: bool,
}

impl Throttled {
    /// The rate grows evenly, by a factor per second.
    fn rate(&self) -> f64 {
        self.floor * (self.growth() * self.recovered.as_secs_f64()).exp()
    }

    /// The logarithm of that factor.
    fn growth(&self) -> f64 {
        (self.ceiling / self.floor).ln() / RECOVERY.as_secs_f64()
    }
}

impl RateLimiter {
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
    /// the first. Several wishes in a row say no more than one: nothing went at the
    /// lower pace yet.
    pub fn halve(&mut self, delivered: f64) {
        if self.throttled.is_some_and(|throttled| throttled.is_fresh) {
            return;
        }
        // Not a number where that is not known yet.
        let delivered = delivered.max(UNKNOWN);
        let current = self.rate().unwrap_or(delivered);
        let ceiling = self
            .throttled
            .map_or(current, |throttled| throttled.ceiling);
        let floor = (current / 2.0).max(LEAST);
        self.throttled = Some(Throttled {
            floor,
            ceiling: ceiling.max(floor),
            recovered: Duration::ZERO,
            succeeded: None,
            is_fresh: true,
        });
    }

    /// A request has succeeded: a pace that was halved recovers.
    pub fn succeeded(&mut self, now: Instant) {
        let Some(throttled) = &mut self.throttled else {
            return;
        };
        throttled.is_fresh = false;
        if let Some(before) = throttled.succeeded.replace(now) {
            throttled.recovered += now.saturating_duration_since(before);
        }
        if throttled.recovered >= RECOVERY {
            self.throttled = None;
        }
    }

    /// A request has failed: the time until the next success does not count.
    pub fn failed(&mut self) {
        if let Some(throttled) = &mut self.throttled {
            throttled.succeeded = None;
        }
    }

    /// How many seconds this number of lines takes while the pace recovers; nothing where it
    /// does not.
    pub fn drain(&self, lines: f64) -> Option<f64> {
        let throttled = self.throttled?;
        let limit = self.limit.map_or(f64::INFINITY, f64::from);
        let (rate, ceiling) = (throttled.rate().min(limit), throttled.ceiling.min(limit));
        let recovery = RECOVERY.saturating_sub(throttled.recovered).as_secs_f64();
        let growth = (ceiling / rate).ln() / recovery;
        if growth <= 0.0 {
            return Some(lines / rate);
        }
        let meanwhile = (ceiling - rate) / growth;
        Some(if lines < meanwhile {
            (lines * growth / rate).ln_1p() / growth
        } else {
            recovery + (lines - meanwhile) / ceiling
        })
    }

    /// Lines a second, if there is a limit.
    pub fn rate(&self) -> Option<f64> {
        let limit = self.limit.map(f64::from);
        let throttled = self.throttled.map(|throttled| throttled.rate());
        match (limit, throttled) {
            (Some(limit), Some(throttled)) => Some(limit.min(throttled)),
            (limit, throttled) => limit.or(throttled),
        }
    }

    /// How many lines may go at once, or when the next may.
    pub fn allowance(&self, now: Instant) -> Result<u64, Instant> {
        let Some(rate) = self.rate() else {
            return Ok(u64::MAX);
        };
        let tokens = self.tokens(rate, now);
        if tokens >= 1.0 {
            // Truncated: whole lines.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            return Ok(burst(rate) as u64);
        }
        Err(now + Duration::from_secs_f64((1.0 - tokens) / rate))
    }

    /// So many lines went.
    #[allow(clippy::cast_precision_loss)] // Lines of one block.
    pub fn spend(&mut self, lines: u64, now: Instant) {
        if let Some(rate) = self.rate() {
            self.tokens = self.tokens(rate, now) - lines as f64;
            self.counted = Some(now);
        }
    }

    /// So many lines came back without having been sent.
    #[allow(clippy::cast_precision_loss)] // Lines of one block.
    pub fn refund(&mut self, lines: u64) {
        self.tokens += lines as f64;
    }

    fn tokens(&self, rate: f64, now: Instant) -> f64 {
        let Some(counted) = self.counted else {
            return burst(rate);
        };
        let earned = rate * now.saturating_duration_since(counted).as_secs_f64();
        // What went at another rate, or without one, is not to be paid off at this.
        let tokens = self.tokens.max(-burst(rate));
        (tokens + earned).min(burst(rate))
    }
}

fn burst(rate: f64) -> f64 {
    (rate * BURST.as_secs_f64()).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines that go in ten seconds, a thousand a block.
    fn lines_in_ten_seconds(rate_limit: &mut RateLimiter, start: Instant) -> u64 {
        let mut now = start;
        let mut gone = 0;
        while now < start + Duration::from_secs(10) {
            match rate_limit.allowance(now) {
                Ok(most) => {
                    let lines = most.min(1000);
                    rate_limit.spend(lines, now);
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
            let mut rate_limit = RateLimiter::new(Some(limit));
            let gone = lines_in_ten_seconds(&mut rate_limit, Instant::now());
            let expected = 10 * u64::from(limit);
            assert!(
                gone <= expected + u64::from(limit) / 5 + 2 && gone >= expected * 9 / 10,
                "{limit}: {gone}"
            );
        }
        assert_eq!(
            RateLimiter::default().allowance(Instant::now()),
            Ok(u64::MAX)
        );
    }

    #[test]
    fn a_lower_pace_begins_at_once() {
        let start = Instant::now();
        let mut rate_limit = RateLimiter::new(Some(100_000));
        // A block may be more than goes at once.
        rate_limit.spend(8000, start);
        rate_limit.set_limit(Some(10));
        let due = rate_limit.allowance(start).unwrap_err();
        assert!(
            due <= start + Duration::from_millis(250),
            "{:?}",
            due - start
        );
    }

    #[test]
    fn what_comes_back_unsent_costs_nothing() {
        let now = Instant::now();
        let mut rate_limit = RateLimiter::new(Some(100));
        rate_limit.spend(5, now);
        assert!(rate_limit.allowance(now).is_err());
        rate_limit.refund(5);
        assert_eq!(rate_limit.allowance(now), Ok(5));
        // Nor does it save more up than may go at once.
        rate_limit.refund(1000);
        rate_limit.spend(5, now);
        assert!(rate_limit.allowance(now).is_err());
    }

    /// The pace after this number of seconds of successes, one a tenth of a second.
    fn succeeds(rate_limit: &mut RateLimiter, start: Instant, seconds: u32) -> Option<f64> {
        for tenth in 0..=seconds * 10 {
            rate_limit.succeeded(start + Duration::from_millis(100) * tenth);
        }
        rate_limit.rate()
    }

    fn near(value: f64, expected: f64) -> bool {
        (value - expected).abs() < expected / 100.0
    }

    #[test]
    fn the_upstream_can_ask_for_less_for_a_while() {
        let start = Instant::now();
        let mut rate_limit = RateLimiter::default();
        rate_limit.halve(8000.0);
        assert_eq!(rate_limit.rate(), Some(4000.0));
        // Neither the clock nor failures bring it back.
        rate_limit.failed();
        assert_eq!(rate_limit.rate(), Some(4000.0));
        assert!(near(
            succeeds(&mut rate_limit, start, 15).unwrap(),
            4000.0 * 2_f64.sqrt()
        ));
        rate_limit.failed();
        let later = start + Duration::from_secs(3600);
        assert!(near(succeeds(&mut rate_limit, later, 14).unwrap(), 7820.0));
        let last = later + Duration::from_secs(14);
        assert_eq!(succeeds(&mut rate_limit, last, 2), None);

        let mut rate_limit = RateLimiter::new(Some(100));
        for _ in 0..20 {
            rate_limit.halve(5.0);
            rate_limit.succeeded(start);
        }
        assert_eq!(rate_limit.rate(), Some(LEAST));
        assert_eq!(succeeds(&mut rate_limit, start, 30), Some(100.0));
    }

    #[test]
    fn recovery_takes_as_long_however_often_the_upstream_has_asked() {
        for (asked, between) in [(1, false), (10, false), (1, true), (3, true), (10, true)] {
            let start = Instant::now();
            let mut rate_limit = RateLimiter::default();
            for _ in 0..asked {
                rate_limit.failed();
                rate_limit.halve(3000.0);
                if between {
                    rate_limit.succeeded(start);
                }
            }
            let halvings = if between { asked } else { 1 };
            let halved = (3000.0 * 0.5_f64.powi(halvings)).max(LEAST);
            assert!(
                near(rate_limit.rate().unwrap(), halved),
                "{asked}: {rate_limit:?}"
            );
            // What it says of a backlog is what becomes of it.
            let said = rate_limit.drain(60_000.0).unwrap();
            let mut left = 60_000.0;
            let mut tenths = 0;
            while left > 0.0 {
                rate_limit.succeeded(start + Duration::from_millis(100) * tenths);
                left -= rate_limit.rate().unwrap_or(3000.0) / 10.0;
                tenths += 1;
            }
            let took = f64::from(tenths) / 10.0;
            assert!((said - took).abs() < 1.0, "{asked}: {said}, {took}");
            assert!(took < 50.0, "{asked}: {took}");
            assert_eq!(succeeds(&mut rate_limit, start, 31), None, "{asked}");
            assert_eq!(rate_limit.drain(1.0), None);
        }
        let mut rate_limit = RateLimiter::new(Some(10));
        rate_limit.halve(3000.0);
        assert!(rate_limit.drain(1000.0).unwrap() < 110.0);
    }
}

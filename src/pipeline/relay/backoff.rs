//! How long to wait before the next attempt: exponential, with full jitter.
//!
//! Full jitter (a delay drawn evenly from zero to the cap) spreads a fleet
//! that lost its upstream in the same second best. The caller brings the
//! randomness, so that tests and simulations repeat.

use std::time::Duration;

use crate::config::RetrySettings;

/// A connection that is refused at once must not be a busy loop, whatever the
/// draw.
pub const LEAST: Duration = Duration::from_millis(10);

/// The delays of one outage.
#[derive(Debug, Clone)]
pub struct Backoff {
    settings: RetrySettings,
    failures: u32,
}

impl Backoff {
    /// Before the first failure.
    pub fn new(settings: RetrySettings) -> Self {
        Self {
            settings,
            failures: 0,
        }
    }

    /// A batch was acknowledged: the outage is over.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The delay after one more failure. `random` is from 0 to 1.
    pub fn after_failure(&mut self, random: f64) -> Duration {
        let cap = self.cap();
        self.failures = self.failures.saturating_add(1);
        cap.mul_f64(random).max(LEAST)
    }

    /// The delay where only a person can help: the longest, less some jitter.
    pub fn longest(&self, random: f64) -> Duration {
        self.settings.max.mul_f64(0.5 + random / 2.0).max(LEAST)
    }

    fn cap(&self) -> Duration {
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.settings
            .first
            .saturating_mul(factor)
            .min(self.settings.max)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SETTINGS: RetrySettings = RetrySettings {
        first: Duration::from_millis(250),
        max: Duration::from_secs(30),
    };

    #[test]
    fn the_cap_doubles_up_to_the_longest_and_a_success_resets_it() {
        let mut backoff = Backoff::new(SETTINGS);
        let caps: Vec<u128> = (0..9)
            .map(|_| backoff.after_failure(1.0).as_millis())
            .collect();
        assert_eq!(
            caps,
            [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]
        );
        backoff.reset();
        assert_eq!(backoff.after_failure(1.0).as_millis(), 250);
    }

    proptest! {
        #[test]
        fn every_delay_is_within_its_bounds(failures in 0..200_u32, random in 0.0..1.0_f64) {
            let mut backoff = Backoff::new(SETTINGS);
            for _ in 0..failures {
                backoff.after_failure(random);
            }
            let before = backoff.cap();
            let delay = backoff.after_failure(random);
            prop_assert!(delay >= LEAST && delay <= before);
            prop_assert!(backoff.cap() >= before);
            prop_assert!((SETTINGS.max / 2..=SETTINGS.max).contains(&backoff.longest(random)));
        }
    }
}

//! How fast lines come and go, and what that means for the queue.
//!
//! Averages over a while, fed with running totals: long for how fast lines
//! come, which has its bursts, short for how fast the backlog goes, which has
//! just begun. No clock: the caller brings the time.

use std::time::{Duration, Instant};

/// The totals are looked at no more often.
const STEP: Duration = Duration::from_millis(500);

/// Running totals since the start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Totals {
    /// Bytes of lines taken.
    pub bytes_in: u64,
    /// Lines taken.
    pub lines_in: u64,
    /// Lines delivered.
    pub lines_out: u64,
}

/// Averages of what happens in a second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rates {
    /// Bytes of lines taken.
    pub bytes_in: f64,
    /// Lines taken.
    pub lines_in: f64,
    /// Lines delivered.
    pub lines_out: f64,
}

/// What the rates mean while they last.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outlook {
    /// How long the queue would last if nothing were delivered, seconds.
    /// Infinite where nothing comes, not a number where that is not known yet.
    pub horizon: f64,
    /// How long it takes until nothing waits, seconds. Infinite where more comes
    /// than goes.
    pub drain: f64,
}

/// Keeps the averages.
#[derive(Debug)]
pub struct Meter {
    /// What is older than this hardly counts.
    memory: Duration,
    rates: Rates,
    totals: Totals,
    looked: Option<Instant>,
    /// How much of the memory is filled, from 0 to 1: young averages count the
    /// time before as if it had not been.
    filled: f64,
}

impl Meter {
    /// Averages over so long.
    pub fn over(memory: Duration) -> Self {
        Self {
            memory,
            rates: Rates::default(),
            totals: Totals::default(),
            looked: None,
            filled: 0.0,
        }
    }

    /// Looks at the totals, if it is time to.
    pub fn look(&mut self, totals: Totals, now: Instant) {
        let Some(looked) = self.looked else {
            self.looked = Some(now);
            return;
        };
        let passed = now.saturating_duration_since(looked);
        if passed < STEP {
            return;
        }
        let seconds = passed.as_secs_f64();
        let share = 1.0 - (-seconds / self.memory.as_secs_f64()).exp();
        let blend = |rate: &mut f64, total: u64, before: u64| {
            let fresh = count(total - before) / seconds;
            *rate += (fresh - *rate) * share;
        };
        blend(
            &mut self.rates.bytes_in,
            totals.bytes_in,
            self.totals.bytes_in,
        );
        blend(
            &mut self.rates.lines_in,
            totals.lines_in,
            self.totals.lines_in,
        );
        blend(
            &mut self.rates.lines_out,
            totals.lines_out,
            self.totals.lines_out,
        );
        self.filled += (1.0 - self.filled) * share;
        self.totals = totals;
        self.looked = Some(now);
    }

    /// The averages.
    pub fn rates(&self) -> Rates {
        // Not a number before the first step.
        let full = |rate: f64| rate / self.filled;
        Rates {
            bytes_in: full(self.rates.bytes_in),
            lines_in: full(self.rates.lines_in),
            lines_out: full(self.rates.lines_out),
        }
    }
}

impl Rates {
    /// How long so much room lasts, where a byte of a line takes `density`
    /// bytes.
    pub fn horizon(&self, free: usize, density: f64) -> f64 {
        let grows = self.bytes_in * density;
        if grows == 0.0 {
            f64::INFINITY
        } else {
            count(free as u64) / grows
        }
    }

    /// How long this number of lines wait.
    pub fn drain(&self, waiting: u64) -> f64 {
        let shrinks = self.lines_out - self.lines_in;
        if waiting == 0 {
            0.0
        } else if shrinks > 0.0 {
            count(waiting) / shrinks
        } else {
            f64::INFINITY
        }
    }
}

/// A count as a number to calculate with.
#[allow(clippy::cast_precision_loss)] // An estimate for people.
fn count(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(value: f64, expected: f64) -> bool {
        (value - expected).abs() < expected / 100.0
    }

    #[test]
    fn a_steady_rate_is_known_at_once_and_a_change_within_a_minute() {
        let start = Instant::now();
        let mut meter = Meter::over(Duration::from_secs(15));
        assert!(meter.rates().horizon(9, 1.0).is_nan());
        let mut totals = Totals::default();
        for second in 0..=60 {
            meter.look(totals, start + Duration::from_secs(second));
            if second >= 1 {
                assert!(near(meter.rates().bytes_in, 700.0), "{second}");
                assert!(near(meter.rates().lines_in, 10.0));
            }
            totals.bytes_in += 700;
            totals.lines_in += 10;
        }
        for second in 61..=120 {
            totals.lines_out += 30;
            meter.look(totals, start + Duration::from_secs(second));
        }
        assert!(meter.rates().bytes_in < 70.0);
        assert!((25.0..31.0).contains(&meter.rates().lines_out));
    }

    #[test]
    fn what_the_rates_mean() {
        let rates = Rates {
            bytes_in: 1000.0,
            lines_in: 10.0,
            lines_out: 110.0,
        };
        assert!(near(rates.horizon(50_000, 0.1), 500.0));
        assert!(near(rates.drain(500), 5.0));
        assert_eq!(rates.drain(0).to_bits(), 0);
        let quiet = Rates::default();
        assert!(quiet.horizon(50_000, 0.1).is_infinite() && quiet.drain(5).is_infinite());
    }
}

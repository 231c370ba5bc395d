//! How long lines take from their receipt to their acknowledgement.
//!
//! Times of single lines are not kept: a block knows when its first line came
//! and its last, and its lines count as spread evenly between.

use std::time::Duration;

/// Upper bounds of the buckets, seconds: from a relay that is quiet to a backlog
/// of a day. One more bucket has no bound.
const BOUNDS: [f64; 18] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 300.0,
    3600.0, 21_600.0, 86_400.0,
];

/// A histogram of delays, a line a sample.
#[derive(Debug, Clone, Default)]
pub struct Delays {
    /// Lines by bucket, the last without bound.
    lines: [u64; BOUNDS.len() + 1],
    seconds: f64,
}

impl Delays {
    /// Lines have arrived whose delays lie evenly between two.
    pub fn note(&mut self, lines: u64, shortest: Duration, longest: Duration) {
        let (shortest, longest) = (shortest.as_secs_f64(), longest.as_secs_f64());
        let total = count(lines);
        self.seconds += total * (shortest + longest) / 2.0;
        let mut before = 0;
        for (bucket, bound) in self.lines.iter_mut().zip(BOUNDS) {
            if longest <= bound {
                *bucket += lines - before;
                return;
            }
            if shortest < bound {
                let part = (bound - shortest) / (longest - shortest);
                let within = whole(total * part).clamp(before, lines);
                *bucket += within - before;
                before = within;
            }
        }
        let [.., last] = &mut self.lines;
        *last += lines - before;
    }

    /// For each bound, in seconds and rising, how many lines took no longer.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        BOUNDS
            .into_iter()
            .zip(self.lines)
            .scan(0, |sum, (bound, lines)| {
                *sum += lines;
                Some((bound, *sum))
            })
    }

    /// All lines.
    pub fn lines(&self) -> u64 {
        self.lines.iter().sum()
    }

    /// All their delays, added up.
    pub fn seconds(&self) -> f64 {
        self.seconds
    }
}

#[expect(clippy::cast_precision_loss, reason = "an estimate anyway")]
fn count(lines: u64) -> f64 {
    lines as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "never negative, and bounded by a count"
)]
fn whole(lines: f64) -> u64 {
    lines as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// How many lines took no longer than this bound, or the one below it.
    fn within(delays: &Delays, bound: f64) -> u64 {
        let up_to = delays.cumulative().take_while(|(at, _)| *at <= bound);
        up_to.last().map_or(0, |(_, lines)| lines)
    }

    #[test]
    fn lines_that_came_together_are_in_one_bucket() {
        let mut delays = Delays::default();
        delays.note(7, millis(3), millis(3));
        assert_eq!((within(&delays, 0.0025), within(&delays, 0.005)), (0, 7));
        assert_eq!(delays.lines(), 7);
        assert!((delays.seconds() - 0.021).abs() < 1e-9);
    }

    #[test]
    fn lines_that_came_one_after_the_other_are_spread() {
        let mut delays = Delays::default();
        delays.note(1000, Duration::ZERO, Duration::from_secs(10));
        let expected = [(0.1, 10), (0.5, 50), (1.0, 100), (5.0, 500), (10.0, 1000)];
        for (bound, lines) in expected {
            assert_eq!(within(&delays, bound), lines, "{bound}");
        }
    }

    #[test]
    fn what_takes_longer_than_all_bounds_is_counted() {
        let mut delays = Delays::default();
        let days = Duration::from_secs(86_400);
        delays.note(4, days / 2, days + days / 2);
        assert_eq!(within(&delays, 86_400.0), 2);
        assert_eq!(delays.lines(), 4);
    }

    proptest! {
        #[test]
        fn every_line_is_counted_once(
            notes in prop::collection::vec((0_u64..5000, 0_u64..200_000_000, 0_u64..200_000_000), 1..20),
        ) {
            let mut delays = Delays::default();
            for (lines, one, other) in &notes {
                delays.note(*lines, millis(*one.min(other)), millis(*one.max(other)));
            }
            let total: u64 = notes.iter().map(|(lines, ..)| lines).sum();
            prop_assert_eq!(delays.lines(), total);
            let counts: Vec<u64> = delays.cumulative().map(|(_, lines)| lines).collect();
            prop_assert!(counts.is_sorted() && counts.iter().all(|lines| *lines <= total));
        }
    }
}

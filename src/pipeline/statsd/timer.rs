//! The values of a timer, and what is told of them.
//!
//! In: values, each standing for this number of. Out: a [`Summary`]. The values are
//! put in order only as far as a question needs it. Of many values, the summary is made in steps
//! ([`Steps`]): a million of them cost some milliseconds in which no line would move.

mod steps;

use crate::config::Percentile;

pub use steps::Steps;

/// What was measured in an interval.
#[derive(Debug, Clone, Default)]
pub struct Timer {
    values: Vec<f64>,
    /// How many they stand for, those that clients left out among them.
    weight: f64,
}

/// What is told of all values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// How many there were, those that clients left out among them.
    pub count: f64,
    /// The least.
    pub lower: f64,
    /// The greatest.
    pub upper: f64,
    /// All together.
    pub sum: f64,
    /// Their squares together.
    pub sum_squares: f64,
    /// Their average.
    pub mean: f64,
    /// The one in the middle, or the average of the two there.
    pub median: f64,
    /// Their standard deviation.
    pub std: f64,
}

/// What is told of the least this number of in a hundred.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part {
    /// How many these are.
    pub count: usize,
    /// Their average.
    pub mean: f64,
    /// The greatest of them.
    pub upper: f64,
    /// All together.
    pub sum: f64,
    /// Their squares together.
    pub sum_squares: f64,
}

impl Timer {
    /// Takes a value that stands for this number of.
    pub fn take(&mut self, value: f64, weight: f64) {
        if self.is_full() {
            self.values.reserve_exact(self.grown() - self.values.len());
        }
        self.values.push(value);
        self.weight = (self.weight + weight).min(f64::MAX);
    }

    /// Whether the next value needs more memory.
    pub fn is_full(&self) -> bool {
        self.values.len() == self.values.capacity()
    }

    /// For how many values there is memory.
    pub fn capacity(&self) -> usize {
        self.values.capacity()
    }

    /// For how many there will be when it needs more.
    pub fn grown(&self) -> usize {
        let values = self.values.len();
        values + values / 2 + 4
    }

    /// Forgets the values. Memory for as many more is kept.
    pub fn clear(&mut self) {
        self.values.shrink_to(self.values.len());
        self.values.clear();
        self.weight = 0.0;
    }

    /// How many values are looked at for a summary in one go, about.
    pub fn cost(&self, percentiles: &[Percentile]) -> usize {
        self.values.len() * (6 + 3 * percentiles.len())
    }

    /// What is to be told; `None` without values.
    pub fn summary(&mut self) -> Option<Summary> {
        let count = self.values.len();
        if count == 0 {
            return None;
        }
        let (sum, sum_squares) = sums(&self.values);
        let mean = sum / as_float(count);
        let squares = self.values.iter().map(|value| (value - mean).powi(2));
        let variance = squares.sum::<f64>() / as_float(count);
        let ends = |(lower, upper): (f64, f64), value: &f64| (lower.min(*value), upper.max(*value));
        let (lower, upper) = self.values.iter().fold((f64::MAX, f64::MIN), ends);
        let (below, middle, _) = self
            .values
            .select_nth_unstable_by(count / 2, f64::total_cmp);
        let median = if count.is_multiple_of(2) {
            let before = below.iter().copied().fold(f64::MIN, f64::max);
            f64::midpoint(before, *middle)
        } else {
            *middle
        };
        Some(Summary {
            count: self.weight,
            lower,
            upper,
            sum,
            sum_squares,
            mean,
            median,
            std: variance.sqrt(),
        })
    }

    /// What is to be told of the least values, a fraction of all; `None` where
    /// that is none of them.
    pub fn part(&mut self, fraction: f64) -> Option<Part> {
        let all = self.values.len();
        // Of a single one there are no parts.
        let count = if all == 1 { 1 } else { part_of(all, fraction) };
        let last = count.checked_sub(1)?;
        let (_, upper, _) = self.values.select_nth_unstable_by(last, f64::total_cmp);
        let upper = *upper;
        let (sum, sum_squares) = sums(&self.values[..count]);
        Some(Part {
            count,
            mean: sum / as_float(count),
            upper,
            sum,
            sum_squares,
        })
    }
}

fn sums(values: &[f64]) -> (f64, f64) {
    let sum = values.iter().sum();
    let sum_squares = values.iter().map(|value| value * value).sum();
    (sum, sum_squares)
}

/// As many as memory holds are told apart by a double.
#[expect(clippy::cast_precision_loss, reason = "values in memory, below 2^53")]
pub fn as_float(count: usize) -> f64 {
    count as f64
}

/// The nearest whole number of them.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "at most `all`"
)]
fn part_of(all: usize, fraction: f64) -> usize {
    (as_float(all) * fraction).round() as usize
}

#[cfg(test)]
mod tests;

//! The summary of a timer with many values, in steps of a bounded number of values.
//!
//! In: the values, which are taken out of their timer. Out: the same numbers as [`Timer::summary`]
//! and [`Timer::part`] find. Selection is quickselect with a partition that can be left and gone
//! on with; a random sample tells where to partition, so that no order of values makes it slow.
//! The values stay where they are, and their memory is released in steps as well: to unmap a
//! hundred MiB at once takes the kernel milliseconds.

use std::mem;

use crate::config::Percentile;

use super::{Part, Summary, Timer, as_float, part_of};

/// Fewer values are selected from at once.
const FEW: usize = 4096;

/// Values whose memory is released at once: 4 MiB.
const RELEASED: usize = 512 << 10;

/// A summary in the making.
#[derive(Debug)]
pub struct Steps {
    values: Vec<f64>,
    stage: Stage,
    /// Values that the stage has done with.
    at: usize,
    sums: Sums,
    mean: f64,
    select: Select,
    summary: Summary,
    parts: Vec<(Percentile, Option<Part>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Sums,
    Deviations,
    Middle,
    BelowMiddle,
    /// Of the part by number: finds its greatest value.
    Upper(usize),
    PartSums(usize),
    Release,
    Done,
}

/// What is reckoned from one value after the other.
#[derive(Debug, Clone, Copy)]
struct Sums {
    sum: f64,
    sum_squares: f64,
    lower: f64,
    upper: f64,
}

impl Sums {
    /// Of nothing; the sums of an empty iterator begin like this.
    const NONE: Self = Self {
        sum: -0.0,
        sum_squares: -0.0,
        lower: f64::MAX,
        upper: f64::MIN,
    };

    fn add(&mut self, values: &[f64]) {
        for value in values {
            self.sum += value;
            self.sum_squares += value * value;
            self.lower = self.lower.min(*value);
            self.upper = self.upper.max(*value);
        }
    }
}

impl Steps {
    /// Takes the values out of a timer.
    pub fn of(timer: &mut Timer, percentiles: &[Percentile]) -> Self {
        let Timer { values, weight } = mem::take(timer);
        Self {
            select: Select::from(values.len() / 2, values.len()),
            values,
            stage: Stage::Sums,
            at: 0,
            sums: Sums::NONE,
            mean: 0.0,
            summary: Summary {
                count: weight,
                lower: 0.0,
                upper: 0.0,
                sum: 0.0,
                sum_squares: 0.0,
                mean: 0.0,
                median: 0.0,
                std: 0.0,
            },
            parts: percentiles
                .iter()
                .map(|percentile| (percentile.clone(), None))
                .collect(),
        }
    }

    /// The memory that the values still take.
    pub fn allocated(&self) -> usize {
        super::super::tables::allocated(self.values.capacity() * size_of::<f64>())
    }

    /// Continues until about this number of values was examined. Answers with their number; `None` once
    /// there was nothing left to do.
    pub fn step(&mut self, most: usize) -> Option<usize> {
        if self.stage == Stage::Done {
            return None;
        }
        let mut looked_at = 0;
        while looked_at < most && self.stage != Stage::Done {
            looked_at += self.go_on(most - looked_at);
        }
        Some(looked_at)
    }

    /// What was found, once all steps are done.
    pub fn found(&self) -> (Summary, impl Iterator<Item = (&Percentile, Part)>) {
        let parts = self.parts.iter();
        let parts = parts.filter_map(|(percentile, part)| Some((percentile, (*part)?)));
        (self.summary, parts)
    }

    fn go_on(&mut self, most: usize) -> usize {
        let all = self.values.len();
        match self.stage {
            Stage::Sums => {
                let (chunk, is_last) = next_chunk(&self.values, &mut self.at, most);
                self.sums.add(chunk);
                let looked_at = chunk.len();
                if is_last {
                    self.note_sums();
                    self.enter(Stage::Deviations);
                }
                looked_at
            }
            Stage::Deviations => {
                let (chunk, is_last) = next_chunk(&self.values, &mut self.at, most);
                for value in chunk {
                    self.sums.sum += (value - self.mean).powi(2);
                }
                let looked_at = chunk.len();
                if is_last {
                    self.summary.std = (self.sums.sum / as_float(all)).sqrt();
                    self.enter(Stage::Middle);
                }
                looked_at
            }
            Stage::Middle => {
                let (middle, looked_at) = self.select.step(&mut self.values, most);
                if let Some(middle) = middle {
                    self.summary.median = middle;
                    self.sums = Sums::NONE;
                    self.enter(if all.is_multiple_of(2) {
                        Stage::BelowMiddle
                    } else {
                        Stage::Upper(0)
                    });
                }
                looked_at
            }
            Stage::BelowMiddle => {
                let below = &self.values[..all / 2];
                let (chunk, is_last) = next_chunk(below, &mut self.at, most);
                self.sums.upper = chunk.iter().copied().fold(self.sums.upper, f64::max);
                let looked_at = chunk.len();
                if is_last {
                    self.summary.median = f64::midpoint(self.sums.upper, self.summary.median);
                    self.enter(Stage::Upper(0));
                }
                looked_at
            }
            Stage::Upper(number) => {
                let (upper, looked_at) = self.select.step(&mut self.values, most);
                if let (Some(upper), Some((_, part))) = (upper, self.parts.get_mut(number)) {
                    *part = Some(Part {
                        count: self.select.target + 1,
                        mean: 0.0,
                        upper,
                        sum: 0.0,
                        sum_squares: 0.0,
                    });
                    self.sums = Sums::NONE;
                    self.enter(Stage::PartSums(number));
                }
                looked_at
            }
            Stage::PartSums(number) => {
                let least = &self.values[..=self.select.target];
                let (chunk, is_last) = next_chunk(least, &mut self.at, most);
                self.sums.add(chunk);
                let looked_at = chunk.len();
                if is_last {
                    if let Some((_, Some(part))) = self.parts.get_mut(number) {
                        part.sum = self.sums.sum;
                        part.sum_squares = self.sums.sum_squares;
                        part.mean = part.sum / as_float(part.count);
                    }
                    self.enter(Stage::Upper(number + 1));
                }
                looked_at
            }
            Stage::Release => {
                let left = all.saturating_sub(RELEASED);
                self.values.truncate(left);
                self.values.shrink_to_fit();
                if left == 0 {
                    self.enter(Stage::Done);
                }
                all - left
            }
            Stage::Done => 0,
        }
    }

    fn note_sums(&mut self) {
        let Sums {
            sum,
            sum_squares,
            lower,
            upper,
        } = mem::replace(&mut self.sums, Sums::NONE);
        self.mean = sum / as_float(self.values.len());
        self.summary = Summary {
            lower,
            upper,
            sum,
            sum_squares,
            mean: self.mean,
            ..self.summary
        };
    }

    /// Begins a stage, or the next that has anything to do.
    fn enter(&mut self, stage: Stage) {
        self.at = 0;
        self.stage = stage;
        let all = self.values.len();
        if let Stage::Upper(number) = stage {
            self.stage = Stage::Release;
            for (at, (percentile, _)) in self.parts.iter().enumerate().skip(number) {
                if let Some(last) = part_of(all, percentile.fraction).checked_sub(1) {
                    self.select = Select::from(last, all);
                    self.stage = Stage::Upper(at);
                    break;
                }
            }
        }
    }
}

/// The next of some values, and whether they are the last.
fn next_chunk<'a>(values: &'a [f64], at: &mut usize, most: usize) -> (&'a [f64], bool) {
    let begin = *at;
    *at = values.len().min(begin + most);
    (&values[begin..*at], *at == values.len())
}

/// The selection of a value by its place in the order of all.
#[derive(Debug)]
struct Select {
    target: usize,
    /// Where the value is: none before is greater, none behind is less.
    low: usize,
    high: usize,
    partition: Option<Partition>,
}

/// A partition that has begun: what is before `left` is not greater than the pivot, what is from
/// `right` on is not less.
#[derive(Debug)]
struct Partition {
    pivot: f64,
    left: usize,
    right: usize,
}

impl Select {
    fn from(target: usize, all: usize) -> Self {
        Self {
            target,
            low: 0,
            high: all,
            partition: None,
        }
    }

    /// Continues until about this number of values was examined. The value once it stands in its place,
    /// and how many were looked at.
    fn step(&mut self, values: &mut [f64], most: usize) -> (Option<f64>, usize) {
        let mut left_over = most;
        while left_over > 0 {
            let Self {
                target, low, high, ..
            } = *self;
            if high - low <= FEW {
                let range = &mut values[low..high];
                let (_, value, _) = range.select_nth_unstable_by(target - low, f64::total_cmp);
                return (Some(*value), most - left_over + (high - low));
            }
            let partition = self.partition.get_or_insert_with(|| Partition {
                pivot: pivot(&values[low..high], target - low),
                left: low,
                right: high,
            });
            left_over -= partition.step(values, left_over);
            if partition.left == partition.right {
                if target < partition.left {
                    self.high = partition.left;
                } else {
                    self.low = partition.left;
                }
                self.partition = None;
            }
        }
        (None, most)
    }
}

impl Partition {
    /// Answers how many values were looked at.
    fn step(&mut self, values: &mut [f64], most: usize) -> usize {
        let Self {
            pivot,
            mut left,
            mut right,
        } = *self;
        let mut looked_at = 0;
        while left < right && looked_at < most {
            looked_at += 1;
            if values[left].total_cmp(&pivot).is_lt() {
                left += 1;
            } else if values[right - 1].total_cmp(&pivot).is_gt() {
                right -= 1;
            } else {
                // Both are equal to the pivot, or each belongs to the other side.
                values.swap(left, right - 1);
                left += 1;
                if left < right {
                    right -= 1;
                }
            }
        }
        *self = Self { pivot, left, right };
        looked_at
    }
}

/// A value that is likely to be near the one that is looked for, and next to which both sides have
/// at least one: it is one of the values itself.
fn pivot(values: &[f64], target: usize) -> f64 {
    const SAMPLE: usize = 127;
    let mut sample = [0.0; SAMPLE];
    sample.fill_with(|| values[fastrand::usize(..values.len())]);
    sample.sort_unstable_by(f64::total_cmp);
    sample[target * SAMPLE / values.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn percentiles(texts: &[&str]) -> Vec<Percentile> {
        texts
            .iter()
            .map(|text| Percentile::parse(text).unwrap())
            .collect()
    }

    fn about(one: f64, other: f64) -> bool {
        (one - other).abs() <= 1e-9 * one.abs().max(other.abs()).max(1.0)
    }

    /// Steps of at most this number of values find the same as one go.
    fn assert_same(values: &[f64], most: usize) {
        let percentiles = percentiles(&["1", "50", "99.9", "90", "100", "0.0001"]);
        let mut timer = Timer::default();
        for value in values {
            timer.take(*value, 2.0);
        }
        let mut steps = Steps::of(&mut timer.clone(), &percentiles);
        let mut all = 0;
        while let Some(looked_at) = steps.step(most) {
            assert!(
                looked_at <= most + FEW.max(RELEASED.min(values.len())),
                "{looked_at}"
            );
            all += looked_at;
        }
        assert_eq!(steps.allocated(), 0);
        assert!(
            all <= 60 * values.len() + 20 * FEW,
            "{all} of {}",
            values.len()
        );
        let (found, parts) = steps.found();
        let expected = timer.summary().unwrap();
        assert_eq!(found, expected);
        let parts: Vec<(String, Part)> = parts
            .map(|(percentile, part)| (percentile.label.clone(), part))
            .collect();
        let mut expected = percentiles.iter().filter_map(|percentile| {
            Some((percentile.label.clone(), timer.part(percentile.fraction)?))
        });
        for (label, part) in parts {
            let (expected_label, expected) = expected.next().unwrap();
            assert_eq!(label, expected_label);
            assert_eq!((part.count, part.upper), (expected.count, expected.upper));
            assert!(about(part.sum, expected.sum) && about(part.mean, expected.mean));
            assert!(about(part.sum_squares, expected.sum_squares));
        }
        assert_eq!(expected.next(), None);
    }

    #[test]
    fn orders_that_are_hard_for_quickselect() {
        const MANY: u32 = 30_000;
        let up: Vec<f64> = (0..MANY).map(f64::from).collect();
        let down: Vec<f64> = up.iter().rev().copied().collect();
        let equal = vec![7.5; MANY as usize];
        let two: Vec<f64> = (0..MANY).map(|number| f64::from(number % 2)).collect();
        let organ: Vec<f64> = up.iter().chain(&down).copied().collect();
        let zeroes: Vec<f64> = (0..MANY)
            .map(|number| if number % 3 == 0 { 0.0 } else { -0.0 })
            .collect();
        for values in [&up, &down, &equal, &two, &organ, &zeroes] {
            for most in [1000, 100_000] {
                assert_same(values, most);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn steps_find_what_one_go_finds(
            seed in any::<u64>(),
            count in 2..40_000_usize,
            distinct in prop_oneof![Just(3.0), Just(1e3), Just(1e12)],
            most in prop_oneof![1..50_usize, 1000..100_000_usize],
        ) {
            let mut random = fastrand::Rng::with_seed(seed);
            let values: Vec<f64> = (0..count)
                .map(|_| ((random.f64() - 0.3) * distinct).round())
                .collect();
            assert_same(&values, most.max(count / 2000));
        }
    }
}

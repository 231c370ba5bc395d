//! Timers against plain reckoning.

use proptest::prelude::*;

use super::*;

fn timer(values: &[f64]) -> Timer {
    let mut timer = Timer::default();
    for value in values {
        timer.take(*value, 1.0);
    }
    timer
}

fn about(one: f64, other: f64) -> bool {
    (one - other).abs() <= 1e-9 * one.abs().max(other.abs()).max(1.0)
}

#[test]
fn a_known_timer() {
    let mut timer = timer(&[450.0, 120.0, 553.0, 994.0, 334.0, 844.0, 675.0, 496.0]);
    let summary = timer.summary().unwrap();
    assert_eq!((summary.lower, summary.upper), (120.0, 994.0));
    assert_eq!((summary.sum, summary.sum_squares), (4466.0, 3_036_278.0));
    assert_eq!((summary.mean, summary.median), (558.25, 524.5));
    assert!(
        about(summary.std, 260.560_333_704_115_46),
        "{}",
        summary.std
    );
    let part = timer.part(0.9).unwrap();
    assert_eq!((part.count, part.upper, part.sum), (7, 844.0, 3472.0));
    assert_eq!((part.mean, part.sum_squares), (496.0, 2_048_242.0));
    assert_eq!(timer.part(0.01), None);
}

#[test]
fn values_that_were_left_out_count() {
    let mut timer = Timer::default();
    assert_eq!((timer.summary(), timer.part(0.5)), (None, None));
    timer.take(3.0, 10.0);
    timer.take(-1.0, 1.0);
    let summary = timer.summary().unwrap();
    assert_eq!(
        (summary.count, summary.mean, summary.lower),
        (11.0, 1.0, -1.0)
    );
    timer.clear();
    assert_eq!((timer.summary(), timer.capacity()), (None, 2));
    timer.take(5.0, 1.0);
    assert_eq!(timer.part(0.01).map(|part| part.upper), Some(5.0));
}

proptest! {
    /// What a plain sort finds.
    #[test]
    fn parts_are_those_of_the_values_in_order(
        values in proptest::collection::vec(-1e6..1e6_f64, 1..200),
        fractions in proptest::collection::vec(0.01..1.0_f64, 0..4),
    ) {
        let mut timer = timer(&values);
        let mut sorted = values;
        sorted.sort_by(f64::total_cmp);
        let all = sorted.len();
        for fraction in fractions {
            let is_part = |number: &usize| as_float(*number) - 0.5 <= as_float(all) * fraction;
            let count = if all == 1 { 1 } else { (1..=all).filter(is_part).count() };
            let part = timer.part(fraction);
            prop_assert_eq!(part.map_or(0, |part| part.count), count);
            if let Some(part) = part {
                let least = &sorted[..count];
                prop_assert_eq!(Some(&part.upper), least.last());
                prop_assert!(about(part.sum, least.iter().sum()));
                prop_assert!(about(part.mean, least.iter().sum::<f64>() / as_float(count)));
            }
        }
        let summary = timer.summary().unwrap();
        let median = f64::midpoint(sorted[(all - 1) / 2], sorted[all / 2]);
        prop_assert!(about(summary.median, median));
        prop_assert_eq!((summary.lower, summary.upper), (sorted[0], sorted[all - 1]));
    }
}

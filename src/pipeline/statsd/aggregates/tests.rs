//! Series within their bound.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const ROOMY: usize = 1 << 20;

/// A flush, told by kind and name.
fn flush(aggregates: &mut Aggregates) -> BTreeMap<String, f64> {
    let mut flushed = BTreeMap::new();
    while aggregates.flush(3, |name, aggregate| {
        tell(name, aggregate, &mut flushed);
        ControlFlow::Continue(())
    }) {}
    flushed
}

fn tell(name: &[u8], aggregate: &mut Aggregate, flushed: &mut BTreeMap<String, f64>) {
    let value = match aggregate {
        Aggregate::Counter(value) | Aggregate::Gauge(value) => *value,
        Aggregate::Timer(timer) => timer.summary().map_or(0.0, |summary| summary.sum),
        Aggregate::Set(members) => super::super::timer::as_float(members.len()),
    };
    let name = format!("{:?} {}", aggregate.kind(), String::from_utf8_lossy(name));
    let twice = flushed.insert(name, value);
    assert_eq!(twice, None);
}

fn check(aggregates: &Aggregates) {
    assert!(aggregates.allocated() <= aggregates.limit);
    assert_eq!(aggregates.index.len(), aggregates.entries.len());
    let held = |entry: &Entry| allocated(entry.name.len()) + entry.aggregate.allocated();
    let held: usize = aggregates.entries.iter().map(held).sum();
    assert_eq!(aggregates.held, held);
    for (at, entry) in aggregates.entries.iter().enumerate() {
        let place = aggregates.place(entry.hash, entry.aggregate.kind(), &entry.name);
        assert_eq!(place, Some(at));
    }
}

fn expected<const N: usize>(list: [(&str, f64); N]) -> BTreeMap<String, f64> {
    list.map(|(name, value)| (name.to_owned(), value)).into()
}

#[test]
fn only_what_was_seen_is_flushed() {
    let mut aggregates = Aggregates::new(ROOMY);
    assert!(!aggregates.is_due());
    for (name, measure) in [
        ("a", Measure::Count(2.0)),
        ("a", Measure::Count(3.0)),
        ("a", Measure::Time(5.0, 1.0)),
        ("a", Measure::Time(7.0, 1.0)),
        ("a", Measure::Level(10.0)),
        ("a", Measure::Change(-4.0)),
        ("b", Measure::Change(1.0)),
        ("a", Measure::Member(b"x")),
        ("a", Measure::Member(b"y")),
        ("a", Measure::Member(b"x")),
    ] {
        assert!(aggregates.fold(name.as_bytes(), measure));
        check(&aggregates);
    }
    assert!(aggregates.is_due());
    assert_eq!(
        flush(&mut aggregates),
        expected([
            ("Counter a", 5.0),
            ("Gauge a", 6.0),
            ("Gauge b", 1.0),
            ("Set a", 2.0),
            ("Timer a", 12.0)
        ])
    );
    // A gauge is remembered, and told of when it has changed.
    assert!(aggregates.fold(b"a", Measure::Change(1.0)));
    assert!(aggregates.fold(b"a", Measure::Count(1.0)));
    assert_eq!(
        flush(&mut aggregates),
        expected([("Counter a", 1.0), ("Gauge a", 7.0)])
    );
    check(&aggregates);
    assert!(aggregates.is_due(), "a counter is to be forgotten");
    assert!(flush(&mut aggregates).is_empty());
    assert!(!aggregates.is_due());
    assert_eq!(aggregates.series(), 2);
}

#[test]
fn what_is_idle_gives_its_memory_back() {
    let mut aggregates = Aggregates::new(ROOMY);
    for number in 0..1000 {
        let name = format!("name.{number}");
        assert!(aggregates.fold(name.as_bytes(), Measure::Time(1.0, 1.0)));
        assert!(aggregates.fold(name.as_bytes(), Measure::Member(name.as_bytes())));
    }
    assert_eq!(flush(&mut aggregates).len(), 2000);
    check(&aggregates);
    assert!(flush(&mut aggregates).is_empty());
    assert_eq!((aggregates.series(), aggregates.allocated()), (0, 0));
}

#[test]
fn known_series_go_on_where_there_is_no_room_for_others() {
    let mut aggregates = Aggregates::new(64 << 10);
    let name = |number: usize| format!("some.name.{number}").into_bytes();
    let count = |aggregates: &mut Aggregates| {
        let fitting = |number: &usize| aggregates.fold(&name(*number), Measure::Count(1.0));
        (0..5000).filter(fitting).collect::<Vec<usize>>()
    };
    let known = count(&mut aggregates);
    check(&aggregates);
    assert!(known.len() > 200 && known.len() < 1000, "{}", known.len());
    // In the next interval they are the same ones, though others come first.
    assert_eq!(flush(&mut aggregates).len(), known.len());
    assert!(!aggregates.fold(b"a.new.one", Measure::Count(1.0)));
    assert_eq!(count(&mut aggregates), known);
    assert_eq!(flush(&mut aggregates).len(), known.len());
    // Values of a timer are not without end either.
    let mut aggregates = Aggregates::new(64 << 10);
    let fitting = |_: &usize| aggregates.fold(b"t", Measure::Time(1.0, 1.0));
    let fitting = (0..10_000).filter(fitting).count();
    assert!(fitting > 4000 && fitting < 8192, "{fitting}");
    check(&aggregates);
}

#[test]
fn the_longest_untouched_gauges_make_room() {
    let mut aggregates = Aggregates::new(64 << 10);
    let name = |number: usize| format!("some.name.{number}").into_bytes();
    for number in 0..100 {
        assert!(aggregates.fold(&name(number), Measure::Level(1.0)));
    }
    flush(&mut aggregates);
    for number in 100..200 {
        assert!(aggregates.fold(&name(number), Measure::Level(1.0)));
    }
    flush(&mut aggregates);
    // Touched again.
    assert!(aggregates.fold(&name(0), Measure::Change(1.0)));
    let mut number = 200;
    while aggregates.fold(&name(number), Measure::Count(1.0)) {
        number += 1;
        check(&aggregates);
        let gauges = aggregates.entries.iter();
        let gauges = gauges.filter(|entry| entry.aggregate.kind() == Kind::Gauge);
        let (old, young): (Vec<_>, Vec<_>) = gauges.partition(|entry| entry.touched == 1);
        assert!(old.is_empty() || young.len() == 101, "the young go last");
    }
    let flushed = flush(&mut aggregates);
    assert_eq!(flushed.get("Gauge some.name.0"), Some(&2.0));
    let gauges = flushed.keys().filter(|name| name.starts_with("Gauge"));
    assert_eq!(gauges.count(), 1, "all others had to go");
    assert!(
        !aggregates
            .entries
            .iter()
            .any(|entry| entry.aggregate.kind() == Kind::Gauge
                && !entry.is_fresh
                && entry.touched < 3)
    );
}

#[test]
fn a_smaller_bound_holds_at_once() {
    let mut aggregates = Aggregates::new(ROOMY);
    for number in 0..500 {
        let name = format!("some.name.{number}").into_bytes();
        assert!(aggregates.fold(&name, Measure::Level(1.0)));
        assert!(aggregates.fold(&name, Measure::Count(1.0)));
    }
    assert_eq!(flush(&mut aggregates).len(), 1000);
    aggregates.set_limit(16 << 10);
    check(&aggregates);
    // About as many as if it had always been so small.
    let (small, mut afresh) = (aggregates.series(), Aggregates::new(16 << 10));
    let fits = |number: &usize| {
        let name = format!("some.name.{number}").into_bytes();
        afresh.fold(&name, Measure::Level(1.0))
    };
    let most = (0..500).take_while(fits).count();
    assert!(small > most * 3 / 5, "{small} of {most}");
}

#[derive(Debug, Clone)]
enum Step {
    Fold(u8, i8),
    Time(u8, i8),
    Set(u8, u8),
    Gauge(u8, i8),
    FlushSome(usize),
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (any::<u8>(), any::<i8>()).prop_map(|(name, value)| Step::Fold(name, value)),
        4 => (any::<u8>(), any::<i8>()).prop_map(|(name, value)| Step::Time(name, value)),
        2 => (any::<u8>(), any::<u8>()).prop_map(|(name, member)| Step::Set(name, member)),
        4 => (any::<u8>(), any::<i8>()).prop_map(|(name, value)| Step::Gauge(name, value)),
        3 => (1..20_usize).prop_map(Step::FlushSome),
        1 => Just(Step::Flush),
    ]
}

proptest! {
    /// What goes in comes out, once, whatever is flushed when and whatever had to
    /// be refused.
    #[test]
    fn sums_in_are_sums_out(
        limit in 4096..40_000_usize,
        steps in proptest::collection::vec(step(), 0..300),
    ) {
        let mut aggregates = Aggregates::new(limit);
        let (mut went_in, mut came_out) = (0.0_f64, 0.0_f64);
        let mut each = |_: &[u8], aggregate: &mut Aggregate| {
            match aggregate {
                Aggregate::Counter(sum) => came_out += *sum,
                Aggregate::Timer(timer) => {
                    came_out += timer.summary().map_or(0.0, |timer| timer.sum);
                    return ControlFlow::Break(());
                }
                Aggregate::Gauge(_) | Aggregate::Set(_) => {}
            }
            ControlFlow::Continue(())
        };
        for step in steps {
            match step {
                Step::Fold(name, value) => {
                    let value = f64::from(value);
                    if aggregates.fold(&[name], Measure::Count(value)) {
                        went_in += value;
                    }
                }
                Step::Time(name, value) => {
                    let value = f64::from(value);
                    if aggregates.fold(&[name], Measure::Time(value, 1.0)) {
                        went_in += value;
                    }
                }
                Step::Set(name, member) => {
                    aggregates.fold(&[name], Measure::Member(&[member]));
                }
                Step::Gauge(name, value) => {
                    aggregates.fold(&[name], Measure::Level(value.into()));
                }
                Step::FlushSome(series) => {
                    aggregates.flush(series, &mut each);
                }
                Step::Flush => while aggregates.flush(7, &mut each) {},
            }
            check(&aggregates);
        }
        for _ in 0..2 {
            while aggregates.flush(usize::MAX, &mut each) {}
        }
        // Whole numbers, so that no sum is rounded.
        prop_assert_eq!(went_in.to_string(), came_out.to_string());
    }
}

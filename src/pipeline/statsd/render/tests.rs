//! Points as they are written.

use proptest::prelude::*;

use super::*;
use crate::pipeline::line::number;

fn style(prefix: &str) -> Style {
    Style::of(&StatsdSettings {
        interval: Duration::from_secs(10),
        percentiles: ["90", "99.9"]
            .map(|text| Percentile::parse(text).unwrap())
            .to_vec(),
        prefix: prefix.into(),
        bytes: 0,
    })
}

fn rendered(prefix: &str, series: &str, mut aggregate: Aggregate) -> Vec<String> {
    let mut points = Points::default();
    style(prefix).render(
        series.as_bytes(),
        &mut aggregate,
        1_700_000_010,
        &mut points,
    );
    let text = String::from_utf8(points.bytes).unwrap();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    assert_eq!(points.lines, lines.len() as u64);
    lines
}

#[test]
fn names_are_those_of_statsd() {
    assert_eq!(
        rendered("stats", "a.b", Aggregate::Counter(25.0)),
        [
            "stats.counters.a.b.rate 2.5 1700000010",
            "stats.counters.a.b.count 25 1700000010"
        ]
    );
    assert_eq!(
        rendered("", "a;dc=fra", Aggregate::Gauge(-0.0)),
        ["gauges.a;dc=fra 0 1700000010"]
    );
    let mut set = Aggregate::new(super::super::aggregate::Kind::Set);
    for member in [1, 2, 1] {
        set.take(Measure::Member(b""), member);
    }
    assert_eq!(
        rendered("x.y", "a;dc=fra", set),
        ["x.y.sets.a.count;dc=fra 2 1700000010"]
    );
}

#[test]
fn a_timer_has_its_parts() {
    let mut timer = Timer::default();
    for value in 1..=20 {
        timer.take(f64::from(value), 2.0);
    }
    let lines = rendered("stats", "t", Aggregate::Timer(timer));
    let expected = [
        "count 40",
        "count_ps 4",
        "lower 1",
        "upper 20",
        "sum 210",
        "sum_squares 2870",
        "mean 10.5",
        "median 10.5",
        "std 5.766281297335398",
        "count_90 18",
        "mean_90 9.5",
        "upper_90 18",
        "sum_90 171",
        "sum_squares_90 2109",
        "count_99_9 20",
        "mean_99_9 10.5",
        "upper_99_9 20",
        "sum_99_9 210",
        "sum_squares_99_9 2870",
    ];
    let expected = expected.map(|leaf| format!("stats.timers.t.{leaf} 1700000010"));
    assert_eq!(lines, expected);
    assert!(rendered("stats", "t", Aggregate::Timer(Timer::default())).is_empty());
}

#[test]
fn what_no_double_holds_is_left_out() {
    let mut timer = Timer::default();
    timer.take(1e200, 1.0);
    timer.take(-1e200, 1.0);
    let lines = rendered("stats", "t", Aggregate::Timer(timer));
    assert!(lines.contains(&"stats.timers.t.upper 1e200 1700000010".to_owned()));
    assert!(
        !lines
            .iter()
            .any(|line| line.contains("squares") || line.contains("std"))
    );
}

#[test]
fn values_with_a_time_of_their_own_keep_it() {
    let mut points = Points::default();
    let style = style("stats");
    style.render_as_is(b"a;x=y", Measure::Count(4.0), 5, &mut points);
    style.render_as_is(b"a", Measure::Level(0.1), 1_700_000_000, &mut points);
    let text = String::from_utf8(points.bytes).unwrap();
    assert_eq!(
        text,
        "stats.counters.a.count;x=y 4 5\nstats.gauges.a 0.1 1700000000\n"
    );
}

proptest! {
    /// Any double is written such that our own parser takes it, and as itself.
    #[test]
    fn numbers_are_read_back(value in any::<f64>()) {
        let value = if value.is_finite() { value } else { 0.0 };
        let mut text = Vec::new();
        number(value, &mut text);
        prop_assert_eq!(number::value(&text), number::Value::Finite);
        prop_assert_eq!(number::double(&text).to_bits(), (value + 0.0).to_bits());
        prop_assert!(text.len() <= 25, "{}", String::from_utf8_lossy(&text));
    }
}

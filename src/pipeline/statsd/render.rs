//! What a flush says: the points of a series as Graphite lines, under the names
//! that StatsD gives them.
//!
//! ```text
//!     stats.timers.api.requests.upper_90;dc=fra 320 1700000010
//!     ^^^^^ ^^^^^^ ^^^^^^^^^^^^ ^^^^^^^^ ^^^^^^ ^^^ ^^^^^^^^^^
//!     prefix kind      path      leaf    tags value  second
//! ```

use std::io::Write;
use std::time::Duration;

use crate::config::{Percentile, StatsdSettings};
use crate::pipeline::line::name::path_of;

use super::aggregate::Aggregate;
use super::sample::Measure;
use super::timer::{Part, Steps, Summary, Timer, as_float};

/// Plain digits read best, as long as there are not too many of them.
const PLAIN: std::ops::Range<f64> = 1e-5..1e16;

/// How points are named and reckoned.
#[derive(Debug, Clone, PartialEq)]
pub struct Style {
    /// With its dot, or nothing.
    prefix: String,
    percentiles: Vec<Percentile>,
    interval: Duration,
}

/// Points, each a line with its newline.
#[derive(Debug, Default)]
pub struct Points {
    /// The lines.
    pub bytes: Vec<u8>,
    /// How many they are.
    pub lines: u64,
}

/// The points of one series.
struct Writer<'a> {
    prefix: &'a str,
    path: &'a [u8],
    tags: &'a [u8],
    second: u64,
    points: &'a mut Points,
}

impl Points {
    /// Empties them. Keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.lines = 0;
    }
}

impl Style {
    /// As the settings have it.
    pub fn of(settings: &StatsdSettings) -> Self {
        let dot = if settings.prefix.is_empty() { "" } else { "." };
        Self {
            prefix: format!("{}{dot}", settings.prefix),
            percentiles: settings.percentiles.clone(),
            interval: settings.interval,
        }
    }

    /// Whether another one gives points the same names.
    pub fn names_as(&self, other: &Self) -> bool {
        self.prefix == other.prefix
    }

    /// The time between two flushes.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Adds what a series has to say at the end of an interval.
    pub fn render(
        &self,
        series: &[u8],
        aggregate: &mut Aggregate,
        second: u64,
        points: &mut Points,
    ) {
        let mut writer = self.writer(series, second, points);
        match aggregate {
            Aggregate::Counter(sum) => {
                writer.point("counters", "rate", *sum / self.interval.as_secs_f64());
                writer.point("counters", "count", *sum);
            }
            Aggregate::Gauge(level) => writer.point("gauges", "", *level),
            Aggregate::Timer(timer) => self.render_timer(timer, &mut writer),
            Aggregate::Set(members) => {
                writer.point("sets", "count", as_float(members.len()));
            }
        }
    }

    /// Adds a value that a client has aggregated itself, for a time of its own.
    pub fn render_as_is(
        &self,
        series: &[u8],
        measure: Measure<'_>,
        second: u64,
        points: &mut Points,
    ) {
        let mut writer = self.writer(series, second, points);
        match measure {
            Measure::Count(count) => writer.point("counters", "count", count),
            Measure::Level(level) => writer.point("gauges", "", level),
            // Only those have a time of their own.
            Measure::Change(_) | Measure::Time(..) | Measure::Member(_) => {}
        }
    }

    fn writer<'a>(&'a self, series: &'a [u8], second: u64, points: &'a mut Points) -> Writer<'a> {
        let (path, tags) = series.split_at(path_of(series).len());
        Writer {
            prefix: &self.prefix,
            path,
            tags,
            second,
            points,
        }
    }

    /// The percentiles of timers.
    pub fn percentiles(&self) -> &[Percentile] {
        &self.percentiles
    }

    /// Adds what a timer has to say whose summary was made in steps.
    pub fn render_steps(&self, series: &[u8], steps: &Steps, second: u64, points: &mut Points) {
        let mut writer = self.writer(series, second, points);
        let (summary, parts) = steps.found();
        self.render_summary(summary, &mut writer);
        for (percentile, part) in parts {
            render_part(percentile, part, &mut writer);
        }
    }

    fn render_timer(&self, timer: &mut Timer, writer: &mut Writer<'_>) {
        let Some(summary) = timer.summary() else {
            return;
        };
        self.render_summary(summary, writer);
        for percentile in &self.percentiles {
            if let Some(part) = timer.part(percentile.fraction) {
                render_part(percentile, part, writer);
            }
        }
    }

    fn render_summary(&self, summary: Summary, writer: &mut Writer<'_>) {
        let Summary {
            count,
            lower,
            upper,
            sum,
            sum_squares,
            mean,
            median,
            std,
        } = summary;
        for (leaf, value) in [
            ("count", count),
            ("count_ps", count / self.interval.as_secs_f64()),
            ("lower", lower),
            ("upper", upper),
            ("sum", sum),
            ("sum_squares", sum_squares),
            ("mean", mean),
            ("median", median),
            ("std", std),
        ] {
            writer.point("timers", leaf, value);
        }
    }
}

fn render_part(percentile: &Percentile, part: Part, writer: &mut Writer<'_>) {
    let Part {
        count,
        mean,
        upper,
        sum,
        sum_squares,
    } = part;
    for (leaf, value) in [
        ("count", as_float(count)),
        ("mean", mean),
        ("upper", upper),
        ("sum", sum),
        ("sum_squares", sum_squares),
    ] {
        let leaf = format!("{leaf}_{}", percentile.label);
        writer.point("timers", &leaf, value);
    }
}

impl Writer<'_> {
    /// A point that no double holds, such as the squares of huge values, is left
    /// out.
    fn point(&mut self, kind: &str, leaf: &str, value: f64) {
        if !value.is_finite() {
            return;
        }
        let out = &mut self.points.bytes;
        for part in [self.prefix.as_bytes(), kind.as_bytes(), b".", self.path] {
            out.extend_from_slice(part);
        }
        if !leaf.is_empty() {
            out.push(b'.');
            out.extend_from_slice(leaf.as_bytes());
        }
        out.extend_from_slice(self.tags);
        out.push(b' ');
        number(value, out);
        out.push(b' ');
        out.extend_from_slice(itoa::Buffer::new().format(self.second).as_bytes());
        out.push(b'\n');
        self.points.lines += 1;
    }
}

/// The shortest text that stands for this very number.
fn number(value: f64, out: &mut Vec<u8>) {
    // Minus nought is nought.
    let value = value + 0.0;
    let is_plain = value == 0.0 || PLAIN.contains(&value.abs());
    // Writing to memory cannot fail.
    let _ = if is_plain {
        write!(out, "{value}")
    } else {
        write!(out, "{value:e}")
    };
}

#[cfg(test)]
mod tests;

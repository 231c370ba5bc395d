//! How samples become points: how often, under which names, in how much memory.

use std::time::Duration;

use crate::config::source::Source;
use crate::config::values::Percentile;

use super::prefix;
use super::ranges::{bytes_within, duration_within};

/// How StatsD samples are aggregated.
#[derive(Debug, Clone, PartialEq)]
pub struct StatsdSettings {
    /// The time between two flushes, in whole seconds.
    pub interval: Duration,
    /// Of which parts of a timer's values is told.
    pub percentiles: Vec<Percentile>,
    /// What the names of points begin with; may be empty.
    pub prefix: String,
    /// The bound of all that is gathered.
    pub bytes: usize,
}

/// What the source says of it.
pub fn find(source: &mut Source, host_name: Option<&str>) -> StatsdSettings {
    let second = Duration::from_secs(1);
    let interval = duration_within(source, "statsd.interval", second, 3600 * second);
    if interval.subsec_nanos() > 0 {
        let message = format!(
            "({interval:?}) has a fraction, which no timestamp has; write whole seconds, such as \"10s\""
        );
        source.refuse("statsd.interval", message);
    }
    let prefix = source.text("statsd.prefix", |text| {
        prefix::parse(text, "stats.{host}", host_name)
    });
    let percentiles = source.numbers("statsd.percentiles", Percentile::parse);
    let is_twice = |at: &usize| percentiles[..*at].contains(&percentiles[*at]);
    if let Some(at) = (1..percentiles.len()).find(is_twice) {
        let number = percentiles[at].label.replace('_', ".");
        source.refuse(
            "statsd.percentiles",
            format!("has {number} twice; write it once"),
        );
    }
    StatsdSettings {
        interval,
        percentiles,
        prefix: prefix.unwrap_or_default(),
        bytes: bytes_within(source, "statsd.bytes", 64 << 10, 4 << 30),
    }
}

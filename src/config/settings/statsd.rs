//! How samples become points: how often, under which names, in how much memory.

use std::time::Duration;

use crate::config::file::Statsd;
use crate::config::values::Percentile;

use super::{Report, prefix};

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

/// The aggregation of the file.
pub fn resolve(file: &Statsd, host_name: Option<&str>, report: &mut Report) -> StatsdSettings {
    let interval = *file.interval;
    if interval.subsec_nanos() > 0 {
        report.problem(file.interval.refuse(format!(
            "({interval:?}) has a fraction, which no timestamp has; write whole seconds, such as \"10s\""
        )));
    }
    let prefix = prefix::parse(&file.prefix, "stats.{host}", host_name);
    let percentiles = file.percentiles.to_vec();
    let is_twice = |at: &usize| percentiles[..*at].contains(&percentiles[*at]);
    if let Some(at) = (1..percentiles.len()).find(is_twice) {
        let number = percentiles[at].label.replace('_', ".");
        report.problem(
            file.percentiles
                .refuse(format!("has {number} twice; write it once")),
        );
    }
    StatsdSettings {
        interval,
        percentiles,
        prefix: report.accept(&file.prefix, prefix).unwrap_or_default(),
        bytes: *file.bytes,
    }
}

//! The daemon's own numbers as Graphite lines: whether, under which name.

use std::time::Duration;

use crate::config::source::Source;

use super::duration_within;
use super::prefix;

/// How the daemon reports on itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelfMetrics {
    /// What its names begin with.
    pub prefix: String,
    /// The time between two reports.
    pub interval: Duration,
}

/// What the source says of it; off without a prefix.
pub fn find(source: &mut Source, host_name: Option<&str>) -> Option<SelfMetrics> {
    let prefix = source.text("self_metrics.prefix", |text| {
        prefix::parse(text, "sidecarbon.{host}", host_name)
    });
    let second = Duration::from_secs(1);
    let interval = duration_within(source, "self_metrics.interval", second, 3600 * second);
    let prefix = prefix.filter(|prefix| !prefix.is_empty())?;
    Some(SelfMetrics { prefix, interval })
}

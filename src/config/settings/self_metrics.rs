//! The daemon's own numbers as Graphite lines: whether, under which name.

use std::time::Duration;

use crate::config::file;

use super::{Report, prefix};

/// How the daemon reports on itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelfMetrics {
    /// What its names begin with.
    pub prefix: String,
    /// The time between two reports.
    pub interval: Duration,
}

/// Off without a prefix.
pub fn resolve(
    file: &file::SelfMetrics,
    host_name: Option<&str>,
    report: &mut Report,
) -> Option<SelfMetrics> {
    let prefix = report.accept(
        &file.prefix,
        prefix::parse(&file.prefix, "sidecarbon.{host}", host_name),
    );
    Some(SelfMetrics {
        prefix: prefix.filter(|prefix| !prefix.is_empty())?,
        interval: *file.interval,
    })
}

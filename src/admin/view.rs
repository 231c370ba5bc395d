//! What the page shows beside the status, each under a path of its own, so that
//! the status stays small.

use std::time::UNIX_EPOCH;

use serde::Serialize;

use crate::config::{Origin, Settings};
use crate::pipeline::queue::{Columns, HISTORY_STEP};
use crate::stats::RejectedLine;

/// The last ten minutes in columns of numbers, one a step. The last step ended
/// just now.
#[derive(Debug, Clone, Serialize)]
pub struct History {
    step_seconds: u64,
    /// Lines.
    received: Vec<u64>,
    delivered: Vec<u64>,
    dropped: Vec<u64>,
    /// At the end of the step.
    queue_bytes: Vec<usize>,
}

impl From<Columns> for History {
    fn from(columns: Columns) -> Self {
        Self {
            step_seconds: HISTORY_STEP.as_secs(),
            received: columns.received,
            delivered: columns.delivered,
            dropped: columns.dropped,
            queue_bytes: columns.bytes,
        }
    }
}

/// A line that was rejected.
#[derive(Debug, Clone, Serialize)]
pub struct Rejected {
    /// Seconds since 1970.
    time: f64,
    reason: &'static str,
    hint: &'static str,
    excerpt: String,
    listener: String,
    sender: String,
}

impl From<RejectedLine> for Rejected {
    fn from(line: RejectedLine) -> Self {
        let time = line.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            time: time.as_secs_f64(),
            reason: line.reason.label(),
            hint: line.hint,
            excerpt: line.excerpt,
            listener: line.listener,
            sender: line.sender,
        }
    }
}

/// The settings as `check` prints them, secrets masked.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SettingsInForce {
    settings: Vec<Setting>,
    warnings: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
struct Setting {
    path: &'static str,
    value: String,
    origin: String,
    is_default: bool,
}

impl SettingsInForce {
    /// A copy to be shown.
    pub fn of(settings: &Settings) -> Self {
        let setting = |effective: &crate::config::Effective| Setting {
            path: effective.path,
            value: effective.value.clone(),
            origin: effective.origin.to_string(),
            is_default: effective.origin == Origin::Default,
        };
        Self {
            settings: settings.effective.iter().map(setting).collect(),
            warnings: settings.warnings.clone(),
        }
    }
}

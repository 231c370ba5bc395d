//! The state in one line, for `systemctl status`.

use std::time::Instant;

use crate::format::{bytes, count, escape, estimate};
use crate::pipeline::queue::Snapshot;
use crate::stats::{UpstreamState, UpstreamStatus};

/// The queue and the upstream. Nothing in it changes while all is well.
pub fn describe(snapshot: &Snapshot, upstream: &UpstreamStatus) -> String {
    let queue = describe_queue(snapshot, upstream.state.is_down());
    format!("{queue}; {}", describe_upstream(upstream))
}

fn describe_queue(snapshot: &Snapshot, is_down: bool) -> String {
    let queued = snapshot.ledger.queued();
    if queued == 0 {
        return "queue empty".to_owned();
    }
    let lines = count(queued, "line", "lines");
    let used = bytes(snapshot.allocated);
    let limit = bytes(snapshot.limits.queue_bytes);
    let full = estimate(snapshot.outlook.horizon)
        .filter(|_| is_down)
        .map_or_else(String::new, |horizon| format!(", full in {horizon}"));
    format!("{lines} queued, {used} of {limit}{full}")
}

fn describe_upstream(upstream: &UpstreamStatus) -> String {
    let url = &upstream.url;
    let state = match upstream.state {
        UpstreamState::NotTried => return format!("upstream {url} not tried yet"),
        UpstreamState::Connecting => return format!("upstream {url} connecting"),
        UpstreamState::Up => return format!("upstream {url} up"),
        UpstreamState::Down => "down",
        UpstreamState::Unauthorized => "rejects the API key, down",
    };
    let since = upstream
        .down_since
        .map(|since| Instant::now().saturating_duration_since(since))
        .and_then(|down| estimate(down.as_secs_f64()))
        .map_or_else(String::new, |down| format!(" for {down}"));
    let why = upstream
        .last_error
        .as_ref()
        .map_or_else(String::new, |error| {
            format!(": {}", one_line(&error.message))
        });
    format!("upstream {url} {state}{since}{why}")
}

/// A newline would end the assignment.
fn one_line(text: &str) -> String {
    escape(text.replace(char::is_control, " "))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pipeline::queue::{Limits, Queue};
    use crate::stats::{FailureKind, LastError, Upstream};

    #[test]
    fn shows_the_queue_and_the_reason() {
        let queue = Queue::new(Limits {
            block_bytes: 65_536,
            queue_bytes: 64 << 20,
            linger: Duration::ZERO,
            gather: Duration::ZERO,
            max_lines_per_second: None,
        });
        let upstream = Upstream::default();
        upstream.set_url("tls://h:1".to_owned());
        let shows = |expected: &str| {
            let text = describe(&queue.snapshot(), &upstream.status());
            assert_eq!(text, format!("queue empty; upstream tls://h:1 {expected}"));
        };
        shows("not tried yet");
        upstream.connecting();
        shows("connecting");
        let now = Instant::now();
        let failed = |state, message: &str| {
            let error = LastError {
                kind: FailureKind::Connect,
                message: message.to_owned(),
                at: now,
            };
            upstream.failed(state, error, now);
        };
        failed(UpstreamState::Down, "refused\nREADY=1");
        shows("down for 0 s: refused READY=1");
        failed(UpstreamState::Unauthorized, "401");
        shows("rejects the API key, down for 0 s: 401");
        upstream.delivered();
        shows("up");
    }
}

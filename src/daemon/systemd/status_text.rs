//! The state in one line, for `systemctl status`.

use std::time::Instant;

use crate::format::{bytes, count, escape};
use crate::pipeline::queue::Snapshot;
use crate::pipeline::relay::roughly;
use crate::stats::Look;

/// The queue and the upstream. Nothing in it changes while all is well.
pub fn describe(snapshot: &Snapshot, is_up: bool, upstream: &Look) -> String {
    format!(
        "{}; {}",
        describe_queue(snapshot, is_up),
        describe_upstream(is_up, upstream)
    )
}

fn describe_queue(snapshot: &Snapshot, is_up: bool) -> String {
    let waiting = snapshot.ledger.queued();
    if waiting == 0 {
        return "queue empty".to_owned();
    }
    let lines = count(waiting, "line waits", "lines wait");
    let used = bytes(snapshot.allocated);
    let limit = bytes(snapshot.limits.queue_bytes);
    let lasts = roughly(snapshot.outlook.horizon)
        .filter(|_| !is_up)
        .map_or_else(String::new, |horizon| format!(", room for {horizon}"));
    format!("{lines}, {used} of {limit}{lasts}")
}

fn describe_upstream(is_up: bool, upstream: &Look) -> String {
    let url = &upstream.url;
    if is_up {
        return format!("upstream {url} up");
    }
    let away = upstream
        .away_since
        .map(|since| Instant::now().saturating_duration_since(since))
        .and_then(|away| roughly(away.as_secs_f64()))
        .map_or_else(String::new, |away| format!(" for {away}"));
    let why = upstream
        .last_error
        .as_ref()
        .map_or_else(String::new, |error| {
            format!(": {}", one_line(&error.message))
        });
    format!("upstream {url} away{away}{why}")
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
    use crate::stats::{FailureKind, Upstream};

    #[test]
    fn says_what_waits_and_why() {
        let queue = Queue::new(Limits {
            block_bytes: 65_536,
            queue_bytes: 64 << 20,
            linger: Duration::ZERO,
            gather: Duration::ZERO,
            max_lines_per_second: None,
        });
        let upstream = Upstream::default();
        upstream.is_at("tls://h:1".to_owned());
        assert_eq!(
            describe(&queue.snapshot(), true, &upstream.look()),
            "queue empty; upstream tls://h:1 up"
        );
        let now = Instant::now();
        let message = "refused\nREADY=1".to_owned();
        upstream.failed(FailureKind::Connect, message, now, now);
        assert_eq!(
            describe(&queue.snapshot(), false, &upstream.look()),
            "queue empty; upstream tls://h:1 away for 0 s: refused READY=1"
        );
    }
}

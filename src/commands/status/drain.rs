//! The drain after an outage, for somebody who keeps looking: how much of it is
//! done. No clock, no I/O.

use std::time::Instant;

use crate::admin::status::Status;

/// Remembers the most that waited, and how the drain began.
#[derive(Debug, Default)]
pub struct Drain {
    most: u64,
    began: Option<(Instant, u64)>,
}

/// How far a drain is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// From 0 to 1, of the most that was seen to wait; nothing at first sight.
    pub done: Option<f64>,
    /// Until it is over.
    pub left: TimeLeft,
}

/// How long a drain still takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TimeLeft {
    /// So many seconds, as it has gone so far.
    Seconds(f64),
    /// No end: more comes than goes.
    Endless,
    /// That shows at the next look.
    Unknown,
}

impl Drain {
    /// Looks again. Nothing while the upstream is away, or where no backlog is.
    pub fn look(&mut self, status: &Status, now: Instant) -> Option<Progress> {
        let waiting = status.ledger.queued + status.ledger.in_flight;
        // Lines of the moment are no backlog: they take no time.
        if waiting == 0 || status.queue.drain_seconds == Some(0.0) {
            *self = Self::default();
            return None;
        }
        let is_known = self.most > 0;
        self.most = self.most.max(waiting);
        if !status.sink.up {
            self.began = None;
            return None;
        }
        let done = is_known.then(|| 1.0 - number(waiting) / number(self.most));
        let left = match self.began {
            Some((began, before)) if now > began => {
                let gone = number(before) - number(waiting);
                let rate = gone / (now - began).as_secs_f64();
                if rate > 0.0 {
                    TimeLeft::Seconds(number(waiting) / rate)
                } else {
                    TimeLeft::Endless
                }
            }
            // What the daemon knows is an average that begins with the outage.
            _ => status
                .queue
                .drain_seconds
                .map_or(TimeLeft::Unknown, TimeLeft::Seconds),
        };
        self.began.get_or_insert((now, waiting));
        Some(Progress { done, left })
    }
}

#[expect(clippy::cast_precision_loss, reason = "for shares and estimates")]
fn number(lines: u64) -> f64 {
    lines as f64
}

/// A bar of so many cells.
pub fn bar(done: f64, cells: usize) -> String {
    let full = (1..=cells)
        .take_while(|cell| {
            #[expect(clippy::cast_precision_loss, reason = "a few dozen cells")]
            let end = *cell as f64 / cells as f64;
            done >= end
        })
        .count();
    format!("[{}{}]", "#".repeat(full), ".".repeat(cells - full))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::admin::status::{Account, Queue, Sink};

    fn status(up: bool, queued: u64, drain_seconds: Option<f64>) -> Status {
        Status {
            version: String::new(),
            uptime_seconds: 0,
            draining: false,
            ledger: Account {
                queued,
                ..Account::default()
            },
            listeners: Vec::new(),
            queue: Queue {
                drain_seconds,
                ..Queue::default()
            },
            sink: Sink {
                up,
                ..Sink::default()
            },
        }
    }

    #[test]
    fn a_drain_is_measured_by_the_most_that_waited() {
        use TimeLeft::{Endless, Seconds, Unknown};
        let start = Instant::now();
        let mut drain = Drain::default();
        let mut look = |second, up, queued, seconds| {
            let now = start + Duration::from_secs(second);
            drain.look(&status(up, queued, seconds), now)
        };
        let progress = |done, left| Some(Progress { done, left });
        assert_eq!(look(0, true, 3, Some(0.0)), None, "lines of the moment");
        assert_eq!(look(1, false, 500, None), None, "an outage");
        assert_eq!(look(2, false, 1000, None), None);
        // The daemon's estimate, until there is one of our own.
        assert_eq!(
            look(3, true, 1000, Some(70.0)),
            progress(Some(0.0), Seconds(70.0))
        );
        assert_eq!(
            look(5, true, 500, Some(70.0)),
            progress(Some(0.5), Seconds(2.0))
        );
        assert_eq!(look(6, true, 2000, None), progress(Some(0.0), Endless));
        assert_eq!(look(7, true, 0, Some(0.0)), None, "over");
        assert_eq!(
            look(8, true, 10, None),
            progress(None, Unknown),
            "another one"
        );
    }

    #[test]
    fn bars_are_full_only_at_the_end() {
        for (done, shown) in [
            (0.0, "[....]"),
            (0.24, "[....]"),
            (0.5, "[##..]"),
            (0.99, "[###.]"),
            (1.0, "[####]"),
        ] {
            assert_eq!(bar(done, 4), shown);
        }
    }
}

//! The drain after an outage, for somebody who keeps looking: how much of it is
//! done. No clock, no I/O.

use crate::admin::status::Status;

/// Remembers the most that waited.
#[derive(Debug, Default)]
pub struct Drain {
    most: u64,
}

/// How far a drain is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// From 0 to 1, of the most that was seen to wait; nothing at first sight.
    pub done: Option<f64>,
    /// At this rate; nothing where more comes than goes.
    pub seconds: Option<f64>,
}

impl Drain {
    /// Looks again. Nothing while the upstream is away, or where no backlog is.
    pub fn look(&mut self, status: &Status) -> Option<Progress> {
        let left = status.ledger.queued + status.ledger.in_flight;
        // Lines of the moment are no backlog: they take no time.
        if left == 0 || status.queue.drain_seconds == Some(0.0) {
            self.most = 0;
            return None;
        }
        let is_known = self.most > 0;
        self.most = self.most.max(left);
        #[expect(clippy::cast_precision_loss, reason = "a share, for a bar")]
        let done = is_known.then(|| 1.0 - left as f64 / self.most as f64);
        status.sink.up.then_some(Progress {
            done,
            seconds: status.queue.drain_seconds,
        })
    }
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
        let mut drain = Drain::default();
        let mut look = |up, queued, seconds| drain.look(&status(up, queued, seconds));
        assert_eq!(look(true, 3, Some(0.0)), None, "lines of the moment");
        assert_eq!(look(false, 500, None), None, "an outage");
        assert_eq!(look(false, 1000, None), None);
        let half = look(true, 500, Some(7.0)).expect("a drain");
        assert_eq!((half.done, half.seconds), (Some(0.5), Some(7.0)));
        let grown = look(true, 2000, None).expect("a drain");
        assert_eq!((grown.done, grown.seconds), (Some(0.0), None));
        assert_eq!(look(true, 0, Some(0.0)), None, "over");
        let next = look(true, 10, Some(1.0)).expect("another drain");
        assert_eq!(next.done, None, "measured anew");
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
